"""A run's folder: whether a run may start there, continue there, and what it says about itself."""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf

from sharpkd.checkpoint import CheckpointError, read_lightning
from sharpkd.config.check import is_default

log = logging.getLogger(__name__)

State = Literal["running", "finished", "failed"]
LAST = "last.ckpt"
# the one that the last one replaced
PREVIOUS = "previous.ckpt"
BEST = "best.ckpt"
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
    "launch_error.txt",
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
    "callbacks.safe_stop",
    "callbacks.lost_validation",
    "callbacks.best.dirpath",
    "data.workers",
    "data.cache_dir",
    "module.when_not_finite",
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


def requeued() -> bool:
    """Whether SLURM has started this job again: then it continues, whatever its command says."""
    return int(os.environ.get("SLURM_RESTART_COUNT", "0")) > 0


def write_json(path: Path, content: Any) -> None:
    """Write JSON through a temporary file and a rename, so that readers never see half of it.

    Raises:
        OSError: it cannot be written, as on a full disk; an older file of this name stays.
    """
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """As :func:`write_json` for any text."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(error.errno, f"{path} cannot be written ({error.strerror or error})") from error


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
        return self.path / "checkpoints" / LAST

    @property
    def best_checkpoint(self) -> Path:
        return self.path / "checkpoints" / BEST

    @property
    def launch_error(self) -> Path:
        """Where the process that starts a run's ranks says why they ended."""
        return self.path / "launch_error.txt"

    def checkpoints(self) -> list[Path]:
        """Those that the run can be continued from, the newest first."""
        found = (self.path / "checkpoints" / name for name in (LAST, PREVIOUS, BEST))
        return [path for path in found if path.is_file()]

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
        # Lightning would continue from what SLURM's signal had it write
        written_for_slurm = [path.name for path in self.path.glob("hpc_ckpt_*.ckpt")]
        for name in (*RESULTS, *written_for_slurm):
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
        write_text(self.config_file, OmegaConf.to_yaml(cfg))

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
            cfg: resolved configuration; ``resume`` and ``overwrite`` are read. A job that SLURM has started
                again continues as with ``resume=auto``.

        Returns:
            The checkpoint to continue from, or None for a fresh start. With ``resume=auto`` a damaged one is
            said to be, and the one before it is taken.

        Raises:
            RunFolderError: the folder holds a finished run, an unfinished one that was not asked to continue,
                or one with other settings (the message lists them).
            FileNotFoundError: ``resume`` names a file that does not exist.
            CheckpointError: all checkpoints are damaged, or the one that ``resume`` names is.
        """
        resume = str(cfg.resume)
        if requeued() and (resume == "never" or cfg.overwrite):
            resume = "auto"
        elif cfg.overwrite:
            return None
        state = self.status().get("state")
        if state == "finished":
            raise RunFolderError(
                f"{self.path} holds a finished run; choose another name with run=NAME, or overwrite=true"
            )
        if resume == "auto":
            return self._newest(cfg)
        if resume == "never":
            if self.checkpoints():
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

    def _newest(self, cfg: DictConfig) -> Path | None:
        damaged: list[str] = []
        for checkpoint in self.checkpoints():
            try:
                found = self._compared(cfg, checkpoint)
            except CheckpointError as error:
                damaged.append(str(error))
                continue
            for reason in damaged:
                log.warning("%s; continuing from %s", reason, found)
            return found
        if damaged:
            raise CheckpointError(f"{'; '.join(damaged)}; overwrite=true starts again")
        return None

    def _compared(self, cfg: DictConfig, checkpoint: Path) -> Path:
        self.refuse_other_settings(cfg, read_lightning(checkpoint)["sharpkd"]["config"], checkpoint)
        return checkpoint
