"""The one place that talks to Hydra: composition, resolvers, checks of what was composed, entry points."""

from sharpkd.config.check import ConfigError, check, check_targets
from sharpkd.config.command import entry, is_multirun
from sharpkd.config.composition import compose, conf_dir, instantiate, register_resolvers, resolve

__all__ = [
    "ConfigError",
    "check",
    "check_targets",
    "compose",
    "conf_dir",
    "entry",
    "instantiate",
    "is_multirun",
    "register_resolvers",
    "resolve",
]
