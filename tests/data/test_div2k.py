"""DIV2K from a local server, from folders that are there, and without a network."""

from __future__ import annotations

import hashlib
import http.server
import inspect
import io
import re
import shutil
import threading
import time
import zipfile
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from sharpkd.data import div2k
from sharpkd.data.archive import ArchiveError
from sharpkd.data.degradation import GaussianBlur
from sharpkd.data.div2k import Archive, DIV2KDataModule, DIV2KSource
from sharpkd.functional.download import DownloadError

CONF = Path(__file__).parents[2] / "conf" / "data" / "div2k.yaml"
NOWHERE = "http://127.0.0.1:1"


def png(seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(
        buffer, "PNG"
    )
    return buffer.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def images(name: str, first: int, count: int) -> dict[str, bytes]:
    return {f"{name}/{number:04d}.png": png(number) for number in range(first, first + count)}


@dataclass
class Site:
    """A web server: files by name, and after how many bytes to cut the first answers."""

    files: dict[str, bytes] = field(default_factory=dict)
    cut_after: list[int] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    state = Site()

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            """Keep the test's output clean."""

        def do_HEAD(self) -> None:
            self.answer(send=False)

        def do_GET(self) -> None:
            state.fetched.append(self.path)
            self.answer(send=True)

        def answer(self, send: bool) -> None:
            content = state.files.get(Path(self.path).name)
            if content is None:
                self.send_error(404)
                return
            start = int(re.findall(r"\d+", self.headers.get("Range", "0"))[0])
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            if send:
                end = start + state.cut_after.pop(0) if state.cut_after else len(content)
                self.wfile.write(content[start:end])

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        state.url = f"http://127.0.0.1:{running.server_address[1]}/DIV2K/"
        state.files = {
            "DIV2K_train_HR.zip": zipped(images("DIV2K_train_HR", 1, 4)),
            "DIV2K_valid_HR.zip": zipped(images("DIV2K_valid_HR", 801, 2)),
        }
        yield state
        running.shutdown()
        thread.join()


def source(root: Path, site: Site | None = None, **changes: object) -> DIV2KSource:
    """A source of 4 + 2 images."""

    def archive(name: str, count: int) -> Archive:
        content = site.files.get(f"{name}.zip") if site else None
        if content is None:
            return Archive(name, count, None, None)
        return Archive(name, count, len(content), hashlib.sha256(content).hexdigest())

    settings = {"train": archive("DIV2K_train_HR", 4), "valid": archive("DIV2K_valid_HR", 2)}
    base_url = site.url if site else NOWHERE
    return DIV2KSource(root, base_url, backoff=0.001, retries=2, **(settings | changes))  # type: ignore[arg-type]  # each setting has its own type


def lay(root: Path, train: int = 4, valid: int = 2) -> None:
    for name, content in (images("DIV2K_train_HR", 1, train) | images("DIV2K_valid_HR", 801, valid)).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def test_download_unpack_and_leave_nothing_behind(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "new" / "DIV2K"
    one = source(root, site)
    one.prepare()
    assert [path.name for path in one.train_files()] == ["0001.png", "0002.png", "0003.png", "0004.png"]
    assert [path.name for path in one.val_files()] == ["0801.png", "0802.png"]
    assert (root / "DIV2K_train_HR/0003.png").read_bytes() == png(3)
    assert sorted(path.name for path in root.iterdir() if not path.name.startswith(".")) == [
        "DIV2K_train_HR",
        "DIV2K_valid_HR",
    ]
    said = capsys.readouterr().err
    assert re.search(
        r"DIV2K: 0\.0 MiB to download \(DIV2K_train_HR\.zip and DIV2K_valid_HR\.zip\) from http", said
    )
    assert re.search(r"where [\d.]+ [GM]iB are free", said)
    site.fetched.clear()
    source(root, site).prepare()
    assert site.fetched == []


def test_a_connection_that_is_cut_is_taken_up_again(site: Site, tmp_path: Path) -> None:
    site.cut_after = [5000, 3000]
    one = source(tmp_path, site)
    one.prepare()
    assert len(one.train_files()) == 4
    assert len(site.fetched) == 4


def test_the_next_run_goes_on_with_what_was_received(site: Site, tmp_path: Path) -> None:
    site.cut_after = [5000, 0, 0]
    with pytest.raises(DownloadError, match=r"the 5,000 bytes received are kept .*data=folder"):
        source(tmp_path, site).prepare()
    assert (tmp_path / "DIV2K_train_HR.zip.part").stat().st_size == 5000
    source(tmp_path, site).prepare()
    assert len(source(tmp_path).train_files()) == 4


def test_without_a_network_it_ends_at_once_and_says_what_to_do_instead(tmp_path: Path) -> None:
    begun = time.monotonic()
    with pytest.raises(DownloadError, match="DIV2K is not in") as caught:
        source(tmp_path / "nothing").prepare()
    assert time.monotonic() - begun < 3
    for word in (
        "data=folder data.train_dir=FOLDER",
        "data=sample",
        "data.root=FOLDER",
        str(tmp_path / "nothing"),
    ):
        assert word in str(caught.value)
    assert "DIV2K_train_HR, DIV2K_valid_HR" in str(caught.value)
    assert not (tmp_path / "nothing").exists()


def test_no_such_file_on_the_server(site: Site, tmp_path: Path) -> None:
    one = source(tmp_path, site)
    del site.files["DIV2K_valid_HR.zip"]
    with pytest.raises(
        DownloadError, match=r"DIV2K_valid_HR\.zip: the server answers 404 Not Found.*data=sample"
    ):
        one.prepare()
    assert site.fetched == []


def test_a_server_that_lies_about_the_size(site: Site, tmp_path: Path) -> None:
    wrong = Archive("DIV2K_train_HR", 4, 12_345_678, None)
    with pytest.raises(DownloadError, match=r"the server offers [\d,]+ bytes, expected 12,345,678"):
        source(tmp_path, site, train=wrong).prepare()
    assert not (tmp_path / "DIV2K_train_HR").exists()


def test_another_archive_than_expected(site: Site, tmp_path: Path) -> None:
    wrong = Archive("DIV2K_train_HR", 4, None, "0" * 64)
    with pytest.raises(DownloadError, match="has the SHA-256"):
        source(tmp_path, site, train=wrong).prepare()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html>come back later</html>", "no usable zip archive"),
        (zipped(images("DIV2K_train_HR", 1, 4))[:-200], "no usable zip archive"),
        (zipped({"../../escape.png": b"x"}), "a path that could lead out of the folder"),
        (zipped(images("DIV2K_train_HR", 1, 3)), r"holds 3 images in DIV2K_train_HR/, expected 4"),
        (zipped(images("elsewhere", 1, 4)), r"holds 0 images in DIV2K_train_HR/, expected 4"),
    ],
    ids=["page", "cut", "escape", "three", "elsewhere"],
)
def test_bad_archives_are_deleted_and_named(content: bytes, message: str, site: Site, tmp_path: Path) -> None:
    good = site.files["DIV2K_train_HR.zip"]
    site.files["DIV2K_train_HR.zip"] = content
    root = tmp_path / "a" / "b"
    with pytest.raises(ArchiveError, match=f"{message}.*it was deleted, run again"):
        source(root, site).prepare()
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.name != ".download.lock"] == []
    site.files["DIV2K_train_HR.zip"] = good
    source(root, site).prepare()
    assert len(source(root).train_files()) == 4


