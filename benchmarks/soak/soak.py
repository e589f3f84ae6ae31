"""Does `sharpkd sharpen` keep its memory and its files in check over very many inputs? ``make soak``.

One process of the command sharpens a folder of small pictures and then a long video and a short one, while
its resident memory and its open files are read every second. Afterwards some pictures and the short video are
sharpened by processes of their own, and the bytes compared. For Linux (/proc). Writes soak.csv, soak.json and
soak.png beside this file, and ends with exit code 1 where memory grows, files stay open, or bytes differ.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import matplotlib
import numpy as np
from PIL import Image
from skimage import data as photographs

matplotlib.use("Agg")
from matplotlib import pyplot as plt

HERE = Path(__file__).parent
WIDTH, HEIGHT = 80, 60
FRAME = (160, 120)
FRAMES_PER_SECOND = 25
WARM_UP = 0.25
"""Share of a phase in which caches may still fill."""
MOST_GROWTH = {"pictures": 2.0, "video": 2.0}
"""MB for each 1,000 pictures, or each minute of video, that the slope may be at most."""
COMMAND = [sys.executable, "-m", "sharpkd.cli", "sharpen"]


def make_pictures(folder: Path, count: int) -> None:
    """Windows of photographs, every third a JPEG, some blurred, so that all branches are taken."""
    from scipy.ndimage import gaussian_filter

    folder.mkdir()
    sources = [
        np.asarray(getattr(photographs, name)())[..., :3] for name in ("astronaut", "coffee", "chelsea")
    ]
    soft = [gaussian_filter(source, (1.5, 1.5, 0)) for source in sources]
    random = np.random.default_rng(0)
    for index in range(count):
        source = (sources, soft)[index % 2][index % 3]
        top, left = (
            random.integers(0, extent - side)
            for extent, side in zip(source.shape, (HEIGHT, WIDTH), strict=False)
        )
        window = Image.fromarray(np.ascontiguousarray(source[top : top + HEIGHT, left : left + WIDTH]))
        window.save(folder / f"{index:06d}.{'jpg' if index % 3 == 0 else 'png'}")


def make_video(path: Path, seconds: float) -> None:
    """A camera that pans over a photograph; another one every ten seconds."""
    sources = [np.asarray(getattr(photographs, name)())[..., :3] for name in ("astronaut", "coffee")]
    width, height = FRAME
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(int(seconds * FRAMES_PER_SECOND)):
            source = sources[number // (10 * FRAMES_PER_SECOND) % len(sources)]
            left = number % (source.shape[1] - width)
            frame = av.VideoFrame.from_ndarray(
                np.ascontiguousarray(source[50 : 50 + height, left : left + width])
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def read(process: int) -> tuple[float, int, int]:
    """Resident memory in MB, open files, threads."""
    status = Path(f"/proc/{process}/status").read_text()
    found = dict(line.split(":", 1) for line in status.splitlines())
    files = len(os.listdir(f"/proc/{process}/fd"))
    return int(found["VmRSS"].split()[0]) / 1024, files, int(found["Threads"])


def watch(process: subprocess.Popen[bytes], out: Path) -> Iterator[dict[str, Any]]:
    """A row a second until the process ends; ``done`` are results that are complete."""
    started = time.monotonic()
    while process.poll() is None:
        try:
            memory, files, threads = read(process.pid)
        except (FileNotFoundError, KeyError, ProcessLookupError):
            return  # it has just ended
        done = sum(not entry.name.startswith(".") for entry in os.scandir(out)) if out.is_dir() else 0
        seconds = round(time.monotonic() - started, 1)
        yield {
            "seconds": seconds,
            "done": done,
            "memory_mb": round(memory, 1),
            "files": files,
            "threads": threads,
        }
        time.sleep(1)


def slope(x: list[float], y: list[float]) -> tuple[float, float]:
    """Least squares and its standard error, behind the warm-up; 0 where there is too little."""
    start = int(len(x) * WARM_UP)
    across, up = np.array(x[start:]), np.array(y[start:])
    if len(across) < 5 or np.ptp(across) == 0:
        return 0.0, float("inf")
    coefficients, covariance = np.polyfit(across, up, 1, cov=True)
    return float(coefficients[0]), float(covariance[0, 0] ** 0.5)


def same_bytes(inputs: list[Path], out: Path, folder: Path, options: list[str]) -> list[str]:
    """Names of the inputs whose result differs from that of a process of its own."""
    different = []
    for path in inputs:
        alone = folder / "alone"
        subprocess.run([*COMMAND, str(path), "-o", str(alone), "-q", *options], check=True)
        if (alone / path.name).read_bytes() != (out / path.name).read_bytes():
            different.append(path.name)
    return different


def draw(rows: list[dict[str, Any]], pictures: int, file: Path) -> None:
    """Memory and open files against time, with the end of the pictures."""
    figure, axes = plt.subplots(figsize=(6.4, 2.8), layout="constrained")
    seconds = [row["seconds"] / 60 for row in rows]
    axes.plot(seconds, [row["memory_mb"] for row in rows], color="tab:blue")
    axes.set(xlabel="minutes", ylabel="resident memory, MB", ylim=(0, None))
    border = next((row["seconds"] / 60 for row in rows if row["done"] >= pictures), None)
    if border is not None:
        axes.axvline(border, color="grey", linestyle=":")
        axes.annotate("video", (border, 0), xytext=(4, 4), textcoords="offset points", color="grey")
    right = axes.twinx()
    right.plot(seconds, [row["files"] for row in rows], color="tab:orange", linewidth=0.8)
    right.set(ylabel="open files", ylim=(0, None))
    figure.savefig(file, dpi=80)


def main() -> int:
    """Run, write, print; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--minutes", type=float, default=30, help="of video")
    parser.add_argument("--model", default="fast")
    parser.add_argument("--compared", type=int, default=20, help="pictures that are also sharpened alone")
    parser.add_argument("--out", type=Path, default=HERE)
    asked = parser.parse_args()
    options = ["--model", asked.model]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_pictures(folder / "in", asked.images)
        # named so that the long one comes first
        videos = [folder / "in" / "x_long.mp4", folder / "in" / "y_short.mp4"]
        make_video(videos[0], asked.minutes * 60)
        make_video(videos[1], 12)
        out = folder / "out"
        process = subprocess.Popen([*COMMAND, str(folder / "in"), "-o", str(out), "-q", *options])
        rows = list(watch(process, out))
        if process.wait() != 0:
            raise RuntimeError(f"the command ended with exit code {process.returncode}")
        inputs = sorted((folder / "in").glob("0*"))
        chosen = inputs[:: max(1, len(inputs) // asked.compared)][: asked.compared]
        different = same_bytes([*chosen, videos[1]], out, folder, options)
    phases = {
        "pictures": [row for row in rows if 0 < row["done"] < asked.images],
        "video": [row for row in rows if row["done"] == asked.images],
    }
    units = {"pictures": "MB for each 1,000 pictures", "video": "MB for each minute of it"}
    results: dict[str, Any] = {"images": asked.images, "size": [WIDTH, HEIGHT], "minutes": asked.minutes}
    results |= {
        "frame": list(FRAME),
        "model": asked.model,
        "compared": len(chosen) + 1,
        "different": different,
    }
    failed = bool(different)
    for phase, found in phases.items():
        # a video has no results to count while it is made: against the share of its time
        taken = [row["seconds"] - found[0]["seconds"] for row in found]
        across = [row["done"] / 1000 for row in found]
        if phase == "video" and taken and taken[-1]:
            across = [part / taken[-1] * asked.minutes for part in taken]
        growth, error = slope(across, [row["memory_mb"] for row in found])
        files = [row["files"] for row in found[int(len(found) * WARM_UP) :]]
        leaked = bool(files) and files[-1] > max(files[: max(1, len(files) // 2)])
        results[phase] = {
            "seconds": round(taken[-1], 1) if taken else 0,
            "growth": round(growth, 3),
            "standard_error": round(error, 3),
            "unit": units[phase],
            "memory_mb_at_most": max((row["memory_mb"] for row in found), default=0),
            "files_at_most": max(files, default=0),
            "files_at_the_end": files[-1] if files else 0,
        }
        print(
            f"{phase}: {growth:+.3f} ± {error:.3f} {units[phase]}, "
            f"{results[phase]['memory_mb_at_most']:.0f} MB at most;"
            f" {results[phase]['files_at_most']} files open at most"
        )
        failed = failed or growth - 2 * error > MOST_GROWTH[phase] or leaked
    print(f"{len(different)} of {results['compared']} results differ from those of processes of their own")
    asked.out.mkdir(parents=True, exist_ok=True)
    with (asked.out / "soak.csv").open("w", newline="") as file:
        # at most about 600 rows
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows[:: max(1, len(rows) // 600)])
    (asked.out / "soak.json").write_text(json.dumps(results, indent=2) + "\n")
    draw(rows, asked.images, asked.out / "soak.png")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
