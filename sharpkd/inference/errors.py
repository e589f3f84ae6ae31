"""What can be wrong with a model file."""

from __future__ import annotations


class ModelError(ValueError):
    """A model file is missing, broken, or of a kind that the chosen engine cannot run."""


def first_line(error: BaseException) -> str:
    """What another library's error says, in one line."""
    return (str(error) or type(error).__name__).splitlines()[0]


def openvino_said(error: Exception) -> str:
    """The reason, in one line: OpenVINO begins with where in its sources it is, and ends with it."""
    lines = [line.strip() for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith(("Exception from", "To facilitate"))]
    return told[-1].removeprefix("-- ") if told else first_line(error)
