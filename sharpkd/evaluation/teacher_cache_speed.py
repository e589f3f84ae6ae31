"""How long an epoch of distillation takes with and without kept outputs of the teacher."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from sharpkd.checkpoint import load_any_net
from sharpkd.config import ConfigError, check, compose, instantiate
from sharpkd.data.batch import Batch
from sharpkd.data.loader import ResumableLoader
from sharpkd.evaluation.model_names import as_list
from sharpkd.evaluation.scoreboard.methods import literal, student_overrides
from sharpkd.evaluation.speed_files import write_speed
from sharpkd.modules.distill import DistillModule
from sharpkd.runs.teachers import load_teacher
from sharpkd.runs.training import build_data, build_module, set_process_defaults

Step = Callable[[Batch], float]


@dataclass(frozen=True)
class EpochTimes:
    """Seconds an epoch, on the CPU.

    Attributes:
        what: ``teacher`` (loading and the teacher's outputs) or ``training`` (also the student's step).
        loading: the crops alone.
        uncached: the teacher runs for every crop.
        first: it runs for every crop, and its outputs are kept.
        cached: they are all there; mean of the later epochs.
        times_faster: ``uncached`` over ``cached``.
        loss_difference: largest difference of a step's loss between the first epochs without and with kept
            outputs; None for the teacher alone.
    """

    what: str
    loading: float
    uncached: float
    first: float
    cached: float
    times_faster: float
    loss_difference: float | None = None


class TeacherCacheSpeed:
    """Epochs of ``distillation=output`` on fixed crops, timed on the CPU without Lightning around them.

    A teacher that enlarges sees crops reduced by its scale, unless ``train`` chooses a task or a degradation.

    Args:
        teacher: weight file.
        student: choice of the group ``net``, or with settings (see
            :func:`sharpkd.evaluation.scoreboard.methods.student_overrides`); None for the teacher alone.
        crops: in an epoch, a multiple of ``batch_size``.
        epochs: later epochs to time, at least 1.
        crop_size: of the teacher's output, in pixels.
        batch_size: crops in a batch.
        train: settings of the training.
        roots: ``paths.*`` of the training.

    Raises:
        ConfigError: there is no teacher.
        ValueError: a number is out of its range.
    """

    def __init__(
        self,
        teacher: str | None,
        student: str | dict[str, Any] | None = None,
        crops: int = 32,
        epochs: int = 3,
        crop_size: int = 128,
        batch_size: int = 8,
        train: str | list[str] | None = None,
        roots: dict[str, str] | None = None,
    ) -> None:
        if teacher is None:
            raise ConfigError("a benchmark of kept outputs needs teacher=FILE, the weights of a trained net")
        if batch_size < 1 or crops < 1 or crops % batch_size:
            raise ValueError(f"crops must be a multiple of batch_size={batch_size}, got {crops}")
        if epochs < 1:
            raise ValueError(f"epochs must be at least 1, got {epochs}")
        self.teacher = Path(teacher).expanduser().absolute()
        self.student = student
        self.crops = crops
        self.epochs = epochs
        self.crop_size = crop_size
        self.batch_size = batch_size
        self.train = as_list(train)
        self.roots = dict(roots or {})

    def run(self, folder: Path) -> float:
        """Write ``teacher_cache.json`` and ``teacher_cache.csv``, print a table.

        Returns:
            How many times faster an epoch is from kept outputs; with a student, an epoch of its training.

        Raises:
            FileNotFoundError: the teacher's file is missing.
            ConfigError, ValueError: the settings do not fit the teacher, or each other.
        """
        common = self._settings()
        with tempfile.TemporaryDirectory() as name:
            plain = self._composed(common, folder)
            times = [self._measure(plain, self._composed(common, folder, Path(name, "teacher")), _answering)]
            if self.student is not None:
                kept = self._composed(common, folder, Path(name, "training"))
                times.append(self._measure(plain, kept, _training))
        config = plain
        figures = {
            "teacher": self.teacher.name,
            "student": None if self.student is None else config.net._target_.rpartition(".")[2],
            "scale": config.task.scale,
            "crops": self.crops,
            "crop_size": self.crop_size,
            "batch_size": self.batch_size,
            "cache_format": config.teacher.cache_format,
        }
        write_speed(folder, "teacher_cache", figures, "seconds_per_epoch", times)
        _print(times, self.crops, folder)
        return times[-1].times_faster

    def _settings(self) -> list[str]:
        scale = int(getattr(load_any_net(self.teacher).net, "scale", 1))
        settings = ["experiment=distill", "distillation=output", "data=sample", "loss.beta=0"]
        settings += ["metrics.lpips_weights=null", "data.workers=0", "optimizer.lr=0.0002"]
        settings += [f"paths.{name}={literal(path)}" for name, path in self.roots.items()]
        settings += [] if self.student is None else student_overrides(self.student)
        chosen = any(setting.startswith(("task", "degradation")) for setting in self.train)
        if scale > 1 and not chosen:
            side = self.crop_size // scale
            settings += [f"task.scale={scale}", "degradation._target_=albumentations.Resize"]
            settings += ["~degradation.sigma", f"+degradation.height={side}", f"+degradation.width={side}"]
            settings += ["+degradation.interpolation=3"]  # OpenCV's area average
        settings += [f"data.fixed_crops={self.crops}", f"data.batch_size={self.batch_size}"]
        settings += [f"data.crop_size={self.crop_size}", f"data.val_crop={self.crop_size}"]
        return [*settings, f"teacher.path={literal(self.teacher)}", *self.train]

    def _composed(self, common: Sequence[str], folder: Path, cache: Path | None = None) -> DictConfig:
        kept = "null" if cache is None else literal(cache)
        config = compose("train", [*common, f"teacher.cache={kept}"], output_dir=str(folder))
        check(config)
        return config

    def _measure(
        self, plain: DictConfig, kept: DictConfig, step_of: Callable[[DictConfig], Step]
    ) -> EpochTimes:
        data = build_data(plain)
        data.prepare_data()
        data.setup("fit")
        loader = data.train_dataloader()
        # the first epoch of a process is slower than others: memory, threads, OpenCV
        _epoch(loader, 0, lambda batch: 0.0)
        loading, _ = _epoch(loader, 0, lambda batch: 0.0)
        uncached, losses = _epoch(loader, 0, step_of(plain))
        step = step_of(kept)
        first, losses_kept = _epoch(loader, 0, step)
        later = [_epoch(loader, number, step)[0] for number in range(1, self.epochs + 1)]
        cached = sum(later) / len(later)
        differences = [abs(one - other) for one, other in zip(losses, losses_kept, strict=True)]
        return EpochTimes(
            "teacher" if step_of is _answering else "training",
            loading=round(loading, 4),
            uncached=round(uncached, 4),
            first=round(first, 4),
            cached=round(cached, 4),
            times_faster=round(uncached / cached, 1),
            loss_difference=None if step_of is _answering else max(differences),
        )


def _answering(config: DictConfig) -> Step:
    """The teacher's outputs alone."""
    set_process_defaults(config)
    teacher = load_teacher(config)

    def step(batch: Batch) -> float:
        teacher.observe(batch.degraded, (), batch.condition if config.module.use_condition else None)
        return 0.0

    return step


