"""``python -m sharpkd.evaluate``: measure trained nets on images they have not seen."""

from __future__ import annotations

from sharpkd.requires import require_extra

require_extra("train")

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf, open_dict
from rich.console import Console
from rich.progress import Progress as ProgressBar
from rich.progress import TimeElapsedColumn
from torch import nn

from sharpkd.checkpoint import load_net
from sharpkd.config import ConfigError, compose, entry, instantiate
from sharpkd.evaluation.benchmark.run import SharpBench
from sharpkd.evaluation.benchmark.runner import LPIPSSettings, Progress
from sharpkd.evaluation.comparison.compare import ComparedFolders, compare_folders
from sharpkd.evaluation.comparison.publish import publish_comparison, publish_folder_results, publish_summary
from sharpkd.evaluation.console import (
    console_of_results,
    mean_gain,
    print_benchmark,
    print_comparison,
    print_opinions,
    print_results,
)
from sharpkd.evaluation.folder.evaluation import INPUT, META, evaluate_folder
from sharpkd.evaluation.folder.figures import as_sizes, check_threshold
from sharpkd.evaluation.model_names import as_list
from sharpkd.evaluation.models import Model, ModelSpec, specs_of
from sharpkd.evaluation.rating.ballot import plan_questions
from sharpkd.evaluation.rating.opinions import RatingSettings, score, tell_of_earlier_scores, write_page
from sharpkd.metrics.lpips import maybe_lpips
from sharpkd.nets.base import is_told

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
    # only the files are asked for: no crop is cut that would have to fit the scale
    data = instantiate(cfg.data, degradation=None, scale=1, seed=cfg.seed)
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
    latency_sizes = as_sizes(OmegaConf.to_container(cfg.metrics.latency_sizes))
    check_threshold(cfg.metrics.ssim_threshold)
    specs = specs_of(cfg.model, tuple(cfg.runtime.trusted_packages))
    nets = {spec.name: _net_of(spec) for spec in specs if spec.name != INPUT}
    for name, net in nets.items():
        if isinstance(net, nn.Module) and is_told(net) and not cfg.use_condition:
            log.info("%s is told what was done to an image: here, what the packaged estimator finds", name)
    degradation = instantiate(cfg.degradation)
    carried = getattr(degradation, "carried_scale", None)
    for spec in specs:
        scale = getattr(nets.get(spec.name), "scale", cfg.task.scale)
        if scale not in (cfg.task.scale, carried) and spec.kind != "baseline":
            raise ValueError(
                f"{spec.name} ({spec.path}) enlarges {scale} times, and task.scale is {cfg.task.scale}"
            )
    images = images_of(cfg)
    with _bar() as tell:
        return evaluate_folder(
            nets,
            images,
            degradation,
            Path(cfg.paths.run_dir),
            scale=cfg.task.scale,
            use_condition=cfg.use_condition,
            lpips=maybe_lpips(cfg.metrics.lpips_backbone, cfg.metrics.lpips_weights),
            ssim_threshold=cfg.metrics.ssim_threshold,
            latency_sizes=latency_sizes,
            origins={spec.name: _origin(spec) for spec in specs if spec.path is not None},
            meta={"degradation_config": OmegaConf.to_container(cfg.degradation)},
            title=f"Evaluation: {', '.join(nets) or INPUT}",
            progress=tell,
        )


def evaluate_benchmark(cfg: DictConfig, console: Console | None = None) -> dict[str, Any]:
    """Measure the configured models on the benchmark and write the results to ``paths.run_dir``.

    Args:
        cfg: what ``evaluate.yaml`` makes.
        console: where the results are printed, as soon as there are any.

    Raises:
        ConfigError: images, degradations or other settings are named that the benchmark does not look at.
        ValueError: a rating page is asked for, and there is nothing to rate, or too little.
    """
    why = "the benchmark measures on its own sets, degraded its own way, and tells the nets nothing"
    _refuse_ignored(cfg, _of_a_folder(cfg), "benchmark=", why)
    torch.manual_seed(cfg.seed)
    if cfg.runtime.threads is not None:
        torch.set_num_threads(cfg.runtime.threads)
    folder = Path(cfg.paths.run_dir)
    rating = RatingSettings.of(cfg.rating)
    benchmark: SharpBench = instantiate(cfg.benchmark)
    specs = benchmark.specs(cfg.model, cfg.runtime.trusted_packages)
    if rating.page:
        # what cannot be asked is better said now than after hours
        plan_questions(benchmark.rating_offers(specs, rating.images), cfg.seed, rating.pairs_per_image)
    lpips = LPIPSSettings(cfg.metrics.lpips_backbone, cfg.metrics.lpips_weights)
    with _bar() as tell:
        try:
            results = benchmark.run(specs, folder, lpips, meta={"seed": cfg.seed}, progress=tell)
        except KeyboardInterrupt as stop:
            stop.add_note("what was measured is kept, and the same command goes on from there")
            raise
    if console is not None:
        print_benchmark(results, console)
    if not rating.answers:
        tell_of_earlier_scores(folder)
    try:
        if rating.page:
            write_page(benchmark.rating_examples(specs, rating.images), folder, cfg.seed, rating)
    finally:
        publish_summary(cfg.logger, results)
    return results


