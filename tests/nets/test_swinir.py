"""SwinIR-M ×4 in the official layout, counted by hand, and its file fetched from a server."""

from __future__ import annotations

import http.server
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sharpkd.checkpoint import CheckpointError, load_net, save_weights
from sharpkd.functional.download import DownloadError, part_path
from sharpkd.nets.pretrained import PretrainedNet
from sharpkd.nets.stats import count_parameters
from sharpkd.nets.swinir import ARGUMENTS, OFFICIAL, URL, SwinIR

TARGET = "sharpkd.nets.swinir.SwinIR"
LAYERS, BLOCKS, DIM, HEADS, WINDOW, FEATURES = 6, 6, 180, 6, 8, 64


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stand-in for the published file: its name and layout, other values."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("official") / OFFICIAL
    torch.save({"params": SwinIR().module.state_dict()}, path)
    return path


def published_shapes() -> dict[str, tuple[int, ...]]:
    """Every tensor of the paper's architecture, written down from its description."""
    shapes: dict[str, tuple[int, ...]] = {}

    def affine(name: str, *weight: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = weight, weight[:1]

    affine("conv_first", DIM, 3, 3, 3)
    affine("patch_embed.norm", DIM)
    for layer in range(LAYERS):
        for block in range(BLOCKS):
            name = f"layers.{layer}.residual_group.blocks.{block}"
            if block % 2:  # shifted windows: a mask for each of the 64x64 training crop's windows
                shapes[f"{name}.attn_mask"] = ((64 // WINDOW) ** 2, WINDOW**2, WINDOW**2)
            affine(f"{name}.norm1", DIM)
            shapes[f"{name}.attn.relative_position_bias_table"] = ((2 * WINDOW - 1) ** 2, HEADS)
            shapes[f"{name}.attn.relative_position_index"] = (WINDOW**2, WINDOW**2)
            affine(f"{name}.attn.qkv", 3 * DIM, DIM)
            affine(f"{name}.attn.proj", DIM, DIM)
            affine(f"{name}.norm2", DIM)
            affine(f"{name}.mlp.fc1", 2 * DIM, DIM)
            affine(f"{name}.mlp.fc2", DIM, 2 * DIM)
        affine(f"layers.{layer}.conv", DIM, DIM, 3, 3)
    affine("norm", DIM)
    affine("conv_after_body", DIM, DIM, 3, 3)
    affine("conv_before_upsample.0", FEATURES, DIM, 3, 3)
    affine("upsample.0", 4 * FEATURES, FEATURES, 3, 3)
    affine("upsample.2", 4 * FEATURES, FEATURES, 3, 3)
    affine("conv_last", 3, FEATURES, 3, 3)
    return shapes


def test_tensors_are_those_of_the_published_architecture(official: Path) -> None:
    found = {name: tuple(value.shape) for name, value in torch.load(official)["params"].items()}
    expected = published_shapes()
    assert found == expected
    buffers = ("attn_mask", "relative_position_index")
    trained = [shape for name, shape in expected.items() if not name.endswith(buffers)]
    assert sum(torch.Size(shape).numel() for shape in trained) == 11_900_199
    assert count_parameters(SwinIR()) == 11_900_199


@torch.no_grad()
def test_equals_what_spandrel_makes_of_the_file(official: Path, image: Callable[..., Tensor]) -> None:
    ours, guessed = SwinIR(str(official)), PretrainedNet(str(official))
    assert (guessed.architecture, guessed.scale, ours.scale) == ("SwinIR", 4, 4)
    settings: Any = guessed.module.hyperparameters
    assert {key: settings[key] for key in ARGUMENTS} == ARGUMENTS
    for size in ((16, 24), (13, 9)):
        degraded = image(*size)
        output = ours(degraded)
        assert output.shape == (1, 3, 4 * size[0], 4 * size[1])
        torch.testing.assert_close(output, guessed(degraded), rtol=0, atol=1e-6)


def test_macs_are_those_of_its_layers() -> None:
    per_place = 9 * 3 * DIM + LAYERS * 9 * DIM**2 + 9 * DIM**2 + 9 * DIM * FEATURES
    per_place += LAYERS * BLOCKS * (3 * DIM**2 + DIM**2 + 2 * 2 * DIM**2 + 2 * WINDOW**2 * DIM)
    enlarging = 9 * FEATURES * 4 * FEATURES * (1 + 4) + 16 * 9 * FEATURES * 3
    assert SwinIR().macs_per_pixel() == pytest.approx((per_place + enlarging) / 16, rel=1e-6)


def test_taps() -> None:
    net = SwinIR()
    assert net.taps["early"] == "module.conv_first"
    assert {f"module.layers.{layer}.conv" for layer in range(LAYERS)} <= set(net.maps)


@torch.no_grad()
def test_its_own_weight_file_needs_no_other(
    official: Path, tmp_path: Path, image: Callable[..., Tensor]
) -> None:
    net = SwinIR(str(official))
    config = {
        "_target_": TARGET,
        "path": str(tmp_path / OFFICIAL),
        "url": "http://127.0.0.1:9/",
        "sha256": None,
    }
    save_weights(tmp_path / "net.safetensors", config, net.state_dict(), {})
    read = load_net(tmp_path / "net.safetensors").net
    degraded = image(16, 16)
    torch.testing.assert_close(read(degraded), net(degraded), rtol=0, atol=0)


@pytest.fixture
def served(official: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[str]]]:
    """The address of the file on a local server that knows ranges, and the requests that it got."""
    content, requests = official.read_bytes(), list[str]()

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            """Keep the test's output clean."""

        def do_HEAD(self) -> None:
            requests.append("HEAD")
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()

        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            requests.append(asked or "all")
            start = int(re.findall(r"\d+", asked)[0]) if asked else 0
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.wfile.write(content[start:])

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/{OFFICIAL}", requests
        server.shutdown()
        thread.join()


def test_first_use_downloads_goes_on_and_keeps(
    official: Path,
    served: tuple[str, list[str]],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    url, requests = served
    target = tmp_path / "weights" / OFFICIAL
    target.parent.mkdir()
    here = official.stat().st_size // 3
    part_path(target).write_bytes(official.read_bytes()[:here])
    net = SwinIR(str(target), url=url)
    assert requests == ["HEAD", f"bytes={here}-"]
    assert target.read_bytes() == official.read_bytes()
    expected = SwinIR(str(official)).state_dict()
    assert all(value.equal(expected[name]) for name, value in net.state_dict().items())
    assert OFFICIAL in capfd.readouterr().err
    SwinIR(str(target), url=url)
    assert len(requests) == 2


def test_a_download_is_held_to_the_digest_given(served: tuple[str, list[str]], tmp_path: Path) -> None:
    url, _ = served
    with pytest.raises(
        DownloadError, match=r"cannot be downloaded: .* SHA-256 .*, expected 00; it was deleted"
    ):
        SwinIR(str(tmp_path / OFFICIAL), url=url, sha256="00")
    assert not (tmp_path / OFFICIAL).exists()


def test_without_a_network_the_place_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    path = tmp_path / OFFICIAL
    with pytest.raises(DownloadError) as raised:
        SwinIR(str(path), url="http://127.0.0.1:9/file")
    message = str(raised.value)
    assert message.startswith(
        f"SwinIR's weights are not at {path} and cannot be downloaded: http://127.0.0.1:9"
    )
    assert message.endswith("Put the file there, or name another place with net.path=FILE")
    with pytest.raises(FileNotFoundError, match=f"only a file called {re.escape(OFFICIAL)} is downloaded"):
        SwinIR(str(tmp_path / "mine.pth"))


def test_the_address_is_the_release_of_the_authors() -> None:
    assert URL == (
        "https://github.com/JingyunLiang/SwinIR/releases/download/v0.0/"
        "001_classicalSR_DF2K_s64w8_SwinIR-M_x4.pth"
    )


def test_another_net_is_refused(official: Path, tmp_path: Path) -> None:
    state = torch.load(official)["params"]
    path = tmp_path / OFFICIAL
    changes = {
        "conv_last.weight": {name: value for name, value in state.items() if name != "conv_last.weight"},
        "conv_last.bias": {**state, "conv_last.bias": torch.zeros(1)},
        "more": {**state, "more": torch.zeros(1)},
    }
    for name, changed in changes.items():
        torch.save({"params": changed}, path)
        with pytest.raises(
            CheckpointError, match=rf"not the weights of SwinIR-M ×4 .*: 1 tensors are .* is '{name}'; use"
        ):
            SwinIR(str(path))
    path.write_bytes(official.read_bytes()[:1_000_000])
    with pytest.raises(CheckpointError, match="damaged, or no file of PyTorch's"):
        SwinIR(str(path))
