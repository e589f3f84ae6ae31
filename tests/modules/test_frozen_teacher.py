"""Kept answers, tiles and a device of its own: what the teacher says does not depend on them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sharpkd.data.answer_store import BYTES_PER_GB
from sharpkd.functional.tiles import GLOBAL_HALO
from sharpkd.modules.frozen_teacher import FrozenTeacher, checked_device
from sharpkd.modules.teacher_answers import TeacherAnswers
from sharpkd.nets.pixel_student import PixelStudent


class Net(nn.Module):
    """Answers with the image, the condition added; remembers what it was asked."""

    def __init__(self, factor: float = 0.5) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))
        self.seen: list[Tensor] = []

    def forward(self, degraded: Tensor, condition: Tensor | None = None) -> Tensor:
        self.seen.append(degraded)
        told = 0.0 if condition is None else condition[:, :1, None, None]
        return self.factor * degraded + told


def images(count: int, seed: int = 0, side: int = 6) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def pixel_student() -> PixelStudent:
    torch.manual_seed(0)
    net = PixelStudent(unshuffle=2, width=8, depth=3)
    nn.init.normal_(net.tail.weight, std=0.05)
    return net


@pytest.fixture
def remembering(tmp_path: Path) -> Callable[..., tuple[FrozenTeacher, Net]]:
    """A teacher with kept answers, and its net."""

    def build(sha256: str = "abc", kept_as: str = "fp16", **identity: object) -> tuple[FrozenTeacher, Net]:
        net = Net()
        known = {"sha256": sha256, "precision": "fp32", "tile": None, **identity}
        answers = TeacherAnswers(str(tmp_path), "Net", known, BYTES_PER_GB, kept_as)
        return FrozenTeacher(net, sha256, "Net", answers=answers), net

    return build


Remembering = Callable[..., tuple[FrozenTeacher, Net]]


def test_the_net_runs_once_for_what_is_missing_and_the_order_is_kept(remembering: Remembering) -> None:
    teacher, net = remembering()
    batch = images(6)
    teacher.observe(batch[[4, 1]])
    assert [len(seen) for seen in net.seen] == [2]
    output = teacher.observe(batch).output
    assert len(net.seen) == 2
    assert net.seen[1].equal(batch[[0, 2, 3, 5]])
    assert output.dtype == torch.float32
    assert output.equal((0.5 * batch).half().float())
    assert teacher.reports()["cached"].item() == pytest.approx(2 / 6)
    again, fresh = remembering()
    assert again(batch.flip(0)).equal(output.flip(0))
    assert fresh.seen == []
    assert again.reports()["cached"].item() == 1.0
    assert teacher.summary()[0].endswith("2 outputs from teacher.cache=" + _folder(teacher) + ", 6 computed")


def _folder(teacher: FrozenTeacher) -> str:
    assert teacher.answers is not None
    return str(teacher.answers.store.folder)


def test_all_that_decides_an_answer_is_in_its_key(remembering: Remembering) -> None:
    batch, told = images(2), torch.tensor([[0.25], [0.5]])
    remembering()[0].observe(batch)
    other_pixels = batch.clone()
    other_pixels[:, 0, 0, 0] += 1e-6
    questions: list[tuple[dict[str, object], tuple[Tensor, Tensor | None]]] = [
        ({}, (other_pixels, None)),
        ({}, (batch.transpose(-1, -2), None)),
        ({}, (batch.reshape(2, 3, 4, 9), None)),
        ({}, (batch, told)),
        ({}, (batch, 2 * told)),
        ({"sha256": "abd"}, (batch, None)),
        ({"precision": "bf16"}, (batch, None)),
        ({"tile": 64}, (batch, None)),
        ({"kept_as": "uint8"}, (batch, None)),
    ]
    for settings, (asked, condition) in questions:
        teacher, net = remembering(**settings)
        output = teacher.observe(asked, (), condition).output
        assert [len(seen) for seen in net.seen] == [2], settings
        expected = net(asked, condition)
        torch.testing.assert_close(output, expected, rtol=0, atol=2e-3 if settings else 5e-4)


def test_what_is_kept_does_not_change_what_is_answered(remembering: Remembering) -> None:
    for kept_as in ("fp16", "uint8"):
        (first, _), (second, silent) = remembering(kept_as=kept_as), remembering(kept_as=kept_as)
        assert first(images(3)).equal(second(images(3)))
        assert silent.seen == []


def test_features_are_neither_kept_nor_tiled(remembering: Remembering) -> None:
    teacher, _ = remembering()
    message = "teacher Net: teacher.cache has its output alone, not the features ['middle']"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        teacher.observe(images(1), ["middle"])
    with pytest.raises(ValueError, match=r"^teacher Net: teacher\.tile has its output alone"):
        FrozenTeacher(pixel_student(), name="Net", tile=8).observe(images(1), ["middle"])


@pytest.mark.parametrize("tile", [1, 8, 13, 32])
@pytest.mark.parametrize("size", [(32, 32), (19, 45)])
def test_tiles_of_a_net_that_does_not_see_everything_are_exact(tile: int, size: tuple[int, int]) -> None:
    net = pixel_student()
    asked = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    seen: list[tuple[int, ...]] = []
    net.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
    tiled = FrozenTeacher(net, tile=tile)(asked)
    # the stride is 2 and the receptive field 15, so 8 pixels around a tile of even side
    side = tile + tile % 2
    assert all(max(shape[2:]) <= min(max(size), side + 16) for shape in seen)
    whole = max(size) <= tile
    assert len(seen) == (1 if whole else math.ceil(size[0] / side) * math.ceil(size[1] / side))
    torch.testing.assert_close(tiled, FrozenTeacher(pixel_student())(asked), rtol=0, atol=1e-6)


def test_tiles_of_a_net_that_enlarges_lie_where_they_belong() -> None:
    class Doubling(nn.Module):
        receptive_field = 1

        def forward(self, degraded: Tensor, condition: Tensor | None = None) -> Tensor:
            return degraded.repeat_interleave(2, -1).repeat_interleave(2, -2)

    asked = images(2, side=11)
    assert FrozenTeacher(Doubling(), tile=4)(asked).equal(Doubling()(asked))


def test_tiles_of_a_net_that_sees_everything_are_said_to_differ(caplog: pytest.LogCaptureFixture) -> None:
    class Centred(nn.Module):
        receptive_field = None

        def forward(self, degraded: Tensor, condition: Tensor | None = None) -> Tensor:
            return degraded - degraded.mean(dim=(2, 3), keepdim=True)

    FrozenTeacher(Centred(), name="Centred")
    assert caplog.messages == []
    teacher = FrozenTeacher(Centred(), name="Centred", tile=16)
    assert caplog.messages == [
        "teacher Centred: how far it sees is unknown or the whole image, so teacher.tile=16 changes its "
        f"answers (tiles are read with {GLOBAL_HALO} pixels around them)"
    ]
    asked = images(1, side=200)
    assert not teacher(asked).allclose(Centred()(asked), atol=1e-4)
    assert teacher(asked)[..., :16, :16].equal(Centred()(asked[..., :80, :80])[..., :16, :16])


def test_a_teacher_with_a_device_of_its_own_does_not_follow_the_student() -> None:
    """Moved with the owner: its dtype would change as well, which can be seen without a GPU."""
    owner = nn.ModuleDict({"follows": FrozenTeacher(Net()), "stays": FrozenTeacher(Net(), device="cpu")})
    owner.to(torch.float64)
    dtypes = {}
    for name, teacher in owner.items():
        assert isinstance(teacher, FrozenTeacher)
        dtypes[name] = next(teacher.module.parameters()).dtype
    assert dtypes == {"follows": torch.float64, "stays": torch.float32}
    stays = owner["stays"]
    assert isinstance(stays, FrozenTeacher)
    assert stays.device == torch.device("cpu")
    assert stays(images(1)).equal(0.5 * images(1))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_answers_come_back_to_the_device_of_the_question() -> None:
    asked, told = images(2), torch.rand(2, 1)
    here, there = FrozenTeacher(Net(), device="cpu"), FrozenTeacher(Net(), device="cuda")
    assert here(asked.cuda(), told.cuda()).is_cuda
    answer = there(asked, told)
    assert not answer.is_cuda
    torch.testing.assert_close(answer, here(asked, told))


def test_devices_that_are_not_there() -> None:
    with pytest.raises(ValueError, match=r"^teacher\.device is 'gpu'; expected cpu, cuda or cuda:NUMBER$"):
        checked_device("gpu")
    count = torch.cuda.device_count()
    there = ", ".join(["cpu", *(f"cuda:{index}" for index in range(count))])
    for name in (f"cuda:{count}", "meta"):
        with pytest.raises(ValueError, match=f"^teacher.device is '{name}'; this machine has {there}$"):
            FrozenTeacher(Net(), device=name)


def test_a_tile_has_pixels() -> None:
    with pytest.raises(ValueError, match=r"^teacher\.tile is 0; expected at least 1 pixel, or null"):
        FrozenTeacher(Net(), tile=0)


def test_the_check_runs_the_net_whatever_is_kept(remembering: Remembering) -> None:
    for _ in range(2):
        teacher, net = remembering()
        teacher.check(1)
        assert len(net.seen) == 1
        assert teacher.answers is not None
        assert (teacher.answers.hits, teacher.answers.misses) == (0, 0)
