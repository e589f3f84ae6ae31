"""Other projects' nets against spandrel's own call, and files that must not be opened."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sharpkd.checkpoint import CheckpointError, load_any_net, load_net, save_weights
from sharpkd.functional.torchvision_guard import define_missing_operators
from sharpkd.nets.pretrained import PretrainedNet
from sharpkd.nets.stats import count_parameters, describe

define_missing_operators()
TARGET = "sharpkd.nets.pretrained.PretrainedNet"
# torch.meshgrid without `indexing`, in spandrel's nets
pytestmark = pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning")


def compact(channels: int = 3) -> nn.Module:
    from spandrel.architectures.Compact import Compact

    return Compact(num_in_ch=channels, num_out_ch=channels, num_feat=8, num_conv=2, upscale=2)


def nafnet() -> nn.Module:
    from spandrel.architectures.NAFNet import NAFNet

    return NAFNet(width=8, middle_blk_num=1, enc_blk_nums=[1, 1], dec_blk_nums=[1, 1])


def swinir(**settings: Any) -> nn.Module:
    from spandrel.architectures.SwinIR import SwinIR

    small = {"img_size": 16, "embed_dim": 12, "depths": [2, 2], "num_heads": [2, 2], "window_size": 8}
    return SwinIR(**{**small, "mlp_ratio": 2, "upscale": 2, "upsampler": "pixelshuffle", **settings})


def drunet() -> nn.Module:
    """Takes a map of the noise's level beside the image, and sides that are multiples of 8."""
    from spandrel.architectures.DRUNet import DRUNet

    return DRUNet(in_nc=4, out_nc=3, nc=[8, 8, 8, 8], nb=2)


ARCHITECTURES: dict[str, tuple[Callable[[], nn.Module], str, int]] = {
    "compact": (compact, "RealESRGAN Compact", 2),
    "nafnet": (nafnet, "NAFNet", 1),
    "swinir": (swinir, "SwinIR", 2),
    "drunet": (drunet, "DRUNet", 1),
}


