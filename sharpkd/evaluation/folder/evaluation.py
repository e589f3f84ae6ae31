"""Measure nets on a folder of images: degrade each, restore it, compare with the sharp original."""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sharpkd.data.batch import Batch
from sharpkd.data.crops import WholeImageDataset
from sharpkd.data.degradation import GaussianBlur, Noisy
from sharpkd.data.images import UnreadableImage, read_image
from sharpkd.evaluation.blind import blind
from sharpkd.evaluation.folder.figures import (
    LATENCY_SIZES,
    Size,
    as_sizes,
    check_threshold,
    cost,
    counted_above,
    table_of,
)
from sharpkd.evaluation.folder.report import Comparison, write_report
from sharpkd.evaluation.machine import machine
from sharpkd.evaluation.models import Model
from sharpkd.evaluation.pages.pictures import Pixels, Tile, from_pixels, side_by_side, to_pixels
from sharpkd.evaluation.protocols import Condition, Pair, enlarged
from sharpkd.evaluation.rows import INPUT, META, decibels, lpips_name
from sharpkd.functional.check import quantise_8bit
from sharpkd.functional.colour import rgb_to_y
from sharpkd.functional.psnr import psnr
from sharpkd.functional.ssim import ssim
from sharpkd.metrics.lpips import LPIPS, SMALLEST_SIDE
from sharpkd.runs.folder import write_json

log = logging.getLogger(__name__)

METRICS = ("psnr", "ssim", "psnr_y", "ssim_y", "lpips")
RANKS = ("best", "median", "worst")
SSIM_SIDE = 11

Scores = dict[str, float | None]


@dataclass(frozen=True)
class _Files:
    """Image files, each decoded when it is asked for."""

    files: Sequence[Path]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Any:
        return read_image(self.files[index])


