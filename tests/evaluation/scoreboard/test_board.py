"""A whole scoreboard with trainings of two steps, most of them in this process."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from sharpkd.config import ConfigError, check, compose, instantiate
from sharpkd.evaluation.folder.evaluation import evaluate_folder
from sharpkd.evaluation.scoreboard import processes
from sharpkd.evaluation.scoreboard.board import DistillationScoreboard
from sharpkd.runs.folder import RunFolder, RunFolderError
from sharpkd.train import train

METHODS = '[scratch,{strong:["distillation=output","loss.delta=2"]}]'
QUICK = (
    "trainer=cpu",
    "trainer.enable_progress_bar=false",
    "callbacks.progress=null",
    "callbacks.training_curves=null",
    "data.crop_size=32",
    "data.batch_size=2",
    "data.val_crop=null",
    "data.workers=0",
    "runtime.threads=1",
)


def pictures(folder: Path, seed: int) -> Path:
    """Six 64x48 pictures with structure at several scales."""
    rng = np.random.default_rng(seed)
    for index in range(6):
        layers = [gaussian_filter(rng.standard_normal((48, 64, 3)), (s, s, 0)) * s for s in (0.5, 1.5, 4.0)]
        picture = np.clip(128 + 60 * np.sum(layers, axis=0), 0, 255).astype(np.uint8)
        Image.fromarray(picture).save(folder / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """To train on."""
    return pictures(tmp_path_factory.mktemp("photos"), 0)


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """To measure on."""
    return pictures(tmp_path_factory.mktemp("unseen"), 1)


@pytest.fixture
def command_line(photos: Path, unseen: Path, student_checkpoint: Path, tmp_path: Path) -> list[str]:
    """A scoreboard of tiny students on the pictures."""
    return [
        "what=distillation",
        "student={net:pixel_student,width:4,depth:2}",
        f"teacher={student_checkpoint}",
        "steps=2",
        f"train_dir={photos}",
        f"eval_dirs={unseen}",
        f"paths.cache_root={tmp_path}/cache",
        f"paths.output_root={tmp_path}/outputs",
        f"train=[{','.join(QUICK)}]".replace("[", '["').replace("]", '"]').replace(",", '","'),
    ]


def scoreboard(*overrides: str) -> tuple[DistillationScoreboard, Path]:
    """What the command builds, and the folder that it would use."""
    cfg = compose("benchmark", list(overrides))
    check(cfg)
    folder = Path(cfg.paths.run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    return instantiate(cfg.what), folder


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Trains in this process instead of another; lists what was trained, and fails where told to."""
    trained: list[str] = []

    def run(command: list[str]) -> int:
        *overrides, where = command[3:]
        folder = Path(where.removeprefix("hydra.run.dir=").strip("'"))
        name = f"{folder.parent.name}/{folder.name}"
        if f"fail {name}" in trained:
            trained.remove(f"fail {name}")
            return 3
        train(compose("train", overrides, output_dir=str(folder)), overrides)
        trained.append(name)
        return 0

    monkeypatch.setattr(processes, "_run", run)
    return trained


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_each_training_is_done_once_and_a_failed_one_again(
    command_line: list[str], here: list[str], photos: Path, unseen: Path, tmp_path: Path
) -> None:
    board, folder = scoreboard(*command_line, "seeds=2", f"methods={METHODS}")
    assert folder == tmp_path / "outputs" / "benchmark" / "distillation" / "default"
    here.append("fail strong/seed1")
    with pytest.raises(
        ChildProcessError, match=r"1 of 4 trainings failed, first strong, seed 1: .*ended with exit code 3"
    ):
        board.run(folder)
    assert 'class="state failed"' in (folder / "scoreboard.html").read_text()
    assert here == ["scratch/seed0", "strong/seed0", "scratch/seed1"]
    kept = [folder / "reference.json", folder / "cells" / "strong" / "seed0" / "scores.json"]
    written = [path.stat().st_mtime_ns for path in kept]
    best = board.run(folder)
    assert here == ["scratch/seed0", "strong/seed0", "scratch/seed1", "strong/seed1"]
    assert [path.stat().st_mtime_ns for path in kept] == written

    table = {row["method"]: row for row in rows(folder / "scoreboard.csv")}
    cells = {(row["method"], row["seed"]): row for row in rows(folder / "cells.csv")}
    assert list(table) == ["input", "teacher", "scratch", "strong"]
    one, two = (float(cells["strong", seed]["psnr"]) - float(cells["scratch", seed]["psnr"]) for seed in "01")
    assert one != two
    assert float(table["strong"]["psnr_gain"]) == pytest.approx(best) == pytest.approx((one + two) / 2)
    # Student's t for one degree of freedom; the standard error of two values is half their distance
    half = 12.7062 * abs(one - two) / 2
    assert float(table["strong"]["psnr_gain_high"]) == pytest.approx(best + half, rel=1e-4)
    assert all(float(row["seconds"]) > 0 for row in cells.values())

    twins = [RunFolder(folder / "cells" / name / "seed1").saved_config() for name in ("scratch", "strong")]
    for config in twins:
        assert (config["seed"], config["net"]["width"], config["trainer"]["max_steps"]) == (1, 4, 2)
        assert (config["data"]["train_dir"], config["loss"]["beta"]) == ([str(photos)], 0)
    assert [config["loss"]["delta"] for config in twins] == [0, 2]
    measured = evaluate_folder({}, sorted(unseen.iterdir()), board.degradation, tmp_path / "evaluated")
    assert float(table["input"]["psnr"]) == pytest.approx(measured["input"]["psnr"], abs=1e-9)


