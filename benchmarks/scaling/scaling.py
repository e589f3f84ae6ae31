"""What a step, a crop and a picture cost, by batch size, workers, ranks and size: for docs/scaling.md.

``OPENBLAS_NUM_THREADS=1 python benchmarks/scaling/scaling.py`` (some minutes on two cores; one thread of BLAS
is what the command has) writes scaling.csv and scaling.png beside this file. Times are seconds of processors
in all threads and processes (``cpu``), which other work on the machine changes little, and of the clock
(``wall``), which it does: medians over a few repeats.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from sharpkd.nets.nafnet import NAFNet
from sharpkd.nets.pixel_student import PixelStudent

HERE = Path(__file__).parent
CROP = 96
BATCHES = (1, 4, 16)
RANKS = (1, 2, 4)
PER_RANK = 8
WORKERS = (0, 1, 2)
SIZES = ((160, 120), (320, 240), (640, 480), (1280, 960))
MODELS = ("fast", "balanced", "quality")


def processors() -> float:
    """Seconds of processors that this process and its ended children have used."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def timed(work: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Median seconds of processors and of the clock, after one run that does not count."""
    work()
    cpu, wall = [], []
    for _ in range(repeats):
        before, started = processors(), time.perf_counter()
        work()
        cpu.append(processors() - before)
        wall.append(time.perf_counter() - started)
    return median(cpu), median(wall)


def step_of(net: nn.Module, batch: int) -> Callable[[], None]:
    """A training step: forward, L1, backward, AdamW."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4)
    degraded, sharp = torch.rand(2, batch, 3, CROP, CROP)

    def step() -> None:
        optimizer.zero_grad()
        (net(degraded) - sharp).abs().mean().backward()
        optimizer.step()

    return step


def by_batch() -> Iterator[dict[str, Any]]:
    """A step of the student, and the teacher's answer, by batch size."""
    # the student of README's first table, and the net of experiment=teacher
    net, wise = PixelStudent(), NAFNet(encoder_blocks=[2, 2, 4]).eval().requires_grad_(False)
    for batch in BATCHES:
        cpu, wall = timed(step_of(net, batch), 5)
        yield {"what": "step", "x": batch, "cpu": cpu, "wall": wall, "per": cpu / batch}
        if batch <= 4:
            shown = torch.rand(batch, 3, CROP, CROP)
            cpu, wall = timed(lambda shown=shown: wise(shown), 3)  # type: ignore[misc]  # bound at once
            yield {"what": "teacher", "x": batch, "cpu": cpu, "wall": wall, "per": cpu / batch}


def by_workers() -> Iterator[dict[str, Any]]:
    """Crops from the memory-mapped cache, blurred, by worker processes: a whole epoch, start included."""
    from sharpkd.config import compose
    from sharpkd.runs.training import build_data

    with tempfile.TemporaryDirectory() as folder:
        random = np.random.default_rng(0)
        for index in range(4):
            pixels = random.integers(0, 256, (1080, 1920, 3), np.uint8)
            Image.fromarray(pixels).save(f"{folder}/{index}.png", compress_level=1)
        for workers in WORKERS:
            overrides = ["data=folder", f"data.train_dir={folder}", f"data.cache_dir={folder}/cache"]
            overrides += [f"data.workers={workers}", f"data.crop_size={CROP}", "data.crops_per_image=200"]
            data = build_data(compose("train", [*overrides, "data.val_fraction=0.25"]))
            data.prepare_data()
            data.setup("fit")
            before, started = processors(), time.perf_counter()
            crops = sum(len(batch) for batch in data.train_dataloader())
            wall = time.perf_counter() - started
            del data  # ends the workers, so that what they used is known
            cpu = processors() - before
            yield {"what": "loader", "x": workers, "cpu": cpu, "wall": wall, "per": cpu / crops}