class FolderEvaluation:
    """The images and the way they are degraded; :meth:`restored` yields every version of one of them.

    Args:
        nets: by the name that they have in the results; a :class:`~sharpkd.evaluation.models.Model` is
            told the blur where the degradation is a Gaussian one, alone or with noise. One that enlarges as
            many times as the image is smaller that the degradation carries is shown that one.
        images: files.
        degradation: any albumentations transform; seeded by each image's name, as in validation.
        scale: how many times smaller the degraded image is.
        use_condition: tell the nets what the degradation did. Otherwise nets that are told it hear what the
            packaged estimator finds in the degraded image.

    Raises:
        ValueError: a net is called ``input`` or ``_meta``, or there are no images.
    """

    def __init__(
        self,
        nets: Mapping[str, nn.Module | Model],
        images: Sequence[Path],
        degradation: Any,
        scale: int = 1,
        use_condition: bool = False,
    ) -> None:
        if reserved := {INPUT, META} & set(nets):
            raise ValueError(f"a net cannot be called {reserved.pop()!r}: that name is taken in the results")
        if not images:
            raise ValueError("there are no images to evaluate on")
        self.nets = dict(nets)
        for net in self.nets.values():
            if isinstance(net, nn.Module):
                net.eval()
        self._condition_names = condition_names_of(degradation)
        self.scale = scale
        self.carried_scale = getattr(degradation, "carried_scale", None)
        self.images = list(images)
        self.names = _unique_names(self.images)
        self.use_condition = use_condition
        self._blind = {
            name: net if use_condition else blind(net)
            for name, net in self.nets.items()
            if isinstance(net, nn.Module)
        }
        self._pairs = WholeImageDataset(_Files(self.images), degradation, scale=scale)

    @property
    def border(self) -> int:
        """Pixels that no metric but LPIPS looks at, on every side: the scale, where the task enlarges."""
        return self.scale if self.scale > 1 else 0

    def restored(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        """One image: ``(1, 3, H, W)`` sharp, and ``input`` and every net's output, all rounded to 8 bit.

        ``input`` is SharpBench's: the degraded image, enlarged by Pillow's bicubic where scale > 1.

        Raises:
            UnreadableImage: the file cannot be read.
        """
        pair = self._pairs[index]
        test, told = self._test_of(pair)
        versions = {INPUT: from_pixels(enlarged(told, test))}
        condition = pair.condition if self.use_condition else None
        with torch.inference_mode():
            for name, net in self.nets.items():
                small = self._low_res_for(net, pair)
                if isinstance(net, nn.Module):
                    shown = pair.degraded if small is None else small
                    versions[name] = quantise_8bit(self._blind[name](shown, condition).float())
                else:
                    shown_to = test if small is None else Pair(to_pixels(small[0]), test.sharp)
                    versions[name] = from_pixels(net.restore(shown_to, told))
        return pair.sharp, versions

    def _low_res_for(self, net: nn.Module | Model, pair: Batch) -> Tensor | None:
        own = getattr(net, "scale", self.scale)
        return pair.low_res if own not in (1, self.scale) and own == self.carried_scale else None

    def _test_of(self, pair: Batch) -> tuple[Pair, Condition]:
        told = pair.condition[0].tolist() if pair.condition is not None else []
        known = dict(zip(self._condition_names, told, strict=False))
        condition = Condition("folder", "folder", self.scale, known.get("sigma"), known.get("noise", 0.0))
        return Pair(to_pixels(pair.degraded[0]), to_pixels(pair.sharp[0])), condition


def score(output: Tensor, sharp: Tensor, lpips: LPIPS | None = None, border: int = 0) -> Scores:
    """Every metric of one image; None where the image is too small for it, or LPIPS has no weights.

    Args:
        output: ``(1, 3, H, W)``, already rounded to 8 bit, as the sharp one is.
        sharp: the same shape.
        lpips: the metric, where its weights are there.
        border: pixels left out on every side, except by LPIPS.
    """
    whole, side = min(sharp.shape[-2:]), min(sharp.shape[-2:]) - 2 * border
    inside = _without_border(output, border), _without_border(sharp, border)
    luma = rgb_to_y(inside[0]), rgb_to_y(inside[1])
    with torch.inference_mode():
        return {
            "psnr": float(psnr(*inside)) if side > 0 else None,
            "ssim": float(ssim(*inside)) if side >= SSIM_SIDE else None,
            "psnr_y": float(psnr(*luma)) if side > 0 else None,
            "ssim_y": float(ssim(*luma)) if side >= SSIM_SIDE else None,
            "lpips": float(lpips.score(output, sharp))
            if lpips and whole >= SMALLEST_SIDE[lpips.backbone]
            else None,
        }


def _without_border(image: Tensor, border: int) -> Tensor:
    height, width = image.shape[-2:]
    return image[..., border : max(border, height - border), border : max(border, width - border)]


def evaluate_folder(
    nets: Mapping[str, nn.Module | Model],
    images: Sequence[Path],
    degradation: Any,
    out_dir: Path,
    *,
    scale: int = 1,
    use_condition: bool = False,
    lpips: LPIPS | None = None,
    ssim_threshold: float | None = None,
    latency_sizes: Sequence[Size] = LATENCY_SIZES,
    origins: Mapping[str, Mapping[str, Any]] | None = None,
    meta: Mapping[str, Any] | None = None,
    title: str = "Evaluation",
    notes: Sequence[str] = (),
    curves: Sequence[tuple[str, Path]] = (),
    progress: Callable[[int, int, str], None] | None = None,
) -> dict[str, Any]:
    """Measure nets on images; write ``metrics.json``, ``per_image.csv``, ``pictures/``, ``report.html``.

    Every metric is taken on 8-bit-rounded RGB images and averaged per image; ``psnr_y`` and ``ssim_y`` on
    luma (BT.601). Where ``scale`` is above 1, a border of so many pixels is left out of all but LPIPS: on
    luma that is the super-resolution papers' protocol. ``ms_per_image`` is the median for an output of the
    first of the sizes (torch eager, float32, CPU), ``ms_by_size`` has them all.

    Args:
        nets: by name; they are put into eval mode and see the degraded image alone. A
            :class:`~sharpkd.evaluation.models.Model` may be one that is told more.
        images: files; one that cannot be read is named in a warning and left out.
        degradation: any albumentations transform, seeded by each image's name.
        out_dir: created; files in it are replaced.
        scale: how many times smaller the degraded image is.
        use_condition: tell the nets what the degradation did.
        lpips: the metric, or None for a blank column.
        ssim_threshold: also count the images whose SSIM is above it: ``ssim_above`` and ``ssim_y_above``.
        latency_sizes: (height, width) of the outputs that are timed.
        origins: further facts for a net's entry in the results, such as its file and hash.
        meta: further facts for ``_meta``.
        title: of the report.
        notes: paragraphs for the report.
        curves: caption and PNG file of each picture of a training, for the report.
        progress: called with (images done, images in all, name of the image) before each.

    Returns:
        What ``metrics.json`` holds: ``input`` and each net with its metrics and cost, and ``_meta``.

    Raises:
        ValueError: there is no usable image, a net's name is reserved, the threshold is no SSIM, or a size is
            no size.
    """
    check_threshold(ssim_threshold)
    sizes = as_sizes(latency_sizes)
    evaluation = FolderEvaluation(nets, images, degradation, scale, use_condition)
    per_image, skipped = _measure(evaluation, lpips, progress)
    if not per_image:
        raise ValueError(f"none of the {len(images)} images can be read, starting with {skipped[0]}")
    results: dict[str, Any] = {}
    for model in (INPUT, *nets):
        results[model] = {
            metric: _mean([rows[model][metric] for rows in per_image.values()]) for metric in METRICS
        }
        if ssim_threshold is not None:
            scores = [rows[model] for rows in per_image.values()]
            results[model] |= counted_above(scores, ssim_threshold)
        if model != INPUT:
            results[model] |= cost(nets[model], sizes, scale) | dict((origins or {}).get(model, {}))
    results[META] = {
        "images": [evaluation.names[index] for index in per_image],
        "skipped": skipped,
        "degradation": str(degradation),
        "seed": "SHA-256 of each image's name",
        "scale": scale,
        "border": evaluation.border,
        "ssim_threshold": ssim_threshold,
        "latency_sizes": [list(size) for size in sizes],
        "lpips": None if lpips is None else lpips.backbone,
        **machine(),
        **(meta or {}),
    }
    out_dir.mkdir(parents=True, exist_ok=True)
    write_json(out_dir / "metrics.json", results)
    _write_per_image(out_dir / "per_image.csv", evaluation, per_image)
    comparisons = _draw(evaluation, per_image, out_dir / "pictures", lpips_name(results[META]["lpips"]))
    write_report(
        out_dir / "report.html", title, table_of(results), comparisons, curves, [*notes, _conditions(results)]
    )
    return results


def condition_names_of(degradation: Any) -> tuple[str, ...]:
    """What the condition vector's numbers are, where a non-blind method may rely on them; else nothing."""
    # after any other degradation the blur is not all that was done
    return degradation.condition_names if type(degradation) in (GaussianBlur, Noisy) else ()


def _measure(
    evaluation: FolderEvaluation, lpips: LPIPS | None, progress: Callable[[int, int, str], None] | None
) -> tuple[dict[int, dict[str, Scores]], list[str]]:
    per_image: dict[int, dict[str, Scores]] = {}
    skipped: list[str] = []
    for index, name in enumerate(evaluation.names):
        if progress is not None:
            progress(index, len(evaluation.names), name)
        try:
            sharp, versions = evaluation.restored(index)
        except UnreadableImage as error:
            log.warning("left out: %s", error)
            skipped.append(str(error))
            continue
        per_image[index] = {
            model: score(output, sharp, lpips, evaluation.border) for model, output in versions.items()
        }
    return per_image, skipped


def _write_per_image(
    path: Path, evaluation: FolderEvaluation, per_image: Mapping[int, Mapping[str, Scores]]
) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["image", "model", *METRICS], lineterminator="\n")
        writer.writeheader()
        for index, models in per_image.items():
            for model, scores in models.items():
                writer.writerow({"image": evaluation.names[index], "model": model, **scores})


