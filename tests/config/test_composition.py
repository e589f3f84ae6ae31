"""Composition without Hydra's own main function."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from sharpkd.config import ConfigError, compose, conf_dir, resolve

Command = Callable[..., Any]


def test_compose_is_what_the_entry_point_would_see(tmp_path: Path) -> None:
    config = compose("train", ["experiment=scratch", "run=a"], output_dir=str(tmp_path))
    assert config.paths.run_dir == str(tmp_path)
    assert config.callbacks.best.dirpath == f"{tmp_path}/checkpoints"
    assert not HydraConfig.initialized()
    assert not GlobalHydra.instance().is_initialized()


def test_resolve_names_all_that_is_missing() -> None:
    with pytest.raises(ConfigError, match=r"^no value for a\.b, c: set a\.b=VALUE$"):
        resolve(OmegaConf.create({"a": {"b": "???"}, "c": "???"}))


def test_users_folder_reaches_what_a_run_composes_itself(command: Command, tmp_path: Path) -> None:
    """teacher.experiment may name an experiment of --config-dir."""
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "own.yaml").write_text("# @package _global_\nseed: 77\n")
    seeds: list[int] = []

    def main(cfg: DictConfig) -> float:
        seeds.extend([cfg.seed, compose("train", ["experiment=own"]).seed])
        return 0.0

    assert command("--config-dir", "mine", "experiment=own", "trainer=cpu", main=main).code == 0
    assert seeds == [77, 77]
    assert command("--config-dir", "mine", "experiment=ow").err.startswith(
        "error: there is no experiment=ow. "
    )


def test_folder_of_the_configuration_is_found() -> None:
    assert (conf_dir() / "train.yaml").is_file()
