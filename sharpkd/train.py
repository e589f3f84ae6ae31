"""``python -m sharpkd.train``: train a teacher, a student, or a sweep of them."""

from __future__ import annotations

from sharpkd.requires import require_extra

require_extra("train")

import logging
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from sharpkd.config import ConfigError, compose, entry, is_multirun, resolve
from sharpkd.config.teachers import several_teachers
from sharpkd.nets.swinir import OFFICIAL, at_hand
from sharpkd.runs.folder import RunFolder
from sharpkd.runs.launch import ends_at_sigterm, first_rank, launch_ranks, ranks_wanted, under_launcher
from sharpkd.runs.parent import TERMINATED
from sharpkd.runs.training import run_training

log = logging.getLogger(__name__)

MEASURED = ("val/psnr", "val/ssim", "val/lpips", "parameters", "macs_per_pixel", "ms_per_image", "steps")
ROOTS = ("output_root", "data_root", "weights_root", "cache_root")


def train(cfg: DictConfig, overrides: list[str]) -> dict[str, float]:
    """Run one training in its folder, or say why it may not start there.

    Args:
        cfg: resolved configuration.
        overrides: the command line's, for ``status.json``.

    Returns:
        Its metrics; those on disk for a job of a continued sweep that had finished before.
    """
    folder = RunFolder(Path(cfg.paths.run_dir))
    status = folder.status()
    if is_multirun() and cfg.sweep.resume:
        cfg = _changed(cfg, {"resume": "auto"})
    if is_multirun() and cfg.resume == "auto" and not cfg.overwrite and status.get("state") == "finished":
        folder.refuse_other_settings(with_teacher(cfg), folder.saved_config(), folder.path)
        log.info("%s has finished before; kept", folder.path)
        return dict(status["metrics"])
    if not first_rank():
        return run_training(cfg, folder.decide(cfg))
    cfg = with_teacher(cfg)
    checkpoint = folder.prepare(cfg)
    folder.save_config(cfg)
    folder.report("running", overrides)
    try:
        ranks = 1 if under_launcher() else ranks_wanted(cfg)
        with ends_at_sigterm():
            metrics = (
                launch_ranks(cfg, folder, checkpoint, ranks) if ranks > 1 else run_training(cfg, checkpoint)
            )
    except BaseException as error:
        what = str(error)
        if isinstance(error, KeyboardInterrupt):
            what = "interrupted; resume=auto continues it"
            error.add_note("resume=auto continues it")
        elif isinstance(error, SystemExit) and error.code == TERMINATED:
            what = "ended by SIGTERM; resume=auto continues it"
            log.warning(what)
        try:
            folder.report("failed", error=what or type(error).__name__)
        except OSError as full:
            # what stopped the training is the error to hear of
            log.warning("%s", full)
        raise
    folder.report("finished", metrics=metrics)
    log.info("val/psnr %.2f dB; weights in %s", metrics.get("val/psnr", float("nan")), folder.weights_file)
    return metrics


def with_teacher(cfg: DictConfig) -> DictConfig:
    """The configuration with ``teacher.path`` set, after training ``teacher.experiment`` where asked for.

    Paths of teachers and of their kept outputs become absolute. SwinIR's official weights are downloaded
    where they are missing, as ``net=swinir`` does.

    Raises:
        FileNotFoundError: a teacher's file is missing.
    """
    cfg = _with_absolute_paths(cfg)
    if cfg.teacher.path is not None:
        path = Path(cfg.teacher.path).expanduser().absolute()
        if cfg.loss.delta > 0 and path.name == OFFICIAL:
            path = at_hand(path)
        if cfg.loss.delta > 0 and not path.is_file():
            raise FileNotFoundError(f"teacher.path={path}: no such file")
    elif cfg.teacher.experiment is not None and cfg.loss.delta > 0:
        path = _train_teacher_first(cfg)
    else:
        return cfg
    return _changed(cfg, {"teacher": {"path": str(path)}})


def _changed(cfg: DictConfig, changes: dict[str, Any]) -> DictConfig:
    changed = OmegaConf.merge(cfg, changes)
    assert isinstance(changed, DictConfig)
    return resolve(changed)


def _with_absolute_paths(cfg: DictConfig) -> DictConfig:
    changes: dict[str, Any] = {}
    if cfg.teacher.cache is not None:
        changes["cache"] = str(Path(cfg.teacher.cache).expanduser().absolute())
    several = several_teachers(cfg.teacher) if cfg.loss.delta > 0 else None
    if several is not None:
        paths = [Path(teacher.path).expanduser().absolute() for teacher in several]
        for index, path in enumerate(paths):
            if not path.is_file():
                raise FileNotFoundError(f"teacher.several[{index}].path={path}: no such file")
        changes["several"] = [
            {**entry, "path": str(path)} for entry, path in zip(cfg.teacher.several, paths, strict=True)
        ]
    return _changed(cfg, {"teacher": changes}) if changes else cfg


def _train_teacher_first(cfg: DictConfig) -> Path:
    if under_launcher():
        raise ConfigError(
            "teacher.experiment trains in one process: train the teacher first, then teacher.path=FILE"
        )
    folder = RunFolder(Path(cfg.paths.run_dir) / "teacher")
    reusable = cfg.resume == "auto" and not cfg.overwrite and folder.status().get("state") == "finished"
    if not reusable:
        overrides = [f"experiment={cfg.teacher.experiment}", f"resume={cfg.resume}"]
        overrides += [
            f"overwrite={str(cfg.overwrite).lower()}",
            f"runtime.threads={cfg.runtime.threads or 'null'}",
        ]
        overrides += [f"paths.{name}='{cfg.paths[name]}'" for name in ROOTS]
        overrides = [*overrides, *cfg.teacher.overrides]
        train(compose("train", overrides, output_dir=str(folder.path)), overrides)
    return folder.weights_file


@entry("train")
def main(cfg: DictConfig) -> float:
    """Train as configured; the number is what a sweep compares jobs by."""
    if cfg.sweep.monitor not in MEASURED:
        raise ConfigError(f"sweep.monitor is {cfg.sweep.monitor!r}; a run measures {', '.join(MEASURED)}")
    metrics = train(cfg, list(HydraConfig.get().overrides.task))
    if first_rank() and cfg.sweep.monitor not in metrics:
        raise ConfigError(f"sweep.monitor={cfg.sweep.monitor} was not measured here (are its weights there?)")
    return metrics.get(cfg.sweep.monitor, float("nan"))


if __name__ == "__main__":
    main()