def _draw(
    evaluation: FolderEvaluation, per_image: Mapping[int, Mapping[str, Scores]], folder: Path, lpips: str
) -> list[Comparison]:
    """Side-by-side pictures of the images that gained least, middling and most, and their comparisons."""
    shown = next(reversed(evaluation.nets), INPUT)

    def gain(index: int) -> float:
        scores = per_image[index]
        restored, before = scores[shown]["psnr"] or 0.0, scores[INPUT]["psnr"] or 0.0
        return restored if shown == INPUT else restored - before

    ranked = sorted(per_image, key=gain)
    # of one image or two there is no median: the later name counts
    chosen = {ranked[len(ranked) // 2]: "median", ranked[0]: "worst", ranked[-1]: "best"}
    folder.mkdir(parents=True, exist_ok=True)
    for rank in RANKS:
        (folder / f"{rank}.png").unlink(missing_ok=True)
    comparisons = []
    for index, rank in sorted(chosen.items(), key=lambda item: RANKS.index(item[1])):
        sharp, versions = evaluation.restored(index)
        pixels = {model: to_pixels(output[0]) for model, output in versions.items()}
        name = evaluation.names[index]
        tiles = [Tile("sharp", to_pixels(sharp[0]))] + [
            Tile(model, image, _caption(per_image[index][model], lpips)) for model, image in pixels.items()
        ]
        side_by_side([tiles], [f"{name}: {rank} gain"], width=420, zoom_size=96).save(folder / f"{rank}.png")
        comparisons.append(_comparison(name, rank, shown, pixels, to_pixels(sharp[0]), per_image[index]))
    return comparisons


def _comparison(
    name: str,
    rank: str,
    shown: str,
    pixels: Mapping[str, Pixels],
    sharp: Pixels,
    scores: Mapping[str, Scores],
) -> Comparison:
    after, label = (sharp, "sharp") if shown == INPUT else (pixels[shown], shown)
    numbers = ", ".join(f"{model} {_psnr(scores[model])}" for model in pixels)
    return Comparison(f"{name} ({rank} gain)", pixels[INPUT], after, INPUT, label, numbers)


def _caption(scores: Scores, lpips: str) -> str:
    parts = [_psnr(scores)]
    parts += [f"SSIM {scores['ssim']:.4f}"] if scores["ssim"] is not None else []
    parts += [f"{lpips} {scores['lpips']:.3f}"] if scores["lpips"] is not None else []
    return ", ".join(parts)


def _psnr(scores: Scores) -> str:
    return decibels(scores["psnr"] or 0.0, unit=" dB")


def _conditions(results: Mapping[str, Any]) -> str:
    meta = results[META]
    sizes = ", ".join(f"{width}×{height}" for height, width in meta["latency_sizes"])
    border = f"a border of {meta['border']} pixels left out of PSNR and SSIM, " if meta["border"] else ""
    return (
        f"{len(meta['images'])} images, degradation {meta['degradation']}, every output rounded to 8 bit, "
        f"{border}metrics averaged per image. ms / image: median for an output of {sizes}, torch eager "
        f"float32, {meta['threads']} thread(s), {meta['cpu']}."
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _unique_names(images: Sequence[Path]) -> list[str]:
    """File names without ending, with as much of the folder before them as tells them apart."""
    stems = [path.stem for path in images]
    return [
        stem if stems.count(stem) == 1 else path.with_suffix("").as_posix().lstrip("/")
        for stem, path in zip(stems, images, strict=True)
    ]
