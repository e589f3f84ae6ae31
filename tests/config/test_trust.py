"""Strings that want to be called: which classes a configuration may name, and which not."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from sharpkd.config import ConfigError, check, check_targets, compose, instantiate
from sharpkd.config.check import trusted_packages
from sharpkd.config.trust import KINDS, located

NOT_NAMEABLE = [
    "os.system",
    "subprocess.run",
    "builtins.eval",
    "builtins.dict",
    "pickle.loads",
    "torch.load",
    "torch.os.system",
    "torch.hub.load",
    "torch.ops.load_library",
    "torch.package.PackageImporter",
    "torch.utils.cpp_extension.load",
    "torch.distributed.elastic.multiprocessing.subprocess_handler.SubprocessHandler",
    "pytorch_lightning.utilities.rank_zero.os.system",
    "timm.create_model",
    "hydra.utils.instantiate",
    "hydra.utils.get_object",
    "omegaconf.OmegaConf.load",
    "sharpkd.train.os.system",
    "sharpkd.train.main",
    "sharpkd.checkpoint.load_net",
    "sharpkd.config.instantiate",
    "sharpkd.runs.launch.subprocess.Popen",
    "sharpkd.functional.download.fetch",
    "sharpkd.netsx.Net",
    "sharpkd.nets.",
    "sharpkd..nets.Net",
    "antigravity.geohash",
    "sharpkd.nets.base;os.Net",
    "",
]
LEADING_OUT = {
    "torch.nn.modules.module.functools.partial": "leads out of torch, to functools",
    "torch.nn.modules.module.Path": "cannot be imported",
    "torch.nn.functional.importlib.import_module": "leads out of torch, to importlib",
    "sharpkd.data.div2k.Path": "leads out of sharpkd, to pathlib",
    "sharpkd.data.div2k.shutil.rmtree": "leads out of sharpkd, to shutil",
    "sharpkd.nets.base.nn.Sequential": "leads out of sharpkd, to torch.nn",
    "sharpkd.nets.base.Tensor": "leads out of sharpkd, to torch",
    "sharpkd.data.archive.unpack": "is a function; an override may name classes alone",
    "torch.nn.functional.relu": "is a function; an override may name classes alone",
    "torch.nn.Module.load_state_dict": "is a function; an override may name classes alone",
    "torch.nn.parallel.comm.torch.load": "leads out of torch, to torch",
    "torch.nn.utils.rnn.PackedSequence": "may not be named: of torch.nn only torch.nn.Module",
    "pytorch_lightning.callbacks.Callback.__init__.__globals__": "cannot be imported",
    "pytorch_lightning.Trainer.fit": "is a function; an override may name classes alone",
}
NAMEABLE = [
    "torch.nn.L1Loss",
    "torch.optim.RMSprop",
    "torch.optim.lr_scheduler.OneCycleLR",
    "albumentations.GaussNoise",
    "albumentations.Compose",
    "pytorch_lightning.callbacks.Timer",
    "sharpkd.nets.pixel_student.PixelStudent",
    # a function that SharpKD's own YAML names
    "sharpkd.modules.schedule.warmup_cosine",
]


@pytest.fixture(scope="module", autouse=True)
def _conf_is_read() -> None:
    compose("train")


@pytest.mark.parametrize("target", NOT_NAMEABLE)
def test_what_lies_elsewhere_may_not_be_named(target: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"net._target_: {target!r} is nothing that a setting")):
        located("net", target)


@pytest.mark.parametrize("target", LEADING_OUT)
def test_a_name_may_not_leave_its_package_or_name_a_function(target: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"part._target_: {target!r}")) as caught:
        located("part", target)
    assert LEADING_OUT[target] in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("target", NAMEABLE)
def test_what_people_name(target: str) -> None:
    assert located("part", target).__name__ == target.rpartition(".")[2]


def test_every_kind_exists() -> None:
    for kinds in KINDS.values():
        for kind in kinds:
            if not kind.startswith(("optuna", "hydra")):
                module, _, name = kind.rpartition(".")
                assert isinstance(getattr(__import__(module, fromlist=[name]), name), type), kind


def test_refusing_imports_nothing() -> None:
    """A module's own code runs when it is imported: of a refused name not even that."""
    code = (
        "import sys\nfrom sharpkd.config import ConfigError\nfrom sharpkd.config.trust import located\n"
        "for name in ('antigravity.x', 'this.x', 'idlelib.idle.x', 'sharpkd.demo.main'):\n"
        "    try: located('net', name)\n"
        "    except ConfigError: pass\n"
        "print([name for name in ('antigravity', 'this', 'idlelib', 'sharpkd.demo') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.parametrize(
    "overrides",
    [
        ["net._target_=os.system"],
        ["~net", "+net={_target_:os.system,command:'touch TRACE'}"],
        ["+callbacks.own={_target_:subprocess.Popen,args:'touch TRACE',shell:true}"],
        ["+callbacks.own={_target_:torch.os.system,command:'touch TRACE'}"],
        ["+loss.pixel.more={_target_:builtins.eval,_args_:['1']}"],
        ["+data.more=[{deep:{_target_:sharpkd.train.os.system,command:'touch TRACE'}}]"],
    ],
)
def test_an_override_runs_no_code(overrides: list[str], tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    with pytest.raises(ConfigError, match=r"_target_: '[\w.]+' is nothing that a setting may name"):
        check(compose("train", [one.replace("TRACE", str(trace)) for one in overrides]))
    assert not trace.exists()


def test_instantiate_builds_nothing_unchecked(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    node: dict[str, Any] = {"_target_": "os.system", "command": f"touch {trace}"}
    for config in (node, OmegaConf.create({"list": [{"part": node}]})):
        with pytest.raises(ConfigError, match=r"'os\.system' is nothing that a setting may name"):
            instantiate(config)
    assert not trace.exists()


MODULE = """
import os

class Part:
    def __init__(self, size: int = 1) -> None:
        self.size = size

def make(size: int = 1) -> Part:
    return Part(size)
"""


def test_a_trusted_package_is_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "workshop_of_tests.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("Part", "make"):
        part = {"_target_": f"workshop_of_tests.{name}", "size": 3}
        with pytest.raises(ConfigError, match="is nothing that a setting may name"):
            check_targets(OmegaConf.create({"part": part}))
        config = OmegaConf.create({"part": part, "runtime": {"trusted_packages": ["workshop_of_tests"]}})
        check_targets(config)
        assert instantiate(config.part).size == 3
    away = {"_target_": "workshop_of_tests.os.system", "command": "true"}
    with pytest.raises(ConfigError, match=r"leads out of workshop_of_tests, to os: it may not be named"):
        check_targets(OmegaConf.create({"part": away, "trusted_packages": ["workshop_of_tests"]}))


@pytest.mark.parametrize("package", ["os", "subprocess", "builtins", "hydra.utils", "pip", "", "a b", ".."])
def test_what_is_no_package_of_a_user_cannot_be_trusted(package: str) -> None:
    config = OmegaConf.create({"runtime": {"trusted_packages": [package]}, "part": {"_target_": "os.system"}})
    with pytest.raises(
        ConfigError, match=re.escape(f"{package!r} cannot be trusted: expected the name of a")
    ):
        check_targets(config)


def test_yaml_of_ones_own_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "studio_of_tests.py").write_text(MODULE)
    (tmp_path / "conf" / "degradation").mkdir(parents=True)
    (tmp_path / "conf" / "degradation" / "own.yaml").write_text("{'_target_': \"studio_of_tests.make\"}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    named = ["degradation._target_=studio_of_tests.make"]
    with pytest.raises(ConfigError, match=r"'studio_of_tests\.make' is nothing that a setting may name"):
        check_targets(OmegaConf.create({"degradation": compose("train", named).degradation}))
    own = compose("train", ["degradation=own"], folders=[tmp_path / "conf"])
    check_targets(OmegaConf.create({"degradation": own.degradation}))


def test_packages_are_trusted_in_a_resolved_configuration_too() -> None:
    """A command's configuration is read-only."""
    config = compose("train", ["runtime.trusted_packages=[mine]"])
    assert OmegaConf.is_readonly(config)
    assert trusted_packages(config) == ["mine"]
