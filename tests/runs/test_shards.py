"""A training on shards that is broken off in the middle of an epoch ends as if it had not been."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import Tensor

from sharpkd.checkpoint import read_lightning
from sharpkd.data.batch import Batch
from sharpkd.data.folder import FolderSource
from sharpkd.data.shards.writer import ShardWriter
from sharpkd.modules.restoration import RestorationModule

Train = Callable[..., Path]


@pytest.fixture(scope="module")
def shards(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ten pictures as archives of three."""
    folder = tmp_path_factory.mktemp("archives") / "shards"
    writer = ShardWriter(min_side=32, shard_images=3, workers=1)
    writer.write(FolderSource(str(photos), val_fraction=0.2), folder)
    return folder


def test_resume_auto_continues_with_the_samples_that_were_left(
    train_here: Train, tiny: list[str], shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """7 steps an epoch; the power goes in the 7th, behind the validation that the 6th is saved before."""
    kept = [item for item in tiny if not item.startswith(("data=", "data.train_dir=", "data.val_fraction="))]
    overrides = [*kept, "data=shards", f"data.train_dir={shards}", "data.shuffle_buffer=16"]
    overrides += ["experiment=scratch", "trainer.max_steps=12", "trainer.val_check_interval=6"]
    overrides += ["callbacks.last.every_n_train_steps=5"]
    seen: dict[str, list[list[str]]] = {"whole": [], "broken": [], "resumed": []}
    step, now = RestorationModule.training_step, "whole"

    def watched(module: RestorationModule, batch: Batch, index: int) -> Tensor:
        if now == "broken" and module.global_step == 6:
            raise RuntimeError("the power went")
        seen[now].append([*batch.name, f"{batch.degraded.double().sum():.6f}"])
        return step(module, batch, index)

    monkeypatch.setattr(RestorationModule, "training_step", watched)
    whole = train_here("whole", *overrides)
    now = "broken"
    with pytest.raises(RuntimeError, match="the power went"):
        train_here("again", *overrides)
    checkpoint = read_lightning(whole.with_name("again") / "checkpoints" / "last.ckpt")
    assert (checkpoint["global_step"], checkpoint["epoch"]) == (6, 0)
    now = "resumed"
    again = train_here("again", *overrides, "data.workers=1", "resume=auto")

    assert len(seen["whole"]) == 12
    assert seen["broken"] == seen["whole"][:6]
    assert seen["resumed"] == seen["whole"][6:]
    expected, found = (load_file(folder / "net.safetensors") for folder in (whole, again))
    assert expected.keys() == found.keys()
    assert all(expected[key].equal(found[key]) for key in expected)
