"""The metrics file: what is written, and what is left after a kill and a resume."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest
import torch

from sharpkd.loggers.csv import CSVLogger, MetricsFile, read_rows, read_series


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_rows_are_on_disk_at_once_and_new_columns_keep_old_rows(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "metrics.csv"
    file = MetricsFile(path)
    file.append({"train/loss": 0.5, "epoch": 0}, 0)
    assert lines(path) == ["step,epoch,train/loss", "0,0,0.5"]
    file.append({"train/loss": 0.25, "epoch": 0}, 1)
    file.append({"val/psnr": 30.125, "epoch": 0}, 1)
    file.append({"train/loss": torch.tensor(0.125), "epoch": 1}, 2)
    assert lines(path) == [
        "step,epoch,train/loss,val/psnr",
        "0,0,0.5,",
        "1,0,0.25,",
        "1,0,,30.125",
        "2,1,0.125,",
    ]
    assert list(tmp_path.rglob("*.part")) == []


def test_values_keep_their_precision(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    values = {"a": 1 / 3, "b": 1e-20, "c": 123456789.0, "d": -0.5}
    MetricsFile(path).append(values, 3)
    row = table(path)[0]
    assert {key: float(row[key]) for key in values} == values


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_kept(tmp_path: Path, value: float) -> None:
    path = tmp_path / "metrics.csv"
    MetricsFile(path).append({"train/loss": value}, 0)
    assert str(float(table(path)[0]["train/loss"])) == str(value)


def test_a_resumed_run_continues_the_file_and_drops_what_it_repeats(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    killed = MetricsFile(path)
    for step in range(6):
        killed.append({"train/loss": 1.0 - step / 10, "epoch": step // 3}, step)
        if step % 3 == 2:
            killed.append({"val/psnr": 20.0 + step, "epoch": step // 3}, step)
    resumed = MetricsFile(path)
    for step in range(3, 7):
        resumed.append({"train/loss": 1.0 - step / 10, "train/new": float(step), "epoch": step // 3}, step)
    rows = table(path)
    assert [int(row["step"]) for row in rows] == [0, 1, 2, 2, 3, 4, 5, 6]
    assert [row["train/new"] for row in rows] == ["", "", "", "", "3", "4", "5", "6"]
    assert [row["val/psnr"] for row in rows if row["val/psnr"]] == ["22"]


def test_a_validation_row_of_the_step_resumed_at_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    killed = MetricsFile(path)
    killed.append({"train/loss": 1.0}, 2)
    killed.append({"val/psnr": 22.0}, 2)
    MetricsFile(path).append({"train/loss": 0.5}, 2)
    assert [(row["train/loss"], row["val/psnr"]) for row in table(path)] == [("", "22"), ("0.5", "")]


def test_a_line_cut_off_by_a_kill_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,epoch,train/loss\n0,0,0.5\n1,0,0.2")
    assert [row["step"] for row in read_rows(path)] == ["0"]
    MetricsFile(path).append({"train/loss": 0.25}, 1)
    assert lines(path) == ["step,epoch,train/loss", "0,0,0.5", "1,,0.25"]


def test_a_run_from_the_start_replaces_an_old_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,epoch,old\n0,0,1\n50,0,2\n")
    MetricsFile(path).append({"old": 3.0}, 0)
    assert lines(path) == ["step,epoch,old", "0,,3"]


@pytest.mark.parametrize("content", ["", "no csv at all", "a,b\n1,2\n"])
def test_files_without_steps_have_no_rows(tmp_path: Path, content: str) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text(content)
    assert read_rows(path) == []
    assert read_series(path) == {}


def test_missing_file_has_no_rows(tmp_path: Path) -> None:
    assert read_rows(tmp_path / "metrics.csv") == []


def test_series_leave_out_empty_cells(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,epoch,a,b\n0,0,1.5,\n5,1,,2.5\n9,1,3,4\n")
    assert read_series(path) == {"a": ([0, 9], [1.5, 3.0]), "b": ([5, 9], [2.5, 4.0])}


def test_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"metric 'train/loss' is 'low'; a number was expected"):
        MetricsFile(tmp_path / "metrics.csv").append({"train/loss": "low"}, 0)  # type: ignore[dict-item]  # wrong on purpose


def test_logger_keeps_everything_in_the_run_folder(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path / "run")
    assert (logger.save_dir, logger.name, logger.version) == (str(tmp_path / "run"), "", "")
    logger.log_metrics({"val/psnr": 30.0}, 7)
    logger.log_summary({"parameters": 44108})
    logger.log_summary({"ms_per_image": 3.5})
    logger.finish(0)
    assert table(tmp_path / "run" / "logs" / "metrics.csv") == [{"step": "7", "epoch": "", "val/psnr": "30"}]
    summary = json.loads((tmp_path / "run" / "logs" / "summary.json").read_text())
    assert summary == {"parameters": 44108, "ms_per_image": 3.5}
