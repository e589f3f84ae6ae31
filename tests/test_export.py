from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from sharpkd.checkpoint import load_net, save_weights
from sharpkd.export import export_onnx, main
from sharpkd.inference.engine import OnnxEngine
from sharpkd.nets.aware_student import AwareStudent
from sharpkd.nets.pixel_student import PixelStudent


def test_any_size_gives_what_torch_gives(student_checkpoint: Path, student_onnx: Path) -> None:
    net = load_net(student_checkpoint).net
    session = onnxruntime.InferenceSession(str(student_onnx))
    for height, width in ((1, 1), (3, 2), (19, 31), (63, 97), (129, 65), (40, 56)):
        image = torch.rand(1, 3, height, width)
        (found,) = session.run(None, {"degraded": image.numpy()})
        assert found.shape == image.shape
        with torch.inference_mode():
            np.testing.assert_allclose(found, net(image).numpy(), atol=1e-5)


def test_the_file_is_whole_and_carries_no_path_of_this_machine(
    student_onnx: Path, project_root: Path
) -> None:
    onnx.checker.check_model(str(student_onnx), full_check=True)
    content = student_onnx.read_bytes()
    assert str(project_root).encode() not in content
    assert b".py" not in content
    assert [path.name for path in student_onnx.parent.iterdir() if path.suffix == ".onnx"] == ["student.onnx"]
    assert not list(student_onnx.parent.glob(".export-*"))


def test_a_net_that_differs_is_refused(student_checkpoint: Path, tmp_path: Path) -> None:
    target = tmp_path / "a.onnx"
    with pytest.raises(
        ValueError, match=r"^a\.onnx: the exported net differs from the trained one by .*, more than"
    ):
        export_onnx(student_checkpoint, target, max_error=-1.0)
    assert list(tmp_path.iterdir()) == []


def test_a_net_that_is_not_finite_is_refused(tmp_path: Path, student_checkpoint: Path) -> None:
    loaded = load_net(student_checkpoint)
    state = loaded.net.state_dict()
    state["tail.bias"] = torch.full_like(state["tail.bias"], torch.nan)
    save_weights(tmp_path / "nan.safetensors", loaded.config, state, {})
    with pytest.raises(ValueError, match=r"nan\.onnx: the exported net differs from the trained one by nan"):
        export_onnx(tmp_path / "nan.safetensors")
    assert not (tmp_path / "nan.onnx").exists()


def test_bad_requests(student_checkpoint: Path, student_onnx: Path, tmp_path: Path) -> None:
    with pytest.raises(FileExistsError, match=re.escape(f"{student_onnx} exists; pass overwrite=true")):
        export_onnx(student_checkpoint)
    with pytest.raises(FileNotFoundError, match=re.escape(f"no weight file at {tmp_path / 'a.ckpt'}")):
        export_onnx(tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match=r"output: found .*a\.pt, expected a name that ends in \.onnx"):
        export_onnx(student_checkpoint, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="sizes: found none, expected at least one"):
        export_onnx(student_checkpoint, tmp_path / "a.onnx", sizes=())


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A net that is told sigma, in the form that collapses."""
    arguments: dict[str, Any] = {"width": 8, "depth": 3, "luma_only": True, "rep": True, "hidden": 8}
    torch.manual_seed(0)
    net = AwareStudent(**arguments)
    for name in ("tail.weight", "modulation.body.2.weight"):
        torch.nn.init.normal_(net.get_parameter(name), std=0.2)
    path = tmp_path_factory.mktemp("told") / "told.safetensors"
    config = {"_target_": "sharpkd.nets.aware_student.AwareStudent", **arguments}
    save_weights(path, config, net.state_dict(), {"run": "a test"})
    return path


def test_a_net_that_is_told_the_blur_is_exported_for_one(told: Path, tmp_path: Path) -> None:
    net = load_net(told).net
    image = torch.rand(1, 3, 37, 50)
    outputs = []
    for sigma in (0.8, 2.4):
        exported = export_onnx(told, tmp_path / f"{sigma}.onnx", condition=[sigma])
        engine = OnnxEngine(exported.path)
        with torch.inference_mode():
            expected = net(image, torch.tensor([[sigma]])).numpy()
        outputs.append(engine.run(image.numpy()))
        np.testing.assert_allclose(outputs[-1], expected, atol=1e-5)
        assert engine.info.net == "sharpkd.nets.pixel_student.PixelStudent"
        assert engine.info.args == PixelStudent(width=8, depth=3, luma_only=True).arguments()
        assert engine.info.metadata == {"run": "a test", "licence": "MIT", "condition": f"[{sigma}]"}
    assert np.abs(outputs[0] - outputs[1]).max() > 1e-2


def test_a_condition_is_for_nets_that_are_told_it(
    told: Path, student_checkpoint: Path, tmp_path: Path
) -> None:
    target = tmp_path / "a.onnx"
    with pytest.raises(ValueError, match=r"^condition: AwareStudent is told .* such as condition=\[1\.6\]"):
        export_onnx(told, target)
    with pytest.raises(ValueError, match=r"^condition: found \[1\.6\], but PixelStudent is blind; leave it"):
        export_onnx(student_checkpoint, target, condition=[1.6])
    with pytest.raises(ValueError, match=r"^condition: expected the one of a single image, \(k,\) with k >="):
        export_onnx(told, target, condition=[])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("given", ["[1.6]", "1.6"])
def test_the_command_takes_a_condition(
    given: str, told: Path, call: Callable[..., Any], tmp_path: Path
) -> None:
    outcome = call(main, f"checkpoint={told}", f"condition={given}", "output=told.onnx")
    assert outcome.code == 0
    assert OnnxEngine(tmp_path / "told.onnx").info.metadata["condition"] == "[1.6]"


def test_command_writes_the_file_from_any_folder(student_checkpoint: Path, tmp_path: Path) -> None:
    settings = [f"checkpoint={student_checkpoint}", "output=new/s.onnx", "format=all", "precision=fp16"]
    settings += ["measurement_crops=3", "degradation=noisy", "degradation.sigma=1.6"]
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "sharpkd.export", *settings],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    line = (
        r"wrote new/s\.{}, max abs error \d\.\de-\d\d against PyTorch, PSNR \d\d\.\d\d dB on 3 "
        r"degraded crops \([+-]0\.\d\d\d\)\n"
    )
    assert re.fullmatch(line.format("onnx") + line.format("xml"), done.stdout)
    written = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*"))
    assert written == ["new", "new/s.bin", "new/s.onnx", "new/s.xml"]
    # only int8 needs it, and it takes seconds
    imported = {one.rpartition("|")[2].strip() for one in done.stderr.splitlines()}
    assert "openvino" in imported
    assert not [name for name in imported if name.startswith("nncf")]


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["checkpoint=a.ckpt", "format=ir"], 1, "error: format must be one of onnx, openvino, all, got 'ir'"),
        ([], 2, "error: checkpoint: none given, expected checkpoint=PATH"),
        (["checkpont=a"], 2, "error: there is no setting 'checkpont'. did you mean 'checkpoint'?"),
        (["checkpoint=a.ckpt"], 1, "error: no weight file at a.ckpt"),
    ],
)
def test_command_says_what_is_wrong_in_one_line(
    arguments: list[str], code: int, line: str, call: Callable[..., Any], tmp_path: Path
) -> None:
    outcome = call(main, *arguments)
    assert outcome.code == code
    assert outcome.err.startswith(line)
    assert outcome.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
