"""What a net costs, how many images it does well on, and both as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from sharpkd.evaluation.models import Model
from sharpkd.evaluation.rows import META, lpips_name
from sharpkd.evaluation.speed import frame_milliseconds
from sharpkd.metrics.latency import LATENCY_SIZE, net_latency
from sharpkd.nets.base import RestorationNet
from sharpkd.nets.stats import count_parameters

Size = tuple[int, int]
"""Height and width in pixels."""
LATENCY_SIZES: tuple[Size, ...] = (LATENCY_SIZE,)


def as_sizes(sizes: Any) -> list[Size]:
    """A setting, or a list of pairs, as pairs of height and width.

    Raises:
        ValueError: there is none, or one is not two whole numbers >= 1.
    """
    found = list(sizes) if isinstance(sizes, list | tuple) else []
    if not found or not all(_is_size(size) for size in found):
        raise ValueError(
            f"metrics.latency_sizes is {sizes!r}; expected at least one [height, width] in pixels"
        )
    return [(size[0], size[1]) for size in found]


def _is_size(size: Any) -> bool:
    pair = isinstance(size, list | tuple) and [type(side) for side in size] == [int, int]
    return pair and min(size) >= 1


def check_threshold(threshold: float | None) -> None:
    """Refuse an SSIM that no image could be above, or all are.

    Raises:
        ValueError: it is not a number in [-1, 1).
    """
    number = isinstance(threshold, int | float) and not isinstance(threshold, bool)
    if threshold is not None and not (number and -1 <= threshold < 1):
        raise ValueError(f"metrics.ssim_threshold is {threshold!r}; expected a number in [-1, 1), or null")


def cost(net: nn.Module | Model, sizes: Sequence[Size] = LATENCY_SIZES, scale: int = 1) -> dict[str, Any]:
    """Parameters, MACs per output pixel (None where unknown), ms for one output of every size.

    A net that enlarges is given that much smaller an image, as in SharpBench's times; ``scale`` says how many
    times where the net does not. ``ms_per_image`` is the first of ``ms_by_size``.
    """
    facts: dict[str, Any]
    if isinstance(net, nn.Module):
        macs = net.macs_per_pixel() if isinstance(net, RestorationNet) else None
        facts = {"parameters": count_parameters(net), "macs_per_pixel": macs}
        own = int(getattr(net, "scale", scale))
        by_size: dict[str, float | None] = {
            _name(size): round(net_latency(net, size, own).median_ms, 2) for size in sizes
        }
    else:
        known = net.facts()
        facts = {key: known[key] for key in ("parameters", "macs_per_pixel")}
        by_size = {_name(size): frame_milliseconds(net, size) for size in sizes}
    return facts | {"ms_per_image": by_size[_name(sizes[0])], "ms_by_size": by_size}


def _name(size: Size) -> str:
    return f"{size[1]}x{size[0]}"


def counted_above(scores: Sequence[Mapping[str, float | None]], threshold: float) -> dict[str, int]:
    """``ssim_above`` and ``ssim_y_above``: on how many images the metric is above the threshold."""
    return {
        f"{metric}_above": sum(
            value is not None and value > threshold for value in (s[metric] for s in scores)
        )
        for metric in ("ssim", "ssim_y")
    }


def table_of(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of the report's table: one a model, blank columns left out, LPIPS with its backbone's name."""
    meta = results[META]
    columns = {
        "PSNR (dB)": "psnr", "SSIM": "ssim", "PSNR-Y (dB)": "psnr_y", "SSIM-Y": "ssim_y",
        lpips_name(meta.get("lpips")): "lpips",
        "parameters": "parameters", "MACs / pixel": "macs_per_pixel", "ms / image": "ms_per_image",
    }  # fmt: skip
    models = {model: entry for model, entry in results.items() if model != META}
    used = {
        title: key
        for title, key in columns.items()
        if any(entry.get(key) is not None for entry in models.values())
    }
    more = {model: {**_above(entry, meta), **_times(entry, meta)} for model, entry in models.items()}
    if len(meta.get("latency_sizes", ())) > 1:
        used.pop("ms / image", None)
    titles = dict.fromkeys(title for cells in more.values() for title in cells)
    return [
        {"model": model}
        | {title: entry.get(key) for title, key in used.items()}
        | {title: more[model].get(title) for title in titles}
        for model, entry in models.items()
    ]


def _above(entry: Mapping[str, Any], meta: Mapping[str, Any]) -> dict[str, str]:
    """How many images are above the threshold, where there is one."""
    threshold = meta.get("ssim_threshold")
    if threshold is None:
        return {}
    return {
        f"{title} > {threshold:g}": f"{entry[f'{metric}_above']} of {len(meta['images'])}"
        for title, metric in (("SSIM", "ssim"), ("SSIM-Y", "ssim_y"))
    }


def _times(entry: Mapping[str, Any], meta: Mapping[str, Any]) -> dict[str, float | None]:
    """Times and frames a second, where several sizes were timed."""
    cells: dict[str, float | None] = {}
    if len(meta.get("latency_sizes", ())) > 1:
        for name, ms in entry.get("ms_by_size", {}).items():
            size = name.replace("x", "×")
            cells |= {f"ms {size}": ms, f"frames/s {size}": None if ms is None else 1000 / ms}
    return cells
