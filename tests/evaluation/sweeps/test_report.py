from __future__ import annotations

import csv
import json
import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sharpkd.evaluation.sweeps.jobs import parse_override, read_jobs, read_series
from sharpkd.evaluation.sweeps.report import write_sweep_report

WriteJob = Callable[..., Path]


def rows(sweep_dir: Path) -> list[dict[str, str]]:
    with (sweep_dir / "sweep.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def page_data(page: Path) -> Any:
    text = page.read_text(encoding="utf-8")
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


class Links(HTMLParser):
    """Everything a page would fetch or link to, and its table's cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.linked: list[str] = []
        self.scripts = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.scripts += tag == "script"
        if tag in ("img", "script", "link", "iframe") and (given.get("src") or given.get("href")):
            self.fetched.append(str(given.get("src") or given.get("href")))
        if tag == "a":
            self.linked.append(str(given.get("href")))


def test_csv_ranks_the_jobs_and_keeps_everything(sweep_dir: Path) -> None:
    assert write_sweep_report(sweep_dir) == sweep_dir / "sweep.html"
    table = rows(sweep_dir)
    assert list(table[0]) == [
        *("rank", "job", "state", "experiment", "loss.beta", "loss.delta"),
        *("val/psnr", "val/ssim", "parameters", "error"),
    ]
    assert [row["val/psnr"] for row in table] == ["29.0", "28.0", "28.0", "27.0", "", ""]
    assert [row["job"] for row in table[:2]] == ["beta=0.0,delta=1", "beta=0.0,delta=0"]
    assert [row["rank"] for row in table] == list("123456")
    assert (table[0]["experiment"], table[0]["loss.beta"], table[0]["loss.delta"]) == ("distill", "0", "1")
    assert [(row["job"], row["state"]) for row in table[4:]] == [("broken", "failed"), ("killed", "failed")]
    assert table[4]["error"].startswith("RuntimeError: loss is nan at step 7 <script>")
    assert table[5]["error"] == "died without finishing: its process is gone and it left no error"


def test_min_mode_and_another_metric(sweep_dir: Path) -> None:
    page = write_sweep_report(sweep_dir, metric="val/ssim", mode="min")
    assert [row["val/ssim"] for row in rows(sweep_dir)][:4] == ["0.675", "0.7", "0.7", "0.725"]
    assert "lower is better" in page.read_text(encoding="utf-8")


def test_lpips_has_its_backbones_name_where_people_read_it(tmp_path: Path, write_job: WriteJob) -> None:
    def write(backbones: list[str]) -> Path:
        for number, backbone in enumerate(backbones):
            folder = tmp_path / str(len(backbones)) / f"job{number}"
            job = write_job(folder, "finished", [f"seed={number}"], metrics={"val/lpips": 0.1 + number})
            (job / "config.yaml").write_text(f"metrics:\n  lpips_backbone: {backbone}\n")
            (job / "logs").mkdir()
            (job / "logs" / "metrics.csv").write_text(f"step,val/lpips\n1,{0.1 + number}\n")
        return write_sweep_report(tmp_path / str(len(backbones)), metric="val/lpips", mode="min")

    page = write(["alex", "alex"])
    assert "val/lpips" in rows(page.parent)[0]
    data = page_data(page)
    assert (data["metric"], list(data["curves"])) == ("val/lpips-alex", ["val/lpips-alex"])
    assert [job["score"] for job in data["jobs"]] == [0.1, 1.1]
    text = page.read_text(encoding="utf-8")
    assert "Ranked by <code>val/lpips-alex</code>, lower is better" in text
    assert ">val/lpips<" not in text
    # of different backbones no single name would be true: each curve has its own
    data = page_data(write(["alex", "vgg", "vgg"]))
    assert (data["metric"], list(data["curves"])) == ("val/lpips", ["val/lpips-alex", "val/lpips-vgg"])


def test_page_is_self_contained_escaped_small_and_linked(sweep_dir: Path) -> None:
    page = write_sweep_report(sweep_dir)
    text = page.read_text(encoding="utf-8")
    # plotly.js holds web addresses of maps it would only fetch for map charts
    without_plotly = re.sub(r"<script>.*?</script>", "<script></script>", text, flags=re.DOTALL)
    assert "http" not in without_plotly
    found = Links(text)
    assert all(address.startswith("data:") for address in found.fetched)
    assert found.scripts == 3
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;" in text
    assert page.stat().st_size < 15e6
    for address in found.linked:
        assert (sweep_dir / address.replace("%3D", "=").replace("%2C", ",")).exists()
    assert sum("images/0010.png" in address for address in found.linked) == 2
    assert "beta=0.0,delta=1/images" in " ".join(found.linked).replace("%3D", "=").replace("%2C", ",")
    assert "parameters=44,108" in text
    assert "experiment=distill" in text


def test_page_data_has_axes_and_curves_without_the_torn_line(sweep_dir: Path) -> None:
    data = page_data(write_sweep_report(sweep_dir))
    assert [one["key"] for one in data["params"]] == ["loss.beta", "loss.delta"]
    assert data["params"][1]["values"] == [1, 0, 1, 0, 1, 0]
    assert list(data["curves"]) == ["val/psnr", "train/loss"]
    best, *_, killed = data["curves"]["val/psnr"]
    assert best == {"job": 0, "x": [0, 10, 20], "y": [27, 28, 29]}
    assert killed == {"job": 5, "x": [0, 10], "y": [20, 21]}
    assert [job["score"] for job in data["jobs"]] == [29, 28, 28, 27, None, None]


@pytest.mark.parametrize(
    ("values", "kind", "order"),
    [
        ([0, 0.5, 1], "linear", ["0", "0.5", "1"]),
        ([0, 0.01, 1], "category", ["0", "0.01", "1"]),
        ([0.001, 0.1, 10], "log", ["0.001", "0.1", "10"]),
        (["l1", "mse", "l1"], "category", ["l1", "mse"]),
    ],
)
def test_axis_suits_the_values(
    tmp_path: Path, write_job: WriteJob, values: list[Any], kind: str, order: list[str]
) -> None:
    for number, value in enumerate(values):
        write_job(tmp_path / str(number), "finished", [f"x={value}"], metrics={"val/psnr": 30 - number})
    (axis,) = page_data(write_sweep_report(tmp_path))["params"]
    assert (axis["kind"], axis["order"]) == (kind, order)


def test_nan_scores_last_and_never_breaks_the_page(tmp_path: Path, write_job: WriteJob) -> None:
    write_job(tmp_path / "a", "finished", ["x=1"], metrics={"val/psnr": float("nan")})
    write_job(tmp_path / "b", "finished", ["x=2"], metrics={"val/psnr": 20.0, "note": "text", "flag": True})
    data = page_data(write_sweep_report(tmp_path))
    assert [(job["name"], job["score"]) for job in data["jobs"]] == [("b", 20), ("a", None)]
    assert list(rows(tmp_path)[0]) == ["rank", "job", "state", "x", "val/psnr", "error"]


def test_running_until_its_process_is_gone_or_the_sweep_has_ended(
    tmp_path: Path, write_job: WriteJob
) -> None:
    write_job(tmp_path / "alive", "running", [], pid=os.getpid())
    reused = write_job(tmp_path / "reused", "running", [], pid=os.getpid())
    long_ago = time.time() - 10 * 365 * 86400
    os.utime(reused / "status.json", (long_ago, long_ago))
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    write_job(tmp_path / "dead", "running", [], pid=process.pid)
    write_job(tmp_path / "unknown", "running", [])
    states = {job.name: job.state for job in read_jobs(tmp_path)}
    assert states == {"alive": "running", "reused": "failed", "dead": "failed", "unknown": "running"}
    assert {job.state for job in read_jobs(tmp_path, ended=True)} == {"failed"}


def test_damaged_and_missing_status_are_failures_with_a_reason(tmp_path: Path, write_job: WriteJob) -> None:
    (write_job(tmp_path / "cut", "finished", []) / "status.json").write_text('{"state": "fin')
    (write_job(tmp_path / "early", "finished", []) / "status.json").unlink()
    write_job(tmp_path / "odd", "paused", [])
    write_job(tmp_path / "nested" / "deep", "finished", [])
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "config.yaml").write_text("")
    jobs = {job.name: job for job in read_jobs(tmp_path)}
    assert set(jobs) == {"cut", "early", "odd", "nested/deep"}
    assert jobs["cut"].error.startswith("status.json is damaged: ")
    assert jobs["early"].error == "died before it could write status.json"
    assert jobs["odd"].error == "status.json has state 'paused', expected one of finished, running, failed"
    assert jobs["nested/deep"].state == "finished"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("loss.delta=0.50", ("loss.delta", 0.5)),
        ("+a.b=1e-4", ("a.b", 1e-4)),
        ("++name='x=y'", ("name", "x=y")),
        ("~scheduler", ("scheduler", "(removed)")),
        ("net=nan", ("net", "nan")),
        ("run=1_2", ("run", "1_2")),
        ("teacher.path=a=b.ckpt", ("teacher.path", "a=b.ckpt")),
        ("pairs=[[a,b]]", ("pairs", "[[a,b]]")),
    ],
)
def test_parse_override(override: str, expected: tuple[str, Any]) -> None:
    assert parse_override(override) == expected


def test_series_of_a_missing_or_odd_file(tmp_path: Path) -> None:
    assert read_series(tmp_path / "none.csv") == {}
    path = tmp_path / "metrics.csv"
    path.write_text("step,a,b\n1,2,inf\n,3,4\n2,x,5\n3,6\n")
    assert read_series(path) == {"a": ([1, 3], [2, 6]), "b": ([2], [5])}


def test_size_stays_bounded_with_many_jobs_and_large_pictures(tmp_path: Path, write_job: WriteJob) -> None:
    steps = range(3000)
    curve = "step,a,b\n" + "".join(f"{step},{step / 7},{step / 3}\n" for step in steps)
    noise = np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), dtype=np.uint8)
    for number in range(40):
        metrics = {"val/psnr": float(number)}
        job = write_job(tmp_path / f"{number:02}", "finished", [f"x={number}"], metrics=metrics)
        (job / "logs").mkdir()
        (job / "logs" / "metrics.csv").write_text(curve)
        if number in (0, 39):
            (job / "images").mkdir()
            Image.fromarray(noise).save(job / "images" / "1.png", compress_level=1)
    page = write_sweep_report(tmp_path)
    assert page.stat().st_size < 15e6
    one = page_data(page)["curves"]["a"][0]
    assert len(one["x"]) <= 400
    assert (one["x"][0], one["x"][-1]) == (0, 2999)


def test_files_are_replaced_whole_and_readable_by_all(sweep_dir: Path) -> None:
    page = write_sweep_report(sweep_dir)
    before = page.stat().st_ino
    write_sweep_report(sweep_dir)
    assert page.stat().st_ino != before
    assert stat.S_IMODE(page.stat().st_mode) == 0o644
    assert sorted(path.name for path in sweep_dir.iterdir() if path.is_file()) == ["sweep.csv", "sweep.html"]


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere: no such sweep folder"):
        write_sweep_report(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"holds no job: expected folders with a status\.json"):
        write_sweep_report(tmp_path)
    with pytest.raises(ValueError, match="mode is 'best', expected max or min"):
        write_sweep_report(tmp_path, mode="best")


def test_needs_no_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; import sharpkd.evaluation.sweeps.report as r"
    code += "; print(r.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "sharpkd.evaluation.sweeps.report"
