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
from sharpkd.evaluation.folder.report import Comparison, write_report
from sharpkd.evaluation.machine import machine
from sharpkd.evaluation.models import Model
from sharpkd.evaluation.pages.pictures import Pixels, Tile, from_pixels, side_by_side, to_pixels
from sharpkd.evaluation.protocols import Condition, Pair, enlarged
from sharpkd.evaluation.rows import INPUT, META, decibels, lpips_name
from sharpkd.evaluation.speed import frame_milliseconds
from sharpkd.functional.check import quantise_8bit
from sharpkd.functional.colour import rgb_to_y
from sharpkd.functional.psnr import psnr
from sharpkd.functional.ssim import ssim
from sharpkd.metrics.latency import LATENCY_SIZE, net_latency
from sharpkd.metrics.lpips import LPIPS, SMALLEST_SIDE
from sharpkd.nets.base import RestorationNet
from sharpkd.nets.stats import count_parameters
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
            told the blur where the degradation is a Gaussian one, alone or with noise.
        images: files.
        degradation: any albumentations transform; seeded by each image's name, as in validation.
        scale: how many times smaller the degraded image is.
        use_condition: tell the nets what the degradation did.

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
        self.images = list(images)
        self.names = _unique_names(self.images)
        self.use_condition = use_condition
        self._pairs = WholeImageDataset(_Files(self.images), degradation, scale=scale)

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
                if isinstance(net, nn.Module):
                    versions[name] = quantise_8bit(net(pair.degraded, condition).float())
                else:
                    versions[name] = from_pixels(net.restore(test, told))
        return pair.sharp, versions

    def _test_of(self, pair: Batch) -> tuple[Pair, Condition]:
        told = pair.condition[0].tolist() if pair.condition is not None else []
        known = dict(zip(self._condition_names, told, strict=False))
        condition = Condition("folder", "folder", self.scale, known.get("sigma"), known.get("noise", 0.0))
        return Pair(to_pixels(pair.degraded[0]), to_pixels(pair.sharp[0])), condition


def score(output: Tensor, sharp: Tensor, lpips: LPIPS | None = None) -> Scores:
    """Every metric of one image; None where the image is too small for it, or LPIPS has no weights.

    Args:
        output: ``(1, 3, H, W)``, already rounded to 8 bit, as the sharp one is.
        sharp: the same shape.
        lpips: the metric, where its weights are there.
    """
    side = min(sharp.shape[-2:])
    luma = rgb_to_y(output), rgb_to_y(sharp)
    with torch.inference_mode():
        return {
            "psnr": float(psnr(output, sharp)),
            "ssim": float(ssim(output, sharp)) if side >= SSIM_SIDE else None,
            "psnr_y": float(psnr(*luma)),
            "ssim_y": float(ssim(*luma)) if side >= SSIM_SIDE else None,
            "lpips": float(lpips.score(output, sharp))
            if lpips and side >= SMALLEST_SIDE[lpips.backbone]
            else None,
        }


