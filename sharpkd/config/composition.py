"""From YAML files and overrides to one resolved configuration, and from it to objects."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra import version
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from sharpkd.config.check import ConfigError
from sharpkd.config.hints import explain
from sharpkd.config.strangers import check_leftovers, check_overrides
from sharpkd.config.trust import located, nodes, trust_yaml

MAX_NAME_LENGTH = 120
# overrides that say where or how a run goes, not what it computes
UNNAMED_KEYS = (
    "experiment",
    "run",
    "resume",
    "overwrite",
    "paths.",
    "sweep",
    "hydra",
    "logger",
    "runtime.threads",
    "runtime.trusted_packages",
)


def conf_dir() -> Path:
    """The folder of SharpKD's own YAML: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    for candidate in (package / "conf", package.parent / "conf"):
        if (candidate / "train.yaml").is_file():
            return candidate
    raise FileNotFoundError(
        f"SharpKD's configuration is missing: no conf/train.yaml in {package} or beside it"
    )


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


def _sweep_name(name: str | None, overrides: Sequence[str]) -> str:
    if name is not None:
        return _as_file_name(str(name))
    keys = sorted(override.lstrip("+~").split("=", 1)[0] for override in overrides if _is_named(override))
    return _as_file_name(",".join(keys)) if keys else "default"


def _run_group(choices: Mapping[str, Any], sweep: str, mode: Any) -> str:
    experiment = _experiment_name(choices)
    return f"{experiment}/{sweep}" if mode is not None and "MULTIRUN" in str(mode) else experiment


def _at_most(interval: int, steps: int) -> int:
    """An interval that a run of ``steps`` reaches; ``steps`` <= 0 means that epochs end the run."""
    return interval if steps <= 0 else min(interval, steps)


def _first_set(*values: Any) -> Any:
    """The first value that is not null; null where all are."""
    return next((value for value in values if value is not None), None)


def _optuna_direction(mode: str) -> str:
    directions = {"max": "maximize", "min": "minimize"}
    if mode not in directions:
        raise ValueError(f"sweep.mode is {mode!r}; expected max or min")
    return directions[mode]


def register_resolvers() -> None:
    """Make SharpKD's OmegaConf resolvers known; safe to call twice."""
    resolvers: dict[str, Callable[..., Any]] = {
        "absolute_path": _absolute_path,
        "experiment_name": _experiment_name,
        "run_name": _run_name,
        "sweep_name": _sweep_name,
        "run_group": _run_group,
        "at_most": _at_most,
        "first_set": _first_set,
        "optuna_direction": _optuna_direction,
    }
    for name, function in resolvers.items():
        OmegaConf.register_new_resolver(name, function, replace=True)


# here too: a launcher's processes know of Hydra's own alone, and import this with their job
register_resolvers()


def user_folders() -> list[Path]:
    """Folders of YAML that the running command searches beside SharpKD's own (``--config-dir``)."""
    if not HydraConfig.initialized():
        return []
    sources = HydraConfig.get().runtime.config_sources
    own = ("hydra", "main", "schema")
    return [Path(source.path) for source in sources if source.schema == "file" and source.provider not in own]


@contextlib.contextmanager
def searching(folders: Sequence[Path]) -> Iterator[None]:
    """Let ``hydra.compose`` find SharpKD's YAML and that of ``folders``, as ``--config-dir`` would."""
    register_resolvers()
    trust_yaml([conf_dir(), *folders])
    version.setbase("1.3")
    path = create_config_search_path(str(conf_dir()))
    for folder in folders:
        path.prepend("command-line", f"file://{folder.absolute()}", anchor="schema")
    # unlike hydra.initialize, this works inside a running job too
    state = GlobalHydra.instance()
    running = state.hydra
    state.clear()
    try:
        Hydra.create_main_hydra2("sharpkd", path)
        yield
    finally:
        state.hydra = running


@contextlib.contextmanager
def _readable(config_name: str, overrides: Sequence[str], folders: Sequence[Path]) -> Iterator[None]:
    try:
        yield
    except ConfigError:
        raise
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        where = [conf_dir(), *folders]
        message = explain(error, overrides, lambda kept: hydra.compose(config_name, list(kept)), where)
        raise ConfigError(message) from error


def compose(
    config_name: str,
    overrides: Sequence[str] = (),
    output_dir: str | None = None,
    folders: Sequence[Path] | None = None,
    run: bool = True,
) -> DictConfig:
    """Compose one configuration without running anything, resolved, as an entry point would see it.

    Args:
        config_name: ``train``, ``evaluate``, ...
        overrides: as on the command line.
        output_dir: what ``paths.run_dir`` becomes; by default the folder that the entry point would use.
        folders: further folders of YAML; by default those of the running command.
        run: False returns it unresolved, and accepts settings that still need a value.

    Raises:
        ConfigError: an override names what does not exist, or could run code; or a setting has no value. The
            message says what is allowed.
    """
    check_overrides(overrides)
    folders = user_folders() if folders is None else folders
    previous = HydraConfig.instance().cfg
    with searching(folders), _readable(config_name, overrides, folders):
        full = hydra.compose(config_name, list(overrides), return_hydra_config=True)
        if not run:
            return full
        try:
            HydraConfig.instance().set_config(full)
            OmegaConf.set_readonly(full.hydra, False)
            with open_dict(full):
                full.hydra.job.name = config_name
                full.hydra.runtime.output_dir = output_dir or full.hydra.run.dir
                HydraConfig.instance().set_config(full)
                del full["hydra"]
            return resolve(full)
        finally:
            HydraConfig.instance().cfg = previous


def resolve(cfg: DictConfig) -> DictConfig:
    """A copy with every interpolation replaced by its value, read-only, and no Hydra needed to read it.

    Raises:
        ConfigError: a setting still needs a value (``???``), or one would be an interpolation again.
    """
    missing = sorted(OmegaConf.missing_keys(cfg))
    if missing:
        raise ConfigError(f"no value for {', '.join(missing)}: set {missing[0]}=VALUE")
    container = OmegaConf.to_container(cfg, resolve=True)
    check_leftovers(container)
    resolved = OmegaConf.create(container)
    assert isinstance(resolved, DictConfig)
    OmegaConf.set_readonly(resolved, True)
    return resolved


def instantiate(config: Any, *args: Any, **kwargs: Any) -> Any:
    """``hydra.utils.instantiate`` with plain containers, and the original error, not Hydra's around it.

    Raises:
        ConfigError: it names what a configuration may not name; see `sharpkd.config.trust`.
    """
    plain = OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config
    for where, node in nodes(plain):
        located(where, str(node["_target_"]))
    try:
        return hydra.utils.instantiate(config, *args, _convert_="all", **kwargs)
    except InstantiationException as error:
        cause = error.__cause__
        if cause is None or isinstance(cause, HydraException | TypeError):
            raise
        key = re.search(r"full_key: (\S+)", str(error))
        if key:
            cause.add_note(f"while building {key.group(1)}")
        raise cause from None
