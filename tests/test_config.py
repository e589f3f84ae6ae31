"""Mistakes on the command line are answered by one readable line; the checks behind it; the flags."""

from __future__ import annotations

import collections.abc
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from sharpkd.config import ConfigError, check, check_targets, compose, conf_dir, entry, instantiate, resolve
from sharpkd.config.check import _accepts, _describe
from sharpkd.config.command import _first_jobs


@dataclass
class Outcome:
    """What a command printed and did."""

    code: int
    out: str
    err: str
    jobs: list[DictConfig]


Command = Callable[..., Outcome]


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Command]:
    """`python -m sharpkd.train` in this process, with a training that only notes its configuration."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.chdir(tmp_path)

    def run(
        *arguments: str, main: Callable[[DictConfig], float] = lambda cfg: 0.0, name: str = "train"
    ) -> Outcome:
        jobs: list[DictConfig] = []

        def noted(cfg: DictConfig) -> float:
            jobs.append(cfg)
            return main(cfg)

        monkeypatch.setattr(sys, "argv", [name, *arguments])
        try:
            entry(name)(noted)()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        out, err = capsys.readouterr()
        return Outcome(code, out, err, jobs)

    yield run
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    HydraConfig.instance().cfg = None
    GlobalHydra.instance().clear()


NETS = (
    "attention_teacher, attention_teacher_small, attention_teacher_tiny, enhanced_cnn, mobile_student, "
    "pixel_student"
)
QUOTING = "accents is quoted twice, once for the shell and once for Hydra: "

MISTAKES = {
    "los.alpha=1": "there is no setting 'los.alpha'. did you mean 'loss'? Allowed at the top level: ",
    "loss.alpa=1": (
        "there is no setting 'loss.alpa'. did you mean 'alpha'? Allowed in loss: "
        "alpha, beta, delta, gamma, perceptual, pixel, ssim"
    ),
    "trainer.max_step=3": (
        "there is no setting 'trainer.max_step'. did you mean 'max_steps'? Allowed in trainer: accelerator, "
    ),
    "trainer.max_steps.y=3": "there is no setting 'trainer.max_steps.y': trainer.max_steps is 100000 here.",
    "data.train_dir=x": "there is no setting 'data.train_dir'. It exists with data=folder. Allowed in data: ",
    "distillation.terms.output.weight=1": (
        "there is no setting 'distillation.terms.output.weight': distillation is null here. "
        "It exists with distillation=output."
    ),
    "hydra.run.dri=x": "there is no setting 'hydra.run.dri'; --cfg hydra prints those of Hydra",
    "~nett": "there is no setting 'nett'. did you mean 'net'? Allowed at the top level: ",
    "net=pixel_studnt": f"there is no net=pixel_studnt. did you mean 'pixel_student'? Choices: {NETS}",
    "net=null": f"there is no net=null. Choices: {NETS}",
    "loss/pixel=l3": "there is no loss/pixel=l3. Choices: charbonnier, l1, mse",
    "loss/pixl=l1": "there is no group 'loss/pixl'. did you mean 'loss/pixel'? Groups: callbacks, ",
    "loss/alpha=1": "there is no group 'loss/alpha'. Settings are written with dots: loss.alpha. Groups: ",
    "loss.pixel=l1": (
        "loss.pixel: expected Module, found 'l1'; a choice of a group is written with a slash: loss/pixel=l1"
    ),
    "loss.alpha=abc": "loss.alpha: expected float, found 'abc'",
    "data=folder": "no value for data.train_dir: set data.train_dir=VALUE",
    "loss.alpha": "cannot read 'loss.alpha': expected KEY=VALUE, or ~KEY to remove one",
    "teacher.path=epoch=3-step=100.ckpt": (
        "cannot read 'teacher.path=epoch=3-step=100.ckpt': a value with = , : ( ) [ ] { } or "
        f"{QUOTING}'teacher.path=\"epoch=3-step=100.ckpt\"'"
    ),
    "loss.alpha=${nothing}": "hydra.run.dir: Interpolation key 'nothing' not found",
    "net=pixel_student,enhanced_cnn": "Ambiguous value for argument 'net=pixel_student,enhanced_cnn'",
}


# what the checks of a composed configuration find
VALUES: list[tuple[str, Any, str]] = [
    ("loss.alpha", True, "expected float, found True"),
    ("loss.pixel", None, "expected Module, found null"),
    ("optimizer.lr", "fast", "expected float | Tensor, found 'fast'"),
    ("data.batch_size", "a", "expected int, found 'a'"),
    ("degradation.sigma", [1, "b"], "expected float | Sequence[float], found [1, 'b']"),
    ("teacher.precision", "fp16", "expected 'fp32' or 'bf16', found 'fp16'"),
    ("teacher.overrides", "seed=1", "expected list[str], found 'seed=1'"),
    ("runtime.matmul_precision", "higher", "expected 'highest' or 'high' or 'medium', found 'higher'"),
    ("seed", 1.5, "expected int, found 1.5"),
    ("metrics", 3, "expected settings such as metrics.lpips_backbone, found 3"),
    (
        "net.size",
        3,
        "sharpkd.nets.pixel_student.PixelStudent has no such setting. Allowed: unshuffle, width, depth",
    ),
    (
        "module.use_conditions",
        True,
        "sharpkd.modules.restoration.RestorationModule has no such setting. did you mean 'use_condition'? ",
    ),
    (
        "net._target_",
        "sharpkd.nets.pixel_student.Pixel",
        "'sharpkd.nets.pixel_student.Pixel' cannot be imported: ",
    ),
    ("net._target_", "sharpkd.nets", "'sharpkd.nets' is module, no class"),
]


@pytest.fixture(scope="module")
def composed() -> DictConfig:
    return compose("train")


@pytest.mark.parametrize(("key", "value", "message"), VALUES)
def test_wrong_value_is_named(key: str, value: Any, message: str, composed: DictConfig) -> None:
    config = composed.copy()
    OmegaConf.set_readonly(config, False)
    OmegaConf.update(config, key, value)
    with pytest.raises(ConfigError, match=f"^{re.escape(f'{key}: {message}')}"):
        check(config)


@pytest.mark.parametrize("override", MISTAKES)
def test_mistake_is_one_readable_line_before_anything_is_made(
    override: str, command: Command, tmp_path: Path
) -> None:
    outcome = command(override)
    assert outcome.err.startswith(f"error: {MISTAKES[override]}")
    assert outcome.err.count("\n") == 1
    assert (outcome.code, outcome.out, outcome.jobs) == (2, "", [])
    assert os.listdir(tmp_path) == []


def test_advice_about_quoting_works(command: Command) -> None:
    advice = re.search(r"'(teacher.path=\S+)'$", command("teacher.path=a=1(b).ckpt").err.strip())
    assert advice
    assert command(advice[1]).jobs[0].teacher.path == "a=1(b).ckpt"
    advice = re.search(r"'(teacher.over\S+)'$", command("teacher.overrides=[seed=1,run=a]").err.strip())
    assert advice
    assert command(advice[1]).jobs[0].teacher.overrides == ["seed=1", "run=a"]


def test_other_overrides_do_not_hide_a_mistake(command: Command) -> None:
    outcome = command("data=folder", "loss.alpa=1", "data.val_dri=x", "net=mobile_student")
    assert outcome.err.startswith("error: there is no setting ")
    assert outcome.err.count("\n") == 1


def test_missing_config_dir(command: Command) -> None:
    outcome = command("--config-dir", "/nowhere/conf", "seed=1")
    assert (outcome.code, outcome.err) == (2, "error: --config-dir /nowhere/conf: no such folder\n")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("wrong"), 2),
        (ValueError("wrong"), 1),
        (FileNotFoundError("wrong"), 1),
        (FloatingPointError("wrong"), 1),
    ],
)
def test_a_users_mistake_has_no_traceback(error: Exception, code: int, command: Command) -> None:
    def fail(cfg: DictConfig) -> float:
        raise error

    outcome = command("trainer=cpu", main=fail)
    assert (outcome.code, outcome.err) == (code, "error: wrong\n")


def test_any_other_error_keeps_its_traceback(command: Command) -> None:
    def fail(cfg: DictConfig) -> float:
        raise RuntimeError("a mistake in the code")

    outcome = command("trainer=cpu", main=fail)
    assert outcome.code == 1
    assert "RuntimeError: a mistake in the code" in outcome.err
    assert "Traceback" in outcome.err


def test_error_of_a_part_says_which(command: Command) -> None:
    outcome = command("trainer=cpu", "loss.alpha=-1", main=lambda cfg: instantiate(cfg.loss))
    assert outcome.code == 1
    assert outcome.err == "error: loss.alpha must be a finite number >= 0, got -1 (while building loss)\n"
    outcome = command("trainer=cpu", "net.depth=1", main=lambda cfg: instantiate(cfg.net))
    assert outcome.err == "error: depth: found 1, expected at least 2 (while building net)\n"


def test_lightnings_complaint_is_one_line(command: Command) -> None:
    outcome = command("trainer.accelerator=warp", main=lambda cfg: instantiate(cfg.trainer))
    assert outcome.code == 1
    assert outcome.err.startswith("error: ")
    assert "Traceback" not in outcome.err


def test_job_gets_a_resolved_read_only_configuration(command: Command, tmp_path: Path) -> None:
    outcome = command("run=first", "trainer=cpu")
    (cfg,) = outcome.jobs
    folder = tmp_path / "outputs" / "train" / "first"
    assert cfg.paths.run_dir == str(folder)
    assert OmegaConf.is_readonly(cfg)
    assert "hydra" not in cfg
    assert [path.name for path in folder.iterdir()] == ["train.log"]


def test_help_is_about_sharpkd(command: Command, tmp_path: Path) -> None:
    outcome = command("--help", "net=mobile_student")
    assert (outcome.code, outcome.err) == (0, "")
    for phrase in (
        "sharpkd.train: settings are given as key=value, groups as group=choice.",
        "python -m sharpkd.train -m experiment=distill teacher.path=FILE loss.beta=0,0.01 loss.delta=0,0.5,1",
        f"net: {NETS}",
        "experiment: distill, quickstart, quickstart_teacher, scratch, teacher",
        "  _target_: sharpkd.nets.mobile_student.MobileStudent",
        "  max_steps: 100000",
        "--config-dir DIR (your own YAML beside these)",
    ):
        assert phrase in outcome.out
    for noise in ("Powered by Hydra", "hydra.cc", "== "):
        assert noise not in outcome.out
    assert max(map(len, outcome.out.splitlines())) <= 120
    assert os.listdir(tmp_path) == []


def test_flags_that_only_show(command: Command, tmp_path: Path) -> None:
    shown = command("--cfg", "job", "data=folder", "seed=3")
    assert shown.code == 0
    config = OmegaConf.create(shown.out)
    assert config.seed == 3
    assert OmegaConf.is_missing(config.data, "train_dir")
    assert "== Flags ==" in command("--hydra-help").out
    assert command("--help", "los.alpha=1").code == 2
    assert os.listdir(tmp_path) == []


def test_another_entry_point_has_the_same_manners(command: Command) -> None:
    outcome = command("degradation.sigm=1", name="evaluate")
    assert outcome.code == 2
    assert outcome.err.startswith(
        "error: there is no setting 'degradation.sigm'. did you mean 'sigma'? Allowed in "
    )
    assert "sharpkd.evaluate: settings are given as key=value" in command("--help", name="evaluate").out


# --- sweeps


def test_sweep_runs_every_job_in_a_folder_named_by_its_settings(command: Command, tmp_path: Path) -> None:
    outcome = command("-m", "experiment=scratch", "loss.beta=0.01", "seed=range(1,3)", "callbacks=default")
    assert outcome.code == 0
    folder = tmp_path / "outputs" / "sweeps" / "scratch" / "callbacks,loss.beta,seed"
    runs = [Path(cfg.paths.run_dir) for cfg in outcome.jobs]
    assert [run.parent for run in runs] == [folder] * 2
    assert [run.name.removeprefix("callbacks=default,") for run in runs] == [
        "loss.beta=0.01,seed=1",
        "loss.beta=0.01,seed=2",
    ]


def test_wrong_choice_deep_in_a_sweep_stops_it_before_the_first_job(command: Command, tmp_path: Path) -> None:
    outcome = command("-m", "seed=1,2", "net=pixel_student,mobile_studnt")
    assert outcome.code == 2
    assert outcome.err.startswith("error: there is no net=mobile_studnt. did you mean 'mobile_student'? ")
    assert outcome.jobs == []
    outcome = command("-m", "loss.alpha=abc,1")
    assert (outcome.code, outcome.err) == (2, "error: loss.alpha: expected float, found 'abc'\n")
    outcome = command("-m", "loss.alpha=[1")
    assert outcome.code == 2
    assert outcome.err.startswith("error: cannot read 'loss.alpha=[1'")
    assert os.listdir(tmp_path) == []


# SQLAlchemy 1.4 warns of its own future when optuna 2 declares its tables
@pytest.mark.filterwarnings("ignore:Deprecated API features detected:DeprecationWarning")
def test_optuna_sweep(command: Command, tmp_path: Path) -> None:
    arguments = ["sweep=optuna", "loss.alpha=interval(0.5,1)", "hydra.sweeper.n_trials=2"]
    outcome = command("-m", *arguments, main=lambda cfg: cfg.loss.alpha)
    assert outcome.code == 0
    assert len(outcome.jobs) == 2
    assert all(0.5 <= cfg.loss.alpha <= 1 and 0 < cfg.loss.beta <= 0.1 for cfg in outcome.jobs)
    assert Path(outcome.jobs[0].paths.run_dir).parent == tmp_path / "outputs" / "sweeps" / "train" / "optuna"


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["seed=1", "run=a"], [["seed=1", "run=a"]]),
        (["seed=range(3,9)", "loss.alpha=choice(2,1)"], [["seed=3", "loss.alpha=2"]]),
        (["loss.alpha=interval(0.1,1)"], [["loss.alpha=0.1"]]),
        (["loss.beta=tag(log,interval(0.01,1))"], [["loss.beta=0.01"]]),
        (["degradation.sigma=[1,2],[3,4]"], [["degradation.sigma=[1,2]"]]),
        (["teacher.path='a,b'"], [["teacher.path='a,b'"]]),
        (
            ["net=glob(attention*,exclude=*_tiny)", "seed=1,2"],
            [["net=attention_teacher", "seed=1"], ["net=attention_teacher_small", "seed=1"]],
        ),
        (
            ["loss=l1,mse", "task=sharpen", "optimizer=adam,sgd"],
            [
                ["loss=l1", "task=sharpen", "optimizer=adam"],
                ["loss=mse", "task=sharpen", "optimizer=adam"],
                ["loss=l1", "task=sharpen", "optimizer=sgd"],
            ],
        ),
        (["loss.alpha=[1"], [["loss.alpha=[1"]]),
    ],
)
def test_what_of_a_sweep_is_checked_first(overrides: list[str], expected: list[list[str]]) -> None:
    assert list(_first_jobs(overrides, [])) == expected


def test_glob_without_a_match() -> None:
    message = "net=glob(x*): nothing to sweep over; no choice of 'net' fits"
    with pytest.raises(ConfigError, match=re.escape(message)):
        list(_first_jobs(["net=glob(x*)"], []))


# --- checks of values


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        (int, [1, -1], [1.5, True, "1", None, [1]]),
        (float, [1, 1.5, float("nan")], [True, "1.5", None, [1.0]]),
        (bool, [True], [1, "true", None]),
        (str, ["", "a"], [1, None, ["a"]]),
        (str | None, ["a", None], [1, []]),
        (list[str], [[], ["a"]], ["a", [1], ["a", None]]),
        (list[list[str]], [[["a", "b"]]], [["a"], "a"]),
        (float | Sequence[float], [1, [1, 2.5]], ["1", ["a"], [True], None]),
        (tuple[float, float], [[1, 2]], [[1], [1, 2, 3], 1, ["a", 1]]),
        (tuple[int, ...], [[], [1, 2, 3]], [[1.5], 1]),
        (dict[str, Any], [{}, {"a": 1}], [[], "a"]),
        (Literal["a", 1], ["a", 1], ["b", 2, True, None]),
        (nn.Module, [{"_target_": "x"}], ["x", 1, [1], None]),
        (collections.abc.Callable[[], nn.Module], [{"_target_": "x"}], ["x", 1]),
        (float | Tensor, [1.0], ["x"]),
        (Path, ["a"], []),
        (Any, ["a", 1, None, [], {}], []),
    ],
)
def test_values_against_annotations(annotation: Any, good: list[Any], bad: list[Any]) -> None:
    assert [value for value in good if not _accepts(annotation, value)] == []
    assert [value for value in bad if _accepts(annotation, value)] == []


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (int, "int"),
        (str | None, "str | null"),
        (float | collections.abc.Sequence[float], "float | Sequence[float]"),
        (nn.Module, "Module"),
        (Literal["a", 1], "'a' or 1"),
    ],
)
def test_annotations_as_people_write_them(annotation: Any, text: str) -> None:
    assert _describe(annotation) == text


class Parent:
    def __init__(self, size: int, name: str = "a") -> None: ...


class Child(Parent):
    def __init__(self, width: float, **rest: Any) -> None: ...


def open_ended(**anything: Any) -> None: ...


def target(of: Any, **settings: Any) -> DictConfig:
    return OmegaConf.create({"part": {"_target_": f"{__name__}.{of.__name__}", **settings}})


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, __name__, sys.modules[Parent.__module__])


@pytest.mark.usefixtures("importable")
def test_signatures_include_those_of_the_classes_above() -> None:
    check_targets(target(Child, width=1, size=2, name="b"))
    check_targets(target(Child, _partial_=True))
    check_targets(target(open_ended, whatever=1))
    for settings, message in [
        (
            {"width": 1, "size": 2, "nam": 1},
            "has no such setting. did you mean 'name'? Allowed: size, name, width",
        ),
        ({"width": 1}, "needs a value for size"),
        ({}, "needs a value for size, width"),
        ({"width": 1, "size": "a"}, "part.size: expected int, found 'a'"),
        ({"width": 1, "size": None}, "part.size: expected int, found null"),
    ]:
        with pytest.raises(ConfigError, match=re.escape(message)):
            check_targets(target(Child, **settings))  # type: ignore[arg-type]


def test_part_inside_a_net_is_refused() -> None:
    config = compose("train")
    OmegaConf.set_readonly(config, False)
    config.net = {"_target_": "torch.nn.Sequential", "_args_": [{"_target_": "torch.nn.ReLU"}]}
    message = "net._args_[0]._target_: a net takes plain values only (numbers, strings, lists), so that"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        check(config)


def test_albumentations_settings_are_checked_though_it_would_only_warn() -> None:
    good = {"degradation": {"_target_": "albumentations.GaussNoise", "std_range": [0.1, 0.2], "p": 1.0}}
    check_targets(OmegaConf.create(good))
    bad = {"degradation": {"_target_": "albumentations.GaussNoise", "std_rang": [0.1, 0.2]}}
    with pytest.raises(ConfigError, match=r"degradation\.std_rang: .* did you mean 'std_range'\?"):
        check_targets(OmegaConf.create(bad))


# --- composition


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


def test_mistake_in_a_process_of_its_own(tmp_path: Path) -> None:
    """Through `python -m`, from a folder that is not the repository; the teacher's file is missing."""
    overrides = ["experiment=distill", "teacher.path=nowhere.safetensors", "loss.beta=0", "trainer=cpu"]
    done = subprocess.run(
        [sys.executable, "-m", "sharpkd.train", *overrides],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stderr.splitlines()[-1] == f"error: teacher.path={tmp_path}/nowhere.safetensors: no such file"
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
