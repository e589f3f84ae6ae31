"""What to tell someone whose override does not fit: the nearest right spelling and what is allowed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path

import hydra
from omegaconf import DictConfig, OmegaConf

QUOTING_HINT = (
    "values with = , { } [ ] or spaces must be quoted twice, once for the shell and once for Hydra: "
    "'teacher.path=\"a=1.ckpt\"'"
)


def nearest(word: str, allowed: Sequence[str]) -> str:
    """``did you mean 'x'? `` for a near miss, otherwise an empty string."""
    found = difflib.get_close_matches(word, allowed, n=1, cutoff=0.6)
    return f"did you mean {found[0]!r}? " if found else ""


def _group_choices(root: Path, group: str) -> list[str]:
    return sorted(path.stem for path in (root / group).glob("*.yaml")) if group else []


def _valid_part(config: DictConfig, key: str) -> tuple[str, list[str]]:
    """The longest prefix of ``key`` that exists, and the keys below it."""
    parts = key.split(".")
    for length in range(len(parts), -1, -1):
        prefix = ".".join(parts[:length])
        node = OmegaConf.select(config, prefix, throw_on_resolution_failure=False) if prefix else config
        if isinstance(node, DictConfig):
            return prefix, [str(k) for k in node if k != "hydra"]
    return "", []


def _explain_key(key: str, config_name: str, others: Sequence[str], root: Path) -> str:
    with hydra.initialize_config_dir(str(root), version_base="1.3"):
        config = hydra.compose(config_name, [other for other in others if not other.lstrip("+~").startswith(key)])
    prefix, allowed = _valid_part(config, key)
    wrong = key[len(prefix) :].lstrip(".").split(".")[0]
    where = f"below {prefix!r}" if prefix else "at the top level"
    return f"there is no setting {key!r}. {nearest(wrong, allowed)}Allowed {where}: {', '.join(sorted(allowed))}"


def explain_override_error(error: Exception, config_name: str, overrides: Sequence[str], root: Path) -> str:
    """One readable message for an error of Hydra's composition.

    Args:
        error: what Hydra or OmegaConf raised.
        config_name: the primary config.
        overrides: the command line's overrides.
        root: the folder of the configuration.
    """
    text = (str(error) or str(error.__cause__ or type(error).__name__)).strip()
    unknown = re.search(r"Could not override '([^']+)'", text)
    if unknown:
        key = unknown.group(1)
        others = [item for item in overrides if not item.startswith("hydra.searchpath")]
        try:
            return _explain_key(key, config_name, others, root)
        except Exception:  # the other overrides are wrong too: Hydra's own words are all there is to say
            return text
    choice = re.search(r"Could not find '([^']+)/([^'/]+)'", text) or re.search(r"In '[^']*': Could not find '(.+)/(.+)'", text)
    if choice:
        group, name = choice.group(1), choice.group(2)
        allowed = _group_choices(root, group)
        if allowed:
            return f"there is no {group}={name}. {nearest(name, allowed)}Choices: {', '.join(allowed)}"
    if "parsing" in text.lower() or "mismatched input" in text or "extraneous input" in text:
        return f"{text}\n{QUOTING_HINT}"
    return text
