"""Which classes a configuration may name. Building an object runs its code: not every string may choose one.

Your own YAML is trusted: what it names (in ``--config-dir``, or in SharpKD's own ``conf``) is built. A string
that only an override holds is not: it may name classes of the kinds below, and what lies in a package of
``runtime.trusted_packages``. A name that leaves its package on the way, such as ``torch.os.system`` or
``sharpkd.train.subprocess.run``, is refused before anything is imported that was not asked for.
"""

from __future__ import annotations

import inspect
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from omegaconf import OmegaConf

from sharpkd.config.error import ConfigError

OWN_ROOMS = (
    *("callbacks", "data", "distillation", "estimation", "evaluation", "loggers", "losses", "metrics"),
    *("modules", "nets"),
)
"""Rooms of sharpkd whose classes may be named."""
KINDS: dict[str, tuple[str, ...]] = {
    **{f"sharpkd.{room}": ("builtins.object",) for room in OWN_ROOMS},
    "albumentations": (
        "albumentations.core.transforms_interface.BasicTransform",
        "albumentations.core.composition.BaseCompose",
    ),
    "hydra._internal.core_plugins": ("hydra.plugins.plugin.Plugin",),
    "hydra_plugins": ("hydra.plugins.plugin.Plugin",),
    "lpips": ("torch.nn.Module",),
    "optuna.pruners": ("optuna.pruners.BasePruner",),
    "optuna.samplers": ("optuna.samplers.BaseSampler",),
    "pytorch_lightning.Trainer": ("pytorch_lightning.Trainer",),
    "pytorch_lightning.callbacks": ("pytorch_lightning.Callback",),
    "pytorch_lightning.loggers": ("pytorch_lightning.loggers.Logger",),
    "pytorch_lightning.plugins": (
        "pytorch_lightning.plugins.Precision",
        "pytorch_lightning.plugins.ClusterEnvironment",
    ),
    "pytorch_lightning.profilers": ("pytorch_lightning.profilers.Profiler",),
    "pytorch_lightning.strategies": ("pytorch_lightning.strategies.Strategy",),
    "spandrel.architectures": ("torch.nn.Module",),
    "timm.loss": ("torch.nn.Module",),
    "timm.models": ("torch.nn.Module",),
    "timm.optim": ("torch.optim.Optimizer",),
    "torch.nn": ("torch.nn.Module",),
    "torch.optim": ("torch.optim.Optimizer", "torch.optim.lr_scheduler.LRScheduler"),
    "torchmetrics": ("torchmetrics.Metric",),
    "torchvision.models": ("torch.nn.Module",),
    "torchvision.transforms": ("torch.nn.Module",),
}
"""Where a class may lie, and of which kind it has to be there: nothing else of a library can be called."""
NEVER = {*sys.stdlib_module_names, "_pytest", "hydra", "omegaconf", "pip", "pkg_resources", "setuptools"}
"""What can run anything that it is told, and is nobody's own package."""
NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
# as YAML has it in either style, with or without quotes
NAMED_IN_YAML = re.compile(r"""['"]?(?:_target_|class|\(\))['"]?\s*:\s*['"]?([A-Za-z_][\w.]*)""")

# names that this process may build: of the YAML it has read, and of checked configurations
_known: set[str] = set()


@cache
def _names_in(folder: Path) -> frozenset[str]:
    texts = (path.read_text(encoding="utf-8", errors="replace") for path in sorted(folder.rglob("*.y*ml")))
    return frozenset(name for text in texts for name in NAMED_IN_YAML.findall(text))


def trust_yaml(folders: Iterable[Path]) -> None:
    """Trust what the YAML files in these folders name."""
    for folder in folders:
        _known.update(_names_in(folder))


def trust_checked(config: Any) -> None:
    """Trust what a configuration names that another process of this program has checked."""
    _known.update(str(node["_target_"]) for _, node in nodes(OmegaConf.to_container(config, resolve=True)))


def check_packages(key: str, packages: Sequence[str]) -> None:
    """Refuse to trust what is no package of a user.

    Raises:
        ConfigError: Python's own modules, or a tool that runs whatever it is told.
    """
    for package in packages:
        if package.partition(".")[0] in NEVER or not re.fullmatch(r"\w+(\.\w+)*", package):
            raise ConfigError(
                f"{key}: {package!r} cannot be trusted: expected the name of a package with classes of yours"
            )


