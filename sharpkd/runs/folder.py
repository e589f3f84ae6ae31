"""A run's folder: whether a run may start there, continue there, and what it says about itself."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf

from sharpkd.checkpoint import read_lightning
from sharpkd.config.check import is_default

State = Literal["running", "finished", "failed"]
RESULTS = (
    "checkpoints",
    "logs",
    "images",
    "curves.png",
    "config.yaml",
    "status.json",
    "metrics.json",
    "net.safetensors",
    "launch.yaml",
    "wandb",
    "wandb_id.txt",
)
# where and how fast a run goes may change on resume; what it computes may not
FREE_ON_RESUME = (
    "resume",
    "overwrite",
    "run",
    "paths",
    "logger",
    "sweep",
    "runtime.threads",
    "callbacks.progress",
    "callbacks.image_grid",
    "callbacks.training_curves",
    "callbacks.final_step",
    "callbacks.last",
    "callbacks.best.dirpath",
    "data.workers",
    "data.cache_dir",
    "teacher.cache_gb",
    "teacher.device",
    "trainer.default_root_dir",
    "trainer.enable_progress_bar",
    "trainer.log_every_n_steps",
)
# of these it matters only whether they are set: a teacher's kept outputs are rounded, wherever they lie
ONLY_WHETHER = ("teacher.cache",)
# settings that runs before them did as if they had these values
BEFORE_THERE_WERE = {"teacher.tile": None, "teacher.cache": None, "teacher.cache_format": "fp16"}


class RunFolderError(ValueError):
    """The folder holds something that the settings do not agree with."""


def write_json(path: Path, content: Any) -> None:
    """Write JSON through a temporary file and a rename, so that readers never see half of it."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def _leaves(config: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(config, Mapping) and config:
        for name, value in config.items():
            yield from _leaves(value, f"{key}.{name}" if key else str(name))
    else:
        yield key, config


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Settings that decide the result and differ, one line each: ``key: before -> now``.

    A setting that one side lacks is no difference where its class is the same and the other side has the
    class's default, or where what it says has always been done: so runs can be continued after a setting has
    been gained.
    """

    def decides(key: str) -> bool:
        return not any(key == part or key.startswith(f"{part}.") for part in FREE_ON_RESUME)

    old = {key: value for key, value in _leaves(before) if decides(key)}
    new = {key: value for key, value in _leaves(now) if decides(key)}
    absent = "(absent)"

    def left_out(key: str) -> bool:
        if key in ONLY_WHETHER and None not in (old.get(key), new.get(key)):
            return True
        if key in BEFORE_THERE_WERE and key not in old.keys() & new.keys():
            return {**old, **new}[key] == BEFORE_THERE_WERE[key]
        node, _, name = key.rpartition(".")
        target = new.get(f"{node}._target_")
        if target is None or target != old.get(f"{node}._target_") or key in old.keys() & new.keys():
            return False
        return is_default(str(target), name, {**old, **new}[key])

    return [
        f"{key}: {old.get(key, absent)} -> {new.get(key, absent)}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key, absent) != new.get(key, absent) and not left_out(key)
    ]


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run and what it reports."""

    path: Path

    @property
    def config_file(self) -> Path:
        return self.path / "config.yaml"

    @property
    def status_file(self) -> Path:
        return self.path / "status.json"

    @property
    def metrics_file(self) -> Path:
        return self.path / "metrics.json"

    @property
    def weights_file(self) -> Path:
        return self.path / "net.safetensors"

    @property
    def last_checkpoint(self) -> Path:
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def best_checkpoint(self) -> Path:
        return self.path / "checkpoints" / "best.ckpt"

    def status(self) -> dict[str, Any]:
        """What the last run here wrote about itself; empty where none has run."""
        if not self.status_file.is_file():
            return {}
        try:
            content = json.loads(self.status_file.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise RunFolderError(
                f"{self.status_file} is damaged ({error}); overwrite=true starts again"
            ) from error
        return content if isinstance(content, dict) else {}

    def report(
        self,
        state: State,
        overrides: Sequence[str] | None = None,
        error: str = "",
        metrics: Mapping[str, float] | None = None,
        **more: Any,
    ) -> None:
        """Write ``status.json``; without ``overrides`` those of the last report stay."""
        self.path.mkdir(parents=True, exist_ok=True)
        if overrides is None:
            overrides = self.status().get("overrides", [])
        content = {
            "state": state,
            "name": self.path.name,
            "group": self.path.parent.name,
            "overrides": list(overrides),
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "error": error,
            "metrics": dict(metrics or {}),
            **more,
        }
        write_json(self.status_file, content)

    def clear(self) -> None:
        """Delete what runs write here; anything else in the folder stays."""
        for name in RESULTS:
            target = self.path / name
            if target.is_dir():
                shutil.rmtree(target)
            else:
                target.unlink(missing_ok=True)

    def saved_config(self) -> dict[str, Any]:
        """The configuration of the run that the folder holds."""
        container = OmegaConf.to_container(OmegaConf.load(self.config_file))
        assert isinstance(container, dict)
        return {str(key): value for key, value in container.items()}

    def save_config(self, cfg: DictConfig) -> None:
        """Keep the resolved configuration as ``config.yaml``."""
        self.path.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(cfg, self.config_file)

    def refuse_other_settings(self, cfg: DictConfig, before: Mapping[str, Any], what: Path) -> None:
        """Compare with the settings that ``what`` was made with.

        Raises:
            RunFolderError: some that decide the result differ; the message lists them.
        """
        now = OmegaConf.to_container(cfg, resolve=True)
        assert isinstance(now, dict)
        changed = differences(before, {str(key): value for key, value in now.items()})
        if changed:
            raise RunFolderError(
                f"cannot continue {what} with other settings:\n  "
                + "\n  ".join(changed)
                + "\nput them back, start another run with run=NAME, or discard this one with overwrite=true"
            )

    def prepare(self, cfg: DictConfig) -> Path | None:
        """Decide as :meth:`decide` does, and empty the folder for a fresh start."""
        checkpoint = self.decide(cfg)
        if checkpoint is None:
            self.clear()
        return checkpoint

    def decide(self, cfg: DictConfig) -> Path | None:
        """What a start with these settings means here; nothing is changed.

        Args:
            cfg: resolved configuration; ``resume`` and ``overwrite`` are read.

        Returns:
            The checkpoint to continue from, or None for a fresh start.

        Raises:
            RunFolderError: the folder holds a finished run, an unfinished one that was not asked to continue,
                or one with other settings (the message lists them).
            FileNotFoundError: ``resume`` names a file that does not exist.
        """
        resume = str(cfg.resume)
        if cfg.overwrite:
            return None
        state = self.status().get("state")
        if state == "finished":
            raise RunFolderError(
                f"{self.path} holds a finished run; choose another name with run=NAME, or overwrite=true"
            )
        if resume == "auto":
            return self._compared(cfg, self.last_checkpoint) if self.last_checkpoint.is_file() else None
        if resume == "never":
            if self.last_checkpoint.is_file():
                raise RunFolderError(
                    f"{self.path} holds an unfinished run; resume=auto continues it, overwrite=true discards "
                    "it, run=NAME starts another"
                )
            return None
        if not resume.endswith(".ckpt"):
            raise RunFolderError(f"resume is {resume!r}; expected never, auto, or the path of a .ckpt")
        checkpoint = Path(resume).expanduser()
        if not checkpoint.is_file():
            raise FileNotFoundError(f"resume={resume}: no such checkpoint")
        return self._compared(cfg, checkpoint)

    def _compared(self, cfg: DictConfig, checkpoint: Path) -> Path:
        self.refuse_other_settings(cfg, read_lightning(checkpoint)["sharpkd"]["config"], checkpoint)
        return checkpoint
