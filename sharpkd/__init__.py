"""SharpKD: sharpening networks small enough for real time, trained by knowledge distillation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sharpkd.inference.sharpener import Sharpener as Sharpener

__version__ = "0.1.0"
__all__ = ["Sharpener", "__version__"]


def __getattr__(name: str) -> Any:
    """`Sharpener`, imported when it is asked for: everything of this package imports this module."""
    if name != "Sharpener":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from sharpkd.inference.sharpener import Sharpener

    return Sharpener
