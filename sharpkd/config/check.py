"""Does a configuration fit the classes that it names? Their signatures tell, before anything is built."""

from __future__ import annotations

import collections.abc
import inspect
import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from sharpkd.config.error import ConfigError as ConfigError
from sharpkd.config.hints import as_yaml, nearest
from sharpkd.config.teachers import check_teachers
from sharpkd.config.trust import allow, check_packages, located, nodes

# constructor arguments that the code hands in, by the group that the node lies in
SUPPLIED = {
    "module": {
        "net",
        "net_config",
        "loss",
        "optimizer",
        "scheduler",
        "metrics",
        "teacher",
        "transfer",
        "run_config",
    },
    "data": {"degradation", "scale", "seed"},
    "optimizer": {"params"},
    "scheduler": {"optimizer", "total_steps"},
}
# what the settings that no class takes may be; where a configuration has no such key, it is not looked for
PLAIN: dict[str, Any] = {
    "run": str | int | float | None,
    "seed": int,
    "resume": str,
    "overwrite": bool,
    "task.name": str,
    "task.scale": int,
    "estimator": str | None,
    "teacher.path": str | None,
    "teacher.experiment": str | None,
    "teacher.overrides": list[str],
    "teacher.precision": Literal["fp32", "bf16"],
    "teacher.tile": int | None,
    "teacher.device": str | None,
    "teacher.cache": str | None,
    "teacher.cache_gb": float,
    "teacher.cache_format": Literal["fp16", "uint8"],
    "teacher.several": list[dict[str, Any]],
    "teacher.combine": Literal["mean", "best"],
    "metrics.lpips_backbone": str,
    "metrics.lpips_weights": str | None,
    "runtime.threads": int | None,
    "runtime.matmul_precision": Literal["highest", "high", "medium"],
    **dict.fromkeys(("runtime.trusted_packages", "trusted_packages"), list[str]),
    "sweep.name": str | int | float | None,
    "sweep.resume": bool,
    "sweep.monitor": str,
    "sweep.mode": Literal["max", "min"],
    **{f"paths.{name}_root": str for name in ("output", "data", "weights", "cache")},
}
# sections of trainings alone: a benchmark's `teacher` is a file
OF_TRAINING = ("teacher",)


def check(config: DictConfig) -> None:
    """Check every setting of a resolved configuration that can be checked without building anything.

    Raises:
        ConfigError: see :func:`check_targets`; a plain setting has a value that it cannot take; or two
            settings contradict each other.
    """
    for key, annotation in PLAIN.items():
        section = key.rpartition(".")[0]
        if section in OF_TRAINING and "module" not in config:
            continue
        if section and section in config and not isinstance(config[section], DictConfig):
            raise ConfigError(f"{section}: expected settings such as {key}, found {as_yaml(config[section])}")
        value = OmegaConf.select(config, key, default=Ellipsis)
        if value is not Ellipsis:
            plain = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
            _check_value(key, annotation, plain)
    if OmegaConf.select(config, "sweep.resume") and config.overwrite:
        raise ConfigError(
            "sweep.resume=true keeps what has finished, overwrite=true discards it: leave one out"
        )
    check_targets(config)
    if "module" in config:
        check_teachers(config)
        _check_unlabelled(config)


def _check_unlabelled(config: DictConfig) -> None:
    if OmegaConf.select(config, "data.unlabelled_dir") is None:
        return
    if config.distillation is None or config.loss.delta == 0:
        untaught = "distillation=none" if config.distillation is None else "loss.delta=0"
        raise ConfigError(
            f"data.unlabelled_dir needs a teacher: its images have no ground truth, and with {untaught} "
            "nobody labels them; use experiment=distill teacher.path=FILE, or data.unlabelled_dir=null"
        )
    degraded = OmegaConf.select(config, "data.unlabelled_degraded", default=True)
    if not degraded and OmegaConf.select(config, "distillation.teacher_input") == "low_res":
        raise ConfigError(
            "distillation.teacher_input=low_res, but images taken as they are have no low-resolution "
            "version; use data.unlabelled_degraded=true or distillation.teacher_input=degraded"
        )
    if not degraded and OmegaConf.select(config, "module.use_condition"):
        raise ConfigError(
            "module.use_condition=true, but nothing is known of the blur of images taken as they are; "
            "use data.unlabelled_degraded=true or module.use_condition=false"
        )


def check_targets(config: DictConfig) -> None:
    """Check every node with a ``_target_`` against the signature of what it names; nothing is constructed.

    Raises:
        ConfigError: a class that may not be named (see `sharpkd.config.trust`) or does not exist, a key that
            it does not take, a required one that is missing, a value of the wrong type, or a net whose
            arguments a weight file could not carry.
    """
    plain = OmegaConf.to_container(config, resolve=True)
    packages = trusted_packages(config)
    for key, node in nodes(plain):
        located(key, str(node["_target_"]), packages)
    for key, node in nodes(plain):
        _check_node(key, node, packages)
        if key.startswith("net."):
            raise ConfigError(
                f"{key}._target_: a net takes plain values only (numbers, strings, lists), so that a weight "
                "file can carry them; build the part inside the net"
            )


