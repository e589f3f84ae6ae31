"""Reading the jobs of a sweep back from their folders."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = [
    "LPIPS",
    "Job",
    "parse_override",
    "rank_jobs",
    "read_jobs",
    "read_series",
    "same_for_all",
    "shown_first",
    "with_backbone",
]

Value = float | str
DIED = "died without finishing: its process is gone and it left no error"
LPIPS = "val/lpips"
BACKBONE = re.compile(r"^ +lpips_backbone: *(\w+) *$", re.MULTILINE)
ORDER = {"finished": 0, "running": 1, "failed": 2}


@dataclass
class Job:
    """One job of a sweep.

    ``state``: running, finished or failed. ``overrides``: key -> value, a number where it reads as one.
    ``metrics``: name -> number, possibly nan. ``score``: the monitored metric, None where not finite.
    """

    folder: Path
    name: str
    state: str
    overrides: dict[str, Value] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    error: str = ""
    score: float | None = None


def read_jobs(sweep_dir: Path, ended: bool = False) -> list[Job]:
    """Read every job folder under ``sweep_dir``, sorted by name.

    A job folder holds ``status.json`` (or, where the job died before writing one, ``config.yaml``), at most
    two levels below ``sweep_dir``. A job said to be running whose process is gone counts as failed, where it
    is this machine's; with ``ended`` (the sweep is over) so does every job that is still said to be running.
    """
    found = {path.parent for name in ("status.json", "config.yaml") for path in _files(sweep_dir, name)}
    return [_read_job(folder, sweep_dir, ended) for folder in sorted(found)]


def _files(sweep_dir: Path, name: str) -> Iterable[Path]:
    for pattern in (f"*/{name}", f"*/*/{name}"):
        # Hydra's own notes (.hydra/config.yaml) are no job
        yield from (path for path in sweep_dir.glob(pattern) if not path.parent.name.startswith("."))


def _read_job(folder: Path, sweep_dir: Path, ended: bool) -> Job:
    name = folder.relative_to(sweep_dir).as_posix()
    path = folder / "status.json"
    if not path.is_file():
        return Job(folder, name, "failed", error="died before it could write status.json")
    try:
        status = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return Job(folder, name, "failed", error=f"status.json is damaged: {error}")
    if not isinstance(status, Mapping) or status.get("state") not in ORDER:
        found = status.get("state") if isinstance(status, Mapping) else type(status).__name__
        known = ", ".join(ORDER)
        return Job(folder, name, "failed", error=f"status.json has state {found!r}, expected one of {known}")
    job = Job(
        folder,
        name,
        str(status["state"]),
        dict(parse_override(str(override)) for override in status.get("overrides") or []),
        _numbers(status.get("metrics") or {}),
        str(status.get("error") or ""),
    )
    here = status.get("host", socket.gethostname()) == socket.gethostname()
    if job.state == "running" and (ended or (here and not _process_lives(status.get("pid"), path))):
        job.state, job.error = "failed", job.error or DIED
    return job


def parse_override(override: str) -> tuple[str, Value]:
    """Split a Hydra override: ``+loss.delta=0.50`` -> ("loss.delta", 0.5); a deletion reads "(removed)"."""
    key, _, text = override.partition("=")
    if key.startswith("~"):
        return key[1:], "(removed)"
    key = key.lstrip("+")
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return key, text[1:-1]
    try:
        number = float(text)
    except ValueError:
        return key, text
    # underscores and the words nan and inf are numbers to Python, names to the one who wrote them
    return key, number if math.isfinite(number) and "_" not in text else text


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {
        str(name): float(value)
        for name, value in metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _process_lives(pid: Any, status: Path) -> bool:
    """Whether the process that wrote ``status`` still runs; without a pid nobody can tell, so yes."""
    if not isinstance(pid, int) or pid <= 0:
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    started = _start_time(pid)
    # Containers hand out the same few pids again: a process younger than the file cannot have written it.
    return started is None or started <= status.stat().st_mtime + 2


def _start_time(pid: int) -> float | None:
    """Seconds since the epoch at which a process started; None where /proc does not tell."""
    try:
        ticks = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19])
        boot = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime"))
    except (OSError, StopIteration, IndexError, ValueError):
        return None
    return int(boot.split()[1]) + ticks / os.sysconf("SC_CLK_TCK")


def rank_jobs(jobs: Sequence[Job], metric: str, mode: str) -> list[Job]:
    """Set every job's ``score`` and return them best first: finished, then running, then failed ones."""
    sign = -1 if mode == "max" else 1
    for job in jobs:
        value = job.metrics.get(metric, math.nan)
        job.score = value if math.isfinite(value) else None

    def key(job: Job) -> tuple[int, float, str]:
        score = math.inf if job.score is None else sign * job.score
        return ORDER[job.state], score, job.name

    return sorted(jobs, key=key)


def same_for_all(values: Sequence[Value | None]) -> bool:
    """Whether every job has this setting or metric, with one value."""
    return len(values) > 1 and values[0] is not None and all(value == values[0] for value in values)


def shown_first(names: Iterable[str], metric: str) -> list[str]:
    """The names, the monitored metric first, then validation, then the rest, each alphabetically."""
    return sorted(set(names), key=lambda name: (name != metric, not name.startswith("val/"), name))


def read_series(path: Path) -> dict[str, tuple[list[float], list[float]]]:
    """Read ``logs/metrics.csv``: column -> (steps, values), empty and non-finite cells left out.

    ``val/lpips`` has its backbone's name, where the run's ``config.yaml`` tells it. A last line cut off by a
    kill is dropped. A missing file gives an empty dict.
    """
    if not path.is_file():
        return {}
    text = path.read_text(encoding="utf-8", errors="replace")
    series: dict[str, tuple[list[float], list[float]]] = {}
    for row in csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1])):
        step = _finite(row.get("step"))
        for name, cell in row.items():
            value = _finite(cell) if isinstance(cell, str) else None
            if step is None or value is None or name in (None, "step", "epoch"):
                continue
            steps, values = series.setdefault(name, ([], []))
            steps.append(step)
            values.append(value)
    lpips = with_backbone(LPIPS, path.parent.parent) if LPIPS in series else LPIPS
    return {lpips if name == LPIPS else name: one for name, one in series.items()}


def with_backbone(name: str, run: Path) -> str:
    """A metric as people read it: ``val/lpips-squeeze`` where a run's ``config.yaml`` names the backbone.

    Args:
        name: as ``status.json`` and ``metrics.csv`` have it.
        run: the run's folder.
    """
    config = run / "config.yaml"
    if name != LPIPS or not config.is_file():
        return name
    found = BACKBONE.search(config.read_text(encoding="utf-8", errors="replace"))
    return f"{name}-{found[1]}" if found else name


def _finite(text: str | None) -> float | None:
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
