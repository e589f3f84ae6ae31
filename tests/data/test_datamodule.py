from __future__ import annotations

import hashlib
import inspect
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from torch import Tensor

from sharpkd.data.batch import Batch
from sharpkd.data.datamodule import ImageDataModule
from sharpkd.data.degradation import GaussianBlur
from sharpkd.data.folder import FolderDataModule

from .conftest import picture

Make = Callable[..., Path]

pytestmark = [
    # Two cores deserve no more workers than the tests ask for.
    pytest.mark.filterwarnings("ignore:.*does not have many workers:UserWarning"),
    # A resumed run here has no reason to save anything.
    pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint:UserWarning"),
    # Lightning 2.6 uses what torch 2.13 deprecates.
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),
]


@pytest.fixture
def data(make_folder: Make, tmp_path: Path) -> Callable[..., FolderDataModule]:
    """``data(**settings)``: 5 training images of 48 x 56, 2 for validation."""
    train, val = make_folder("train", 5), make_folder("val", 2, first=20, height=30, width=40)

    def make(**settings: Any) -> FolderDataModule:
        given = {"train_dir": str(train), "val_dir": str(val), "degradation": GaussianBlur(), "workers": 0}
        sizes = {"cache_dir": tmp_path / "cache", "batch_size": 4, "crop_size": 16}
        return FolderDataModule(**{**given, **sizes, **settings})

    return make


def content(batch: Batch) -> str:
    """What the batch holds, short enough for a failure's message."""
    pixels = batch.sharp.numpy().tobytes() + batch.degraded.numpy().tobytes()
    return " ".join([*batch.name, hashlib.sha256(pixels).hexdigest()[:12]])


def test_training_batches(data: Callable[..., FolderDataModule]) -> None:
    module = data(crops_per_image=3)
    module.prepare_data()
    module.setup("fit")
    batches = list(module.train_dataloader())
    assert len(batches) == 15 // 4
    for batch in batches:
        assert batch.sharp.shape == batch.degraded.shape == (4, 3, 16, 16)
        assert batch.sharp.dtype == torch.float32
        assert 0 <= batch.degraded.min() <= batch.degraded.max() <= 1
        assert batch.condition is not None
        assert batch.condition.shape == (4, 1)


def test_validation_takes_whole_images_that_never_change(data: Callable[..., FolderDataModule]) -> None:
    module = data(seed=1)
    first = [content(batch) for batch in module.val_dataloader()]
    assert [text.split()[0] for text in first] == ["a20", "a21"]
    assert [content(batch) for batch in module.val_dataloader()] == first
    assert [content(batch) for batch in data(seed=2, workers=2).val_dataloader()] == first
    sharp = next(iter(module.val_dataloader())).sharp[0].permute(1, 2, 0) * 255
    np.testing.assert_array_equal(sharp.round().byte().numpy(), picture(20, 30, 40))


def test_validation_on_centre_crops(data: Callable[..., FolderDataModule]) -> None:
    (batch,) = data(val_crop=24).val_dataloader()
    assert batch.sharp.shape == (2, 3, 24, 24)
    expected = picture(20, 30, 40)[3:27, 8:32]
    np.testing.assert_array_equal((batch.sharp[0].permute(1, 2, 0) * 255).round().byte().numpy(), expected)


def test_a_limit_spreads_over_the_validation_images(
    data: Callable[..., FolderDataModule], make_folder: Make
) -> None:
    many = make_folder("many", 9)
    names = [batch.name[0] for batch in data(val_dir=str(many), val_limit=3).val_dataloader()]
    assert names == ["a00", "a03", "a06"]


def test_fixed_crops_set_the_length_of_an_epoch(data: Callable[..., FolderDataModule]) -> None:
    loader = data(fixed_crops=32).train_dataloader()
    assert len(loader) == 8
    loader.sampler.set_epoch(0)
    first = {bytes(crop) for batch in loader for crop in batch.degraded.numpy()}
    loader.sampler.set_epoch(1)
    assert {bytes(crop) for batch in loader for crop in batch.degraded.numpy()} == first
    assert len(first) == 32


