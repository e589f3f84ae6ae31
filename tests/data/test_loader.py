from __future__ import annotations

import hashlib
import itertools
import multiprocessing
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from sharpkd.data.batch import Batch
from sharpkd.data.cache import ImageCache
from sharpkd.data.crops import CropDataset
from sharpkd.data.degradation import GaussianBlur
from sharpkd.data.loader import ResumableLoader
from sharpkd.data.sampler import EpochSampler
from sharpkd.data.workers import start_method

Make = Callable[..., ResumableLoader]


@pytest.fixture
def make(make_folder: Callable[..., Path], tmp_path: Path) -> Make:
    """``make(workers=0, batch_size=4)``: a loader of 24 crops an epoch."""
    folder = make_folder(count=6)

    def loader(
        workers: int = 0, batch_size: int = 4, in_progress: Callable[[], int] | None = None
    ) -> ResumableLoader:
        cache = ImageCache(sorted(folder.iterdir()), tmp_path / "cache")
        dataset = CropDataset(cache, GaussianBlur(), crop_size=16, crops_per_image=4, seed=1)
        sampler = EpochSampler(len(dataset), batch_size, seed=1)
        return ResumableLoader(dataset, sampler, workers, in_progress=in_progress)

    return loader


def content(batch: Batch) -> str:
    """What the batch holds, short enough for a failure's message."""
    pixels = batch.sharp.numpy().tobytes() + batch.degraded.numpy().tobytes()
    return " ".join([*batch.name, hashlib.sha256(pixels).hexdigest()[:12]])


def epoch(loader: ResumableLoader, number: int) -> list[str]:
    loader.sampler.set_epoch(number)
    return [content(batch) for batch in loader]


def test_any_number_of_workers_gives_the_same_batches(make: Make) -> None:
    expected = {number: epoch(make(), number) for number in range(3)}
    assert len(expected[0]) == len(make()) == 6
    assert expected[0] != expected[1] != expected[2]
    for workers in (1, 2):
        loader = make(workers)
        assert {number: epoch(loader, number) for number in range(3)} == expected


@pytest.mark.parametrize(("before", "after"), [(0, 0), (2, 0), (0, 1), (1, 2)])
def test_a_loaded_state_continues_in_the_middle(make: Make, before: int, after: int) -> None:
    expected = {number: epoch(make(), number) for number in (1, 2)}
    first = make(before)
    first.sampler.set_epoch(1)
    batches = iter(first)
    taken = [content(batch) for batch in itertools.islice(batches, 4)]
    state = first.state_dict()
    assert state == {"epoch": 1, "batches": 4}
    second = make(after)
    second.load_state_dict(state)
    assert len(second) == 6
    rest = [content(batch) for batch in second]
    assert taken + rest == expected[1]
    assert epoch(second, 2) == expected[2]
    assert epoch(second, 1) == expected[1]


def test_lightning_makes_the_iterator_before_it_sets_the_epoch(make: Make) -> None:
    expected = epoch(make(), 3)
    loader = make(workers=1)
    batches = iter(loader)
    loader.sampler.set_epoch(3)
    assert [content(batch) for batch in batches] == expected


def test_a_state_saved_after_the_last_batch_continues_with_the_next_epoch(make: Make) -> None:
    first = make()
    expected = {number: epoch(first, number) for number in (1, 2)}
    first.sampler.set_epoch(0)
    assert len(list(first)) == 6
    assert first.state_dict() == {"epoch": 0, "batches": 6}
    second = make()
    second.load_state_dict(first.state_dict())
    assert second.state_dict() == first.state_dict()
    # Lightning counts one epoch too many here.
    assert epoch(second, 2) == expected[1]
    assert second.state_dict() == {"epoch": 1, "batches": 6}
    second.sampler.set_epoch(3)
    assert second.state_dict() == {"epoch": 2, "batches": 0}
    assert epoch(second, 3) == expected[2]