def _training(config: DictConfig) -> Step:
    """Loss, gradients and one step of the optimizer."""
    set_process_defaults(config)
    module = build_module(config)
    assert isinstance(module, DistillModule)
    optimizer = instantiate(config.optimizer)(list(module.trainable_parameters()))

    def step(batch: Batch) -> float:
        total = module.compute_loss(batch).total
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        return float(total.detach())

    return step


def _epoch(loader: ResumableLoader, number: int, step: Step) -> tuple[float, list[float]]:
    loader.sampler.set_epoch(number)
    began = time.perf_counter()
    losses = [step(batch) for batch in loader]
    return time.perf_counter() - began, losses


def _print(times: Sequence[EpochTimes], crops: int, folder: Path) -> None:
    table = Table(title=f"Seconds of an epoch of {crops} crops", caption=f"written to {folder}")
    for column in (
        "",
        "loading",
        "without cache",
        "first, cache empty",
        "later, from the cache",
        "times faster",
    ):
        table.add_column(column, justify="right")
    for row in times:
        seconds = (f"{value:.3f}" for value in (row.loading, row.uncached, row.first, row.cached))
        table.add_row(row.what, *seconds, f"{row.times_faster:g}")
    Console().print(table)
    differences = [row.loss_difference for row in times if row.loss_difference is not None]
    if differences:
        Console().print(f"largest difference of a step's loss in the first epoch: {max(differences):.2g}")
