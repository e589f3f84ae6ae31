"""One training run from a resolved configuration: build, fit, keep the best weights, measure them."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities.exceptions import SIGTERMException
from torch import nn

from sharpkd.checkpoint import CheckpointError, load_estimator, net_state, read_lightning, save_weights
from sharpkd.config import ConfigError, instantiate
from sharpkd.config.trust import located
from sharpkd.data.datamodule import ImageDataModule
from sharpkd.loggers.base import RunLogger
from sharpkd.metrics.latency import net_latency
from sharpkd.metrics.lpips import maybe_lpips
from sharpkd.metrics.per_image import PerImageMetric
from sharpkd.metrics.psnr import PSNR
from sharpkd.metrics.ssim import SSIM
from sharpkd.modules.distill import DistillModule
from sharpkd.modules.estimated_condition import ConditionEstimator
from sharpkd.modules.restoration import RestorationModule
from sharpkd.modules.teacher import TeacherModule
from sharpkd.nets.base import RestorationNet
from sharpkd.nets.stats import describe
from sharpkd.runs.checkpoint_files import CheckpointFiles
from sharpkd.runs.folder import RunFolder, RunFolderError, write_json
from sharpkd.runs.parent import TERMINATED
from sharpkd.runs.teachers import load_teacher

log = logging.getLogger(__name__)

# Lightning's remarks on what is meant here, and its own use of a name that torch is about to drop
EXPECTED_WARNINGS = (
    ".*does not have many workers.*",
    ".*is smaller than the logging interval.*",
    "Checkpoint directory .* exists and is not empty",
    "The dirpath has changed from .*",
    r"Found \d+ module\(s\) in eval mode at the start of training",
    ".*isinstance\\(treespec, LeafSpec\\).*",
)
# estimator=packaged: the one that comes with the package
PACKAGED = "packaged"
DEFAULT_THREADS = torch.get_num_threads()


def set_process_defaults(cfg: DictConfig) -> None:
    """Set every process-wide switch, so that one job of a sweep inherits nothing from the one before it."""
    logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.WARNING)
    pl.seed_everything(int(cfg.seed), workers=True, verbose=False)
    torch.set_default_dtype(torch.float32)
    torch.set_float32_matmul_precision(cfg.runtime.matmul_precision)
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(cfg.runtime.threads or DEFAULT_THREADS)


def _refuse_other_scale(net: nn.Module, scale: int) -> None:
    if isinstance(net, RestorationNet) and net.scale != scale:
        raise ConfigError(
            f"net: {getattr(net, 'architecture', type(net).__name__)} enlarges {net.scale} times, the task "
            f"{scale} times (task.scale={scale}); choose a net of the task's scale"
        )


def validation_metrics(cfg: DictConfig) -> dict[str, PerImageMetric]:
    """PSNR, SSIM and, where its weights are there, LPIPS; all averaged per image."""
    metrics: dict[str, PerImageMetric] = {"psnr": PSNR(), "ssim": SSIM()}
    lpips = maybe_lpips(cfg.metrics.lpips_backbone, cfg.metrics.lpips_weights)
    if lpips is not None:
        metrics["lpips"] = lpips
    return metrics


def build_module(cfg: DictConfig) -> RestorationModule:
    """The LightningModule that the configuration describes."""
    plain = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(plain, dict)
    # the net first: what comes after draws random numbers too, and twins must start from the same weights
    arguments: dict[str, Any] = {"net": instantiate(cfg.net)}
    _refuse_other_scale(arguments["net"], cfg.task.scale)
    if cfg.distillation is not None:
        taught = cfg.loss.delta > 0
        arguments["teacher"] = load_teacher(cfg) if taught else None
        arguments["transfer"] = instantiate(cfg.distillation) if taught else None
    arguments |= {
        "net_config": plain["net"],
        "loss": instantiate(cfg.loss),
        "optimizer": instantiate(cfg.optimizer),
        "scheduler": instantiate(cfg.scheduler),
        "metrics": validation_metrics(cfg),
        "run_config": plain,
        "estimator": condition_estimator(cfg.estimator),
    }
    settings = {key: value for key, value in cfg.module.items() if key != "_target_"}
    # called directly: Hydra would build the nodes inside net_config and run_config too
    module = located("module", cfg.module._target_)
    if "teacher" in arguments and module in (RestorationModule, TeacherModule):
        raise ConfigError(
            f"distillation is configured, but {cfg.module._target_} has no teacher: "
            "use experiment=distill, or distillation=none"
        )
    return module(**settings, **arguments)


def condition_estimator(which: str | None) -> ConditionEstimator | None:
    """``packaged``, a weight file of an estimator, or None.

    Raises:
        ConfigError: there is no such file, or it holds something else.
    """
    if which is None:
        return None
    try:
        estimator = load_estimator(None if which == PACKAGED else Path(which).expanduser())
    except (FileNotFoundError, CheckpointError) as error:
        raise ConfigError(f"estimator: {error}") from error
    return ConditionEstimator(estimator, estimator.conditions)


def build_data(cfg: DictConfig) -> ImageDataModule:
    """The data module that the configuration describes."""
    return instantiate(
        cfg.data, degradation=instantiate(cfg.degradation), scale=cfg.task.scale, seed=cfg.seed
    )


def effective_batch(batch_size: int, processes: int, accumulated: int) -> str:
    """How many crops a step sees, and why: ``effective batch 32 (8 x 2 processes x 2 accumulated)``.

    Args:
        batch_size: crops that a process takes at once.
        processes: on all machines together.
        accumulated: batches whose gradients are added up before a step.
    """
    factors = [str(batch_size)]
    factors += [f"{processes} processes"] if processes > 1 else []
    factors += [f"{accumulated} accumulated"] if accumulated > 1 else []
    reason = f" ({' x '.join(factors)})" if len(factors) > 1 else ""
    return f"effective batch {batch_size * processes * accumulated}{reason}"


def _entries(group: DictConfig | None) -> list[Any]:
    return [instantiate(entry) for entry in (group or {}).values() if entry is not None]


def run_training(cfg: DictConfig, checkpoint: Path | None = None) -> dict[str, float]:
    """Train, keep the best weights as ``net.safetensors``, measure them, and report.

    Args:
        cfg: resolved; ``paths.run_dir`` is the run's folder.
        checkpoint: continue from it.

    Returns:
        The flat dictionary that also goes to ``metrics.json`` (empty on ranks other than 0).

    Raises:
        KeyboardInterrupt: training was interrupted; ``resume=auto`` continues it.
        SystemExit: it was asked to end by SIGTERM; likewise.
    """
    folder = RunFolder(Path(cfg.paths.run_dir))
    set_process_defaults(cfg)
    loggers: list[RunLogger] = []
    exit_code = 1
    try:
        module = build_module(cfg)
        data = build_data(cfg)
        loggers.extend(_entries(cfg.logger))
        trainer: pl.Trainer = instantiate(
            cfg.trainer,
            callbacks=_entries(cfg.callbacks),
            logger=loggers,
            plugins=[CheckpointFiles(), *instantiate(cfg.trainer.get("plugins") or [])],
        )
        _refuse_other_teacher(module, checkpoint)
        if trainer.is_global_zero:
            log.info(
                "%s: %s, %s, in %s",
                cfg.net._target_.rpartition(".")[2],
                f"{trainer.max_steps} steps" if trainer.max_steps > 0 else f"{trainer.max_epochs} epochs",
                effective_batch(data.batch_size, trainer.world_size, trainer.accumulate_grad_batches),
                folder.path,
            )
            if trainer.world_size * trainer.accumulate_grad_batches > 1:
                log.info(
                    "optimizer.lr=%s is taken as it is, whatever the effective batch", cfg.optimizer.get("lr")
                )
        _fit(trainer, module, data, checkpoint)
        if isinstance(module, DistillModule) and module.teacher is not None and trainer.is_global_zero:
            for line in module.teacher.summary():
                log.info(line)
        metrics: dict[str, float] = {}
        if trainer.is_global_zero:
            metrics = _conclude(cfg, folder, trainer, module, data, loggers)
        exit_code = 0
        return metrics
    finally:
        for logger in loggers:
            logger.finish(exit_code)


def _fit(
    trainer: pl.Trainer, module: RestorationModule, data: ImageDataModule, checkpoint: Path | None
) -> None:
    with warnings.catch_warnings():
        for message in EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", message=message)
        try:
            trainer.fit(
                module,
                datamodule=data,
                ckpt_path=None if checkpoint is None else str(checkpoint),
                weights_only=None if checkpoint is None else True,
            )
        except SystemExit as ended:
            # Lightning makes one of Ctrl-C and of SIGTERM, the latter with the exit code of success
            if isinstance(ended.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from ended
            if isinstance(ended, SIGTERMException):
                raise SystemExit(TERMINATED) from ended
            raise


def _refuse_other_teacher(module: RestorationModule, checkpoint: Path | None) -> None:
    if checkpoint is None or not isinstance(module, DistillModule) or module.teacher is None:
        return
    before = read_lightning(checkpoint)["sharpkd"]["teacher_sha256"]
    now = module.teacher.sha256
    if before != now:
        raise RunFolderError(
            f"cannot continue {checkpoint} with another teacher: its file's SHA-256 was {before[:16]}…, "
            f"now it is {now[:16]}…; put the old file back, or start another run with run=NAME"
        )


def _conclude(
    cfg: DictConfig,
    folder: RunFolder,
    trainer: pl.Trainer,
    module: RestorationModule,
    data: ImageDataModule,
    loggers: list[RunLogger],
) -> dict[str, float]:
    source = "last"
    if folder.best_checkpoint.is_file():
        module.net.load_state_dict(net_state(read_lightning(folder.best_checkpoint)["state_dict"]))
        source = "best"
    net = module.net.cpu().eval()
    plain_net = OmegaConf.to_container(cfg.net, resolve=True)
    assert isinstance(plain_net, dict)
    if isinstance(net, RestorationNet):
        net, changed = net.deployed()
        plain_net |= changed
    metrics = {
        f"val/{name}": value for name, value in measure(net, data, validation_metrics(cfg), module).items()
    }
    figures = describe(net)
    for key in ("parameters", "macs_per_pixel"):
        if (figure := figures[key]) is not None:
            metrics[key] = float(figure)
    metrics["ms_per_image"] = net_latency(net, scale=cfg.task.scale).median_ms
    metrics["steps"] = float(trainer.global_step)
    save_weights(
        folder.weights_file,
        {str(key): value for key, value in plain_net.items()},
        net.state_dict(),
        {
            "run": f"{folder.path.parent.name}/{folder.path.name}",
            "weights": source,
            "scale": str(cfg.task.scale),
        },
    )
    write_json(folder.metrics_file, metrics)
    for logger in loggers:
        logger.log_summary(metrics)
    return metrics


def measure(
    net: nn.Module, data: ImageDataModule, metrics: Mapping[str, PerImageMetric], module: RestorationModule
) -> dict[str, float]:
    """Validation metrics of a net on the CPU, in this process alone: under DDP no image counts twice."""
    with torch.inference_mode():
        for batch in data.validation_loader():
            output = net(batch.degraded, module.condition_of(batch)).clamp(0.0, 1.0)
            for metric in metrics.values():
                metric.update(output, batch.sharp)
    return {name: metric.local_mean() for name, metric in metrics.items()}
