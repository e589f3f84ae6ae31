"""From the settings of a training to its frozen teacher, or teachers, checked against the task."""

from __future__ import annotations

import logging

from omegaconf import DictConfig, OmegaConf

from sharpkd.checkpoint import load_any_net
from sharpkd.config import ConfigError, instantiate
from sharpkd.config.teachers import TeacherSettings, several_teachers
from sharpkd.data.answer_store import BYTES_PER_GB
from sharpkd.data.degradation import Degradation
from sharpkd.modules.frozen_teacher import FrozenTeacher
from sharpkd.modules.restoration import refuse_untold
from sharpkd.modules.teacher_answers import TeacherAnswers
from sharpkd.modules.teacher_ensemble import TeacherEnsemble
from sharpkd.runs.launch import first_rank

log = logging.getLogger(__name__)

Teacher = FrozenTeacher | TeacherEnsemble


def load_teacher(cfg: DictConfig) -> Teacher:
    """The frozen teacher that ``teacher.path`` names, or those of ``teacher.several``, checked against the
    task.

    Raises:
        ConfigError: no path is given; see :func:`sharpkd.config.teachers.several_teachers`.
        FileNotFoundError, CheckpointError, ValueError: see :func:`sharpkd.checkpoint.load_any_net` and
            :meth:`FrozenTeacher.check`.
        OSError: ``teacher.cache`` cannot be written.
    """
    several = several_teachers(cfg.teacher)
    if several is None:
        if cfg.teacher.path is None:
            raise ConfigError(
                "distillation needs a trained teacher: teacher.path=FILE (a .safetensors or .ckpt written by "
                "python -m sharpkd.train experiment=teacher, or another project's .pth, .pt or .safetensors "
                "that spandrel knows), or teacher.experiment=NAME to train one first"
            )
        section = cfg.teacher
        settings = TeacherSettings(
            section.path, precision=section.precision, tile=section.tile, device=section.device
        )
        teacher: Teacher = _frozen(cfg, settings)
    else:
        members = {settings.name: _frozen(cfg, settings) for settings in several}
        weights = [settings.weight for settings in several]
        teacher = TeacherEnsemble(members, weights, cfg.teacher.combine)
    scale, asked_by = _teacher_scale(cfg)
    teacher.check(scale, asked_by=asked_by)
    _say_when_nothing_repeats(cfg)
    return teacher


def _teacher_scale(cfg: DictConfig) -> tuple[int, str]:
    """How many times the teacher has to enlarge what it is shown, and the setting that says so.

    Raises:
        ConfigError: it is to see low-resolution images, and the degradation hands none on.
    """
    if cfg.distillation.get("teacher_input", "degraded") == "degraded":
        return int(cfg.task.scale), ""
    degradation = instantiate(cfg.degradation)
    carried = degradation.carried_scale if isinstance(degradation, Degradation) else None
    if carried is None:
        raise ConfigError(
            f"distillation.teacher_input=low_res, but {type(degradation).__name__} hands on no "
            "low-resolution image; use degradation=lowres degradation.scale=4 "
            "degradation.carry_low_res=true, or distillation.teacher_input=degraded"
        )
    return carried, f"distillation.teacher_input=low_res, which is {carried} times smaller"


def _frozen(cfg: DictConfig, settings: TeacherSettings) -> FrozenTeacher:
    loaded = load_any_net(settings.path, cfg.runtime.trusted_packages)
    name = settings.name or getattr(loaded.net, "architecture", "")
    name = name or str(loaded.config["_target_"]).rpartition(".")[2]
    told = OmegaConf.select(cfg, "module.use_condition", default=False)
    refuse_untold(loaded.net, told, f"teacher {name}", "a blind teacher")
    answers = None
    if cfg.teacher.cache is not None:
        identity = {"sha256": loaded.sha256, "precision": settings.precision, "tile": settings.tile}
        limit = cfg.teacher.cache_gb * BYTES_PER_GB
        answers = TeacherAnswers(cfg.teacher.cache, name, identity, limit, cfg.teacher.cache_format)
    return FrozenTeacher(
        loaded.net, loaded.sha256, name, settings.precision, settings.tile, settings.device, answers
    )


def _say_when_nothing_repeats(cfg: DictConfig) -> None:
    repeats = OmegaConf.select(cfg, "data.fixed_crops", default=True) is not None
    if cfg.teacher.cache is not None and not repeats and first_rank():
        log.warning(
            "teacher.cache=%s: every epoch draws new crops, so this training finds there only what another "
            "one with the same seed and data has left; data.fixed_crops=N trains on N crops again and again",
            cfg.teacher.cache,
        )
