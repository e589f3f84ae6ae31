"""Does a configuration fit the classes that it names? Checked from their signatures, before anything is built."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Iterator
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig, OmegaConf

# constructor arguments that the code hands in, by the key of the node that they go to
SUPPLIED = {
    "module": {"net", "net_config", "loss", "optimizer", "scheduler", "metrics", "teacher", "transfer", "run_config"},
    "data": {"degradation", "scale", "seed"},
    "optimizer": {"params"},
    "scheduler": {"optimizer", "total_steps"},
    "loss": set(),
}


class ConfigError(ValueError):
    """A configuration that cannot work; the message names the key, what was found and what is allowed."""


def _nodes(config: Any, key: str = "") -> Iterator[tuple[str, DictConfig]]:
    if isinstance(config, DictConfig):
        if config.get("_target_") is not None:
            yield key, config
        for name in config:
            yield from _nodes(config[name], f"{key}.{name}" if key else str(name))
    elif isinstance(config, ListConfig):
        for index, item in enumerate(config):
            yield from _nodes(item, f"{key}[{index}]")


def _accepts(annotation: Any, value: Any) -> bool:
    """Whether a plain YAML value fits an annotation; annotations that say nothing about YAML accept all."""
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        return any(_accepts(part, value) for part in typing.get_args(annotation))
    if origin is typing.Literal:
        return value in typing.get_args(annotation)
    if annotation is type(None):
        return value is None
    if annotation is bool:
        return isinstance(value, bool)
    if annotation is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if annotation is str:
        return isinstance(value, str)
    if origin in (list, tuple) or annotation in (list, tuple):
        return isinstance(value, list | tuple)
    return True


def _describe(annotation: Any) -> str:
    return getattr(annotation, "__name__", None) or str(annotation).replace("typing.", "")


def _check_node(key: str, node: DictConfig) -> None:
    target = str(node["_target_"])
    try:
        function = get_object(target)
    except Exception as error:  # Hydra raises bare Exceptions and ImportErrors alike
        raise ConfigError(f"{key}._target_: {target!r} cannot be imported: {error}") from error
    signature = inspect.signature(function)
    parameters = signature.parameters
    given = {str(name) for name in node if not str(name).startswith("_")}
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    if not open_ended and (unknown := sorted(given - set(parameters))):
        raise ConfigError(
            f"{key}.{unknown[0]}: {target} has no such setting; allowed: {', '.join(n for n in parameters)}"
        )
    supplied = SUPPLIED.get(key.split(".")[0], set())
    required = {
        name
        for name, p in parameters.items()
        if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    }
    missing = sorted(required - given - supplied - {"self"})
    if missing and not node.get("_partial_"):
        raise ConfigError(f"{key}: {target} needs a value for {', '.join(missing)}")
    _check_types(key, node, function, given)


def _check_types(key: str, node: DictConfig, function: Any, given: set[str]) -> None:
    try:
        hints = typing.get_type_hints(function.__init__ if inspect.isclass(function) else function)
    except (NameError, TypeError):
        return  # annotations that cannot be evaluated at run time say nothing about the value
    plain = OmegaConf.to_container(node, resolve=False)
    assert isinstance(plain, dict)
    for name in sorted(given & set(hints)):
        value = plain[name]
        if isinstance(value, dict) or (isinstance(value, str) and "${" in value):
            continue
        if not _accepts(hints[name], value):
            raise ConfigError(f"{key}.{name}: expected {_describe(hints[name])}, found {value!r}")


def check_targets(config: DictConfig) -> None:
    """Check every node with a ``_target_`` against the signature of what it names; nothing is constructed.

    Raises:
        ConfigError: a class that does not exist, a key that it does not take, a required one that is missing,
            or a value of the wrong type.
    """
    for key, node in _nodes(config):
        _check_node(key, node)
