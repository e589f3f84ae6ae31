"""One rank of a data-parallel run; started by ``sharpkd.runs.launch`` through torchrun, never by hand."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from sharpkd.config.trust import trust_checked
from sharpkd.runs.training import run_training


def main(plan_file: str) -> None:
    """Train as this process's rank, from the plan that the launcher wrote."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    plan = OmegaConf.load(plan_file)
    assert isinstance(plan, DictConfig)
    OmegaConf.set_readonly(plan, True)
    # the process that wrote the plan has checked it
    trust_checked(plan.config)
    try:
        run_training(plan.config, None if plan.checkpoint is None else Path(plan.checkpoint))
    except KeyboardInterrupt:
        # the process that started the ranks says so, once
        sys.exit(130)


if __name__ == "__main__":
    main(sys.argv[1])