def test_seeds_differ(data: Callable[..., FolderDataModule]) -> None:
    first, second, again = (content(next(iter(data(seed=seed).train_dataloader()))) for seed in (1, 2, 1))
    assert first == again
    assert first != second


def unusual_images(folder: Path) -> None:
    """Every kind of readable file, each at least 16 pixels large."""
    rgb = Image.fromarray(picture(0, 40, 40))
    rgb.convert("L").save(folder / "grey.png")
    rgb.convert("1").save(folder / "bilevel.png")
    rgb.convert("P").save(folder / "palette.png")
    rgb.convert("RGBA").save(folder / "alpha.png")
    rgb.convert("CMYK").save(folder / "cmyk.jpg")
    deep = np.random.default_rng(0).integers(0, 65536, (40, 40), dtype=np.uint16)
    Image.fromarray(deep).save(folder / "deep.png")


def bad_images(folder: Path) -> list[str]:
    """Every kind of unusable file; returns their names."""
    buffer = io.BytesIO()
    Image.fromarray(picture(0, 60, 60)).save(buffer, "PNG")
    whole = buffer.getvalue()
    (folder / "bad_corrupt.png").write_bytes(whole[:200] + b"\0" * 400 + whole[600:])
    (folder / "bad_empty.png").write_bytes(b"")
    Image.fromarray(picture(0, 15, 90)).save(folder / "bad_small.png")
    (folder / "bad_text.webp").write_text("hello")
    (folder / "bad_truncated.png").write_bytes(whole[:3000])
    return ["bad_corrupt.png", "bad_empty.png", "bad_small.png", "bad_text.webp", "bad_truncated.png"]


def test_unusual_images_are_read_and_bad_ones_named_once(
    data: Callable[..., FolderDataModule], tmp_path: Path
) -> None:
    unusual_images(tmp_path / "train")
    bad = bad_images(tmp_path / "train")
    module = data(crops_per_image=4)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        module.prepare_data()
        module.setup("fit")
        module.setup("validate")
        names = {name for batch in module.train_dataloader() for name in batch.name}
    assert names == {f"a0{i}" for i in range(5)} | {"grey", "bilevel", "palette", "alpha", "cmyk", "deep"}
    (message,) = [str(warning.message) for warning in caught]
    head, *lines = message.splitlines()
    assert head == "training goes on without 5 unusable image(s):"
    assert [Path(line.split(": ")[0].strip()).name for line in lines] == bad
    assert lines[2].endswith("bad_small.png: 90x15 is smaller than 16x16")


def test_strict_makes_a_bad_image_an_error(data: Callable[..., FolderDataModule], tmp_path: Path) -> None:
    bad_images(tmp_path / "train")
    with pytest.raises(ValueError, match=r"data\.strict=true, and 5 unusable image\(s\):\n.*bad_corrupt"):
        data(strict=True).prepare_data()


def test_a_folder_with_nothing_usable_is_an_error_that_names_it(
    data: Callable[..., FolderDataModule], tmp_path: Path
) -> None:
    folder = tmp_path / "nothing"
    folder.mkdir()
    with pytest.raises(FileNotFoundError, match=rf"no usable image in {folder}.*: there is none"):
        data(train_dir=str(folder)).prepare_data()
    bad_images(folder)
    with pytest.raises(FileNotFoundError, match=rf"no usable image in {folder}(.|\n)*bad_empty\.png: .*emp"):
        data(train_dir=str(folder)).prepare_data()


def test_settings_out_of_range(data: Callable[..., FolderDataModule]) -> None:
    with pytest.raises(ValueError, match=r"data\.val_limit must be at least 1, or null, got 0"):
        data(val_limit=0)
    with pytest.raises(ValueError, match=r"data\.rotation=10 needs data\.reduction of at least 1\.5"):
        data(rotation=10)
    with pytest.raises(ValueError, match=r"20 samples do not fill one batch of 21"):
        data(batch_size=21).train_dataloader()


