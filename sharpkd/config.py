"""The one place that talks to Hydra: entry points, resolvers, and checks of a composed configuration."""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from sharpkd.config_check import ConfigError, check_targets
from sharpkd.config_hints import explain_override_error

log = logging.getLogger(__name__)

MAX_NAME_LENGTH = 120
# overrides that say where or how a run goes, not what it computes
UNNAMED_KEYS = ("experiment", "run", "resume", "overwrite", "paths.", "sweep", "hydra", "logger", "runtime.")


def conf_dir() -> Path:
    """The folder of SharpKD's own YAML: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent
    for candidate in (package / "conf", package.parent / "conf"):
        if (candidate / "train.yaml").is_file():
            return candidate
    raise FileNotFoundError(f"SharpKD's configuration is missing: no conf/train.yaml in {package} or beside it")


def _absolute_path(path: str) -> str:
    return str(Path(os.path.expanduser(path)).absolute())


def _experiment_name(choices: Mapping[str, Any]) -> str:
    return str(choices.get("experiment") or "train")


def _is_named(override: str) -> bool:
    key = override.lstrip("+~").split("=", 1)[0]
    return not any(key == name or key.startswith(f"{name.rstrip('.')}.") for name in UNNAMED_KEYS)


def _as_file_name(text: str) -> str:
    safe = "".join(char if char.isalnum() or char in "._-=,+" else "-" for char in text)
    if len(safe) <= MAX_NAME_LENGTH:
        return safe
    return f"{safe[: MAX_NAME_LENGTH - 9]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _run_name(run: str | None, overrides: Sequence[str]) -> str:
    named = sorted(override for override in overrides if _is_named(override))
    if run is not None:
        return _as_file_name(str(run))
    return _as_file_name(",".join(named)) if named else "default"


def _sweep_name(overrides: Sequence[str]) -> str:
    keys = sorted(override.lstrip("+~").split("=", 1)[0] for override in overrides if _is_named(override))
    return _as_file_name(",".join(keys)) if keys else "default"


def _run_group(choices: Mapping[str, Any], sweep: str, mode: Any) -> str:
    experiment = _experiment_name(choices)
    return f"{experiment}/{sweep}" if mode is not None and "MULTIRUN" in str(mode) else experiment


def register_resolvers() -> None:
    """Make SharpKD's OmegaConf resolvers known; safe to call twice."""
    for name, function in {
        "absolute_path": _absolute_path,
        "experiment_name": _experiment_name,
        "run_name": _run_name,
        "sweep_name": _sweep_name,
        "run_group": _run_group,
        "min": min,
    }.items():
        OmegaConf.register_new_resolver(name, function, replace=True)


def compose(config_name: str, overrides: Sequence[str] = (), output_dir: str | None = None) -> DictConfig:
    """Compose one configuration without running anything, resolved, as an entry point would see it.

    Args:
        config_name: ``train``, ``evaluate``, ...
        overrides: as on the command line.
        output_dir: what ``paths.run_dir`` becomes; by default the folder that the entry point would use.

    Raises:
        ConfigError: an override names what does not exist; the message says what is allowed.
    """
    register_resolvers()
    previous = HydraConfig.instance().cfg
    try:
        with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
            full = hydra.compose(config_name, list(overrides), return_hydra_config=True)
        HydraConfig.instance().set_config(full)
        OmegaConf.set_readonly(full.hydra, False)
        with open_dict(full):
            full.hydra.job.name = config_name
            full.hydra.runtime.output_dir = output_dir or full.hydra.run.dir
            HydraConfig.instance().set_config(full)
            del full["hydra"]
        return resolve(full)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explain_override_error(error, config_name, overrides, conf_dir())) from error
    finally:
        HydraConfig.instance().cfg = previous


def resolve(cfg: DictConfig) -> DictConfig:
    """A copy with every interpolation replaced by its value, and no Hydra needed to read it."""
    container = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    resolved = OmegaConf.create(container)
    assert isinstance(resolved, DictConfig)
    OmegaConf.set_readonly(resolved, True)
    return resolved


def instantiate(config: Any, *args: Any, **kwargs: Any) -> Any:
    """``hydra.utils.instantiate`` with plain containers, and the original error instead of Hydra's wrapper."""
    try:
        return hydra.utils.instantiate(config, *args, _convert_="all", **kwargs)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, ValueError | FileNotFoundError | OSError | ImportError):
            raise cause from error
        raise


def is_multirun() -> bool:
    """Whether this process is a job of a Hydra sweep."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def entry(config_name: str) -> Callable[[Callable[[DictConfig], float]], Callable[[], None]]:
    """Turn ``main(cfg) -> number`` into a command: composition, readable errors, exit codes.

    Mistakes of the user (``ConfigError``, ``ValueError``, ``OSError``) are one line on standard error and exit
    code 2 or 1; anything else keeps its traceback. In a sweep every error is handed to Hydra, which marks the job.
    """

    def decorate(main: Callable[[DictConfig], float]) -> Callable[[], None]:
        def job(cfg: DictConfig) -> float:
            try:
                resolved = resolve(cfg)
                check_targets(resolved)
                return main(resolved)
            except (ConfigError, ValueError, OSError) as error:
                if is_multirun() or os.environ.get("HYDRA_FULL_ERROR") == "1":
                    raise
                print(f"error: {error}", file=sys.stderr)
                sys.exit(2 if isinstance(error, ConfigError) else 1)

        def command() -> None:
            register_resolvers()
            _preflight(config_name)
            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=config_name)(job)()

        return command

    return decorate


def _preflight(config_name: str) -> None:
    """Compose once before Hydra does, so that a wrong key or choice is answered with what is allowed."""
    from hydra._internal.utils import get_args_parser

    arguments = get_args_parser().parse_args()
    if arguments.hydra_help or arguments.info or arguments.shell_completion:
        return
    searched = [f"hydra.searchpath=[{Path(arguments.config_dir).absolute()}]"] if arguments.config_dir else []
    if arguments.config_dir and not Path(arguments.config_dir).is_dir():
        print(f"error: --config-dir {arguments.config_dir}: no such folder", file=sys.stderr)
        sys.exit(2)
    overrides = list(arguments.overrides)
    if arguments.multirun:
        overrides = [first_choice(override) for override in overrides]
    try:
        with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
            hydra.compose(arguments.config_name or config_name, [*searched, *overrides], return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        print(f"error: {explain_override_error(error, config_name, overrides, conf_dir())}", file=sys.stderr)
        sys.exit(2)


def first_choice(override: str) -> str:
    """The first value of a swept override (``a=1,2`` becomes ``a=1``); others are returned as they are."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_override(override)
    if not parsed.is_sweep_override():
        return override
    key = override.split("=", 1)[0]
    if parsed.is_choice_sweep() or parsed.is_range_sweep():
        return f"{key}={next(iter(parsed.sweep_string_iterator()))}"
    return f"{key}={parsed.value().start}"
