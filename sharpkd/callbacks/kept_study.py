"""Continuing an Optuna study that lives in a file."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict

__all__ = ["KeptStudy"]

FILE_URL = "sqlite:///"
# exit code of wrong settings, as for those that are refused before Hydra starts
USAGE = 2


class KeptStudy(Callback):
    """Hydra callback: prepares ``hydra.sweeper`` (hydra-optuna-sweeper) for the study in its ``storage``.

    The sweeper by itself adds ``n_trials`` to those that the file holds and begins its random numbers anew,
    so that it draws the first ones again. Here ``n_trials`` are those in all, and the sampler's seed is moved
    on by the trials that there are. Trials that failed, or were cut off, come again with the same values,
    so their jobs go on from their last checkpoints.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Make the file's folder; continue the study in it, or refuse to.

        Raises:
            SystemExit: there is a study, and ``sweep.resume`` is false; a line on standard error says what to
                do.
        """
        sweeper = config.hydra.sweeper
        storage = str(OmegaConf.select(config, "hydra.sweeper.storage") or "")
        if not storage.startswith(FILE_URL):
            return
        file = Path(storage.removeprefix(FILE_URL))
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.is_file():
            return
        if not config.sweep.resume:
            print(
                f"error: {file} holds a study; sweep.resume=true continues it, "
                "sweep.name=NAME starts another",
                file=sys.stderr,
            )
            # Hydra makes warnings of a callback's other errors
            raise SystemExit(USAGE)
        asked = sweeper.direction if OmegaConf.is_list(sweeper.direction) else [sweeper.direction]
        directions = [str(getattr(one, "name", one)) for one in asked]
        trials, done = _continue(storage, str(sweeper.study_name), directions)
        with open_dict(sweeper):
            sweeper.n_trials = max(0, sweeper.n_trials - done)
            if OmegaConf.select(sweeper, "sampler.seed") is not None:
                sweeper.sampler.seed = sweeper.sampler.seed + trials


def _continue(storage: str, name: str, directions: list[str]) -> tuple[int, int]:
    """Queue what has to be tried again; how many trials there are, and how many of them have a result."""
    import optuna
    from optuna.exceptions import ExperimentalWarning
    from optuna.trial import TrialState

    study = optuna.create_study(storage=storage, study_name=name, directions=directions, load_if_exists=True)
    trials = study.get_trials(deepcopy=False)
    # the values of a queued trial are a wish until it runs
    wanted = [trial.params or trial.system_attrs.get("fixed_params", {}) for trial in trials]
    for index, trial in enumerate(trials):
        if trial.state == TrialState.RUNNING:
            # nobody works on it any more: a study has one sweep
            study.tell(trial.number, state=TrialState.FAIL)
        elif trial.state != TrialState.FAIL:
            continue
        if trial.params and trial.params not in wanted[index + 1 :]:
            with warnings.catch_warnings():
                # optuna 2 calls enqueue_trial experimental; in optuna 3 it is as it was
                warnings.simplefilter("ignore", ExperimentalWarning)
                study.enqueue_trial(trial.params)
    return len(trials), sum(trial.state == TrialState.COMPLETE for trial in trials)
