"""Pictures a second of `sharpkd sharpen` alone, with two threads, and on Ray: for docs/scaling.md.

``python benchmarks/scaling/cluster.py`` (needs ``pip install 'sharpkd[ray]'``) writes cluster.csv beside this
file: seconds to the first result, and pictures a second from there to the last. Other work slows all.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image
from skimage import data as photographs

HERE = Path(__file__).parent
WAYS = {
    "one thread": ["-j", "1"],
    "two threads": ["-j", "2"],
    "Ray, two workers": ["-j", "2", "--cluster", "ray"],
}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--size", type=int, nargs=2, default=(320, 240))
    parser.add_argument("--model", default="fast")
    asked = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        photograph = Image.fromarray(photographs.astronaut())
        for index in range(asked.pictures):
            turned = photograph.rotate(index).resize(tuple(asked.size), Image.Resampling.BICUBIC)
            turned.save(folder / "in" / f"{index:05d}.png")
        for way, options in WAYS.items():
            out = folder / way
            command = [sys.executable, "-m", "sharpkd.cli", "sharpen", str(folder / "in"), "-o", str(out)]
            started = time.time()
            # a thread each, as on a cluster: else one process would take all cores
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            subprocess.run([*command, "--model", asked.model, "-q", *options], env=environment, check=True)
            written = sorted(path.stat().st_mtime for path in out.glob("*.png"))
            assert len(written) == asked.pictures
            rate = (len(written) - 1) / (written[-1] - written[0])
            rows.append(
                {"way": way, "start_s": f"{written[0] - started:.1f}", "pictures_per_s": f"{rate:.2f}"}
            )
            print(rows[-1], flush=True)
    with (HERE / "cluster.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
