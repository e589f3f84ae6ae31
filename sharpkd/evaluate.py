"""``python -m sharpkd.evaluate``: measure trained nets on images they have not seen."""

from __future__ import annotations

from sharpkd.requires import require_extra

require_extra("train")

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from sharpkd.checkpoint import LoadedNet, load_net
from sharpkd.config import ConfigError, entry, instantiate
from sharpkd.evaluation.folder_evaluation import INPUT, META, evaluate_folder, table_of
from sharpkd.evaluation.model_names import as_list, named_files
from sharpkd.evaluation.report import format_value
from sharpkd.metrics.lpips import maybe_lpips

log = logging.getLogger(__name__)


def images_of(cfg: DictConfig) -> list[Path]:
    """The files that ``data`` keeps for validation.

    Raises:
        ConfigError: ``data=folder`` without a folder.
        FileNotFoundError: there are none.
    """
    if cfg.data.get("val_dir") == "":
        raise ConfigError("data=folder needs data.val_dir=FOLDER, the images to measure on")
    for folder in as_list(cfg.data.get("val_dir")):
        if not Path(folder).expanduser().is_dir():
            raise FileNotFoundError(
                f"data.val_dir: there is no folder {Path(folder).expanduser().absolute()}"
            )
    data = instantiate(cfg.data, degradation=None, scale=cfg.task.scale, seed=cfg.seed)
    data.source.prepare()
    files: list[Path] = data.source.val_files()
    if not files:
        raise FileNotFoundError(f"no image in {data.source}")
    limit = len(files) if data.val_limit is None else min(data.val_limit, len(files))
    return [files[index * len(files) // limit] for index in range(limit)]


def evaluate(cfg: DictConfig) -> dict[str, Any]:
    """Measure the configured nets and write the results to ``paths.run_dir``.

    Raises:
        ValueError: a net's scale is not the task's.
    """
    torch.manual_seed(cfg.seed)
    if cfg.runtime.threads is not None:
        torch.set_num_threads(cfg.runtime.threads)
    loaded = {
        name: load_net(path, cfg.runtime.trusted_packages) for name, path in named_files(cfg.model).items()
    }
    for name, found in loaded.items():
        scale = getattr(found.net, "scale", 1)
        if scale != cfg.task.scale:
            raise ValueError(
                f"{name} ({found.path}) enlarges {scale} times, and task.scale is {cfg.task.scale}"
            )
    images = images_of(cfg)
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("evaluating", total=len(images))

        def tell(done: int, total: int, name: str) -> None:
            bar.update(task, completed=done, description=f"evaluating on {name}, image {done + 1} of {total}")

        return evaluate_folder(
            {name: found.net for name, found in loaded.items()},
            images,
            instantiate(cfg.degradation),
            Path(cfg.paths.run_dir),
            scale=cfg.task.scale,
            use_condition=cfg.use_condition,
            lpips=maybe_lpips(cfg.metrics.lpips_backbone, cfg.metrics.lpips_weights),
            origins={name: _origin(found) for name, found in loaded.items()},
            meta={"degradation_config": OmegaConf.to_container(cfg.degradation)},
            title=f"Evaluation: {', '.join(loaded) or INPUT}",
            progress=tell,
        )


def print_results(results: Mapping[str, Any], console: Console) -> None:
    """The results as a table; the columns on luma are left to the files."""
    rows = [{title: value for title, value in row.items() if "-Y" not in title} for row in table_of(results)]
    table = Table()
    for column in rows[0]:
        table.add_column(column, justify="left" if column == "model" else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(format_value(column, value) for column, value in row.items()))
    console.print(table)
    console.print(f"{len(results[META]['images'])} images, each measured on 8-bit output", highlight=False)


@entry("evaluate")
def main(cfg: DictConfig) -> float:
    """Evaluate as configured; the number is the last model's PSNR (the input's where there is none)."""
    results = evaluate(cfg)
    print_results(results, Console())
    log.info("report: %s", Path(cfg.paths.run_dir) / "report.html")
    last = [name for name in results if name != META][-1]
    return float(results[last]["psnr"])


def _origin(found: LoadedNet) -> dict[str, str]:
    return {"weights_sha256": found.sha256, "path": str(found.path)}


if __name__ == "__main__":
    main()
