"""Evaluation on a folder, against scikit-image and numbers worked out by hand."""

from __future__ import annotations

import csv
import json
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

from sharpkd.data.albumentations_guard import A
from sharpkd.data.crops import to_tensor
from sharpkd.data.degradation import GaussianBlur, degrade, name_seed
from sharpkd.data.images import read_image
from sharpkd.evaluation.folder.evaluation import FolderEvaluation, evaluate_folder, score
from sharpkd.evaluation.folder.figures import cost, table_of
from sharpkd.evaluation.pages.pictures import side_by_side, to_pixels
from sharpkd.evaluation.protocols import Condition, Pair, enlarged
from sharpkd.functional.check import quantise_8bit
from sharpkd.metrics.lpips import LPIPS, maybe_lpips
from sharpkd.nets.pixel_student import PixelStudent

from .conftest import smooth_pictures


class Sharper(nn.Module):
    """Unsharp mask of the given amount: gains on blurred images."""

    def __init__(self, amount: float) -> None:
        super().__init__()
        self.amount = nn.Parameter(torch.tensor(amount))

    def forward(self, degraded: Tensor, condition: Tensor | None = None) -> Tensor:
        padded = nn.functional.pad(degraded, (1, 1, 1, 1), mode="replicate")
        return degraded + self.amount * (degraded - nn.functional.avg_pool2d(padded, 3, 1))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Four pictures of different smoothness, so of different gain."""
    return smooth_pictures(tmp_path_factory.mktemp("eval"), 48, 56)


@pytest.fixture(scope="module")
def evaluated(photos: list[Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("out") / "results"
    nets = {"weak": Sharper(0.5), "strong": Sharper(1.5)}
    results = evaluate_folder(
        nets,
        photos,
        GaussianBlur(1.2),
        folder,
        origins={"weak": {"path": "weak.ckpt"}},
        meta={"why": "a test"},
    )
    return folder, results


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "per_image.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_numbers_agree_with_scikit_image(photos: list[Path], evaluated: tuple[Path, dict[str, Any]]) -> None:
    degradation = GaussianBlur(1.2)
    for row in rows(evaluated[0]):
        path = next(path for path in photos if path.stem == row["image"])
        sharp = read_image(path)
        blurred, _ = degrade(degradation, sharp, name_seed(path.stem))
        output = blurred
        if row["model"] != "input":
            net = Sharper({"weak": 0.5, "strong": 1.5}[row["model"]])
            image = to_tensor(blurred)
            with torch.no_grad():
                output = (net(image)[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
        mse = np.mean((output.astype(float) - sharp) ** 2)
        assert float(row["psnr"]) == pytest.approx(10 * math.log10(255**2 / mse), abs=1e-3)
        settings: dict[str, Any] = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
        _, similar = structural_similarity(sharp, output, channel_axis=2, full=True, **settings)
        assert float(row["ssim"]) == pytest.approx(similar[5:-5, 5:-5].mean(), abs=1e-4)
        luma = [rgb2ycbcr(pixels)[..., 0] for pixels in (sharp, output)]
        mse_y = np.mean((luma[0] - luma[1]) ** 2)
        assert float(row["psnr_y"]) == pytest.approx(10 * math.log10(255**2 / mse_y), abs=1e-3)
        _, similar = structural_similarity(*luma, data_range=255, full=True, **settings)
        assert float(row["ssim_y"]) == pytest.approx(similar[5:-5, 5:-5].mean(), abs=1e-4)
        assert row["lpips"] == ""


def test_metrics_are_the_mean_of_the_images(evaluated: tuple[Path, dict[str, Any]]) -> None:
    folder, results = evaluated
    assert list(results) == ["input", "weak", "strong", "_meta"]
    for model in ("input", "weak", "strong"):
        for metric in ("psnr", "ssim", "psnr_y", "ssim_y"):
            values = [float(row[metric]) for row in rows(folder) if row["model"] == model]
            assert len(values) == 4
            assert results[model][metric] == pytest.approx(sum(values) / 4)
        assert results[model]["lpips"] is None
    assert results["strong"]["psnr"] > results["weak"]["psnr"] > results["input"]["psnr"]


def test_the_file_holds_what_is_returned(evaluated: tuple[Path, dict[str, Any]]) -> None:
    folder, results = evaluated
    assert json.loads((folder / "metrics.json").read_text()) == results
    assert results["weak"]["path"] == "weak.ckpt"
    assert "path" not in results["strong"]
    assert "parameters" not in results["input"]
    assert results["weak"]["parameters"] == 1
    assert results["weak"]["macs_per_pixel"] is None
    assert results["weak"]["ms_per_image"] > 0
    meta = results["_meta"]
    assert meta["images"] == ["photo0", "photo1", "photo2", "photo3"]
    assert meta["degradation"] == "GaussianBlur(p=1.0, sigma=(1.2, 1.2))"
    assert meta["why"] == "a test"
    assert meta["versions"]["torch"] == torch.__version__
    assert meta["skipped"] == []
    assert meta["cpu"]


def test_pictures_show_least_middle_and_most_gain(evaluated: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = evaluated
    psnr = {(row["image"], row["model"]): float(row["psnr"]) for row in rows(folder)}
    names = sorted({name for name, _ in psnr}, key=lambda name: psnr[name, "strong"] - psnr[name, "input"])
    report = (folder / "report.html").read_text(encoding="utf-8")
    for rank, name in [("best", names[3]), ("median", names[2]), ("worst", names[0])]:
        assert f"{name} ({rank} gain)" in report
        assert f"strong {psnr[name, 'strong']:.2f} dB" in report
        with Image.open(folder / "pictures" / f"{rank}.png") as image:
            assert image.width > 4 * 420


def test_the_same_again(photos: list[Path], evaluated: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    nets = {"weak": Sharper(0.5), "strong": Sharper(1.5)}
    evaluate_folder(nets, photos, GaussianBlur(1.2), tmp_path)
    assert (tmp_path / "per_image.csv").read_bytes() == (evaluated[0] / "per_image.csv").read_bytes()


def test_input_alone_and_a_single_image(photos: list[Path], tmp_path: Path) -> None:
    told: list[tuple[int, int, str]] = []
    results = evaluate_folder(
        {}, photos[:1], GaussianBlur(1.2), tmp_path, progress=lambda *arguments: told.append(arguments)
    )
    assert list(results) == ["input", "_meta"]
    assert told == [(0, 1, "photo0")]
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["best.png"]


def test_pictures_of_an_evaluation_before_do_not_stay(photos: list[Path], tmp_path: Path) -> None:
    for count, expected in [(3, {"best.png", "median.png", "worst.png"}), (2, {"best.png", "worst.png"})]:
        evaluate_folder({}, photos[:count], GaussianBlur(1.2), tmp_path)
        assert {path.name for path in (tmp_path / "pictures").iterdir()} == expected


def test_a_damaged_image_is_named_and_left_out(
    photos: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(photos[0].read_bytes()[:100])
    results = evaluate_folder({}, [broken, photos[0]], GaussianBlur(1.2), tmp_path / "out")
    assert results["_meta"]["images"] == ["photo0"]
    assert len(results["_meta"]["skipped"]) == 1
    assert "broken.png" in results["_meta"]["skipped"][0]
    assert [
        record.message
        for record in caplog.records
        if "left out" in record.message and "broken.png" in record.message
    ]
    with pytest.raises(ValueError, match=r"none of the 1 images can be read, starting with .*broken\.png"):
        evaluate_folder({}, [broken], GaussianBlur(1.2), tmp_path / "out")


def test_images_of_one_name_in_two_folders(photos: list[Path], tmp_path: Path) -> None:
    twin = tmp_path / "other" / photos[0].name
    twin.parent.mkdir()
    twin.write_bytes(photos[0].read_bytes())
    results = evaluate_folder({}, [photos[0], twin], GaussianBlur(1.2), tmp_path / "out")
    assert len(set(results["_meta"]["images"])) == 2
    assert results["_meta"]["images"][1].endswith("other/photo0")


def test_small_images_leave_blanks(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 20, 3), dtype=np.uint8)).save(
        tmp_path / "small.png"
    )
    results = evaluate_folder({}, [tmp_path / "small.png"], GaussianBlur(1.2), tmp_path / "out")
    assert results["input"]["ssim"] is results["input"]["ssim_y"] is None
    assert results["input"]["psnr"] > 0


class Half(A.ImageOnlyTransform):
    def apply(self, img: np.ndarray, **params: Any) -> np.ndarray:
        return np.ascontiguousarray(img[::2, ::2])


class Double(nn.Module):
    """Tells the sizes of what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, degraded: Tensor, condition: Tensor | None = None) -> Tensor:
        self.sizes.append(tuple(degraded.shape[-2:]))
        return nn.functional.interpolate(degraded, scale_factor=2)