def test_the_signature_shows_every_setting() -> None:
    own, every = (set(inspect.signature(kind).parameters) for kind in (FolderDataModule, ImageDataModule))
    assert own == (every - {"source"}) | {"train_dir", "val_dir", "val_fraction"}
    with pytest.raises(TypeError, match="crop_sise"):
        FolderDataModule(".", degradation=None, cache_dir=".", crop_sise=3)


class Recorder(pl.LightningModule):
    """Remembers the batches that it finished; fails in the middle of one if asked to."""

    def __init__(self, fail_at: int | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.fail_at = fail_at
        self.seen: list[str] = []

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        if self.global_step == self.fail_at:
            raise RuntimeError("the power went")
        self.seen.append(content(batch))
        return self.weight.sum() * batch.sharp.mean()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.log("val", batch.sharp.mean(), batch_size=len(batch))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class SaveOnException(Callback):
    def __init__(self, path: Path) -> None:
        self.path = path

    def on_exception(self, trainer: pl.Trainer, *_: Any) -> None:
        trainer.save_checkpoint(self.path)


def fit(
    module: FolderDataModule,
    callback: Callback | None = None,
    resume: Path | None = None,
    fail_at: int | None = None,
    validate_every: int | None = 3,
) -> list[str]:
    """Train 13 batches, 5 an epoch, validating every few (None: every epoch); returns those trained on."""
    recorder = Recorder(fail_at)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=13,
        val_check_interval=validate_every or 1.0,
        check_val_every_n_epoch=None if validate_every else 1,
        use_distributed_sampler=False,
        logger=False,
        callbacks=callback,
        enable_checkpointing=isinstance(callback, ModelCheckpoint),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(recorder, datamodule=module, ckpt_path=resume, weights_only=True if resume else None)
    return recorder.seen


@pytest.mark.parametrize("workers", [0, 2])
def test_training_resumed_from_any_step_sees_the_same_batches(
    data: Callable[..., FolderDataModule], tmp_path: Path, workers: int
) -> None:
    every = ModelCheckpoint(tmp_path / "saved", "{step}", every_n_train_steps=1, save_top_k=-1)
    whole = fit(data(workers=workers), every)
    assert len(set(whole)) == len(whole) == 13
    for step in range(1, 13) if workers == 0 else (4, 5):
        resumed = fit(data(workers=workers), resume=tmp_path / "saved" / f"step={step}.ckpt")
        assert resumed == whole[step:], f"resumed after step {step}"


@pytest.mark.parametrize(
    ("validate_every", "moment", "steps"),
    [
        (3, {"monitor": "val"}, [3, 6, 9, 12]),
        (5, {"monitor": "val"}, [5, 10]),
        (5, {"every_n_train_steps": 1}, [4, 5, 6]),
        (None, {"monitor": "val"}, [5, 10]),
        (None, {"every_n_train_steps": 1}, [4, 5, 6]),
        (None, {"every_n_epochs": 1, "save_on_train_epoch_end": True}, [5, 10]),
    ],
)
def test_checkpoints_of_other_moments_resume_too(
    data: Callable[..., FolderDataModule],
    tmp_path: Path,
    validate_every: int | None,
    moment: dict[str, Any],
    steps: list[int],
) -> None:
    saving = ModelCheckpoint(tmp_path / "saved", "{step}", save_top_k=-1, **moment)
    whole = fit(data(), saving, validate_every=validate_every)
    for step in steps:
        checkpoint = tmp_path / "saved" / f"step={step}.ckpt"
        resumed = fit(data(), resume=checkpoint, validate_every=validate_every)
        assert resumed == whole[step:], f"resumed after step {step}"


def test_a_batch_that_failed_in_the_middle_comes_again(
    data: Callable[..., FolderDataModule], tmp_path: Path
) -> None:
    whole = fit(data())
    with pytest.raises(RuntimeError, match="the power went"):
        fit(data(), SaveOnException(tmp_path / "failed.ckpt"), fail_at=7)
    assert fit(data(), resume=tmp_path / "failed.ckpt") == whole[7:]
