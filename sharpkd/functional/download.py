"""Downloads of large files that survive cut connections, and are checked before they get their name."""

from __future__ import annotations

import hashlib
import http.client
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

CHUNK = 1 << 18
HEADERS = {"User-Agent": "sharpkd", "Accept-Encoding": "identity"}
WORTH_A_RETRY = {408, 425, 429, 500, 502, 503, 504}

Report = Callable[[int, int | None], None]
"""Called with the bytes that are here and the bytes in all (None: the server does not tell)."""


class DownloadError(OSError):
    """A file cannot be had, or is not the one expected; the message names the address and the reason."""


class _Retry(Exception):  # noqa: N818  # a signal, no error
    """What may be over in a moment."""


def part_path(target: Path) -> Path:
    """Where the bytes lie while a download of ``target`` is unfinished."""
    return target.with_name(target.name + ".part")


def probe(url: str, timeout: float = 5.0) -> int | None:
    """Ask the server for a file's size in bytes, without fetching it; None where it does not tell.

    Raises:
        DownloadError: no answer within ``timeout`` seconds (name resolution included), or no such file.
    """
    answer: list[int | Exception | None] = []

    def ask() -> None:
        try:
            request = urllib.request.Request(_checked(url), headers=HEADERS, method="HEAD")
            with urllib.request.urlopen(request, timeout=timeout) as response:
                answer.append(_number(response.headers.get("Content-Length")))
        except Exception as error:
            answer.append(error)

    # Sockets' timeouts do not cover name resolution, which alone can take half a minute without a network.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(timeout)
    result = answer[0] if answer else TimeoutError(f"no answer within {timeout:g} seconds")
    if isinstance(result, urllib.error.HTTPError):
        with result:
            if result.code in (403, 405, 501):  # this server knows only GET
                return None
            raise DownloadError(f"{url}: the server answers {result.code} {result.reason}") from result
    if isinstance(result, ValueError):
        raise result
    if isinstance(result, Exception):
        raise DownloadError(f"{url} cannot be reached ({_reason(result)})") from result
    return result


def fetch(
    url: str,
    target: Path,
    size: int | None = None,
    sha256: str | None = None,
    retries: int = 5,
    backoff: float = 1.0,
    timeout: float = 30.0,
    report: Report | None = None,
) -> Path:
    """Download ``url`` to ``target``, going on where an earlier attempt stopped.

    Bytes are collected in ``target.part``, which is kept after every failure that a later run can go on from.
    ``target`` appears only when all checks have passed. One that exists is only checked for its size.

    Args:
        url: http or https.
        target: file to write; its folder is made.
        size: bytes expected; None believes the server's Content-Length.
        sha256: hexadecimal digest expected; None does not check.
        retries: attempts in a row without any new byte before giving up, after the first.
        backoff: seconds before the first of these, doubled for each further one.
        timeout: seconds without an answer or data that count as a cut connection.
        report: called as bytes arrive.

    Returns:
        ``target``.

    Raises:
        DownloadError: the server refuses, cannot be reached, or offers a file of another size or content.
        ValueError: the address is not http or https.
    """
    _checked(url)
    if target.exists():
        if size is not None and target.stat().st_size != size:
            found = f"{target.stat().st_size:,} bytes"
            raise DownloadError(f"{target} has {found}, expected {size:,}: delete it to download it again")
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = part_path(target)
    most, failures = _length(part), 0
    while True:
        try:
            _continue(url, part, size, timeout, report)
            break
        except _Retry as error:
            failures = 1 if _length(part) > most else failures + 1
            most = max(most, _length(part))
            if failures > retries:
                raise DownloadError(
                    f"{url}: gave up after {failures} attempts ({error}); the {_length(part):,} bytes "
                    f"received are kept in {part}, and the next run goes on from there"
                ) from error
            time.sleep(backoff * 2 ** (failures - 1))
    _check_hash(url, part, sha256)
    part.replace(target)
    return target


def _continue(url: str, part: Path, size: int | None, timeout: float, report: Report | None) -> None:
    """Fetch what is missing of ``part``.

    Raises:
        _Retry: the connection failed or ended early.
        DownloadError: another attempt would end the same way.
    """
    here = _length(part)
    if size is not None and here > size:
        part.unlink()
        here = 0
    if size is not None and here == size:
        return
    headers = HEADERS | ({"Range": f"bytes={here}-"} if here else {})
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=timeout
        ) as response:
            if here and response.status != http.client.PARTIAL_CONTENT:
                here = 0  # the server does not know ranges and starts over
            total = _total(url, response, here, size)
            with part.open("ab" if here else "wb") as file:
                _copy(url, response, file.write, here, total, report)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                part.unlink(missing_ok=True)
                raise _Retry(
                    "the server refused to go on with the partial file, which was deleted"
                ) from error
            if error.code in WORTH_A_RETRY:
                raise _Retry(f"the server answers {error.code} {error.reason}") from error
            raise DownloadError(f"{url}: the server answers {error.code} {error.reason}") from error
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
        raise _Retry(_reason(error)) from error


def _copy(
    url: str,
    response: http.client.HTTPResponse,
    write: Callable[[bytes], int],
    here: int,
    total: int | None,
    report: Report | None,
) -> None:
    while chunk := response.read(CHUNK):
        write(chunk)
        here += len(chunk)
        if total is not None and here > total:
            raise DownloadError(f"{url}: the server sends more than the {total:,} bytes expected")
        if report is not None:
            report(here, total)
    if total is not None and here < total:
        raise _Retry(f"the connection ended at {here:,} of {total:,} bytes")


def _total(url: str, response: http.client.HTTPResponse, here: int, size: int | None) -> int | None:
    """Bytes of the whole file, as far as known; the server's word must agree with ``size``."""
    length = _number(response.headers.get("Content-Length"))
    offered = None if length is None else here + length
    if here:
        span, _, whole = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
        if not span.startswith(f"{here}-"):
            raise DownloadError(
                f"{url}: asked for the bytes from {here:,} on, the server sends {span or 'others'}"
            )
        offered = _number(whole) or offered
    if size is not None and offered is not None and offered != size:
        raise DownloadError(f"{url}: the server offers {offered:,} bytes, expected {size:,}")
    return offered if size is None else size


def _check_hash(url: str, part: Path, sha256: str | None) -> None:
    if sha256 is None:
        return
    with part.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256.lower():
        part.unlink()
        raise DownloadError(
            f"{url}: the file received has the SHA-256 {found}, expected {sha256}; it was deleted, run again"
        )


def _checked(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"address must begin with http:// or https://, found {url!r}")
    return url


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


def _reason(error: Exception) -> str:
    inner = getattr(error, "reason", None)
    return str(inner or error) or type(error).__name__