def compare(cfg: DictConfig) -> ComparedFolders:
    """Line finished evaluations up in ``paths.run_dir``.

    Raises:
        ConfigError: something is named beside it that would be measured, or people's answers.
    """
    why = "compare= lines finished evaluations up and measures nothing"
    measured = {"model": "model", "benchmark": "benchmark", **_of_a_folder(cfg), **_settings(cfg, "metrics")}
    _refuse_ignored(cfg, measured, "compare=", why)
    rating = RatingSettings.of(cfg.rating)
    if rating.page or rating.answers:
        raise ConfigError(f"{why}: leave out rating{'.answers' if rating.answers else ''}, or compare=")
    compared = compare_folders(as_list(cfg.compare), Path(cfg.paths.run_dir))
    publish_comparison(cfg.logger, compared)
    return compared


@entry("evaluate")
def main(cfg: DictConfig) -> float:
    """Do what is configured.

    The number is the last model's PSNR, on luma where the task enlarges; on the benchmark its mean gain over
    the tracks (dB); of a comparison the last difference.
    """
    console = console_of_results()
    folder = Path(cfg.paths.run_dir)
    rating = RatingSettings.of(cfg.rating)
    if cfg.compare:
        compared = compare(cfg)
        print_comparison(compared, console)
        log.info("comparison: %s", compared.page)
        return compared.differences[-1].interval.mean
    if rating.answers and not cfg.model and cfg.benchmark is None:
        _refuse_beside_answers(cfg)
        print_opinions(score(folder, rating), console)
        return float("nan")
    if cfg.benchmark is None:
        number = _measure_folder(cfg, rating, console)
    else:
        number = mean_gain(evaluate_benchmark(cfg, console))
    log.info("report: %s", folder / "report.html")
    if rating.answers:
        print_opinions(score(folder, rating), console)
    return number


def _measure_folder(cfg: DictConfig, rating: RatingSettings, console: Console) -> float:
    if rating.page:
        raise ConfigError("rating=true needs benchmark=sharpbench_quick or benchmark=sharpbench")
    results = evaluate(cfg)
    print_results(results, console)
    publish_folder_results(cfg.logger, results)
    last = [name for name in results if name != META][-1]
    return float(results[last]["psnr_y" if cfg.task.scale > 1 else "psnr"])


def _refuse_beside_answers(cfg: DictConfig) -> None:
    ignored = {**_of_a_folder(cfg), **_settings(cfg, "metrics", "rating"), "logger": "logger"}
    del ignored["rating.answers"]
    why = "rating.answers= scores answers, and nothing is measured without model= or benchmark="
    _refuse_ignored(cfg, ignored, "say what to measure", why)


def _of_a_folder(cfg: DictConfig) -> dict[str, str]:
    """What only an evaluation on a folder looks at, and where it shows that somebody has set it."""
    # data.train_dir follows data.val_dir, so that comes first
    data = {"data": "data._target_", "data.val_dir": "data.val_dir", **_settings(cfg, "data")}
    others = ("degradation", "task.scale", "use_condition", "metrics.ssim_threshold", "metrics.latency_sizes")
    return data | {name: name for name in others}


def _settings(cfg: DictConfig, *groups: str) -> dict[str, str]:
    return {f"{group}.{name}": f"{group}.{name}" for group in groups for name in cfg[group] or ()}


def _refuse_ignored(cfg: DictConfig, places: Mapping[str, str], group: str, why: str) -> None:
    usual = compose("evaluate", run=False)
    with open_dict(usual):
        # what only follows another root was set by nobody
        usual.paths = cfg.paths
    for key, place in places.items():
        if OmegaConf.select(cfg, place) != OmegaConf.select(usual, place):
            raise ConfigError(f"{why}: leave out {key}, or {group}")


def _net_of(spec: ModelSpec) -> nn.Module | Model:
    if spec.kind == "torch" and spec.path is not None:
        return load_net(spec.path, spec.trusted).net
    return spec.open()


def _origin(spec: ModelSpec) -> dict[str, str]:
    return {"weights_sha256": spec.fingerprint, "path": str(spec.path)}


@contextmanager
def _bar() -> Iterator[Progress]:
    console = Console(stderr=True)
    columns = (*ProgressBar.get_default_columns(), TimeElapsedColumn())
    with ProgressBar(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("measuring", total=None)

        def tell(done: int, total: int, name: str) -> None:
            bar.update(task, completed=done, total=total, description=f"measuring {name}")

        yield tell


if __name__ == "__main__":
    main()