def nodes(config: Any, key: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every node with a ``_target_`` in plain containers, with its key."""
    if isinstance(config, dict):
        if config.get("_target_") is not None:
            yield key, config
        for name, value in config.items():
            yield from nodes(value, f"{key}.{name}" if key else str(name))
    elif isinstance(config, list):
        for index, item in enumerate(config):
            yield from nodes(item, f"{key}[{index}]")


def located(key: str, target: str, packages: Sequence[str] = ()) -> Any:
    """What a ``_target_`` names, if a configuration may name it.

    Args:
        key: where it stands, for messages.
        target: a dotted name.
        packages: trusted beside what this module says.

    Returns:
        A class; of trusted YAML and packages also a function, or whatever else it names.

    Raises:
        ConfigError: it may not be named, or it cannot be imported.
    """
    mine = next((package for package in packages if target.startswith(f"{package}.")), None)
    place = next((place for place in KINDS if f"{target}.".startswith(f"{place}.")), None)
    if not NAME.fullmatch(target) or (target not in _known and mine is None and place is None):
        raise ConfigError(
            f"{key}._target_: {target!r} is nothing that a setting may name: expected a class of sharpkd, or "
            f"a net, an optimizer, a callback, a transform, ... of {', '.join(_libraries())}; if it is "
            "yours, name it in a YAML file of --config-dir, or add its package to runtime.trusted_packages"
        )
    try:
        found, strayed = _walk(target, anywhere=target in _known)
    except Exception as error:  # a module of a user's fails in any way when it is imported
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"{key}._target_: {target!r} cannot be imported: {reason}") from error
    if target in _known:
        return found
    home = str(getattr(found, "__module__", "")) if not isinstance(found, ModuleType) else found.__name__
    root = mine or target.partition(".")[0]
    if strayed or not f"{home}.".startswith(f"{root}."):
        where = strayed or home or "another package"
        raise ConfigError(f"{key}._target_: {target!r} leads out of {root}, to {where}: it may not be named")
    if mine is None and inspect.isclass(found) and not issubclass(found, _kinds_at(place)):
        raise ConfigError(
            f"{key}._target_: {target!r} may not be named: of {place} only {' and '.join(KINDS[str(place)])}"
        )
    if mine is None and callable(found) and not inspect.isclass(found):
        raise ConfigError(f"{key}._target_: {target!r} is a function; an override may name classes alone")
    return found


def allowed(name: str, packages: Sequence[str] = ()) -> bool:
    """Whether a name stands in YAML that is trusted, or lies in one of these packages."""
    return name in _known or any(name.startswith(f"{package}.") for package in packages)


def allow(target: str) -> None:
    """Remember that a checked configuration names it."""
    _known.add(target)


def _libraries() -> list[str]:
    return sorted({place.partition(".")[0] for place in KINDS} - {"sharpkd", "hydra", "hydra_plugins"})


def _kinds_at(place: str | None) -> tuple[type, ...]:
    return tuple(_walk(kind)[0] for kind in KINDS[str(place)])


def _walk(target: str, anywhere: bool = True) -> tuple[Any, str]:
    """What a dotted name stands for, as Hydra finds it.

    Args:
        target: the name.
        anywhere: go on through a module that lies elsewhere than its name says, such as ``torch.os``.

    Returns:
        The object and an empty string; otherwise the foreign module and its name.
    """
    first, *parts = target.split(".")
    with warnings.catch_warnings():
        if first == "optuna":
            # its second version, the last that Hydra's sweeper takes, warns of a SQLAlchemy that is not here
            warnings.simplefilter("ignore")
        found: Any = import_module(first)
    path = first
    for part in parts:
        path = f"{path}.{part}"
        is_module = isinstance(found, ModuleType)
        found = import_module(path) if is_module and not hasattr(found, part) else getattr(found, part)
        if isinstance(found, ModuleType) and found.__name__ != path and not anywhere:
            return found, found.__name__
    return found, ""