def rank_steps() -> None:
    """As one of several ranks: print what 20 steps cost, averaging gradients or not, as JSON."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    found = {}
    for name in ("apart", "together"):
        torch.manual_seed(0)
        net: nn.Module = PixelStudent()
        if name == "together":
            net = DistributedDataParallel(net)
        step = step_of(net, PER_RANK)
        step()
        torch.distributed.barrier()
        before, started = processors(), time.perf_counter()
        for _ in range(20):
            step()
        found[name] = [(processors() - before) / 20, (time.perf_counter() - started) / 20]
    values = torch.zeros(8, dtype=torch.float64)
    before, started = processors(), time.perf_counter()
    for _ in range(200):
        torch.distributed.all_reduce(values)
    found["message"] = [(processors() - before) / 200, (time.perf_counter() - started) / 200]
    if torch.distributed.get_rank() == 0:
        print(json.dumps(found))
    torch.distributed.destroy_process_group()


def by_ranks() -> Iterator[dict[str, Any]]:
    """A step of `PER_RANK` crops a rank, by gloo processes; what one without averaging costs beside it."""
    for ranks in RANKS:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
        done = subprocess.run(
            [*command, __file__, "--rank"],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=True,
        )
        for name, (cpu, wall) in json.loads(done.stdout).items():
            yield {"what": f"rank, {name}", "x": ranks, "cpu": cpu, "wall": wall, "per": cpu}


def by_size() -> Iterator[dict[str, Any]]:
    """A picture as `sharpkd sharpen` does it, PNG to PNG, each of other pixels, by model and megapixels."""
    from skimage import data as photographs

    from sharpkd.inference.automatic import OneModel
    from sharpkd.inference.files import sharpened
    from sharpkd.inference.image_io import read_image, write_image
    from sharpkd.inference.sharpener import Sharpener

    photograph = Image.fromarray(photographs.astronaut())
    with tempfile.TemporaryDirectory() as folder:
        for width, height in SIZES:
            source, target = Path(folder, "in.png"), Path(folder, "out.png")
            photograph.resize((width, height), Image.Resampling.BICUBIC).save(source)
            for model in MODELS if width < 1000 else MODELS[:1]:
                chooser = OneModel(Sharpener(model, threads=1))

                def work(chooser: OneModel = chooser, source: Path = source, target: Path = target) -> None:
                    file = read_image(source)
                    write_image(target, sharpened(file, chooser.chosen_for(file)), None)

                cpu, wall = timed(work, 2)
                megapixels = width * height / 1e6
                yield {"what": f"picture, {model}", "x": megapixels, "cpu": cpu, "wall": wall, "per": cpu}


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def draw(rows: list[dict[str, Any]]) -> None:
    """Four small curves, as scaling.png."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 4, figsize=(12, 2.7), layout="constrained")
    panels = [
        ("crops at once", "ms of processor a crop", ("step", "teacher"), "per", 1e3),
        ("workers", "ms of processor a crop", ("loader",), "per", 1e3),
        ("ranks", "ms of processor a rank's step", ("rank, apart", "rank, together"), "cpu", 1e3),
        ("megapixels", "s of processor a picture", tuple(f"picture, {model}" for model in MODELS), "cpu", 1),
    ]
    for panel, (x_label, y_label, names, column, factor) in zip(axes, panels, strict=True):
        for name in names:
            found = [row for row in rows if row["what"] == name]
            panel.plot([row["x"] for row in found], [factor * row[column] for row in found], "o-", label=name)
        panel.set(xlabel=x_label, ylabel=y_label)
        if x_label in ("crops at once", "megapixels"):
            panel.set(xscale="log", yscale="log")
        else:
            panel.set(ylim=(0, None))
        panel.legend(fontsize="small")
    figure.savefig(HERE / "scaling.png", dpi=80)


def main() -> None:
    """Measure all, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rank", action="store_true", help="be one of several ranks; started by this script")
    parser.add_argument(
        "--draw", action="store_true", help="draw what scaling.csv holds, and measure nothing"
    )
    asked = parser.parse_args()
    if asked.rank:
        rank_steps()
        return
    if asked.draw:
        with (HERE / "scaling.csv").open(newline="") as file:
            draw([{key: _number(text) for key, text in row.items()} for row in csv.DictReader(file)])
        return
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for part in (by_size, by_batch, by_ranks, by_workers):
        for row in part():
            rows.append(row)
            print({key: f"{value:.4g}" if isinstance(value, float) else value for key, value in row.items()})
            sys.stdout.flush()
            write(rows)
    draw(rows)


def write(rows: list[dict[str, Any]]) -> None:
    """The table as far as it is known: of a run that is stopped, something stays."""
    with (HERE / "scaling.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        for row in rows:
            writer.writerow(
                {key: f"{value:.5g}" if isinstance(value, float) else value for key, value in row.items()}
            )


if __name__ == "__main__":
    main()
