"""What every logger of this project can do beyond Lightning's interface."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import Logger


class RunLogger(Logger):
    """A logger bound to one run folder.

    ``save_dir`` is the run folder itself, and name and version are empty, so that Lightning puts nothing into
    sub-folders of its own.

    Args:
        run_dir: the folder of this run; created when the first value is written.
    """

    def __init__(self, run_dir: str | Path) -> None:
        super().__init__()
        self.run_dir = Path(run_dir)

    @property
    def name(self) -> str:
        """Empty: the run folder already carries the name."""
        return ""

    @property
    def version(self) -> str:
        """Empty: a run folder holds one run."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run folder."""
        return str(self.run_dir)

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing to do here: the run folder holds the resolved ``config.yaml``."""

    def log_summary(self, summary: Mapping[str, Any]) -> None:
        """Record the figures by which runs are compared (parameters, MACs per pixel, ms, metrics)."""
        raise NotImplementedError

    def log_image(self, key: str, path: str | Path, step: int) -> None:
        """Show a picture of the run folder; nothing to do for a logger that writes files alone."""

    def log_table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Show a table (None is a blank cell); nothing to do for a logger that writes files alone."""

    def finish(self, exit_code: int = 0) -> None:
        """Close the run; call it in ``finally`` with 0 for success and anything else for failure."""
