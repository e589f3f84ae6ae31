"""``python -m sharpkd.prepare data=folder data.train_dir=PHOTOS output=SHARDS``: images to tar archives.

They are trained on with ``data=shards data.train_dir=SHARDS``. The same command again goes on after an
interruption.
"""

from __future__ import annotations

from sharpkd.requires import require_extra

require_extra("train")

import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_class
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sharpkd.config import ConfigError, compose, entry, instantiate
from sharpkd.data.datamodule import ImageDataModule
from sharpkd.data.shards.datamodule import ShardDataModule
from sharpkd.data.shards.manifest import MANIFEST, Manifest
from sharpkd.data.shards.writer import Report, ShardWriter

NAMED = 20
"""So many images that were left out are printed; the manifest has all of them."""


@entry("prepare")
def main(cfg: DictConfig) -> float:
    """Write the shards and say what they hold; the number is that of the images to train on."""
    if not isinstance(cfg.output, str):
        raise ConfigError("output: none given, expected output=FOLDER for the shards")
    _refuse_ignored(cfg)
    writer: ShardWriter = instantiate(cfg.shards)
    output = Path(cfg.output).expanduser()
    if issubclass(get_class(cfg.data._target_), ShardDataModule):
        raise ConfigError("data=shards are shards already; use data=folder, data=div2k or data=sample")
    # only the files are asked for: nothing is degraded here
    data = instantiate(cfg.data, degradation=None, scale=1, seed=cfg.seed)
    with _bar() as report:
        manifest = writer.write(data.source, output, cfg.overwrite, report)
    _print(manifest, output)
    return float(sum(shard.images for shard in manifest.train))


def _refuse_ignored(cfg: DictConfig) -> None:
    """Settings of trainings decide nothing here; whoever sets one expects that they do."""
    usual = compose("prepare", [f"data={HydraConfig.get().runtime.choices['data']}"], run=False)
    own = {"source", "degradation", "cache_dir", "scale", "seed"}
    for name in inspect.signature(ImageDataModule.__init__).parameters:
        if name in cfg.data and name not in own and cfg.data[name] != usual["data"][name]:
            raise ConfigError(
                f"data.{name} decides nothing about shards: leave it out, and set it in trainings"
            )


@contextmanager
def _bar() -> Iterator[Report]:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("writing shards", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _print(manifest: Manifest, output: Path) -> None:
    for entry_ in manifest.left_out[:NAMED]:
        print(f"left out {entry_['path']}: {entry_['reason']}", file=sys.stderr)
    if len(manifest.left_out) > NAMED:
        more = len(manifest.left_out) - NAMED
        print(f"and {more:,} more, which {output / MANIFEST} names", file=sys.stderr)
    parts = {"to train on": manifest.train, "to validate on": manifest.val}
    held = " and ".join(
        f"{sum(shard.images for shard in shards):,} images {use} in {len(shards):,} shard(s)"
        for use, shards in parts.items()
    )
    size = sum(shard.bytes for shards in parts.values() for shard in shards)
    unreadable = sum(entry_["reason"].startswith("unreadable") for entry_ in manifest.left_out)
    print(
        f"{output}: {held}, {size / 1e9:.2f} GB; {len(manifest.left_out):,} left out, {unreadable:,} of them "
        "unreadable"
    )


if __name__ == "__main__":
    main()