def evaluate_folder(
    nets: Mapping[str, nn.Module | Model],
    images: Sequence[Path],
    degradation: Any,
    out_dir: Path,
    *,
    scale: int = 1,
    use_condition: bool = False,
    lpips: LPIPS | None = None,
    origins: Mapping[str, Mapping[str, Any]] | None = None,
    meta: Mapping[str, Any] | None = None,
    title: str = "Evaluation",
    notes: Sequence[str] = (),
    curves: Sequence[tuple[str, Path]] = (),
    progress: Callable[[int, int, str], None] | None = None,
) -> dict[str, Any]:
    """Measure nets on images; write ``metrics.json``, ``per_image.csv``, ``pictures/``, ``report.html``.

    Every metric is taken on 8-bit-rounded RGB images and averaged per image; ``psnr_y`` and ``ssim_y`` on
    luma (BT.601). ``ms_per_image`` is the median for an output of 640x480 (torch eager, float32, CPU).

    Args:
        nets: by name; they are put into eval mode and see the degraded image alone. A
            :class:`~sharpkd.evaluation.models.Model` may be one that is told more.
        images: files; one that cannot be read is named in a warning and left out.
        degradation: any albumentations transform, seeded by each image's name.
        out_dir: created; files in it are replaced.
        scale: how many times smaller the degraded image is.
        use_condition: tell the nets what the degradation did.
        lpips: the metric, or None for a blank column.
        origins: further facts for a net's entry in the results, such as its file and hash.
        meta: further facts for ``_meta``.
        title: of the report.
        notes: paragraphs for the report.
        curves: caption and PNG file of each picture of a training, for the report.
        progress: called with (images done, images in all, name of the image) before each.

    Returns:
        What ``metrics.json`` holds: ``input`` and each net with its metrics and cost, and ``_meta``.

    Raises:
        ValueError: there is no usable image, or a net's name is reserved.
    """
    evaluation = FolderEvaluation(nets, images, degradation, scale, use_condition)
    per_image, skipped = _measure(evaluation, lpips, progress)
    if not per_image:
        raise ValueError(f"none of the {len(images)} images can be read, starting with {skipped[0]}")
    results: dict[str, Any] = {}
    for model in (INPUT, *nets):
        results[model] = {
            metric: _mean([rows[model][metric] for rows in per_image.values()]) for metric in METRICS
        }
        if model != INPUT:
            results[model] |= cost(nets[model], scale=scale) | dict((origins or {}).get(model, {}))
    results[META] = {
        "images": [evaluation.names[index] for index in per_image],
        "skipped": skipped,
        "degradation": str(degradation),
        "seed": "SHA-256 of each image's name",
        "latency_size": list(LATENCY_SIZE),
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


def cost(net: nn.Module | Model, size: tuple[int, int] = LATENCY_SIZE, scale: int = 1) -> dict[str, Any]:
    """Parameters, MACs per output pixel (None where unknown), ms for one output of ``size``.

    A net that enlarges ``scale`` times is given that much smaller an image, as in SharpBench's times.
    """
    if not isinstance(net, nn.Module):
        known = net.facts()
        cost_known = {key: known[key] for key in ("parameters", "macs_per_pixel")}
        return cost_known | {"ms_per_image": frame_milliseconds(net, size)}
    return {
        "parameters": count_parameters(net),
        "macs_per_pixel": net.macs_per_pixel() if isinstance(net, RestorationNet) else None,
        "ms_per_image": round(net_latency(net, size, scale).median_ms, 2),
    }


def condition_names_of(degradation: Any) -> tuple[str, ...]:
    """What the condition vector's numbers are, where a non-blind method may rely on them; else nothing."""
    # after any other degradation the blur is not all that was done
    return degradation.condition_names if type(degradation) in (GaussianBlur, Noisy) else ()


def table_of(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of the report's table: one a model, blank columns left out, LPIPS with its backbone's name."""
    columns = {
        "PSNR (dB)": "psnr", "SSIM": "ssim", "PSNR-Y (dB)": "psnr_y", "SSIM-Y": "ssim_y",
        lpips_name(results[META].get("lpips")): "lpips",
        "parameters": "parameters", "MACs / pixel": "macs_per_pixel", "ms / image": "ms_per_image",
    }  # fmt: skip
    models = [model for model in results if model != META]
    used = {
        title: key
        for title, key in columns.items()
        if any(results[model].get(key) is not None for model in models)
    }
    return [
        {"model": model} | {title: results[model].get(key) for title, key in used.items()} for model in models
    ]


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
        per_image[index] = {model: score(output, sharp, lpips) for model, output in versions.items()}
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
    height, width = LATENCY_SIZE
    return (
        f"{len(meta['images'])} images, degradation {meta['degradation']}, every output rounded to 8 bit, "
        f"metrics averaged per image. ms / image: median for an output of {width}×{height}, torch eager "
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
