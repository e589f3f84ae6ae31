"""What papers and reports count on a folder: borders, images above a threshold, frames a second."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.color import rgb2ycbcr
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from sharpkd.data.degradation import Bicubic, LowRes
from sharpkd.data.images import read_image
from sharpkd.evaluation.folder.evaluation import evaluate_folder
from sharpkd.evaluation.folder.figures import as_sizes, check_threshold, cost, table_of
from sharpkd.evaluation.models import NetModel
from sharpkd.evaluation.protocols import Condition, enlarged, make_pair

from .conftest import smooth_pictures

BICUBIC = Image.Resampling.BICUBIC


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Four pictures of different smoothness and of sizes that 2, 3 and 4 do not divide."""
    return smooth_pictures(tmp_path_factory.mktemp("eval"), 49, 57)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "per_image.csv").open(newline="") as file:
        return list(csv.DictReader(file))


class Enlarging(nn.Module):
    """Nearest neighbours; remembers the sizes that it was shown."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.seen: list[tuple[int, int]] = []

    def forward(self, degraded: Tensor, condition: Tensor | None = None) -> Tensor:
        self.seen.append((degraded.shape[-2], degraded.shape[-1]))
        return nn.functional.interpolate(degraded, scale_factor=self.scale)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_super_resolution_is_measured_as_the_papers_do(
    scale: int, photos: list[Path], tmp_path: Path
) -> None:
    results = evaluate_folder({"net": Enlarging(scale)}, photos, Bicubic(scale), tmp_path, scale=scale)
    condition = Condition("sr", f"sr/{scale}", scale=scale)
    inside = (slice(scale, -scale), slice(scale, -scale))
    for row in rows(tmp_path):
        pair = make_pair(condition, read_image(photos[int(row["image"][-1])]), row["image"])
        output = enlarged(condition, pair)
        if row["model"] == "net":
            output = pair.degraded.repeat(scale, 0).repeat(scale, 1)
        luma = [rgb2ycbcr(pixels)[inside][..., 0] for pixels in (output, pair.sharp)]
        mse = np.mean((luma[0] - luma[1]) ** 2)
        assert float(row["psnr_y"]) == pytest.approx(10 * math.log10(255**2 / mse), abs=1e-3)
        _, similar = structural_similarity(
            *luma,
            data_range=255,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            full=True,
        )
        assert float(row["ssim_y"]) == pytest.approx(similar[5:-5, 5:-5].mean(), abs=1e-4)
        mse = np.mean((output[inside].astype(float) - pair.sharp[inside]) ** 2)
        assert float(row["psnr"]) == pytest.approx(10 * math.log10(255**2 / mse), abs=1e-3)
    assert results["_meta"]["border"] == scale
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert f"a border of {scale} pixels left out of PSNR and SSIM" in page


def test_an_image_that_the_border_uses_up_has_no_scores(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 40, 3), 9, np.uint8)).save(tmp_path / "flat.png")
    results = evaluate_folder({}, [tmp_path / "flat.png"], Bicubic(4), tmp_path / "out", scale=4)
    assert [results["input"][metric] for metric in ("psnr", "ssim", "psnr_y", "ssim_y")] == [None] * 4


def test_images_above_a_threshold_are_counted(photos: list[Path], tmp_path: Path) -> None:
    similar = [0.0] * 4
    for index, path in enumerate(photos):
        sharp = read_image(path)
        small = Image.fromarray(sharp).resize((28, 24), BICUBIC)
        output = np.asarray(small.resize((57, 49), BICUBIC))
        _, full = structural_similarity(
            sharp,
            output,
            channel_axis=2,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            full=True,
        )
        similar[index] = full[5:-5, 5:-5].mean()
    ranked = sorted(similar)
    threshold = round(float(ranked[1] + ranked[2]) / 2, 3)
    results = evaluate_folder({}, photos, LowRes(2), tmp_path, ssim_threshold=threshold)
    assert results["input"]["ssim_above"] == 2
    assert results["input"]["ssim_y_above"] in range(5)
    (row,) = table_of(results)
    assert row[f"SSIM > {threshold:g}"] == "2 of 4"
    assert "2 of 4" in (tmp_path / "report.html").read_text(encoding="utf-8")
    none = evaluate_folder({}, photos, LowRes(2), tmp_path / "none")
    assert "ssim_above" not in none["input"]
    assert not [title for title in table_of(none)[0] if ">" in title]


def test_several_sizes_give_times_and_frames_a_second(photos: list[Path], tmp_path: Path) -> None:
    net = Enlarging(1)
    results = evaluate_folder(
        {"net": net}, photos[:1], LowRes(2), tmp_path, latency_sizes=[(48, 64), (90, 160)]
    )
    by_size = results["net"]["ms_by_size"]
    assert list(by_size) == ["64x48", "160x90"]
    assert results["net"]["ms_per_image"] == by_size["64x48"] > 0
    assert {(48, 64), (90, 160)} <= set(net.seen)
    before, timed = table_of(results)
    for name, ms in by_size.items():
        size = name.replace("x", "×")
        assert timed[f"ms {size}"] == ms
        assert timed[f"frames/s {size}"] == pytest.approx(1000 / ms)
        assert before[f"ms {size}"] is None
    assert "ms / image" not in timed


def test_a_net_that_enlarges_is_shown_the_small_image(photos: list[Path], tmp_path: Path) -> None:
    """Both kinds of models; the student beside it sees the enlarged image, and all have the same target."""
    teacher, student = Enlarging(4), Enlarging(1)
    listed = NetModel("listed", Enlarging(4), scale=4)
    results = evaluate_folder(
        {"teacher": teacher, "student": student, "listed": listed},
        photos,
        LowRes(4, carry_low_res=True),
        tmp_path,
    )
    assert set(teacher.seen) == {(12, 14), (120, 160)}
    assert set(student.seen) == {(48, 56), (480, 640)}
    assert results["teacher"]["psnr"] == pytest.approx(results["listed"]["psnr"])
    assert results["student"]["psnr"] == results["input"]["psnr"]
    expected = []
    for path in photos:
        sharp = read_image(path)[:48, :56]
        small = np.asarray(Image.fromarray(sharp).resize((14, 12), BICUBIC))
        mse = np.mean((small.repeat(4, 0).repeat(4, 1).astype(float) - sharp) ** 2)
        expected.append(10 * math.log10(255**2 / mse))
    assert results["teacher"]["psnr"] == pytest.approx(np.mean(expected), abs=1e-3)


def test_the_cost_of_a_net_goes_by_its_own_scale() -> None:
    net = Enlarging(4)
    assert list(cost(net, [(40, 64)])["ms_by_size"]) == ["64x40"]
    assert set(net.seen) == {(10, 16)}


@pytest.mark.parametrize("sizes", [[], [[480]], [480, 640], [[480, 640, 3]], [[0, 640]], [[480.0, 640]]])
def test_sizes_are_pairs(sizes: Any) -> None:
    with pytest.raises(
        ValueError,
        match=r"^metrics\.latency_sizes is .*; expected at least one \[height, width\] in pixels$",
    ):
        as_sizes(sizes)


@pytest.mark.parametrize("threshold", [1, 1.5, -2, "0.9", True])
def test_a_threshold_is_an_ssim(threshold: Any) -> None:
    with pytest.raises(
        ValueError, match=r"^metrics\.ssim_threshold is .*; expected a number in \[-1, 1\), or null$"
    ):
        check_threshold(threshold)
    check_threshold(None)
    check_threshold(0.9)


def test_torch_is_left_alone(photos: list[Path], tmp_path: Path) -> None:
    state = torch.random.get_rng_state()
    evaluate_folder({"net": Enlarging(2)}, photos[:1], Bicubic(2), tmp_path, scale=2)
    assert torch.equal(torch.random.get_rng_state(), state)