def test_a_task_that_enlarges(tmp_path: Path) -> None:
    grey = np.full((33, 40, 3), 90, np.uint8)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    results = evaluate_folder(
        {"double": Double()}, [tmp_path / "grey.png"], Half(p=1), tmp_path / "out", scale=2
    )
    assert results["input"]["psnr"] == results["double"]["psnr"] == 100.0
    report = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "double identical" in report
    assert "100.00" not in report


def test_the_input_of_a_task_that_enlarges_is_the_benchmarks(photos: list[Path], tmp_path: Path) -> None:
    evaluation = FolderEvaluation({}, photos, Half(p=1), scale=2)
    sharp = read_image(photos[0])
    _, versions = evaluation.restored(0)
    expected = enlarged(Condition("sr", "sr/2", scale=2), Pair(sharp[::2, ::2].copy(), sharp))
    assert np.array_equal(to_pixels(versions["input"][0]), expected)


def test_times_are_those_of_an_output_whatever_the_scale() -> None:
    net = Double()
    cost(net, [(48, 65)], scale=2)
    assert set(net.sizes) == {(24, 33)}
    cost(net, [(48, 65)])
    assert net.sizes[-1] == (48, 65)


def test_an_evaluation_times_an_output_of_640_by_480(photos: list[Path], tmp_path: Path) -> None:
    net = Double()
    evaluate_folder({"double": net}, photos[:1], Half(p=1), tmp_path, scale=2)
    assert (240, 320) in net.sizes
    assert (480, 640) not in net.sizes
    assert "median for an output of 640×480" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_condition_reaches_nets_only_when_asked(photos: list[Path], tmp_path: Path) -> None:
    class Told(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conditions: list[Tensor | None] = []

        def forward(self, degraded: Tensor, condition: Tensor | None = None) -> Tensor:
            self.conditions.append(condition)
            return degraded

    for ask in (False, True):
        net = Told()
        evaluate_folder({"told": net}, photos[:1], GaussianBlur(1.2), tmp_path, use_condition=ask)
        on_photo = net.conditions[0]
        assert (on_photo is not None) == ask
        if on_photo is not None:
            assert on_photo.tolist() == [[pytest.approx(1.2)]]


@pytest.mark.parametrize("name", ["input", "_meta"])
def test_reserved_names(photos: list[Path], tmp_path: Path, name: str) -> None:
    with pytest.raises(
        ValueError, match=f"a net cannot be called '{name}': that name is taken in the results"
    ):
        evaluate_folder({name: Sharper(1.0)}, photos, GaussianBlur(1.2), tmp_path)


def test_no_images(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there are no images to evaluate on"):
        evaluate_folder({}, [], GaussianBlur(1.2), tmp_path)


def test_cost_of_a_net_that_tells() -> None:
    net = PixelStudent(unshuffle=2, width=8, depth=3).eval()
    figures = cost(net, [(48, 64)])
    assert figures["parameters"] == sum(p.numel() for p in net.parameters())
    assert figures["macs_per_pixel"] == net.macs_per_pixel()
    assert figures["ms_per_image"] > 0


@pytest.mark.real_data
def test_lpips_is_measured_where_its_weights_are(sharpkd_weights: Path, photos: list[Path]) -> None:
    lpips = maybe_lpips("squeeze", sharpkd_weights / "squeezenet1_1.pth")
    assert isinstance(lpips, LPIPS)
    sharp = to_tensor(read_image(photos[0]))
    output = quantise_8bit(nn.functional.avg_pool2d(sharp, 3, 1, 1, count_include_pad=False))
    assert score(sharp, sharp, lpips)["lpips"] == pytest.approx(0, abs=1e-6)
    found = score(output, sharp, lpips)["lpips"]
    assert found is not None
    assert found > 0.01
    assert score(output[..., :20, :], sharp[..., :20, :], lpips)["lpips"] is None


@pytest.mark.real_data
def test_lpips_names_its_backbone_wherever_it_stands(
    sharpkd_weights: Path, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    captions: list[str] = []

    def keep(rows: Any, *rest: Any, **more: Any) -> Any:
        captions.extend(tile.caption for tile in rows[0])
        return side_by_side(rows, *rest, **more)

    monkeypatch.setattr("sharpkd.evaluation.folder.evaluation.side_by_side", keep)
    lpips = maybe_lpips("squeeze", sharpkd_weights / "squeezenet1_1.pth")
    results = evaluate_folder({}, photos[:1], GaussianBlur(1.2), tmp_path, lpips=lpips)
    (row,) = table_of(results)
    assert row["lpips-squeeze"] == results["input"]["lpips"] > 0
    assert not {"LPIPS", "lpips"} & set(row)
    assert '<th scope="col">lpips-squeeze</th>' in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert f"lpips-squeeze {results['input']['lpips']:.3f}" in captions[1]
