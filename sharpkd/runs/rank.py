"""One rank of a data-parallel run; started by ``sharpkd.runs.agent`` through torchrun, never by hand."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import traceback
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from torch import distributed

from sharpkd.config.command import is_mistake
from sharpkd.config.trust import trust_checked
from sharpkd.runs.parent import AGENT, LOST_RANK, end_with
from sharpkd.runs.training import run_training


def main(plan_file: str) -> None:
    """Train as this process's rank, from the plan that the launcher wrote.

    An error is recorded for the agent, which says it once for all ranks; one that no user can mend also has
    its traceback here.
    """
    end_with(int(os.environ[AGENT]))
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
    except Exception as error:
        lost = lost_rank(error)
        if lost is None and not is_mistake(error):
            traceback.print_exc()
        _record(str(error) or type(error).__name__ if lost is None else f"{LOST_RANK} ({lost})")
        sys.stderr.flush()
        # other ranks may be waiting for this one, and threads of the process group for them
        os._exit(1)


def _record(message: str) -> None:
    """Where torchrun looks for it, on one line."""
    content = {"message": " ".join(message.split()), "timestamp": int(time.time())}
    Path(os.environ["TORCHELASTIC_ERROR_FILE"]).write_text(json.dumps(content), encoding="utf-8")


def lost_rank(error: BaseException | None) -> BaseException | None:
    """What a collective operation said when another rank had gone: the error itself, or one it followed from.

    None where an error has another reason.
    """
    while error is not None and not _says_lost(error):
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return error


def _says_lost(error: BaseException) -> bool:
    if isinstance(error, distributed.DistBackendError | distributed.DistNetworkError):
        return True
    return isinstance(error, RuntimeError) and "gloo" in str(error)


if __name__ == "__main__":
    main(sys.argv[1])