def test_leftovers_of_a_killed_unpacking_are_cleared(site: Site, tmp_path: Path) -> None:
    stale = tmp_path / "DIV2K_train_HR.unpacking" / "DIV2K_train_HR" / "9999.png"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"half")
    source(tmp_path, site).prepare()
    assert [path.name for path in source(tmp_path).train_files()] == [f"000{i}.png" for i in range(1, 5)]
    assert not stale.exists()


@pytest.mark.parametrize("inner", ["", "DIV2K"])
def test_what_is_there_is_used_without_a_network(inner: str, tmp_path: Path) -> None:
    lay(tmp_path / inner)
    one = source(tmp_path)
    one.prepare()
    assert (len(one.train_files()), len(one.val_files())) == (4, 2)


def test_archives_that_are_there_are_used(site: Site, tmp_path: Path) -> None:
    for name, content in site.files.items():
        (tmp_path / name).write_bytes(content)
    source(tmp_path).prepare()
    assert len(source(tmp_path).train_files()) == 4


def test_only_what_is_missing_is_fetched(site: Site, tmp_path: Path) -> None:
    lay(tmp_path)
    shutil.rmtree(tmp_path / "DIV2K_valid_HR")
    source(tmp_path, site).prepare()
    assert site.fetched == ["/DIV2K/DIV2K_valid_HR.zip"]