def trusted_packages(config: DictConfig) -> list[str]:
    """The packages of its own that a configuration trusts.

    Raises:
        ConfigError: one of them cannot be trusted.
    """
    found: list[str] = []
    for key in ("runtime.trusted_packages", "trusted_packages"):
        packages = OmegaConf.select(config, key)
        if packages is not None:
            check_packages(key, packages)
            found.extend(packages)  # += would be ListConfig's own, which makes another one
    return found


def _check_node(key: str, node: Mapping[str, Any], packages: Sequence[str]) -> None:
    target = str(node["_target_"])
    function = located(key, target, packages)
    if not callable(function):
        raise ConfigError(f"{key}._target_: {target!r} is {type(function).__name__}, no class")
    parameters, hints, takes_all = _signature(function)
    given = [str(name) for name in node if not str(name).startswith("_")]
    unknown = [name for name in given if name not in parameters]
    if unknown and not takes_all:
        allowed = ", ".join(parameters) or "none"
        raise ConfigError(
            f"{key}.{unknown[0]}: {target} has no such setting. "
            f"{nearest(unknown[0], parameters)}Allowed: {allowed}"
        )
    supplied = SUPPLIED.get(key.split(".")[0], set())
    required = {name for name, parameter in parameters.items() if parameter.default is parameter.empty}
    missing = sorted(required - set(given) - supplied)
    if missing and not node.get("_partial_") and not node.get("_args_"):
        raise ConfigError(f"{key}: {target} needs a value for {', '.join(missing)}")
    for name in given:
        if name in hints and not _is_default(node[name], parameters[name]):
            _check_value(f"{key}.{name}", hints[name], node[name])
    allow(target)


def _signature(function: Any) -> tuple[dict[str, inspect.Parameter], dict[str, Any], bool]:
    """Parameters by name, their annotations, and whether any other name is welcome.

    A constructor's ``**arguments`` stand for the parameters of the classes above.
    """
    try:
        own = inspect.signature(function).parameters.values()
    except ValueError:  # some built-in types have none
        return {}, {}, True
    parameters = {p.name: p for p in own if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    takes_all = any(p.kind is p.VAR_KEYWORD for p in own)
    if not inspect.isclass(function):
        return parameters, _hints(function), takes_all
    hints = _hints(function.__init__)
    for parent in function.__mro__[1:-1]:
        if not takes_all:
            break
        if "__init__" in vars(parent):
            above, hints_above, takes_all = _signature(parent)
            parameters = {**above, **parameters}
            hints = {**hints_above, **hints}
    return parameters, hints, takes_all


def is_default(target: str, name: str, value: Any) -> bool:
    """Whether a class would take this value for one of its settings anyway, if nobody set it."""
    parameters, _, _ = _signature(located(name, target))
    return name in parameters and _is_default(value, parameters[name])


def _hints(function: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except (NameError, TypeError, AttributeError):
        return {}  # annotations that cannot be evaluated at run time say nothing about the value


def _is_default(value: Any, parameter: inspect.Parameter) -> bool:
    """Whether it is what the parameter has anyway, whatever the annotation says (``x: int = None``)."""
    return type(value) is type(parameter.default) and value == parameter.default


def _check_value(key: str, annotation: Any, value: Any) -> None:
    if _accepts(annotation, value):
        return
    others: tuple[Any, ...] = (0.0, [], None)
    takes_plain = typing.get_origin(annotation) is Literal or any(_accepts(annotation, o) for o in others)
    is_part = isinstance(value, str) and not takes_plain
    hint = (
        f"; a choice of a group is written with a slash: {key.replace('.', '/')}={value}" if is_part else ""
    )
    raise ConfigError(f"{key}: expected {_describe(annotation)}, found {as_yaml(value)}{hint}")


def _accepts(annotation: Any, value: Any) -> bool:
    """Whether a plain YAML value fits an annotation; annotations that say nothing about YAML accept all."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _accepts(parts[0], value)
    if origin in (typing.Union, types.UnionType):
        return any(_accepts(part, value) for part in parts)
    if origin is Literal:
        return any(value == part and type(value) is type(part) for part in parts)
    if isinstance(value, dict) and "_target_" in value:
        return annotation not in (None, type(None), bool, int, float, str)
    if annotation in (None, type(None)):
        return value is None
    if annotation is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if annotation in (bool, str):
        return isinstance(value, annotation)
    kind = origin or annotation
    if kind is tuple and parts and parts[-1] is not Ellipsis:
        return isinstance(value, list) and len(value) == len(parts) and all(map(_accepts, parts, value))
    if kind in (list, tuple, set, collections.abc.Sequence, collections.abc.Iterable):
        return isinstance(value, list) and all(_accepts(parts[0], item) for item in value if parts)
    if kind in (dict, collections.abc.Mapping):
        return isinstance(value, dict)
    if kind is collections.abc.Callable or (inspect.isclass(kind) and issubclass(kind, nn.Module | Tensor)):
        return isinstance(value, dict)
    return True


def _describe(annotation: Any) -> str:
    """An annotation as people write it, without the modules that its names come from."""
    if typing.get_origin(annotation) is Literal:
        return " or ".join(repr(part) for part in typing.get_args(annotation))
    plain_class = inspect.isclass(annotation) and not typing.get_args(annotation)
    name = re.sub(r"\b(?:\w+\.)+(?=[A-Za-z_])", "", annotation.__name__ if plain_class else str(annotation))
    return re.sub(r"\bNone(Type)?\b", "null", name)
