"""Files of ``python -m sharpkd.export`` under the engines: OpenVINO's IR, and graphs on uint8 pixels."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import openvino as ov
import pytest
import skimage.data
from numpy.typing import NDArray
from openvino import opset13 as op
from PIL import Image
from typer.testing import CliRunner

from sharpkd.cli import app
from sharpkd.exporting import onnx_forms, openvino_forms
from sharpkd.inference import openvino_student
from sharpkd.inference.engine import ModelError, OnnxEngine, OpenVinoEngine, Task, metadata_of, open_engine
from sharpkd.inference.models import model_rows
from sharpkd.inference.sharpener import Sharpener
from sharpkd.inference.student import PixelFormat

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def files(student_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The student as an IR, and both formats on uint8 pixels."""
    folder = tmp_path_factory.mktemp("exported")
    model = onnx.load(student_onnx)
    pairs = {one.key: one.value for one in model.metadata_props}
    plain = openvino_forms.converted(model)
    openvino_forms.describe(plain, pairs)
    openvino_forms.save(plain, folder / "float.xml", halve_weights=False)
    pixels = openvino_forms.take_pixels(openvino_forms.converted(model))
    openvino_forms.describe(pixels, pairs)
    openvino_forms.save(pixels, folder / "uint8.xml", halve_weights=False)
    onnx_forms.take_pixels(model)
    onnx.save(model, folder / "uint8.onnx")
    return {name: folder / name for name in ("float.xml", "uint8.xml", "uint8.onnx")}


@pytest.fixture(scope="module")
def photo() -> Pixels:
    return np.ascontiguousarray(skimage.data.astronaut()[100:177, 180:281])


@pytest.mark.parametrize("name", ["float.xml", "uint8.xml", "uint8.onnx"])
def test_each_says_and_does_the_same(
    name: str, files: dict[str, Path], student_onnx: Path, photo: Pixels
) -> None:
    engine, expected = open_engine(files[name]), open_engine(student_onnx)
    assert engine.name == {".xml": "openvino", ".onnx": "onnxruntime"}[files[name].suffix]
    assert metadata_of(engine.info) == metadata_of(expected.info)
    assert (engine.precision, engine.luma_only, engine.condition_size) == ("fp32", False, 0)
    for strength in (1.0, 0.4, 1.7):
        for image in (photo, photo[..., 0]):
            found = Sharpener(files[name])(image, strength)
            if name == "float.xml":
                wanted = Sharpener(student_onnx)(image, strength).astype(float)
            else:  # mixes what is rounded and clamped already
                colour = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
                sharp = Sharpener(student_onnx)(colour).astype(float)
                wanted = np.clip(colour + strength * (sharp - colour), 0, 255)
                wanted = wanted if image.ndim == 3 else wanted.mean(axis=2)
            assert (found.shape, found.dtype) == (image.shape, np.uint8)
            assert np.abs(found - wanted).max() <= (2.3 if strength > 1 else 1)
            assert np.abs(found.astype(int) - image).max() > 3


def test_tiles_of_an_ir_do_not_show(files: dict[str, Path], photo: Pixels) -> None:
    whole, tiled = (Sharpener(files["float.xml"], tile=tile)(photo) for tile in (0, 32))
    assert np.abs(tiled.astype(int) - whole).max() <= 1


@pytest.mark.parametrize("name", ["uint8.xml", "uint8.onnx"])
def test_floats_pass_through_a_graph_on_uint8(name: str, files: dict[str, Path], student_onnx: Path) -> None:
    image = np.random.default_rng(0).random((1, 3, 19, 31), dtype=np.float32)
    opened = open_engine(files[name])
    assert isinstance(opened, OnnxEngine | OpenVinoEngine)
    levels = np.rint(255 * image) / np.float32(255)
    expected = np.clip(OnnxEngine(student_onnx).run(levels.astype(np.float32)), 0, 1)
    np.testing.assert_allclose(opened.run(image), expected, atol=0.5 / 255 + 1e-4)


@pytest.mark.parametrize("name", ["uint8.xml", "uint8.onnx"])
def test_uint8_files_refuse_what_they_would_coarsen(name: str, files: dict[str, Path], photo: Pixels) -> None:
    start = f"{name} takes pixels of 8 bits from 0 to 255, these are of "
    end = ": export the net with pixels=float32"
    with pytest.raises(ModelError, match=f"^{re.escape(f'{start}16 bits{end}')}$"):
        Sharpener(files[name])(photo.astype(np.uint16) * 257)
    with pytest.raises(ModelError, match=f"^{re.escape(f'{start}studio swing{end}')}$"):
        open_engine(files[name]).prepare(Task(PixelFormat(1, 8, studio=True)))


