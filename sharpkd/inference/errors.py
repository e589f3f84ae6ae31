"""What can be wrong with a model file."""

from __future__ import annotations


class ModelError(ValueError):
    """A model file is missing, broken, or of a kind that the chosen engine cannot run."""


def first_line(error: Exception) -> str:
    """What another library's error says, in one line."""
    return (str(error) or type(error).__name__).splitlines()[0]