def test_other_settings_and_another_teacher_are_refused(
    command_line: list[str], here: list[str], student_checkpoint: Path, tmp_path: Path
) -> None:
    teacher = tmp_path / "teacher.safetensors"
    teacher.write_bytes(student_checkpoint.read_bytes())
    common = [
        *command_line,
        f"teacher={teacher}",
        "seeds=1",
        "methods=[scratch,output+feature]",
        "delta=0.25",
    ]
    board, folder = scoreboard(*common)
    board.run(folder)
    taught = RunFolder(folder / "cells" / "output+feature" / "seed0")
    assert taught.saved_config()["loss"]["delta"] == 0.25
    assert set(taught.saved_config()["distillation"]["terms"]) == {"output", "feature"}
    other, same = scoreboard(*common, "delta=1")
    assert same == folder
    with pytest.raises(RunFolderError, match="was trained with other settings") as refused:
        other.run(folder)
    assert "loss.delta: 0.25 -> 1\n" in str(refused.value)
    assert "another scoreboard with name=NAME" in str(refused.value)
    teacher.write_bytes(taught.weights_file.read_bytes())
    with pytest.raises(RunFolderError, match=rf"SHA-256 of {teacher}: \w{{16}}… -> "):
        board.run(folder)
    teacher.unlink()
    with pytest.raises(FileNotFoundError, match=r"teacher\.safetensors: no such file"):
        board.run(folder)
    assert here == ["scratch/seed0", "output+feature/seed0"]
    _, named = scoreboard(*common, "name=other")
    assert named.name == "other"


def test_what_a_user_gets_wrong_is_said_before_anything_is_trained(
    command_line: list[str], here: list[str], photos: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="needs teacher=FILE"):
        scoreboard("what=distillation", f"paths.output_root={tmp_path}")
    wide = METHODS.replace("loss.delta=2", "net.width=9")
    board, folder = scoreboard(*command_line, "seeds=1", f"methods={wide}")
    with pytest.raises(ConfigError, match=r"strong changes net\.width: 4 -> 9; only what the teacher adds"):
        board.run(folder)
    board, folder = scoreboard(*command_line, "seeds=1", 'train=["net.widht=3"]')
    with pytest.raises(ConfigError, match=r"there is no setting 'net\.widht'\. did you mean 'width'\?"):
        board.run(folder)
    (tmp_path / "cache").mkdir()
    for directory, message in (
        (tmp_path / "none", "there is no folder"),
        (tmp_path / "cache", "no image in"),
    ):
        board, folder = scoreboard(*command_line, "seeds=1", f"eval_dirs=[{directory}]")
        with pytest.raises(FileNotFoundError, match=f"eval_dirs: {message} {directory}"):
            board.run(folder)
    with pytest.raises(ValueError, match="eval_dirs must be folders with different names"):
        scoreboard(*command_line, f"eval_dirs=[{photos},{photos}]")
    assert here == []


