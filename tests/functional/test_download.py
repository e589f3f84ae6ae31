"""The downloader against a server that misbehaves."""

from __future__ import annotations

import hashlib
import http.server
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from sharpkd.functional.download import DownloadError, fetch, part_path, probe

CONTENT = np.random.default_rng(0).bytes(1_000_003)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Server:
    """A web server with one file, whose faults can be set; it records the requests."""

    content: bytes = CONTENT
    cut_after: list[int] = field(default_factory=list)  # bytes sent before the connection is cut, per request
    status: list[int] = field(default_factory=list)  # answers before the first honest one
    claimed: int | None = None  # a wrong Content-Length
    no_length: bool = False
    ranges: bool = True
    wrong_range: bool = False
    silent: bool = False
    head_status: int = 200
    requests: list[str] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()
    released = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"

        def log_message(self, *args: object) -> None:
            """Keep the test's output clean."""

        def do_HEAD(self) -> None:
            state.requests.append("HEAD")
            if state.silent:
                released.wait(10)
                return
            self.send_response(state.head_status)
            if not state.no_length:
                self.send_header("Content-Length", str(state.claimed or len(state.content)))
            self.end_headers()

        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            state.requests.append(asked or "all")
            if state.status:
                self.send_error(state.status.pop(0))
                return
            start = int(re.findall(r"\d+", asked)[0]) if asked and state.ranges else 0
            if start and start >= len(state.content):
                self.send_error(416)
                return
            body = state.content[start:]
            self.send_response(206 if start else 200)
            if start:
                first = start + 1 if state.wrong_range else start
                self.send_header(
                    "Content-Range", f"bytes {first}-{len(state.content) - 1}/{len(state.content)}"
                )
            if not state.no_length:
                self.send_header("Content-Length", str(state.claimed or len(body)))
            self.end_headers()
            self.wfile.write(body[: state.cut_after.pop(0)] if state.cut_after else body)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        state.url = f"http://127.0.0.1:{running.server_address[1]}/file.zip"
        yield state
        released.set()
        running.shutdown()
        thread.join()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "new" / "file.zip"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def test_a_plain_download_is_reported_and_checked(server: Server, target: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    assert fetch(server.url, target, len(CONTENT), DIGEST, report=lambda *now: seen.append(now)) == target
    assert target.read_bytes() == CONTENT
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert not part_path(target).exists()


def test_a_file_that_is_there_is_not_fetched_again(server: Server, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(CONTENT)
    fetch(server.url, target, len(CONTENT))
    assert server.requests == []
    with pytest.raises(DownloadError, match=r"file\.zip has 1,000,003 bytes, expected 7: delete it"):
        fetch(server.url, target, 7)


def test_cut_connections_are_resumed_where_they_broke(server: Server, target: Path) -> None:
    server.cut_after = [300_000, 0, 200_000]
    fetch(server.url, target, len(CONTENT), DIGEST, backoff=0.001)
    assert target.read_bytes() == CONTENT
    assert server.requests == ["all", "bytes=300000-", "bytes=300000-", "bytes=500000-"]


def test_a_later_run_goes_on_with_the_partial_file(server: Server, target: Path) -> None:
    server.cut_after = [400_000, 0]
    with pytest.raises(
        DownloadError, match=r"gave up after 2 attempts .*400,000 of 1,000,003.* are kept in .*part"
    ):
        fetch(server.url, target, retries=1, backoff=0.001)
    assert not target.exists()
    assert part_path(target).stat().st_size == 400_000
    fetch(server.url, target, sha256=DIGEST)
    assert server.requests[-1] == "bytes=400000-"
    assert target.read_bytes() == CONTENT


def test_progress_renews_the_patience(server: Server, target: Path) -> None:
    server.cut_after = [100_000] * 9
    fetch(server.url, target, len(CONTENT), DIGEST, retries=1, backoff=0.001)
    assert target.read_bytes() == CONTENT
    assert len(server.requests) == 10


def test_a_server_without_ranges_starts_over_and_is_given_up_in_the_end(server: Server, target: Path) -> None:
    server.ranges = False
    server.cut_after = [300_000]
    fetch(server.url, target, len(CONTENT), DIGEST, backoff=0.001)
    assert target.read_bytes() == CONTENT
    target.unlink()
    server.cut_after = [300_000] * 20
    with pytest.raises(DownloadError, match="gave up after 4 attempts"):
        fetch(server.url, target, len(CONTENT), DIGEST, retries=3, backoff=0.001)


def test_a_complete_partial_file_needs_no_request(server: Server, target: Path) -> None:
    target.parent.mkdir()
    part_path(target).write_bytes(CONTENT)
    fetch(server.url, target, len(CONTENT), DIGEST)
    assert server.requests == []
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("size", [None, len(CONTENT)])
def test_a_partial_file_that_is_too_long_is_thrown_away(
    size: int | None, server: Server, target: Path
) -> None:
    target.parent.mkdir()
    part_path(target).write_bytes(CONTENT + b"more")
    fetch(server.url, target, size, DIGEST, backoff=0.001)
    assert target.read_bytes() == CONTENT


def test_without_any_length_the_end_is_the_end(server: Server, target: Path) -> None:
    server.no_length = True
    seen: list[int | None] = []
    fetch(server.url, target, sha256=DIGEST, report=lambda done, total: seen.append(total))
    assert set(seen) == {None}
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("status", [503, 429])
def test_passing_trouble_is_waited_out(status: int, server: Server, target: Path) -> None:
    server.status = [status, status]
    fetch(server.url, target, sha256=DIGEST, backoff=0.001)
    assert server.requests == ["all"] * 3


@pytest.mark.parametrize("status", [404, 403])
def test_a_refusal_is_final(status: int, server: Server, target: Path) -> None:
    server.status = [status]
    with pytest.raises(DownloadError, match=f"the server answers {status}"):
        fetch(server.url, target)
    assert server.requests == ["all"]


def test_a_server_that_offers_another_size_is_refused_at_once(server: Server, target: Path) -> None:
    with pytest.raises(DownloadError, match="the server offers 1,000,003 bytes, expected 5,000,000"):
        fetch(server.url, target, 5_000_000)
    assert len(server.requests) == 1
    assert not part_path(target).exists()


def test_a_server_that_promises_more_than_it_sends(server: Server, target: Path) -> None:
    server.claimed = len(CONTENT) + 50
    with pytest.raises(DownloadError, match="gave up after 3 attempts"):
        fetch(server.url, target, retries=2, backoff=0.001)
    assert not target.exists()


def test_a_server_that_sends_more_than_expected(server: Server, target: Path) -> None:
    server.no_length = True
    with pytest.raises(DownloadError, match="sends more than the 1,000 bytes expected"):
        fetch(server.url, target, 1000)
    assert not target.exists()


def test_a_server_that_resumes_elsewhere(server: Server, target: Path) -> None:
    target.parent.mkdir()
    part_path(target).write_bytes(CONTENT[:1000])
    server.wrong_range = True
    with pytest.raises(DownloadError, match="asked for the bytes from 1,000 on, the server sends 1001-"):
        fetch(server.url, target)


def test_other_content_of_the_right_size(server: Server, target: Path) -> None:
    server.content = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    with pytest.raises(
        DownloadError, match=f"has the SHA-256 [0-9a-f]{{64}}, expected {DIGEST}; it was deleted"
    ):
        fetch(server.url, target, len(CONTENT), DIGEST)
    assert list(target.parent.iterdir()) == []


def test_refused_connection(target: Path) -> None:
    begun = time.monotonic()
    with pytest.raises(DownloadError, match=r"http://127\.0\.0\.1:1/x: gave up"):
        fetch("http://127.0.0.1:1/x", target, retries=1, backoff=0.001)
    with pytest.raises(DownloadError, match=r"http://127\.0\.0\.1:1/x cannot be reached .*refused"):
        probe("http://127.0.0.1:1/x")
    assert time.monotonic() - begun < 5


def test_probe(server: Server) -> None:
    assert probe(server.url) == len(CONTENT)
    assert server.requests == ["HEAD"]
    server.no_length = True
    assert probe(server.url) is None
    server.head_status = 405
    assert probe(server.url) is None
    server.head_status = 404
    with pytest.raises(DownloadError, match="the server answers 404 Not Found"):
        probe(server.url)
    server.silent = True
    begun = time.monotonic()
    with pytest.raises(DownloadError, match="cannot be reached"):
        probe(server.url, timeout=0.2)
    assert time.monotonic() - begun < 2


def test_only_the_web(target: Path, tmp_path: Path) -> None:
    for call in (lambda: probe(f"file://{tmp_path}"), lambda: fetch(f"file://{tmp_path}", target)):
        with pytest.raises(ValueError, match="must begin with http:// or https://"):
            call()
