"""Entry points: composition, readable errors, exit codes."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep
from hydra.errors import CompactHydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sharpkd.config.check import ConfigError, check, trusted_packages
from sharpkd.config.composition import compose, conf_dir, register_resolvers, resolve, searching, user_folders
from sharpkd.config.hints import choices_of, key_of
from sharpkd.config.strangers import check_hydra, check_overrides
from sharpkd.config.trust import trust_yaml

# what a user can cause and mend; everything else is a mistake in the code and keeps its traceback
MISTAKES = (ValueError, OSError, ImportError, FloatingPointError, OmegaConfBaseException)
# exit code after Ctrl-C, as shells have it
INTERRUPTED = 130


class SweepMistake(CompactHydraException):
    """A mistake of the user in a job of a sweep: Hydra marks the job and prints the message alone."""


def is_multirun() -> bool:
    """Whether this process is a job of a Hydra sweep."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def entry(config_name: str) -> Callable[[Callable[[DictConfig], float]], Callable[[], None]]:
    """Turn ``main(cfg) -> number`` into a command: composition, readable errors, exit codes.

    A wrong configuration is one message on standard error and exit code 2; other mistakes of the user (a
    missing file, a value out of range) are one and exit code 1; Ctrl-C is one and exit code 130; anything
    else keeps its traceback. In a sweep every error is handed to Hydra, which marks the job and goes on with
    the next; at the end it prints the first one, and the exit code is 1.
    """

    def decorate(main: Callable[[DictConfig], float]) -> Callable[[], None]:
        def job(cfg: DictConfig) -> float:
            try:
                # a launcher may have started this process for the job
                trust_yaml([conf_dir(), *user_folders()])
                resolved = resolve(cfg)
                check(resolved)
                return main(resolved)
            except Exception as error:
                if not is_mistake(error) or os.environ.get("HYDRA_FULL_ERROR") == "1":
                    raise
                if is_multirun():
                    raise SweepMistake(_told(error)) from None
                _fail(error)
            except KeyboardInterrupt as stop:
                if is_multirun():
                    raise
                print(f"interrupted{_notes(stop)}", file=sys.stderr)
                sys.exit(INTERRUPTED)

        # Hydra names the job, and with it the log file, after this
        job.__module__ = f"sharpkd.{config_name}"

        def command() -> None:
            register_resolvers()
            try:
                _preflight(config_name)
            except ConfigError as error:
                _fail(error)
            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=config_name)(job)()

        return command

    return decorate


def is_mistake(error: Exception) -> bool:
    """Whether an error is something that a user can mend, so that its message is enough."""
    # Lightning's own class is known by its name: importing it would load Lightning for every command
    return isinstance(error, MISTAKES) or type(error).__name__ == "MisconfigurationException"


def _fail(error: BaseException) -> NoReturn:
    print(_told(error), file=sys.stderr)
    sys.exit(2 if isinstance(error, ConfigError) else 1)


def _told(error: BaseException) -> str:
    return f"error: {error}{_notes(error)}"


def _notes(error: BaseException) -> str:
    return "".join(f" ({note})" for note in getattr(error, "__notes__", ()))


def _preflight(config_name: str) -> None:
    """Compose and check before Hydra does and makes folders; a mistake is answered with what is allowed.

    Of a sweep, the first job is checked, and every choice of a swept group.
    """
    arguments: Namespace = get_args_parser().parse_args()
    check_overrides(arguments.overrides)
    if arguments.hydra_help or arguments.info or arguments.shell_completion:
        return
    folders = [Path(arguments.config_dir).absolute()] if arguments.config_dir else []
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(f"--config-dir {arguments.config_dir}: no such folder")
    only_shown = arguments.help or arguments.cfg
    jobs = list(_first_jobs(arguments.overrides, folders)) if arguments.multirun else [arguments.overrides]
    place = "paths.output_root" if arguments.multirun else "paths.run_dir"
    made = None
    for overrides in jobs:
        whole = compose(arguments.config_name or config_name, overrides, folders=folders, run=False)
        check_hydra(whole.hydra, trusted_packages(whole))
        composed = compose(
            arguments.config_name or config_name, overrides, folders=folders, run=not only_shown
        )
        if not only_shown:
            check(composed)
            made = OmegaConf.select(composed, place)
    if made is not None:
        _make_folder(made)


def _make_folder(path: str) -> None:
    """Make the folder that Hydra would make next: where it cannot, its words are a long traceback."""
    try:
        os.makedirs(path, exist_ok=True)
        writable = os.access(path, os.W_OK | os.X_OK)
        reason = "no permission"
    except OSError as error:
        writable, reason = False, error.strerror or str(error)
    if not writable:
        raise ConfigError(
            f"cannot write to {path}: {reason}; set paths.output_root=FOLDER (or $SHARPKD_OUTPUTS) to one "
            "that you may write to"
        )


def _first_jobs(overrides: list[str], folders: list[Path]) -> Iterator[list[str]]:
    """The overrides of a sweep's first job, then those with each other choice of each swept group.

    So with each value of a swept setting of Hydra, which takes effect before the job's own check.
    """
    try:
        with searching(folders):
            values = [_values(override) for override in overrides]
    except OverrideParseException:
        values = [[override] for override in overrides]  # composing it says what is wrong
    first = [choices[0] for choices in values]
    yield first
    for index, choices in enumerate(values):
        key = key_of(overrides[index])
        if choices_of(key, [conf_dir(), *folders]) or key.startswith("hydra"):
            for choice in choices[1:]:
                yield [*first[:index], choice, *first[index + 1 :]]


def _values(override: str) -> list[str]:
    """One override for each value that is swept (the lower end of an interval)."""
    loader = GlobalHydra.instance().config_loader()
    parsed = OverridesParser.create(config_loader=loader).parse_overrides([override])[0]
    if not parsed.is_sweep_override():
        return [override]
    key = override.split("=", 1)[0]
    value = parsed.value()
    if isinstance(value, IntervalSweep):
        return [f"{key}={value.start}"]
    values = [f"{key}={choice}" for choice in parsed.sweep_string_iterator()]
    if not values:
        raise ConfigError(f"{override}: nothing to sweep over; no choice of {key!r} fits")
    return values
