"""Every YAML of conf/net builds its net, of the size that its purpose allows."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from sharpkd.nets.base import RestorationNet
from sharpkd.nets.stats import count_parameters

CONF = Path(__file__).parents[2] / "conf" / "net"

# Parameters and kMAC per pixel from, to.
LIMITS = {
    "attention_teacher": (2e6, 6e6, 0, 300),
    "attention_teacher_small": (1e6, 1.5e6, 0, 46),
    "attention_teacher_tiny": (1e5, 2e5, 0, 15),
    "aware_student": (54_732, 54_732, 10.9, 11),
    "balanced": (122_963, 122_963, 7.4, 7.5),
    "fast": (32_209, 32_209, 1.7, 1.8),
    "enhanced_cnn": (483_587, 483_587, 482.6, 482.8),
    "nafnet": (3.5e6, 4.5e6, 0, 150),
    "mobile_student": (2e4, 6e4, 0, 12),
    "pixel_student": (44_108, 44_108, 10.9, 11),
    "quality": (151_175, 151_175, 30.2, 30.3),
    "wiener_student": (65_000, 70_000, 0, 30),
}
SHIPPED = {"fast", "balanced", "quality"}
# told what was done to the image; the Wiener filters keep its size
TOLD = {"aware_student", "wiener_student"}
KEEP_THE_SIZE = {*SHIPPED, "wiener_student"}


# Their nets come from a file: see test_pretrained and test_swinir.
FROM_FILES = {"pretrained", "swinir"}


def test_every_file_is_covered() -> None:
    assert {path.stem for path in CONF.glob("*.yaml")} == set(LIMITS) | FROM_FILES


def read(name: str, scale: int = 1) -> DictConfig:
    """The file inside a configuration with a task."""
    net = OmegaConf.load(CONF / f"{name}.yaml")
    return OmegaConf.create({"task": {"scale": scale}, "net": net}).net


@pytest.mark.parametrize("name", sorted(LIMITS.keys() - KEEP_THE_SIZE))
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_task_says_how_many_times_it_enlarges(name: str, scale: int) -> None:
    assert instantiate(read(name, scale), _convert_="all").scale == scale


@pytest.mark.parametrize("name", LIMITS)
def test_builds_within_its_limits(name: str) -> None:
    path = CONF / f"{name}.yaml"
    experiment, more = (
        ("experiment=ship ", " data=folder data.train_dir=PHOTOS") if name in SHIPPED else ("", "")
    )
    more += " module.use_condition=true" if name in TOLD else ""
    assert path.read_text().splitlines()[0] == f"# python -m sharpkd.train {experiment}net={name}{more}"
    net = instantiate(read(name), _convert_="all")
    assert isinstance(net, RestorationNet)
    module = "wiener_student" if name in SHIPPED else name.removesuffix("_small").removesuffix("_tiny")
    assert type(net).__module__.endswith(module)
    least, most, least_kilo_macs, most_kilo_macs = LIMITS[name]
    assert least <= count_parameters(net.deployed()[0]) <= most
    assert least_kilo_macs <= net.macs_per_pixel() / 1000 <= most_kilo_macs


@pytest.mark.parametrize(
    "name",
    ["attention_teacher", "aware_student", "enhanced_cnn", "mobile_student", "nafnet", "pixel_student"],
)
def test_defaults_of_the_constructor_are_those_of_the_file(name: str) -> None:
    config = read(name)
    written = instantiate(config, _convert_="all").state_dict()
    default = instantiate({"_target_": OmegaConf.select(config, "_target_")}).state_dict()
    assert {k: v.shape for k, v in written.items()} == {k: v.shape for k, v in default.items()}
