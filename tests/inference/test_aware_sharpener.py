from __future__ import annotations

import doctest
import json
import re
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import skimage.data
import torch
from numpy.typing import NDArray
from PIL import Image

from sharpkd.checkpoint import load_estimator, load_net, save_weights
from sharpkd.estimation.estimator import BlurEstimator
from sharpkd.inference import engine as engines
from sharpkd.inference import onnx_student, openvino_student
from sharpkd.inference import sharpener as module
from sharpkd.inference.engine import EngineName
from sharpkd.inference.errors import ModelError
from sharpkd.inference.image_io import Picture
from sharpkd.inference.models import MADE_FOR, model_path, model_rows, packaged_models
from sharpkd.inference.sharpener import Sharpener

Pixels = NDArray[Any]
SaveAware = Callable[..., Any]
ENGINES: tuple[EngineName, ...] = ("openvino", "onnxruntime", "torch")


@pytest.fixture(scope="module")
def blurred() -> NDArray[np.uint8]:
    """(201, 177, 3), blurred with sigma 1.5."""
    return cv2.GaussianBlur(skimage.data.astronaut()[60:261, 160:337], (0, 0), 1.5)


@torch.no_grad()
def _expected(path: Path, image: Pixels, condition: torch.Tensor | None = None) -> NDArray[np.float32]:
    """What estimator and net give in torch, in levels."""
    share = torch.from_numpy(image.astype(np.float32) / 255).permute(2, 0, 1)[None]
    told = load_estimator()(share).condition if condition is None else condition[None]
    output = load_net(path).net(share, told)
    return output[0].clamp(0, 1).permute(1, 2, 0).numpy() * 255


@pytest.mark.parametrize("engine", ENGINES)
def test_the_net_is_told_what_is_measured(
    engine: EngineName, aware_checkpoint: Path, blurred: Pixels
) -> None:
    sharpen = Sharpener(aware_checkpoint, engine, threads=1, precision="fp32")
    assert sharpen.is_aware
    estimate = sharpen.measure(blurred)
    assert estimate.sigma == pytest.approx(1.5, rel=0.2)
    expected = _expected(aware_checkpoint, blurred)
    told_nothing = _expected(aware_checkpoint, blurred, torch.zeros(2))
    assert np.abs(expected - told_nothing).max() > 5, "the blur must matter, or this shows nothing"
    # The estimates differ in the last digits, the roundings by half a level.
    for result in (sharpen(blurred), sharpen(blurred, estimate=estimate)):
        assert np.abs(result - expected).max() <= 0.51


@pytest.mark.parametrize("engine", ENGINES)
def test_a_known_sigma_takes_the_place_of_the_measured_one(
    engine: EngineName, aware_checkpoint: Path, blurred: Pixels
) -> None:
    sharpen = Sharpener(aware_checkpoint, engine, threads=1, precision="fp32")
    noise = sharpen.measure(blurred)["noise"]
    for sigma in (0.0, 2.5, 9.0):
        expected = _expected(aware_checkpoint, blurred, torch.tensor([sigma, noise]))
        assert np.abs(sharpen(blurred, sigma=sigma) - expected).max() <= 0.51


def test_caution_takes_standard_deviations_off(
    tmp_path: Path, save_aware: SaveAware, aware_checkpoint: Path, blurred: Pixels
) -> None:
    estimate = Sharpener(aware_checkpoint).measure(blurred)
    low = max(0.0, estimate.sigma - 1.5 * float(estimate.uncertainty[0]))
    assert estimate.sigma > low > 0
    plain = Sharpener(aware_checkpoint, "openvino", threads=1)
    expected = plain(blurred, sigma=low)
    assert (expected != plain(blurred)).any()
    careful = Sharpener(aware_checkpoint, "openvino", cautious=1.5)
    np.testing.assert_array_equal(careful(blurred), expected)
    # What is known is not taken off.
    np.testing.assert_array_equal(careful(blurred, sigma=low), expected)
    path = tmp_path / "careful.safetensors"
    shape = {"unshuffle": 4, "width": 16, "depth": 3, "luma_only": True}
    save_aware(path, [4.0, 5.0], {"cautious": "1.5"}, **shape)
    assert Sharpener(path).cautious == 1.5
    np.testing.assert_array_equal(Sharpener(path, "openvino")(blurred), expected)
    np.testing.assert_array_equal(Sharpener(path, "openvino", cautious=0)(blurred), plain(blurred))
    save_aware(path, [4.0, 5.0], {"cautious": "very"}, **shape)
    with pytest.raises(ModelError, match="its metadata says cautious='very', expected a number"):
        Sharpener(path)
    with pytest.raises(ValueError, match=r"cautious must be at least 0 \(standard deviations\), got -1"):
        Sharpener(aware_checkpoint, cautious=-1)


