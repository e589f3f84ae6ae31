"""Reading intermediate feature maps out of a net by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

__all__ = ["capture", "listed", "resolve_taps"]

MOST_LISTED = 100


def resolve_taps(net: nn.Module, names: Sequence[str]) -> dict[str, str]:
    """Map each tap name to the dotted path of the module whose output it stands for.

    A name is an alias out of ``net.taps`` (every net has "early", "middle" and "late") or a dotted module
    path as ``net.named_modules()`` gives it. Aliases win over paths of the same name.

    Raises:
        ValueError: a name is neither; the message lists the aliases and the module paths that exist.
    """
    aliases: dict[str, str] = dict(getattr(net, "taps", None) or {})
    paths = [path for path, _ in net.named_modules() if path]
    resolved: dict[str, str] = {}
    for name in names:
        path = aliases.get(name, name)
        if path not in paths:
            found = f"alias {name!r} stands for {path!r}" if name in aliases else f"{name!r}"
            raise ValueError(
                f"unknown tap of {type(net).__name__}: {found}, which is not one of its modules. "
                f"{listed(net)}"
            )
        resolved[name] = path
    return resolved


def listed(net: nn.Module) -> str:
    """The taps that a net has, for messages: its aliases, and the paths of its modules.

    Of a net that knows which of its modules return a feature map (``net.maps``), only those are named; of
    many, the first ``MOST_LISTED``.
    """
    aliases: dict[str, str] = dict(getattr(net, "taps", None) or {})
    maps: list[str] | None = getattr(net, "maps", None)
    paths = [path for path, _ in net.named_modules() if path] if maps is None else maps
    named = ", ".join(f"{alias} ({target})" for alias, target in aliases.items()) or "none"
    shown = ", ".join(paths[:MOST_LISTED]) or "none"
    rest = f" and {len(paths) - MOST_LISTED} more" if len(paths) > MOST_LISTED else ""
    kind = "Module paths" if maps is None else "Modules that return a feature map"
    return f"Aliases: {named}. {kind}: {shown}{rest}."


@contextmanager
def capture(net: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Record the outputs of the modules behind ``names`` while the block runs.

    Yields a dict that each forward pass of ``net`` fills with name -> (N, C, h, w) feature map, attached to
    the graph. A module that runs several times in one pass leaves its last output. The hooks go when the
    block ends, whether or not it raised, so that the net can be deep-copied, saved and exported afterwards.

    Raises:
        ValueError: a name is unknown (see :func:`resolve_taps`), or a module's output is not a 4-D tensor.
    """
    features: dict[str, Tensor] = {}
    modules = dict(net.named_modules())
    handles = []
    try:
        for name, path in resolve_taps(net, names).items():
            handles.append(modules[path].register_forward_hook(_recorder(features, name, path, net)))
        yield features
    finally:
        for handle in handles:
            handle.remove()


def _recorder(
    features: dict[str, Tensor], name: str, path: str, net: nn.Module
) -> Callable[[nn.Module, Any, Any], None]:
    def record(_module: nn.Module, _inputs: Any, output: Any) -> None:
        if not isinstance(output, Tensor) or output.ndim != 4:
            found = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
            raise ValueError(
                f"tap {name!r} (module {path!r}) gives {found}, expected a 4-D feature map (N, C, h, w); "
                f"choose another module. {listed(net)}"
            )
        features[name] = output

    return record
