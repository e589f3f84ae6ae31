"""``python -m sharpkd.benchmark what=speed|video|data|teacher_cache|distillation|estimation|fit_estimator``.

Speed of sharpening, of video, of loading and of kept answers, a teacher's worth, and the estimator of blur.
"""

from __future__ import annotations

from sharpkd.requires import require_extra

require_extra("train")

from pathlib import Path
from typing import Protocol

from omegaconf import DictConfig

from sharpkd.config import entry, instantiate


class Benchmark(Protocol):
    """What a choice of the group ``what`` names by its ``_target_``."""

    def run(self, folder: Path) -> float:
        """Measure, write the figures into ``folder``, print them, and return the most telling one."""


@entry("benchmark")
def main(cfg: DictConfig) -> float:
    """Run the chosen benchmark in its output folder."""
    folder = Path(cfg.paths.run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    benchmark: Benchmark = instantiate(cfg.what)
    return benchmark.run(folder)


if __name__ == "__main__":
    main()