def test_a_small_picture_by_itself_does_not_wait_for_openvino(
    blurred: Pixels, student_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[tuple[str, int | None]] = []
    for name, compiler in (("onnxruntime", onnx_student), ("openvino", openvino_student)):
        compiled = compiler.compile_student

        def noted(*given: Any, name: str = name, compiled: Any = compiled, **named: Any) -> Any:
            used.append((name, named.get("threads")))
            return compiled(*given, **named)

        monkeypatch.setattr(compiler, "compile_student", noted)

    def engine_of(run: Callable[[], Any]) -> tuple[str, int | None]:
        used.clear()
        run()
        (one,) = used
        return one

    auto, sooner, later = Sharpener("fast"), ("onnxruntime", 1), ("openvino", None)
    told = auto.measure(blurred)
    assert engine_of(lambda: auto(blurred)) == sooner
    assert engine_of(lambda: auto(blurred[..., 0].copy())) == sooner
    assert engine_of(lambda: Sharpener("fast").picture(Picture(blurred), estimate=told)) == sooner
    # what is told may be a scene's, and what is asked for is given
    assert engine_of(lambda: auto(blurred, estimate=told)) == later
    assert engine_of(lambda: auto(blurred, sigma=1.0)) == later
    assert engine_of(lambda: Sharpener("fast", "openvino")(blurred)) == later
    assert engine_of(lambda: Sharpener("fast", precision="fp32")(blurred)) == later
    difference = auto(blurred).astype(int) - auto(blurred, estimate=told)
    assert np.abs(difference).max() <= 1
    # of a blind net, pictures of all sizes share one
    assert engine_of(lambda: Sharpener(student_checkpoint).picture(Picture(blurred))) == later
    monkeypatch.setattr(engines, "MACS_ONCE", 2992 * blurred[..., 0].size - 1)
    assert engine_of(lambda: Sharpener("fast")(blurred)) == later


def test_four_conditions(tmp_path: Path, save_aware: SaveAware, blurred: Pixels) -> None:
    names = ["sigma", "noise", "compression", "reduction"]
    arguments: dict[str, Any] = {"conditions": names, "largest": [4.0, 5.0, 60.0, 3.0], "width": 4}
    torch.manual_seed(1)
    estimator = BlurEstimator(**arguments)
    file = tmp_path / "four.safetensors"
    target = {"_target_": f"{BlurEstimator.__module__}.BlurEstimator", **arguments}
    save_weights(file, target, estimator.state_dict(), {})
    path = tmp_path / "net.safetensors"
    save_aware(path, [4.0, 5.0, 60.0, 3.0], unshuffle=2, width=8, depth=3)
    sharpen = Sharpener(path, threads=1, precision="fp32", estimator=file)
    estimate = sharpen.measure(blurred)
    assert list(estimate.names) == names
    expected = _expected(path, blurred, torch.from_numpy(estimate.values))
    assert np.abs(sharpen(blurred) - expected).max() <= 0.51
    arguments |= {"conditions": names[:2], "largest": [4.0, 5.0]}
    few = tmp_path / "two.safetensors"
    save_weights(few, target | arguments, BlurEstimator(**arguments).state_dict(), {})
    message = r"net\.safetensors is told 4 numbers, but the estimate has sigma, noise"
    with pytest.raises(ModelError, match=message):
        Sharpener(path, estimator=few)(blurred)


@pytest.mark.parametrize("precision", ["fp32", "auto"])
@pytest.mark.parametrize("size", [(201, 177), (64, 96), (1, 150)])
def test_tiles_of_an_aware_net_do_not_show(
    size: tuple[int, int], precision: Any, aware_checkpoint: Path, blurred: Pixels
) -> None:
    image = blurred[: size[0], : size[1]]
    for engine in ("openvino", "onnxruntime"):
        if engine == "onnxruntime" and precision == "auto":
            continue
        whole = Sharpener(aware_checkpoint, engine, 0, 1, precision=precision)(image).astype(int)
        for tile in (24, 50, 101):
            sharpen = Sharpener(aware_checkpoint, engine, tile, 1, precision=precision)
            difference = np.abs(sharpen(image) - whole)
            assert difference.max() <= 1
            assert difference.mean() < 1e-3


def test_grey_pictures_go_the_short_way(aware_checkpoint: Path, blurred: Pixels) -> None:
    sharpen = Sharpener(aware_checkpoint, threads=1, precision="fp32")
    grey = blurred[..., 1]
    colour = sharpen(np.repeat(grey[..., None], 3, axis=2), sigma=1.5)
    assert np.abs(sharpen(grey, sigma=1.5).astype(int) - colour[..., 0]).max() <= 1
    result = sharpen.picture(Picture(np.repeat(grey[..., None], 3, axis=2), grey=True), sigma=1.5)
    np.testing.assert_array_equal(result.pixels[..., 2], sharpen(grey, sigma=1.5))
    image = sharpen(Image.fromarray(grey), sigma=1.5)
    assert image.mode == "L"
    np.testing.assert_array_equal(np.asarray(image), sharpen(grey, sigma=1.5))


def test_planes_of_video(aware_checkpoint: Path, student_checkpoint: Path, blurred: Pixels) -> None:
    sharpen = Sharpener(aware_checkpoint, threads=1, precision="fp32")
    grey = blurred[..., 1]
    full = sharpen.plane(grey, sigma=1.5)
    assert full.shape == grey.shape
    np.testing.assert_array_equal(full, sharpen(grey, sigma=1.5))
    np.testing.assert_array_equal(sharpen.plane(grey[..., None], sigma=1.5)[..., 0], full)
    # The same picture in 10 bits of studio swing, brought back to 8 bits of full swing.
    ten = np.rint(64 + grey * (876 / 255)).astype(np.uint16)
    result = sharpen.plane(ten, sigma=1.5, bits=10, studio=True)
    assert result.dtype == np.uint16
    assert np.abs(np.clip((result - 64.0) * (255 / 876), 0, 255) - full).max() <= 1.5
    np.testing.assert_array_equal(sharpen.plane(ten, 0, bits=10, studio=True), ten)
    close = sharpen.measure_plane(ten, bits=10, studio=True).sigma
    # 219 levels hide more of the finest detail than 255
    assert close == pytest.approx(sharpen.measure(grey).sigma, abs=0.15)
    for wrong, bits, message in (
        (grey, 10, "bits of a uint8 plane must be 8, got 10"),
        (ten, 8, "bits of a uint16 plane must be 9 to 16, got 8"),
        (blurred, None, "image must have shape (H, W, 1) with H, W >= 1, got (201, 177, 3)"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            sharpen.plane(wrong, bits=bits)
    with pytest.raises(ValueError, match=r"student.safetensors is a net of RGB: luma alone needs a student"):
        Sharpener(student_checkpoint).plane(grey)


@pytest.mark.parametrize("engine", ENGINES)
def test_threads_share_a_sharpener(
    engine: EngineName, aware_checkpoint: Path, blurred: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Fewer than there are tasks, so that nets are made and dropped meanwhile.
    monkeypatch.setattr(module, "MOST_PREPARED", 1)
    sharpen = Sharpener(aware_checkpoint, engine, 64, 1)
    images = [np.ascontiguousarray(np.roll(blurred, 31 * i, axis=i % 2)[: 100 + 7 * i]) for i in range(3)]
    jobs = [(image, strength) for image in images for strength in (0.5, 1.0)]
    expected = [Sharpener(aware_checkpoint, engine, 64, 1)(*job) for job in jobs]
    found: dict[int, Pixels] = {}
    errors: list[BaseException] = []

    def work(first: int) -> None:
        try:
            for i in range(first, len(jobs), 4):
                found[i] = sharpen(*jobs[i])
        except BaseException as error:
            errors.append(error)

    workers = [threading.Thread(target=work, args=(first,)) for first in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert errors == []
    for i, result in enumerate(expected):
        np.testing.assert_array_equal(found[i], result)


def test_a_net_is_prepared_once_for_a_scene(
    aware_checkpoint: Path, blurred: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    sharpen = Sharpener(aware_checkpoint, threads=1)
    prepare, tasks = sharpen._engine.prepare, []

    def counted(task: Any) -> Any:
        tasks.append(task)
        return prepare(task)

    monkeypatch.setattr(sharpen._engine, "prepare", counted)
    estimate = sharpen.measure(blurred)
    for shift in range(3):
        sharpen(np.roll(blurred, shift, axis=0), estimate=estimate)
    assert len(tasks) == 1
    sharpen(blurred, 0.5, estimate=estimate)
    assert [task.strength for task in tasks] == [1, 0.5]


def test_measuring_converts_no_whole_image() -> None:
    large = np.random.default_rng(0).integers(0, 256, (4000, 6000, 3), dtype=np.uint8)
    estimator = module.Estimator()
    tracemalloc.start()
    try:
        estimator(large)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20e6


def test_wrong_settings(aware_checkpoint: Path, student_checkpoint: Path, blurred: Pixels) -> None:
    with pytest.raises(ValueError, match=r"sigma must be a number of pixels, at least 0, got -0\.5"):
        Sharpener(aware_checkpoint)(blurred, sigma=-0.5)
    with pytest.raises(ValueError, match=r"sigma: student\.safetensors is a blind net, it cannot be told"):
        Sharpener(student_checkpoint)(blurred, sigma=1.5)
    with pytest.raises(ValueError, match="a PIL image must be RGB or L, got CMYK"):
        Sharpener(aware_checkpoint).measure(Image.new("CMYK", (3, 3)))


def test_names_stand_for_packaged_weights(tmp_path: Path, aware_checkpoint: Path) -> None:
    message = "the weights 'quality' are not in this package (packaged students: none); give the path of a"
    with pytest.raises(ModelError, match=re.escape(message)):
        model_path("quality", tmp_path)
    for name in ("balanced", "fast"):
        (tmp_path / f"{name}.safetensors").write_bytes(aware_checkpoint.read_bytes())
    (tmp_path / "fast.md").write_text("# fast", encoding="utf-8")
    fast, balanced = packaged_models(tmp_path)
    assert (fast.name, fast.card, balanced.card) == ("fast", tmp_path / "fast.md", None)
    assert fast.bytes == aware_checkpoint.stat().st_size
    assert fast.made_for == MADE_FOR["fast"]
    assert model_path("fast", tmp_path) == tmp_path / "fast.safetensors"
    assert model_path("other/fast") == Path("other/fast")
    with pytest.raises(ModelError, match=re.escape("(packaged students: fast, balanced)")):
        model_path("quality", tmp_path)


def test_what_there_is_to_tell_about_a_model(
    tmp_path: Path, aware_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = aware_checkpoint.stat().st_size
    rows = model_rows(Sharpener(aware_checkpoint, precision="fp32"))
    assert rows["net"].startswith(
        "sharpkd.nets.aware_student.AwareStudent(condition_limits=[4.0, 5.0], depth=3"
    )
    assert (rows["engine"], rows["precision"], rows["size"]) == ("openvino", "fp32", f"{size:,} bytes")
    assert (rows["blur"], rows["receptive field"]) == ("measured in each picture", "31 px")
    assert "made for" not in rows
    fast = tmp_path / "fast.safetensors"
    fast.write_bytes(aware_checkpoint.read_bytes())
    (tmp_path / "fast.md").write_text("# fast", encoding="utf-8")
    monkeypatch.setattr("sharpkd.inference.models.weights_folder", lambda: tmp_path)
    rows = model_rows(Sharpener("fast"))
    assert (rows["made for"], rows["model card"]) == (MADE_FOR["fast"], str(tmp_path / "fast.md"))


def test_the_examples_run(aware_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "model_path", lambda model: aware_checkpoint)
    found = doctest.DocTestFinder().find(Sharpener, "Sharpener", globs={})
    runner = doctest.DocTestRunner()
    for one in found:
        runner.run(one)
    assert runner.summarize(verbose=False).failed == 0
    assert runner.tries >= 6


def test_a_student_needs_no_torch(aware_checkpoint: Path) -> None:
    code = (
        "import json, sys\n"
        "import sharpkd\n"
        "light = [name for name in ('numpy', 'PIL', 'openvino') if name in sys.modules]\n"
        "import numpy as np\n"
        "sharpen = sharpkd.Sharpener.from_checkpoint(sys.argv[1], threads=1)\n"
        "ramp = np.tile(np.arange(64, dtype=np.uint8)[:, None, None], (1, 64, 3))\n"
        "shape = sharpen(ramp).shape\n"
        "heavy = [name for name in ('torch', 'onnx', 'pytorch_lightning', 'hydra') if name in sys.modules]\n"
        "print(json.dumps([light, shape, sharpen.engine, heavy]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(aware_checkpoint)], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == [[], [64, 64, 3], "openvino", []]


def test_all_frames_of_a_scene_are_told_what_the_first_one_shows(
    aware_checkpoint: Path, blurred: Pixels
) -> None:
    sharpen = Sharpener(aware_checkpoint, threads=1, precision="fp32")
    other = np.ascontiguousarray(blurred * 0.9).astype(np.uint8)
    first = sharpen.measure(blurred)
    assert sharpen.measure(other).values[0] != first.values[0]
    restore = sharpen.for_scene(0.7)
    for frame in (blurred, other):
        np.testing.assert_array_equal(restore(frame), sharpen(frame, 0.7, estimate=first))
    # the next scene is measured by itself
    np.testing.assert_array_equal(sharpen.for_scene()(other), sharpen(other))
