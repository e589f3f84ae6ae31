"""Everything that restores an image, opened from whatever names it."""

from __future__ import annotations

import hashlib
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from sharpkd.checkpoint import CheckpointError, load_net, save_weights
from sharpkd.config import ConfigError
from sharpkd.evaluation.models import ModelSpec, NetModel, specs_of
from sharpkd.evaluation.protocols import Condition, Pair
from sharpkd.exporting.export import export_net
from sharpkd.functional.torchvision_guard import define_missing_operators
from sharpkd.inference.engine import ModelError

BLUR = Condition("gaussian", "gaussian/1.6", sigma=1.6)
TWICE = Condition("sr", "sr/2", scale=2)

Pixels = NDArray[np.uint8]


def noise(height: int, width: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def pair(image: Pixels) -> Pair:
    """With a sharp image that has nothing to do with the degraded one: who looks at it is found out."""
    return Pair(image, np.full_like(image, 7))


def compact(channels: int = 3) -> nn.Module:
    """A small net of another project: Real-ESRGAN's compact one, twice as large."""
    define_missing_operators()
    from spandrel.architectures.Compact import Compact

    torch.manual_seed(0)
    return Compact(num_in_ch=channels, num_out_ch=channels, num_feat=8, num_conv=2, upscale=2)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("foreign") / "compact.pth"
    torch.save({"params_ema": compact().state_dict(), "iteration": 5}, path)
    return path


def foreign_onnx(path: Path, channels: int = 3, scales: tuple[float, float] = (2, 2)) -> Path:
    """Nearest-neighbour enlargement by ONNX's own operator, with no metadata."""
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, channels, "h", "w"])
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    values = helper.make_tensor("s", TensorProto.FLOAT, [4], [1, 1, *scales])
    how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    node = helper.make_node("Resize", ["x", "", "s"], ["y"], **how)
    graph = helper.make_graph([node], "enlarge", [image], [output], [values])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def test_kinds_names_and_order(
    student_checkpoint: Path, student_onnx: Path, foreign: Path, tmp_path: Path
) -> None:
    relaid = tmp_path / "relaid.safetensors"
    save_file(compact().state_dict(), relaid)
    named = shutil.copy(student_onnx, tmp_path / "exported.onnx")
    given = ["unsharp", str(student_checkpoint), str(named), "input", str(foreign), str(relaid)]
    specs = specs_of(given, ["mine"])
    assert [(spec.name, spec.kind) for spec in specs] == [
        ("unsharp", "baseline"),
        ("student", "torch"),
        ("exported", "exported"),
        ("input", "baseline"),
        ("compact", "spandrel"),
        ("relaid", "spandrel"),
    ]
    assert specs[1] == ModelSpec("student", "torch", student_checkpoint, ("mine",))
    assert pickle.loads(pickle.dumps(specs)) == specs
    assert specs_of({"a": str(student_checkpoint), "cas": "cas"}) == [
        ModelSpec("a", "torch", student_checkpoint),
        ModelSpec("cas", "baseline"),
    ]
    assert specs_of("cas") == [ModelSpec("cas", "baseline")]