def loud(net: nn.Module) -> nn.Module:
    """Weights at which every branch has a say."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return net.eval()


@pytest.fixture(scope="module", params=ARCHITECTURES)
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of each, in the layout of the file that its authors publish."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("files") / f"{request.param}.pth"
    with warnings.catch_warnings():
        # as above: marks do not reach a fixture
        warnings.simplefilter("ignore", UserWarning)
        net = ARCHITECTURES[request.param][0]()
    torch.save({"params": loud(net).state_dict()}, path)
    return path


@torch.no_grad()
def test_equals_spandrels_own_call(file: Path, image: Callable[..., Tensor]) -> None:
    import spandrel

    theirs = spandrel.ModelLoader().load_from_file(file)
    assert isinstance(theirs, spandrel.ImageModelDescriptor)
    theirs.eval()
    ours = PretrainedNet(str(file))
    _, name, scale = ARCHITECTURES[file.stem]
    assert (ours.architecture, ours.scale) == (name, scale)
    assert not any(module.training for module in ours.modules())
    for height, width in ((32, 40), (37, 23), (9, 17), (1, 1), (2, 30)):
        degraded = image(height, width)
        output = ours(degraded)
        assert output.shape == (1, 3, height * scale, width * scale)
        expected = theirs(degraded.clone())
        torch.testing.assert_close(output.clamp(0, 1), expected, rtol=0, atol=1e-6)
        assert expected.std() > 1e-3 or height * width < 9


@torch.no_grad()
def test_keeps_the_contract(file: Path, image: Callable[..., Tensor]) -> None:
    net = PretrainedNet(str(file))
    degraded = image(21, 34, 3)
    output = net(degraded, torch.ones(3, 1))
    alone = torch.cat([net(single[None]) for single in degraded])
    torch.testing.assert_close(output, alone, rtol=1e-5, atol=1e-5)
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
    turned = net(degraded.to(memory_format=torch.channels_last))
    torch.testing.assert_close(turned, output, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match=r"^degraded: expected an RGB batch \(N, 3, H, W\), found shape"):
        net(degraded[:, :1])


@torch.no_grad()
def test_is_not_clamped(file: Path) -> None:
    net = PretrainedNet(str(file))
    bright = torch.ones(1, 3, 32, 32) * torch.linspace(-3, 4, 32)
    assert net(bright).max() > 1 or net(bright).min() < 0


@pytest.mark.filterwarnings("ignore:.saved_variables. is deprecated:DeprecationWarning")
def test_can_be_trained_on(file: Path, image: Callable[..., Tensor]) -> None:
    net = PretrainedNet(str(file)).train()
    net(image(24, 32, 2)).square().mean().backward()
    blocked = [name for name, value in net.named_parameters() if value.grad is None or not value.grad.any()]
    assert blocked == []


def test_figures(file: Path) -> None:
    figures = describe(PretrainedNet(str(file)))
    assert figures["parameters"] == sum(value.numel() for value in ARCHITECTURES[file.stem][0]().parameters())
    assert figures["receptive_field"] is None
    if file.stem == "compact":
        # 3x3 convolutions at the input's size: 3 -> 8 -> 8 -> 8 -> 12, four output pixels for each
        assert figures["macs_per_pixel"] == 9 * (3 * 8 + 8 * 8 + 8 * 8 + 8 * 12) / 4


def test_taps_are_feature_maps(file: Path, image: Callable[..., Tensor]) -> None:
    net = PretrainedNet(str(file)).train()
    assert set(net.taps) == {"early", "middle", "late"}
    assert set(net.taps.values()) <= set(net.maps)
    assert net.training, "looking for them must not change the mode"
    shapes: dict[str, torch.Size] = {}
    for path in net.maps:

        def hook(_module: object, _inputs: object, output: Tensor, path: str = path) -> None:
            shapes[path] = output.shape

        net.get_submodule(path).register_forward_hook(hook)
    with torch.no_grad():
        net.eval()(image(32, 48, 2))
    assert shapes.keys() == set(net.maps)
    for path, shape in shapes.items():
        assert len(shape) == 4, path
        assert shape[0] == 2 or file.stem == "drunet", path
        assert shape[2] * 3 == shape[3] * 2, path
    if file.stem == "swinir":
        assert not [path for path in net.maps if ".attn" in path or ".mlp" in path]


def test_comes_back_without_the_file_that_it_was_trained_from(
    file: Path, tmp_path: Path, image: Callable[..., Tensor]
) -> None:
    copy = tmp_path / file.name
    copy.write_bytes(file.read_bytes())
    net = PretrainedNet(str(copy))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(1.01)
    weights = tmp_path / "net.safetensors"
    save_weights(weights, {"_target_": TARGET, "path": str(copy)}, net.state_dict(), {})
    copy.unlink()
    read = load_net(weights).net
    degraded = image(24, 24)
    with torch.no_grad():
        torch.testing.assert_close(read(degraded), net(degraded), rtol=0, atol=0)


def test_settings_that_only_the_original_names_show(tmp_path: Path, image: Callable[..., Tensor]) -> None:
    state = swinir(start_unshuffle=2, upscale=4).state_dict()
    for part in ("weight", "bias"):
        state[f"conv_first.1.{part}"] = state.pop(f"conv_first.{part}")
    path, weights = tmp_path / "unshuffled.pth", tmp_path / "net.safetensors"
    torch.save(state, path)
    net = PretrainedNet(str(path))
    assert net.scale == 2
    save_weights(weights, {"_target_": TARGET, "path": str(path)}, net.state_dict(), {})
    with torch.no_grad():
        degraded = image(32, 32)
        torch.testing.assert_close(load_net(weights).net(degraded), net(degraded), rtol=0, atol=0)
    path.unlink()
    with pytest.raises(CheckpointError, match=r"unshuffled\.pth: spandrel cannot build its net"):
        load_net(weights)


def test_any_net_by_its_file(file: Path, student_checkpoint: Path, tmp_path: Path) -> None:
    theirs = load_any_net(file)
    assert isinstance(theirs.net, PretrainedNet)
    assert theirs.config == {"_target_": TARGET, "path": str(file)}
    save_file(torch.load(file, weights_only=True)["params"], tmp_path / "theirs.safetensors")
    assert isinstance(load_any_net(tmp_path / "theirs.safetensors").net, PretrainedNet)
    ours = load_any_net(student_checkpoint)
    assert ours.config == load_net(student_checkpoint).config
    for missing in ("gone.pth", "gone.safetensors", "gone.ckpt"):
        with pytest.raises(FileNotFoundError, match=f"^no weight file at .*{missing}$"):
            load_any_net(tmp_path / missing)


@pytest.mark.parametrize("suffix", [".pth", ".pt"])
@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_code_is_refused_and_not_run(
    tmp_path: Path, suffix: str, zipped: bool, save_with_code: Callable[..., Path]
) -> None:
    path = tmp_path / f"evil{suffix}"
    trace = save_with_code({"params": compact().state_dict()}, path, zipped)
    for load in (lambda: PretrainedNet(str(path)), lambda: load_any_net(path)):
        with pytest.raises(CheckpointError, match=r"holds pickled code \((posix|nt).system\), which was not"):
            load()
    assert not trace.exists()
    # the file is the weapon that it should be: whoever unpickles it freely is hit
    torch.load(path, weights_only=False)
    assert trace.exists()


def test_grey_nets_are_refused_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "grey.pth"
    torch.save(compact(1).state_dict(), path)
    message = f"{path}: a RealESRGAN Compact net for grey images; expected one for RGB images"
    with pytest.raises(CheckpointError, match=f"^{re.escape(message)}$"):
        PretrainedNet(str(path))


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "parameters"), [("craft_x4.pth", 753_344), ("realesr-general-x4v3.pth", 1_213_296)]
)
@torch.no_grad()
def test_published_weights_equal_spandrels_own_call(
    name: str, parameters: int, sharpkd_weights: Path, image: Callable[..., Tensor]
) -> None:
    import spandrel

    theirs = spandrel.ModelLoader().load_from_file(sharpkd_weights / name)
    assert isinstance(theirs, spandrel.ImageModelDescriptor)
    theirs.eval()
    ours = PretrainedNet(str(sharpkd_weights / name))
    assert (count_parameters(ours), ours.scale) == (parameters, 4)
    assert set(ours.taps) == {"early", "middle", "late"}
    degraded = image(25, 38)
    torch.testing.assert_close(ours(degraded).clamp(0, 1), theirs(degraded.clone()), rtol=0, atol=1e-6)