def test_sixteen_bits_stay_in_a_float_ir(files: dict[str, Path], student_onnx: Path, photo: Pixels) -> None:
    deep = photo.astype(np.uint16) * 257 + 100
    found, expected = (Sharpener(path)(deep) for path in (files["float.xml"], student_onnx))
    assert found.dtype == np.uint16
    assert np.abs(found.astype(int) - expected).max() <= 2
    assert len(np.unique(found)) > 256


def test_the_command_runs_an_ir(files: dict[str, Path], photo: Pixels, tmp_path: Path) -> None:
    run = CliRunner().invoke
    Image.fromarray(photo).save(tmp_path / "in.png")
    for model in ("float.xml", "uint8.xml"):
        arguments = ["sharpen", str(tmp_path / "in.png"), "-o", str(tmp_path / f"{model}.png")]
        assert run(app, [*arguments, "--model", str(files[model])]).exit_code == 0
        expected = Sharpener(files[model])(photo)
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / f"{model}.png")), expected)
    shown = run(app, ["info", str(files["float.xml"])]).stdout
    assert re.search(r"engine +openvino *\n", shown)
    assert re.search(r"licence +MIT *\n", shown)


def test_an_int8_file_says_so(files: dict[str, Path], student_onnx: Path, tmp_path: Path) -> None:
    model = onnx.load(student_onnx)
    pairs = {one.key: one.value for one in model.metadata_props} | {"precision": "int8"}
    onnx_forms.describe(model, pairs)
    onnx.save(model, tmp_path / "a.onnx")
    rows = model_rows(Sharpener(tmp_path / "a.onnx"))
    # ONNX Runtime has no kernel for what it holds
    assert (rows["precision"], rows["held in"]) == ("fp32", "int8")
    assert "held in" not in model_rows(Sharpener(student_onnx))


def _raises(path: Path, message: str, engine: str = "auto", precision: str = "auto") -> None:
    with pytest.raises(ModelError, match=f"^{re.escape(message)}"):
        open_engine(path, engine, precision=precision)  # type: ignore[arg-type]  # names of all kinds


def test_bad_irs(files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lonely = Path(shutil.copy(files["float.xml"], tmp_path / "lonely.xml"))
    _raises(lonely, f"{lonely}: the weights lonely.bin are not beside it")
    broken = tmp_path / "broken.xml"
    broken.write_text("<net>")
    broken.with_suffix(".bin").write_bytes(b"")
    _raises(broken, f"{broken}: OpenVINO cannot run it (")
    flat = tmp_path / "flat.xml"
    given = op.parameter([-1, 10], ov.Type.f32, name="x")
    ov.save_model(ov.Model([op.relu(given)], [given], "flat"), flat)
    _raises(
        flat,
        f"{flat} takes (f32 [?,10]); expected one float32 image (N, 3, H, W), or one uint8 image "
        "(N, H, W, 3)",
    )
    for engine in ("onnxruntime", "torch"):
        message = f"the {engine} engine cannot run float.xml: a .xml file runs on openvino"
        _raises(files["float.xml"], message, engine)
    monkeypatch.setattr(openvino_student, "fast_precisions", lambda: ["fp32"])
    message = "this CPU does not compute in bf16 under OpenVINO; it does in fp32"
    _raises(files["float.xml"], message, precision="bf16")
    monkeypatch.setattr("sharpkd.inference.exported.find_spec", lambda name: None)
    message = "float.xml needs OpenVINO: pip install openvino, or use an .onnx file"
    _raises(files["float.xml"], message)


def test_an_ir_from_elsewhere_is_run_on_whole_images(tmp_path: Path) -> None:
    given = op.parameter([1, 3, -1, -1], ov.Type.f32, name="x")
    ov.save_model(ov.Model([op.absolute(given)], [given], "abs"), tmp_path / "abs.xml")
    info = open_engine(tmp_path / "abs.xml").info
    assert (info.net, info.receptive_field, info.stride, info.metadata) == ("unknown", None, 1, {})