def test_what_does_not_belong_to_all_trainings_is_refused(command_line: list[str], here: list[str]) -> None:
    *others, quick = command_line
    for setting in ("loss.delta=1", "distillation=output"):
        board, folder = scoreboard(*others, "seeds=1", quick.replace("]", f',"{setting}"]'))
        with pytest.raises(
            ConfigError, match=r"scratch has no teacher: leave distillation and loss\.delta out"
        ):
            board.run(folder)
    for setting in ("loss.gamma=0.5", "trainer.max_steps=3", "callbacks.ema=null"):
        board, folder = scoreboard(
            *command_line, "seeds=1", f"methods={METHODS}".replace("loss.delta=2", setting)
        )
        with pytest.raises(ConfigError, match="only what the teacher adds may differ from scratch"):
            board.run(folder)
    assert here == []


def test_the_images_of_the_training_stay_the_same(
    command_line: list[str], here: list[str], photos: Path, unseen: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    shutil.copytree(photos, own)
    shutil.copy(unseen / "0.png", own / "copy.png")
    common = [*command_line, f"train_dir={own}", "seeds=1", "methods=scratch"]
    board, folder = scoreboard(*common)
    with pytest.raises(
        ConfigError, match=r"eval_dirs: .*unseen.*/0\.png is among the images of the training"
    ):
        board.run(folder)
    assert here == []
    (own / "copy.png").unlink()
    board.run(folder)
    counts = json.loads((folder / "scoreboard.json").read_text())["training_images"]["scratch"]
    assert counts["train_count"] + counts["held_out_count"] == 6
    Image.fromarray(np.asarray(Image.open(own / "0.png"))[::-1]).save(own / "0.png")
    with pytest.raises(RunFolderError, match="the images of the training are not those of scratch in"):
        board.run(folder)
    board, folder = scoreboard(*command_line, "seeds=1", f"train_dir={tmp_path}/none", "name=nowhere")
    with pytest.raises(FileNotFoundError, match=f"there is no folder {tmp_path}/none"):
        board.run(folder)
    assert here == ["scratch/seed0"]


def test_extra_inputs_that_only_a_teacher_can_label(
    command_line: list[str], here: list[str], photos: Path, unseen: Path, tmp_path: Path
) -> None:
    (tmp_path / "more").mkdir()
    more = pictures(tmp_path / "more", 2)
    for folder_of_extras in (more, unseen):
        extra = f'{{extra:["distillation=output","data.unlabelled_dir={folder_of_extras}"]}}'
        board, folder = scoreboard(*command_line, "seeds=1", f"methods=[scratch,output,{extra}]")
        if folder_of_extras == unseen:
            with pytest.raises(RunFolderError, match=r"data\.unlabelled_dir: .*more -> .*unseen"):
                board.run(folder)
            shutil.rmtree(folder)
            with pytest.raises(ConfigError, match="is among the images of the training"):
                board.run(folder)
        else:
            board.run(folder)
            images = json.loads((folder / "scoreboard.json").read_text())["training_images"]
            assert images["output"] == images["scratch"]
            assert images["extra"]["train_count"] == images["scratch"]["train_count"] + 6
            run = RunFolder(folder / "cells" / "extra" / "seed0")
            assert run.saved_config()["data"]["unlabelled_dir"] == str(more)
    assert here == ["scratch/seed0", "output/seed0", "extra/seed0"]


def test_a_teacher_may_move_and_a_method_have_its_own(
    command_line: list[str], here: list[str], student_checkpoint: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.safetensors"
    shutil.copy(student_checkpoint, other)
    own = f'methods=[scratch,output,{{own:["distillation=output","teacher.path={other}"]}}]'
    board, folder = scoreboard(*command_line, "seeds=1", own)
    board.run(folder)
    table = {row["method"]: row for row in rows(folder / "scoreboard.csv")}
    assert table["own"]["gain_kept"] == ""
    assert table["own"]["gain_kept_note"] == "own has another teacher, other.safetensors"
    moved = tmp_path / "moved.safetensors"
    shutil.copy(student_checkpoint, moved)
    board, folder = scoreboard(*command_line, "seeds=1", own, f"teacher={moved}")
    board.run(folder)
    assert here == ["scratch/seed0", "output/seed0", "own/seed0"]
    other.unlink()
    with pytest.raises(FileNotFoundError, match=r"teacher=.*other\.safetensors: no such file"):
        board.run(folder)


def test_what_is_finished_but_damaged_does_not_stop_the_others(
    command_line: list[str], here: list[str], tmp_path: Path
) -> None:
    board, folder = scoreboard(*command_line, "seeds=3", "methods=scratch")
    board.run(folder)
    run = RunFolder(folder / "cells" / "scratch" / "seed0")
    run.weights_file.write_bytes(b"damaged")
    (folder / "cells" / "scratch" / "seed1" / "scores.json").write_text('{"key": ')
    with pytest.raises(
        ChildProcessError, match=r"1 of 3 trainings failed, first scratch, seed 0: .* cannot be"
    ):
        board.run(folder)
    assert [row["seed"] for row in rows(folder / "cells.csv")] == ["1", "2"]
    run.last_checkpoint.unlink()
    with pytest.raises(RunFolderError, match=r"is finished, but .*last\.ckpt is gone: delete the folder"):
        board.run(folder)
    shutil.rmtree(run.path)
    board.run(folder)
    assert here == ["scratch/seed0", "scratch/seed1", "scratch/seed2", "scratch/seed0"]
    threads = [item.replace("runtime.threads=1", "runtime.threads=2") for item in command_line]
    board, folder = scoreboard(*threads, "seeds=3", "methods=scratch")
    with pytest.raises(RunFolderError, match=r"runtime\.threads: 1 -> 2"):
        board.run(folder)


def test_an_old_error_is_no_reason_for_a_new_end(
    command_line: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    board, folder = scoreboard(*command_line, "seeds=1", "methods=scratch")
    RunFolder(folder / "cells" / "scratch" / "seed0").report("failed", [], error="an old story")
    monkeypatch.setattr(processes, "_run", lambda command: 7)
    with pytest.raises(ChildProcessError, match=r"sharpkd\.train ended with exit code 7") as failed:
        board.run(folder)
    assert "an old story" not in str(failed.value)


def test_a_training_that_goes_on_elsewhere_is_left_alone(command_line: list[str], here: list[str]) -> None:
    board, folder = scoreboard(*command_line, "seeds=1", "methods=[scratch]")
    RunFolder(folder / "cells" / "scratch" / "seed0").report("running", [])
    with pytest.raises(RunFolderError, match=f"is being trained by process {os.getpid()}; let it end"):
        board.run(folder)
    assert here == []


def test_a_training_in_its_own_process(command_line: list[str]) -> None:
    board, folder = scoreboard(*command_line, "seeds=[5]", "methods=[scratch]", "steps=1")
    assert np.isnan(board.run(folder))
    run = RunFolder(folder / "cells" / "scratch" / "seed5")
    assert run.status()["state"] == "finished"
    assert run.status()["pid"] != os.getpid()
    assert (run.saved_config()["seed"], run.status()["metrics"]["steps"]) == (5, 1.0)


def test_a_process_is_asked_to_end_when_this_one_is(tmp_path: Path) -> None:
    ready, asked = tmp_path / "ready", tmp_path / "asked"
    code = (
        "import pathlib, sys, time\n"
        f"try:\n    pathlib.Path({str(ready)!r}).touch()\n    time.sleep(60)\n"
        f"except KeyboardInterrupt:\n    pathlib.Path({str(asked)!r}).touch()\n"
    )

    def end() -> None:
        while not ready.exists():
            time.sleep(0.01)
        time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=end)
    thread.start()
    with pytest.raises(SystemExit) as ended:
        processes._run([sys.executable, "-c", code])
    thread.join()
    assert ended.value.code == 128 + signal.SIGTERM
    assert asked.exists()
    assert signal.getsignal(signal.SIGTERM) is before