def test_an_incomplete_folder_is_an_error_unless_its_number_is_not_asked(tmp_path: Path) -> None:
    lay(tmp_path, train=3)
    with pytest.raises(
        ValueError, match=r"DIV2K_train_HR holds 3 images, expected 4: complete it, delete it"
    ):
        source(tmp_path).prepare()
    any_number = source(tmp_path, train=Archive("DIV2K_train_HR", None, None, None))
    any_number.prepare()
    assert len(any_number.train_files()) == 3


def test_files_without_prepare(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no folder DIV2K_train_HR in .*data=sample"):
        source(tmp_path).train_files()


def test_too_little_space(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", ["total", "used", "free"])
    monkeypatch.setattr(div2k.shutil, "disk_usage", lambda path: usage(10, 0, 10_000))
    with pytest.raises(OSError, match=r"DIV2K needs 0\.1 MiB in .*, where 0\.0 MiB are free: make room"):
        source(tmp_path, site).prepare()
    assert site.fetched == []


def test_two_at_once_download_once(site: Site, tmp_path: Path) -> None:
    failures: list[Exception] = []

    def prepare() -> None:
        try:
            source(tmp_path, site).prepare()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=prepare) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sorted(site.fetched) == ["/DIV2K/DIV2K_train_HR.zip", "/DIV2K/DIV2K_valid_HR.zip"]


def test_the_official_archives() -> None:
    # Numbers from the data set's page; sizes as TensorFlow Datasets has them (div2k/checksums.tsv).
    assert (div2k.TRAIN.images, div2k.VALID.images) == (800, 100)
    assert (div2k.TRAIN.size, div2k.VALID.size) == (3_530_603_713, 448_993_893)
    one = DIV2KSource("anywhere")
    assert one._url(one.train) == "https://data.vision.ee.ethz.ch/cvl/DIV2K/DIV2K_train_HR.zip"
    assert one._url(one.valid) == "https://data.vision.ee.ethz.ch/cvl/DIV2K/DIV2K_valid_HR.zip"


def test_the_config_says_what_the_class_does_by_itself() -> None:
    config = yaml.safe_load(CONF.read_text())
    defaults = inspect.signature(DIV2KDataModule.__init__).parameters
    for name in (
        "base_url",
        "train_images",
        "val_images",
        "train_size",
        "val_size",
        "train_sha256",
        "val_sha256",
    ):
        assert config[name] == defaults[name].default


def test_the_datamodule_downloads_and_makes_batches(site: Site, tmp_path: Path) -> None:
    module = DIV2KDataModule(
        tmp_path / "root",
        site.url,
        train_images=4,
        val_images=2,
        train_size=None,
        val_size=None,
        train_sha256=None,
        val_sha256=None,
        degradation=GaussianBlur(1.6),
        cache_dir=tmp_path / "cache",
        batch_size=3,
        crop_size=32,
        crops_per_image=2,
        workers=0,
    )
    module.prepare_data()
    module.setup("fit")
    batches = list(module.train_dataloader())
    assert sum(len(batch) for batch in batches) in (6, 8)
    assert batches[0].sharp.shape == (3, 3, 32, 32)
    assert [batch.name for batch in module.val_dataloader()] == [["0801"], ["0802"]]