def test_the_state_of_an_epoch_that_has_not_begun(make: Make) -> None:
    loader = make()
    assert loader.state_dict() == {"epoch": 0, "batches": 0}
    epoch(loader, 0)
    loader.sampler.set_epoch(1)
    assert loader.state_dict() == {"epoch": 1, "batches": 0}


def test_prefetched_batches_do_not_count(make: Make) -> None:
    loader = make(workers=2)
    batches = iter(loader)
    next(batches)
    assert loader.state_dict() == {"epoch": 0, "batches": 1}


def test_a_batch_in_progress_comes_again(make: Make) -> None:
    loader = make(in_progress=lambda: 1)
    batches = iter(loader)
    next(batches)
    second = content(next(batches))
    state = loader.state_dict()
    assert state == {"epoch": 0, "batches": 1}
    resumed = make()
    resumed.load_state_dict(state)
    assert content(next(iter(resumed))) == second


def test_an_epoch_can_be_repeated_and_left_early(make: Make) -> None:
    loader = make(workers=1)
    expected = epoch(loader, 0)
    next(iter(loader))
    assert epoch(loader, 0) == expected


def test_a_state_of_other_data_is_refused(make: Make) -> None:
    with pytest.raises(ValueError, match=r"7 batches into an epoch that has 6: .* data\.batch_size"):
        make().load_state_dict({"epoch": 0, "batches": 7})


@pytest.fixture
def opencv_with_threads() -> Iterator[None]:
    """OpenCV in this process with threads that have worked, as after blurring a large image."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(4)
    cv2.GaussianBlur(np.zeros((1500, 1500, 3), np.uint8), (9, 9), 2)
    yield
    cv2.setNumThreads(before)


@pytest.mark.timeout(60)
def test_workers_start_beside_opencvs_threads(make: Make, opencv_with_threads: None) -> None:
    alone = [content(batch) for batch in make(workers=0)]
    for _ in range(3):
        cv2.GaussianBlur(np.zeros((1500, 1500, 3), np.uint8), (9, 9), 2)
        assert [content(batch) for batch in make(workers=1)] == alone
    assert cv2.getNumThreads() == 4


def children() -> set[int]:
    """Process ids of this process's children that live; other tests' workers may be among them."""
    return {child.pid for child in multiprocessing.active_children() if child.pid is not None}


def test_workers_hear_no_signals_of_a_group(make: Make) -> None:
    """torchrun, ``timeout`` and terminals send them to every process of a group."""
    expected = epoch(make(), 0)
    others = children()
    loader = make(workers=2)
    batches = iter(loader)
    taken = [content(next(batches))]
    workers = sorted(children() - others)
    assert len(workers) == 2
    signals = [int(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)]
    sends = f"import os; [os.kill(pid, number) for pid in {workers} for number in {signals}]"
    subprocess.run([sys.executable, "-c", sends], check=True)
    assert [*taken, *map(content, batches)] == expected
    assert epoch(loader, 0) == expected
    assert children() >= set(workers)


def test_workers_end_when_their_process_says_so(make: Make) -> None:
    """torch does so where a worker does not answer, and multiprocessing at an exit."""
    others = children()
    batches = iter(make(workers=1))
    next(batches)
    (worker,) = [child for child in multiprocessing.active_children() if child.pid not in others]
    worker.terminate()
    # less than the five seconds in which a worker looks whether it is alone
    worker.join(3)
    assert worker.exitcode == 0


def test_how_workers_are_started(monkeypatch: pytest.MonkeyPatch) -> None:
    methods = multiprocessing.get_all_start_methods()
    assert start_method(1) is None
    for method, expected in (("spawn", None), ("loky", methods[0]), ("loky_init_main", methods[0])):
        monkeypatch.setattr(multiprocessing, "get_start_method", lambda allow_none, found=method: found)
        assert start_method(1) == expected
        assert start_method(0) is None
