"""Overrides and settings of Hydra itself that could run code, or tell what only this machine should know.

An override may come out of a web form, a chat or somebody's notes. Whatever it says, it runs no code: see
`sharpkd.config.trust` for ``_target_``. Here is what Hydra would do with an override before any check of the
composed configuration: import a package to search it for YAML, read the environment, set variables that the
dynamic linker obeys, build handlers of the log, or write commands into the script of a cluster's job.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from sharpkd.config.error import ConfigError
from sharpkd.config.hints import key_of
from sharpkd.config.trust import allowed, located, nodes

OWN_YAML = "write it into YAML of your own (--config-dir)"
REFUSED = {
    "hydra.searchpath": "imports what it names; use --config-dir FOLDER",
    "hydra.launcher.setup": f"holds commands of the shell; {OWN_YAML}",
    "hydra.launcher.teardown": f"holds commands of the shell; {OWN_YAML}",
    "hydra.launcher.srun_args": f"holds commands of the shell; {OWN_YAML}",
    "hydra.launcher.additional_parameters": f"is written into a script of the shell; {OWN_YAML}",
}
"""Settings of Hydra that no override sets."""
RESOLVERS = {
    *("absolute_path", "experiment_name", "run_name", "sweep_name", "run_group", "at_most", "first_set"),
    *("optuna_direction", "hydra", "now", "python_version"),
}
"""Resolvers that an override may call. Not ``oc.env``: a run's name, its files and W&B would tell secrets."""
VARIABLES = {
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "CUDA_VISIBLE_DEVICES"),
    *("CUDA_DEVICE_ORDER", "NCCL_DEBUG", "NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME"),
    *("TORCH_DISTRIBUTED_DEBUG", "WANDB_MODE", "WANDB_PROJECT", "WANDB_ENTITY"),
}
"""Of ``hydra.job.env_set``: no other variable, for some of them have libraries loaded into every process."""
LOGGING = {
    *("logging.StreamHandler", "logging.FileHandler", "logging.NullHandler", "logging.Formatter"),
    *("logging.handlers.RotatingFileHandler", "logging.handlers.TimedRotatingFileHandler"),
    *("rich.logging.RichHandler", "colorlog.ColoredFormatter"),
}
"""Classes that the settings of the log may name."""
STREAMS = ("ext://sys.stdout", "ext://sys.stderr")
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\x85\u2028\u2029]")
"""All but the tabulator. A new line in a comment of SLURM's script would be a command."""
INTERPOLATION = re.compile(r"\$\{([^:}]*)(:?)")


def check_overrides(overrides: Iterable[str]) -> None:
    """Refuse overrides that would do something before the configuration can be checked.

    Raises:
        ConfigError: a setting of Hydra that runs commands or imports packages, a resolver that tells of this
            machine, or one whose name is only put together later; a new line or another control character.
    """
    for override in overrides:
        if found := CONTROL.search(override):
            raise ConfigError(
                f"{override!r}: the character {found[0]!r} may not stand in an override; remove it"
            )
        key = key_of(override)
        for name, reason in REFUSED.items():
            if key == name or key.startswith(f"{name}.") or (key != "" and name.startswith(f"{key}.")):
                raise ConfigError(f"{key}: no override sets this: {name} {reason}")
        check_text(override, override)


def check_text(what: str, text: str) -> None:
    """Refuse interpolations that call anything but SharpKD's own resolvers and Hydra's harmless ones.

    Raises:
        ConfigError: another resolver; ``what`` begins the message.
    """
    for name, colon in INTERPOLATION.findall(text):
        if "${" in name or (colon and name.strip() not in RESOLVERS):
            raise ConfigError(
                f"{what}: the resolver {name.strip()!r} may not stand in an override; let the shell put the "
                f"value there, or {OWN_YAML}"
            )


def check_leftovers(config: Any, key: str = "") -> None:
    """Refuse a value that is an interpolation again once all of them have been replaced.

    Raises:
        ConfigError: it names the setting.
    """
    if isinstance(config, Mapping):
        for name, value in config.items():
            check_leftovers(value, f"{key}.{name}" if key else str(name))
    elif isinstance(config, list):
        for index, value in enumerate(config):
            check_leftovers(value, f"{key}[{index}]")
    elif isinstance(config, str) and "${" in config:
        raise ConfigError(f"{key}: found {config!r} after all interpolations were replaced; remove the ${{")


def check_hydra(hydra: DictConfig, packages: Sequence[str] = ()) -> None:
    """Check the settings of Hydra itself, as they stand before a job.

    Args:
        hydra: the section, composed.
        packages: of ``runtime.trusted_packages``.

    Raises:
        ConfigError: something would be imported, called or loaded that may not be.
    """
    plain: Any = OmegaConf.to_container(hydra, resolve=False)
    for key, node in nodes(plain, "hydra"):
        located(key, str(node["_target_"]), packages)
    for section in ("job_logging", "hydra_logging"):
        _check_logging(plain.get(section), f"hydra.{section}", packages)
    for name in (plain.get("job") or {}).get("env_set") or {}:
        if name not in VARIABLES:
            raise ConfigError(
                f"hydra.job.env_set.{name}: expected one of {', '.join(sorted(VARIABLES))}; set others in "
                "the shell"
            )
    sweeper = plain.get("sweeper") or {}
    function = sweeper.get("custom_search_space")
    if function is not None and not allowed(str(function), packages):
        raise ConfigError(
            f"hydra.sweeper.custom_search_space: {function!r} may not be called; add its package to "
            "runtime.trusted_packages"
        )
    for key, value in (sweeper.get("params") or {}).items():
        if key_of(str(key)).split("/")[0].split(".")[0] == "hydra":
            raise ConfigError(f"hydra.sweeper.params: {key} cannot be swept over; settings of a job can")
        check_overrides([f"{key}={value}"])


def _check_logging(config: Any, key: str, packages: Sequence[str]) -> None:
    """What ``logging.config.dictConfig`` would import or call."""
    if isinstance(config, Mapping):
        for name, value in config.items():
            names_class = name in ("class", "()")
            if names_class and value not in LOGGING and not allowed(str(value), packages):
                raise ConfigError(f"{key}.{name}: {value!r} may not be built; {OWN_YAML}")
            _check_logging(value, f"{key}.{name}", packages)
    elif isinstance(config, list):
        for index, value in enumerate(config):
            _check_logging(value, f"{key}[{index}]", packages)
    elif isinstance(config, str) and "://" in config and config not in STREAMS:
        raise ConfigError(f"{key}: {config!r} may not be imported; expected {' or '.join(STREAMS)}")
