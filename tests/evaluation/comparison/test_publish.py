"""What an evaluation tells its loggers: the figures of its files, to wandb itself (offline) and to others."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from sharpkd.config.trust import allow
from sharpkd.evaluation.benchmark.summary import summarise
from sharpkd.evaluation.comparison.compare import COLUMNS, compare_folders
from sharpkd.evaluation.comparison.publish import publish_comparison, publish_folder_results, publish_summary
from sharpkd.evaluation.rows import Row, write_rows
from sharpkd.functional.torchvision_guard import define_missing_operators

define_missing_operators()

from sharpkd.loggers.base import RunLogger  # noqa: E402  # imports Lightning, and with it torchvision

BASE = Row("input", "Set5", "bird", "", "gaussian", "gaussian/1.6", 25.0, None, 26.0, None)
ROWS = [BASE, replace(BASE, model="student", psnr=28.0)]


class Recorder(RunLogger):
    """Keeps what it is told."""

    told: ClassVar[list[tuple[Any, ...]]] = []

    def __init__(self, run_dir: str, broken: bool = False) -> None:
        super().__init__(run_dir)
        self.broken = broken

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.told.append(("metrics", metrics, step))

    def log_summary(self, summary: Mapping[str, Any]) -> None:
        if self.broken:
            raise OSError("disk full")
        self.told.append(("summary", dict(summary)))

    def log_table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        self.told.append(("table", key, list(columns), [list(row) for row in rows]))

    def finish(self, exit_code: int = 0) -> None:
        self.told.append(("finish", exit_code))


@pytest.fixture
def loggers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    monkeypatch.setattr(Recorder, "told", [])
    target = f"{__name__}.Recorder"
    # as the check of a configuration with runtime.trusted_packages does
    allow(target)
    return {"csv": None, "mine": {"_target_": target, "run_dir": str(tmp_path)}}


def test_a_summary_is_figures_and_a_table(loggers: dict[str, Any]) -> None:
    measured = [ROWS[0], replace(ROWS[1], lpips=0.25)]
    publish_summary(loggers, {**summarise(measured, {}), "_meta": {"lpips": "lpips-squeeze"}})
    (_, figures), (_, key, columns, rows), finish = Recorder.told
    assert figures["student/gaussian/psnr"] == 28
    # runs with another backbone must not lie beside this one
    assert {name for name in figures if "lpips" in name} == {"student/gaussian/lpips-squeeze"}
    assert [name for name in columns if "lpips" in name] == ["lpips-squeeze", "gain_lpips-squeeze"]
    assert figures["student/gaussian/gain_psnr"] == 3
    assert "student/gaussian/ssim" not in figures
    assert key == "tracks"
    table = [dict(zip(columns, row, strict=True)) for row in rows]
    assert [(row["model"], row["track"], row["gain_psnr"], row["ssim"]) for row in table] == [
        ("input", "gaussian", 0, None),
        ("student", "gaussian", 3, None),
    ]
    assert finish == ("finish", 0)


def test_an_evaluation_on_a_folder(loggers: dict[str, Any]) -> None:
    results = {
        "input": {"psnr": 25.0, "ssim": None},
        "student": {"psnr": 28.0, "ssim": None, "parameters": 44108, "path": "net.safetensors"},
        "_meta": {"psnr": 1.0, "lpips": "alex"},
    }
    publish_folder_results(loggers, results)
    assert Recorder.told[0] == (
        "summary",
        {"input/psnr": 25.0, "student/psnr": 28.0, "student/parameters": 44108},
    )
    _, key, columns, rows = Recorder.told[1]
    assert key == "models"
    assert dict(zip(columns, rows[1], strict=True)) == {
        "model": "student",
        "psnr": 28.0,
        "ssim": None,
        "psnr_y": None,
        "lpips-alex": None,
        "ssim_y": None,
        "parameters": 44108,
        "macs_per_pixel": None,
        "ms_per_image": None,
    }


def test_a_comparison(loggers: dict[str, Any], tmp_path: Path) -> None:
    for name, gain in (("a", 3.0), ("b", 3.5)):
        (tmp_path / name).mkdir()
        write_rows(tmp_path / name / "per_image.csv", [BASE, replace(BASE, model=name, psnr=25 + gain)])
    compared = compare_folders([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    publish_comparison(loggers, compared)
    (_, figures), (_, key, columns, rows), _ = Recorder.told
    assert figures["b - a/gaussian/psnr"] == 0.5
    assert figures["a - input/gaussian/psnr"] == 3
    assert (key, columns) == ("comparison", list(COLUMNS))
    assert [list(row) for row in compared.rows()] == rows


def test_without_a_logger_nothing_is_told(loggers: dict[str, Any]) -> None:
    publish_summary(None, summarise(ROWS, {}))
    publish_summary({"csv": None}, summarise(ROWS, {}))
    assert Recorder.told == []


def test_a_logger_that_fails_is_finished_as_failed(loggers: dict[str, Any]) -> None:
    loggers["mine"]["broken"] = True
    with pytest.raises(OSError, match="disk full"):
        publish_summary(loggers, summarise(ROWS, {}))
    assert Recorder.told == [("finish", 1)]


def test_wandb_itself_records_it_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    target = {"_target_": "sharpkd.loggers.wandb.WandbLogger", "mode": "offline", "name": "quick"}
    publish_summary({"wandb": {**target, "run_dir": str(tmp_path)}}, summarise(ROWS, {}))
    (record,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    # a process of wandb's own writes the file, and may be behind
    until = time.monotonic() + 60
    while b"harm_p95_db" not in (content := record.read_bytes()) and time.monotonic() < until:
        time.sleep(0.1)
    assert b"student/gaussian/gain_psnr" in content
    assert b"harm_p95_db" in content
    (table,) = (tmp_path / "wandb").glob("offline-run-*/files/media/table/*.table.json")
    assert ["student", "gaussian"] in [row[:2] for row in json.loads(table.read_text())["data"]]
