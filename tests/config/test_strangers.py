"""Overrides that would act before any check of the configuration: settings of Hydra itself, and resolvers."""

from __future__ import annotations

import re
from typing import Any

import pytest
from omegaconf import OmegaConf

from sharpkd.config import ConfigError, compose
from sharpkd.config.strangers import VARIABLES, check_hydra, check_overrides

SECRET = "SHARPKD_TEST_SECRET"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "hydra.searchpath=[pkg://antigravity]",
            "hydra.searchpath: no override sets this: hydra.searchpath im",
        ),
        ("+hydra.searchpath=[file:///tmp]", "hydra.searchpath: no override sets this"),
        ("++hydra.launcher.setup=[true]", "hydra.launcher.setup holds commands of the shell"),
        ("hydra.launcher={setup:[true]}", "hydra.launcher: no override sets this: hydra.launcher.setup"),
        ("hydra.launcher=${own}", "hydra.launcher: no override sets this"),
        ("~hydra", "hydra: no override sets this"),
        ("run=${oc.env:HOME}", "the resolver 'oc.env' may not stand in an override"),
        ("run=\\${oc.env:HOME}", "the resolver 'oc.env' may not stand in an override"),
        ("run='${ oc.env:HOME}'", "the resolver 'oc.env' may not stand in an override"),
        ("run=${run_name:a,${oc.env:HOME}}", "the resolver 'oc.env' may not stand in an override"),
        ("run=${oc.${half}:HOME}", "the resolver 'oc.${half' may not stand in an override"),
        ("run=${oc.decode:'x'}", "the resolver 'oc.decode' may not stand in an override"),
        ("${oc.env:HOME}=1", "the resolver 'oc.env' may not stand in an override"),
        # submitit would write these into a script, and the shell run their second line
        ('hydra.launcher.comment="x\ntouch here\n#"', "the character '\\n' may not stand in an override"),
        ("paths.output_root='a\rb'", "the character '\\r' may not stand in an override"),
        ("run=a\u2028b", "the character '\\u2028' may not stand in an override"),
    ],
)
def test_refused_before_anything_is_composed(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        compose("train", [override])
    assert "\n" not in str(caught.value)


def test_usual_overrides_are_fine() -> None:
    check_overrides(
        [
            *(
                "loss.alpha=${loss.gamma}",
                "run=${run_name:a,b}",
                "hydra.verbose=true",
                "hydra/launcher=basic",
            ),
            *("hydra.sweep.dir=x", "hydra.sweeper.n_trials=2", "data=folder", "~callbacks.ema"),
            *("data.train_dir=[a,\tb]", "hydra.launcher.n_jobs=2", "hydra.run.dir='a=b'", "net.width=8,16"),
        ]
    )


@pytest.mark.parametrize(
    "overrides",
    [
        ["+a='$'", "+b='${a}{oc.env:SECRET}'"],
        ["+a=oc.env", "+b='\\${${a}:SECRET}'"],
        ["+deep={list:['$','x']}", "+b='${deep.list[0]}{oc.env:SECRET}'"],
    ],
)
def test_no_value_becomes_an_interpolation_again(
    overrides: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SECRET, "hunter2")
    with pytest.raises(ConfigError) as caught:
        compose("train", [one.replace("SECRET", SECRET) for one in overrides])
    assert "hunter2" not in str(caught.value)


def hydra_with(**settings: Any) -> Any:
    return OmegaConf.create(settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"callbacks": {"own": {"_target_": "os.system", "command": "true"}}},
            "hydra.callbacks.own._target_: 'os.system' is nothing that a setting may name",
        ),
        (
            {"launcher": {"_target_": "subprocess.Popen"}},
            "hydra.launcher._target_: 'subprocess.Popen' is nothing that a setting may name",
        ),
        (
            {"launcher": {"_target_": "hydra._internal.core_plugins.basic_launcher.Path"}},
            "leads out of hydra, to ",
        ),
        (
            {"job_logging": {"handlers": {"own": {"()": "os.system", "command": "true"}}}},
            "hydra.job_logging.handlers.own.(): 'os.system' may not be built",
        ),
        (
            {"hydra_logging": {"formatters": {"own": {"class": "logging.config.DictConfigurator"}}}},
            "hydra.hydra_logging.formatters.own.class: 'logging.config.DictConfigurator' may not be built",
        ),
        (
            {
                "job_logging": {
                    "handlers": {"own": {"class": "logging.StreamHandler", "stream": "ext://os.sep"}}
                }
            },
            "hydra.job_logging.handlers.own.stream: 'ext://os.sep' may not be imported",
        ),
        (
            {"job": {"env_set": {"LD_PRELOAD": "own.so"}}},
            "hydra.job.env_set.LD_PRELOAD: expected one of CUDA_DEV",
        ),
        (
            {"job": {"env_set": {"PYTHONSTARTUP": "own.py"}}},
            "hydra.job.env_set.PYTHONSTARTUP: expected one of",
        ),
        (
            {"sweeper": {"custom_search_space": "os.system"}},
            "hydra.sweeper.custom_search_space: 'os.system' may not be called",
        ),
        (
            {"sweeper": {"params": {"hydra.job_logging.handlers.own": "choice(1)"}}},
            "hydra.sweeper.params: hydra.job_logging.handlers.own cannot be swept over",
        ),
        (
            {"sweeper": {"params": {"run": "choice('${oc.env:HOME}')"}}},
            "the resolver 'oc.env' may not stand in an override",
        ),
    ],
)
def test_settings_of_hydra_that_would_run_something(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        check_hydra(hydra_with(**settings))


def test_settings_of_hydra_that_people_use() -> None:
    for overrides in ([], ["sweep=optuna"], ["+hydra.job.env_set={OMP_NUM_THREADS:'2'}"]):
        check_hydra(compose("train", overrides, run=False).hydra)
    assert not any(name.startswith(("LD_", "DYLD_", "PYTHON")) for name in VARIABLES)
    function = {"custom_search_space": "my_own.space"}
    check_hydra(hydra_with(sweeper=function), ["my_own"])
