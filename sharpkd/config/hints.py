"""What to tell someone whose override does not fit: the nearest right spelling and what is allowed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException


def nearest(word: str, allowed: Iterable[str]) -> str:
    """``did you mean 'x'? `` for a near miss, otherwise an empty string."""
    found = difflib.get_close_matches(word, list(allowed), n=1, cutoff=0.6)
    return f"did you mean {found[0]!r}? " if found else ""


def key_of(override: str) -> str:
    """The setting or group that an override is about: ``loss.alpha`` of ``+loss.alpha=1``."""
    return override.lstrip("+~").split("=", 1)[0].split("@")[0]


def explain(
    error: Exception,
    overrides: Sequence[str],
    compose: Callable[[Sequence[str]], DictConfig],
    folders: Sequence[Path],
) -> str:
    """One readable message for an error of Hydra's composition.

    Args:
        error: what Hydra or OmegaConf raised.
        overrides: the command line's.
        compose: makes the same configuration with other overrides.
        folders: where the YAML lies.
    """
    text = (str(error) or str(error.__cause__ or type(error).__name__)).strip()
    if isinstance(error, OverrideParseException):
        return _explain_grammar(error)
    if isinstance(error, MissingConfigException):
        return _explain_choice(error, text)
    for item in overrides:
        choices = choices_of(key_of(item), folders) if "must be a string or a list" in text else []
        if choices and item.partition("=")[2] not in choices:
            return f"there is no {item}. Choices: {', '.join(choices)}"
    unknown = re.search(r"Could not (?:override|delete from config\.) '([^'@]+)", text)
    if unknown:
        # groups decide which settings there are; other values do not, and may be wrong as well
        key = unknown.group(1)
        groups = [item for item in overrides if "." not in key_of(item) and key_of(item) != key]
        for item in groups:
            section = key_of(item)
            if key.startswith(f"{section}.") and not choices_of(section, folders):
                usual = compose([other for other in groups if other != item])[section]
                return _explain_replaced(key, item, usual)
        # of a section that is given as {a:1,b:2}, OmegaConf alone knows which of them is unknown
        inner = str(getattr(error.__cause__, "full_key", None) or "")
        return _explain_key(inner if inner.startswith(f"{key}.") else key, compose(groups), folders)
    if isinstance(error, OmegaConfBaseException) and error.full_key:
        return f"{error.full_key}: {text.splitlines()[0]}"
    return " ".join(line.strip() for line in text.splitlines() if line.strip())


def choices_of(group: str, folders: Sequence[Path]) -> list[str]:
    """The choices of a config group; none where it is no group."""
    return sorted({path.stem for folder in folders for path in (folder / group).glob("*.yaml")})


def _explain_grammar(error: OverrideParseException) -> str:
    key, equals, value = error.override.partition("=")
    if not equals:
        return f"cannot read {error.override!r}: expected KEY=VALUE, or ~KEY to remove one"
    if value.startswith("[") and value.endswith("]"):
        quoted = ",".join('"{}"'.format(item.strip(" '\"")) for item in value[1:-1].split(","))
        quoted = f"[{quoted}]"
    else:
        quoted = '"{}"'.format(value.strip("'\""))
    return (
        f"cannot read {error.override!r}: a value with = , : ( ) [ ] {{ }} or accents is quoted twice, "
        f"once for the shell and once for Hydra: '{key}={quoted}'"
    )


def _explain_choice(error: MissingConfigException, text: str) -> str:
    options = [str(option) for option in error.options or ()]
    group, _, name = (error.missing_cfg_file or "").rpartition("/")
    if not group or not options:
        return text.split("Config search path")[0].strip().replace("\n", " ")
    return f"there is no {group}={name}. {nearest(name, options)}Choices: {', '.join(options)}"


def _explain_key(key: str, config: DictConfig, folders: Sequence[Path]) -> str:
    if key.split(".")[0] == "hydra":
        return f"there is no setting {key!r}; --cfg hydra prints those of Hydra"
    node: Any = OmegaConf.to_container(config, resolve=False)
    if "/" in key:
        return _explain_group(key, node, folders)
    parts = key.split(".")
    above: list[str] = []
    while isinstance(node, dict) and parts[len(above)] in node and len(above) + 1 < len(parts):
        node = node[parts[len(above)]]
        above.append(parts[len(above)])
    elsewhere = _elsewhere(parts, folders)
    prefix = ".".join(above)
    if not isinstance(node, dict):
        return f"there is no setting {key!r}: {prefix} is {as_yaml(node)} here. {elsewhere}".rstrip()
    allowed = sorted(name for name in node if not name.startswith("_"))
    where = f"in {prefix}" if prefix else "at the top level"
    hint = elsewhere or nearest(parts[len(above)], allowed)
    return f"there is no setting {key!r}. {hint}Allowed {where}: {', '.join(allowed)}"


def _explain_replaced(key: str, override: str, usual: Any) -> str:
    section = key_of(override)
    names = [f"{section}.{name!s}" for name in usual] if isinstance(usual, DictConfig) else []
    parts = f": {', '.join(names)}" if names else ""
    return f"{key} cannot be set beside {override}, which replaces all of {section}; set its parts{parts}"


def _explain_group(key: str, plain: dict[str, Any], folders: Sequence[Path]) -> str:
    files = [path.relative_to(folder) for folder in folders for path in folder.rglob("*.yaml")]
    groups = sorted({path.parent.as_posix() for path in files} - {"."})
    groups = [group for group in groups if group.split("/")[0] != "hydra"]
    first, *others = key.split("/")
    is_setting = isinstance(plain.get(first), dict) and others[0] in plain[first]
    hint = (
        f"Settings are written with dots: {key.replace('/', '.')}. " if is_setting else nearest(key, groups)
    )
    return f"there is no group {key!r}. {hint}Groups: {', '.join(groups)}"


def as_yaml(value: Any) -> str:
    """A value as an error message shows it."""
    return "null" if value is None else repr(value)


def _elsewhere(parts: Sequence[str], folders: Sequence[Path]) -> str:
    """Which other choices of the group have the setting."""
    found = []
    for path in sorted(path for folder in folders for path in (folder / parts[0]).glob("*.yaml")):
        node: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
        for part in parts[1:]:
            node = node.get(part, _elsewhere) if isinstance(node, dict) else _elsewhere
        if len(parts) > 1 and node is not _elsewhere:
            found.append(f"{parts[0]}={path.stem}")
    return f"It exists with {' or '.join(found)}. " if found else ""