def test_what_a_model_cannot_be(student_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as missing:
        specs_of("unsharpe")
    assert str(missing.value) == (
        f"model: there is no file {Path.cwd() / 'unsharpe'}; did you mean 'unsharp'? a model is a "
        "baseline (input, unsharp, "
        "unsharp-oracle, cas, wiener-oracle, richardson-lucy), a .safetensors or .ckpt written by python -m "
        "sharpkd.train, an .onnx or .xml file of python -m sharpkd.export, or a .pth, .pt or .safetensors "
        "file that spandrel knows"
    )
    (tmp_path / "net.txt").write_text("weights")
    with pytest.raises(CheckpointError, match=r"net.txt: unknown kind of file; a model is a baseline \("):
        specs_of(str(tmp_path / "net.txt"))
    (tmp_path / "torn.safetensors").write_bytes(b"torn")
    with pytest.raises(CheckpointError, match=r"torn.safetensors: not a readable safetensors file"):
        specs_of(str(tmp_path / "torn.safetensors"))
    disguised = shutil.copy(student_checkpoint, tmp_path / "unsharp.safetensors")
    with pytest.raises(
        ConfigError, match=r"cannot be called 'unsharp', which is a baseline; use model=\{NAME"
    ):
        specs_of(str(disguised))
    with pytest.raises(ConfigError, match="the baseline 'cas' cannot be called 'amd': baselines keep their"):
        specs_of({"amd": "cas"})
    with pytest.raises(ConfigError, match="the model 'cas' is given twice"):
        specs_of(["cas", "cas"])
    with pytest.raises(ConfigError, match="evaluation needs model=FILE"):
        specs_of({})


def test_a_net_sees_the_degraded_image_alone_and_rounds_once(student_checkpoint: Path) -> None:
    (spec,) = specs_of(str(student_checkpoint))
    image = noise(21, 34)
    with torch.no_grad():
        batch = torch.from_numpy(image.astype(np.float64).transpose(2, 0, 1)[None] / 255)
        exact = load_net(student_checkpoint).net.double()(batch)[0].permute(1, 2, 0).numpy()
    found = spec.open().restore(pair(image), BLUR)
    assert (found.dtype, found.shape) == (np.uint8, image.shape)
    assert np.abs(found - 255 * np.clip(exact, 0, 1)).max() < 0.501
    assert (found != image).mean() > 0.3


def test_onnx_agrees_with_torch(student_checkpoint: Path, student_onnx: Path) -> None:
    image = noise(45, 38)
    (torch_spec,), (onnx_spec,) = specs_of(str(student_checkpoint)), specs_of(str(student_onnx))
    first, second = torch_spec.open(), onnx_spec.open()
    difference = first.restore(pair(image), BLUR).astype(int) - second.restore(pair(image), BLUR)
    assert np.abs(difference).max() <= 1
    assert (difference != 0).mean() < 0.01
    assert (first.engine, second.engine) == ("torch eager", "ONNX Runtime")
    same = ("parameters", "macs_per_pixel", "receptive_field", "net", "scale")
    assert [first.facts()[key] for key in same] == [second.facts()[key] for key in same]


def test_an_ir_file_agrees_with_torch_and_is_known_by_both_of_its_files(
    student_checkpoint: Path, tmp_path: Path
) -> None:
    (exported,) = export_net(student_checkpoint, tmp_path / "net.xml", format="openvino")
    (torch_spec,), (spec,) = specs_of(str(student_checkpoint)), specs_of(str(exported.path))
    first, second = torch_spec.open(), spec.open()
    image = noise(45, 38)
    difference = first.restore(pair(image), BLUR).astype(int) - second.restore(pair(image), BLUR)
    assert np.abs(difference).max() <= 1
    assert (spec.kind, second.engine) == ("exported", "OpenVINO")
    assert first.facts()["parameters"] == second.facts()["parameters"]
    weights = exported.path.with_suffix(".bin")
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    (other,) = specs_of(str(exported.path))
    assert other.fingerprint != spec.fingerprint
    weights.unlink()
    with pytest.raises(FileNotFoundError, match=r"net\.xml keeps tensors in .*net\.bin, which is not there"):
        _ = specs_of(str(exported.path))[0].fingerprint


def test_an_onnx_file_that_says_nothing_of_itself(tmp_path: Path) -> None:
    (spec,) = specs_of(str(foreign_onnx(tmp_path / "double.onnx")))
    model = spec.open()
    image = noise(5, 7)
    assert model.scale == 2
    assert model.applies_to(TWICE)
    assert not model.applies_to(BLUR)
    np.testing.assert_array_equal(model.restore(pair(image), TWICE), image.repeat(2, 0).repeat(2, 1))
    assert model.facts()["parameters"] is None
    with pytest.raises(ModelError, match=r"grey.onnx cannot run an RGB image of 64x64 pixels \("):
        specs_of(str(foreign_onnx(tmp_path / "grey.onnx", channels=1)))[0].open()
    uneven = foreign_onnx(tmp_path / "uneven.onnx", scales=(2, 3))
    with pytest.raises(ModelError, match=r"into \(1, 3, 128, 192\); expected an RGB image, a whole number"):
        specs_of(str(uneven))[0].open()


def test_onnx_follows_the_number_of_threads(student_onnx: Path) -> None:
    (spec,) = specs_of(str(student_onnx))
    model = spec.open()
    assert isinstance(model, NetModel)
    net: Any = model._net
    before, session = torch.get_num_threads(), net.engine
    image = noise(20, 20)
    first = model.restore(pair(image), BLUR)
    assert net.engine is session
    torch.set_num_threads(before + 1)
    try:
        second = model.restore(pair(image), BLUR)
    finally:
        torch.set_num_threads(before)
    assert net.engine is not session
    assert net.threads == before + 1
    np.testing.assert_array_equal(first, second)


def test_another_projects_net(foreign: Path) -> None:
    (spec,) = specs_of(str(foreign))
    model = spec.open()
    image = noise(9, 13)
    with torch.no_grad():
        exact = (
            compact().double()(torch.from_numpy(image.transpose(2, 0, 1)[None] / 255.0))[0].permute(1, 2, 0)
        )
    found = model.restore(pair(image), TWICE)
    assert found.shape == (18, 26, 3)
    assert np.abs(found - 255 * exact.clamp(0, 1).numpy()).max() < 0.51
    assert not model.applies_to(BLUR)
    facts = model.facts()
    assert facts["net"] == "RealESRGAN Compact"
    assert facts["parameters"] == sum(value.numel() for value in compact().parameters())
    # 3x3 convolutions at the input's size: 3 -> 8 -> 8 -> 8 -> 12, four output pixels for each
    assert facts["macs_per_pixel"] == 9 * (3 * 8 + 8 * 8 + 8 * 8 + 8 * 12) / 4
    assert (facts["receptive_field"], facts["scale"], facts["kind"]) == (None, 2, "spandrel")


@pytest.mark.parametrize("suffix", [".pth", ".pt"])
@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_code_is_refused_and_not_run(
    tmp_path: Path, suffix: str, zipped: bool, save_with_code: Callable[..., Path]
) -> None:
    path = tmp_path / f"evil{suffix}"
    trace = save_with_code({"params": compact().state_dict()}, path, zipped)
    with pytest.raises(CheckpointError, match=r"holds pickled code \((posix|nt).system\), which was not run"):
        specs_of(str(path))[0].open()
    assert not trace.exists()


def test_torchscript_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "script.pt"
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        torch.jit.save(torch.jit.script(nn.Conv2d(3, 3, 3)), str(path))
    with pytest.raises(
        CheckpointError, match=r"script.pt: a TorchScript archive, which holds code; expected a"
    ):
        specs_of(str(path))[0].open()


def test_foreign_files_without_a_usable_net(tmp_path: Path) -> None:
    cases = {
        "grey": (
            {"params": compact(1).state_dict()},
            r"a RealESRGAN Compact net for grey images; expected one",
        ),
        "unknown": (
            {"a.weight": torch.zeros(3)},
            r"of none of the \d+ architectures that spandrel 0.* 'a.weight'",
        ),
        "list": ([torch.zeros(3)], "holds a list; expected a net's tensors by name"),
        "numbers": ({"a": 1, "b": torch.zeros(1)}, "holds more, or less, than one net's tensors"),
        "cut": ({**compact().state_dict(), "body.0.weight": torch.zeros(8, 3, 3)}, "cannot build its net"),
    }
    for name, (content, message) in cases.items():
        path = tmp_path / f"{name}.pth"
        torch.save(content, path)
        with pytest.raises(CheckpointError, match=message):
            specs_of(str(path))[0].open()
    (tmp_path / "torn.pth").write_bytes(b"torn")
    with pytest.raises(
        CheckpointError, match=r"torn.pth: damaged, or no file of PyTorch's; expected a net's"
    ):
        specs_of(str(tmp_path / "torn.pth"))[0].open()


def test_a_baseline_by_name() -> None:
    (spec,) = specs_of("input")
    model = spec.open()
    image = noise(12, 15)
    np.testing.assert_array_equal(model.restore(pair(image), BLUR), image)
    facts = model.facts()
    assert facts["kind"] == "baseline"
    assert facts["parameters"] == 0
    assert facts["weights_sha256"] is None
    assert "the degraded image" in facts["source"]
    (wiener,) = specs_of("wiener-oracle")
    assert wiener.open().applies_to(BLUR)
    assert not wiener.open().applies_to(Condition("sharp", "sharp"))


def test_fingerprints(student_checkpoint: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy(student_checkpoint, tmp_path / "copy.safetensors"))
    (spec,) = specs_of(str(copy))
    assert spec.fingerprint == hashlib.sha256(copy.read_bytes()).hexdigest()
    cas, unsharp = specs_of(["cas", "unsharp"])
    assert len(cas.fingerprint) == 64
    assert len({cas.fingerprint, unsharp.fingerprint}) == 2
    assert specs_of("cas")[0].fingerprint == cas.fingerprint
    loaded = load_net(copy)
    state = {name: tensor + 1 for name, tensor in loaded.net.state_dict().items()}
    save_weights(copy, loaded.config, state, {})
    with pytest.raises(CheckpointError, match=r"copy.safetensors was replaced while it was evaluated; start"):
        pickle.loads(pickle.dumps(spec)).open()


def test_the_run_behind_a_file(student_checkpoint: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "logs").mkdir(parents=True)
    (run / "logs" / "metrics.csv").write_text("step\n")
    (run / "checkpoints").mkdir()
    for place in (run / "net.safetensors", run / "checkpoints" / "best.safetensors"):
        shutil.copy(student_checkpoint, place)
        (spec,) = specs_of(str(place))
        facts = spec.open().facts()
        assert facts["run"] == str(run)
        assert (facts["path"], facts["weights_sha256"]) == (str(place), spec.fingerprint)
    assert specs_of(str(student_checkpoint))[0].open().facts()["run"] is None


def test_outputs_that_are_no_image() -> None:
    image = noise(6, 8)

    def broken(output: Tensor) -> NetModel:
        return NetModel("broken", lambda batch: output)

    with pytest.raises(ValueError, match=r"broken returns the shape \(1, 3, 6, 9\), expected \(1, 3, 6, 8\)"):
        broken(torch.zeros(1, 3, 6, 9)).restore(pair(image), BLUR)
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="broken returns values that are not finite"):
            broken(torch.full((1, 3, 6, 8), value)).restore(pair(image), BLUR)
    beyond = torch.linspace(-1, 2, 144).reshape(1, 3, 6, 8)
    found = broken(beyond).restore(pair(image), BLUR)
    np.testing.assert_array_equal(
        found, np.rint(np.clip(beyond[0].permute(1, 2, 0).numpy(), 0, 1) * np.float32(255))
    )


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["realesr-general-x4v3.pth", "craft_x4.pth"])
def test_published_weights(name: str, sharpkd_weights: Path, sharpkd_data: Path) -> None:
    (spec,) = specs_of(str(sharpkd_weights / name))
    model = spec.open()
    file = sorted((sharpkd_data / "eval" / "Set5").glob("*butterfly*"))[0]
    with Image.open(file) as picture:
        sharp = picture.convert("RGB").crop((60, 60, 188, 172))
    small = sharp.resize((32, 28), Image.Resampling.BICUBIC)
    found = model.restore(Pair(np.asarray(small), np.asarray(sharp)), Condition("sr", "sr/4", scale=4))
    assert found.shape == (112, 128, 3)
    bicubic = np.asarray(small.resize(sharp.size, Image.Resampling.BICUBIC), dtype=float)
    error = np.square(found - np.asarray(sharp, dtype=float)).mean()
    if name == "craft_x4.pth":
        assert error < 0.7 * np.square(bicubic - np.asarray(sharp)).mean()
    # real-esrgan is trained to look sharp, not to be near: it still has to show the same picture
    assert error < 0.2 * np.asarray(sharp).var()
