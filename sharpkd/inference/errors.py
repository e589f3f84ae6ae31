"""What can be wrong with a model file."""

from __future__ import annotations


class ModelError(ValueError):
    """A model file is missing, broken, or of a kind that the chosen engine cannot run."""
