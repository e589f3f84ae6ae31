"""``python -m sharpkd.evaluate benchmark=…``, ``rating=…`` and ``compare=…``."""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import DictConfig
from PIL import Image
from rich.console import Console

from sharpkd.config import ConfigError, compose, instantiate
from sharpkd.evaluate import compare, evaluate, evaluate_benchmark, main
from sharpkd.evaluation.benchmark.image_sets import BenchmarkImage
from sharpkd.evaluation.benchmark.run import SharpBench, example_of
from sharpkd.evaluation.console import mean_gain
from sharpkd.evaluation.models import specs_of
from sharpkd.evaluation.protocols import conditions
from sharpkd.evaluation.rows import read_rows


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sets of two small images, under names of the benchmark's."""
    folder = tmp_path_factory.mktemp("eval")
    for name, images in {"Set5": ("baby", "bird"), "Kodak24": ("01", "02")}.items():
        (folder / name).mkdir()
        for index, image in enumerate(images):
            coarse = np.random.default_rng(index).integers(0, 256, (16, 14, 3), dtype=np.uint8)
            big = Image.fromarray(coarse).resize((84, 96), Image.Resampling.BICUBIC)
            big.save(folder / name / f"{image}.png")
    return folder


def config(folder: Path, root: Path, *overrides: str) -> DictConfig:
    small = [
        f"benchmark.root={root}",
        f"benchmark.cache_dir={folder / 'cache'}",
        "benchmark.workers=0",
        "benchmark.speed.sizes=[[32,48]]",
        "benchmark.speed.repeats=3",
        "metrics.lpips_weights=null",
    ]
    return compose("evaluate", ["benchmark=sharpbench_quick", *small, *overrides], str(folder / "out"))


@pytest.fixture(scope="module")
def evaluated(
    root: Path, student_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("evaluated")
    results = evaluate_benchmark(
        config(
            folder,
            root,
            f"model={student_checkpoint}",
            "benchmark.baselines=[unsharp,wiener-oracle]",
            "benchmark.tracks=[noisy,sharp,sr]",
            "benchmark.edges=[1.2]",
            "rating.page=true",
            "rating.images=3",
        )
    )
    return folder / "out", results


def test_writes_what_it_found(evaluated: tuple[Path, dict[str, Any]], student_checkpoint: Path) -> None:
    folder, results = evaluated
    assert json.loads((folder / "metrics.json").read_text()) == results
    assert list(results["models"]) == ["input", "unsharp", "wiener-oracle", "student"]
    student = results["models"]["student"]
    assert student["path"] == str(student_checkpoint)
    assert set(student["tracks"]) == {"noisy", "sharp"}
    rows = read_rows(folder / "per_image.csv")
    noisy = [row.psnr for row in rows if (row.model, row.track) == ("student", "noisy")]
    assert student["tracks"]["noisy"]["psnr"] == pytest.approx(np.mean(noisy))
    assert student["tracks"]["noisy"]["images"] == len(noisy) == 4
    gain = student["tracks"]["noisy"]["gain_psnr"]
    assert gain == pytest.approx(
        student["tracks"]["noisy"]["psnr"] - results["models"]["input"]["tracks"]["noisy"]["psnr"]
    )
    assert mean_gain(results) == pytest.approx(gain)
    assert "<html" in (folder / "report.html").read_text()


def test_the_report_has_the_columns_of_the_summary(evaluated: tuple[Path, dict[str, Any]]) -> None:
    folder, results = evaluated
    text = (folder / "report.html").read_text()
    data = json.loads(
        text.partition('<script id="data" type="application/json">')[2].partition("</script>")[0]
    )
    columns = list(results["models"]["input"]["tracks"])
    assert columns == ["noisy", "sharp", "sr x2", "sr x3", "sr x4"]
    assert list(dict.fromkeys(one["track"] for one in data["conditions"])) == columns


def test_says_what_it_was_made_with(evaluated: tuple[Path, dict[str, Any]]) -> None:
    meta = evaluated[1]["_meta"]
    assert meta["seed"] == 0
    assert meta["lpips"] is None
    assert meta["conditions"] == ["noisy", "sharp", "sr/2", "sr/3", "sr/4"]
    assert meta["sets"] == ["Set5", "Kodak24"]
    assert {"torch", "sharpkd", "python"} <= set(meta["versions"])
    assert meta["cpu"]
    # these images are made up, and three sets are incomplete or not there
    assert len(meta["altered"]) == 4
    assert [absent["name"] for absent in meta["missing"]] == ["Set5", "Set14", "Kodak24"]


def test_speed_and_edges_are_measured(evaluated: tuple[Path, dict[str, Any]]) -> None:
    results = evaluated[1]
    timing = results["speed"]["models"]["student"]["sizes"]["48x32"]
    assert timing["ms"] > 0
    assert timing["repeats"] == 3
    assert results["speed"]["references"]["enhanced_cnn"]["sizes"]["48x32"]["ms"] > timing["ms"]
    # what looks at the sharp image is left out
    assert set(results["edges"]) == {"input", "unsharp", "student"}
    (before,) = results["edges"]["input"]
    (after,) = results["edges"]["unsharp"]
    assert before["acutance_gain"] == pytest.approx(1)
    assert before["width_before"] == pytest.approx(2.563 * 1.2, rel=0.05)
    assert after["acutance_gain"] > 1.2
    assert after["overshoot"] > before["overshoot"] + 3


def test_a_page_for_raters_and_their_answers(
    evaluated: tuple[Path, dict[str, Any]], tmp_path: Path, call: Callable[..., Any]
) -> None:
    folder = evaluated[0]
    assert "<html" in (folder / "rating.html").read_text()
    (key,) = folder.glob("rating_*_key.json")
    assert "wiener-oracle" in key.read_text()
    assert "wiener-oracle" not in (folder / "rating.html").read_text()


def test_the_second_time_only_reads(
    evaluated: tuple[Path, dict[str, Any]], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "sharpkd.evaluation.benchmark.runner._measure", lambda task: pytest.fail("measured again")
    )
    results = evaluate_benchmark(
        config(
            evaluated[0].parent,
            root,
            "model=unsharp",
            "benchmark.baselines=[]",
            "benchmark.tracks=[noisy]",
            "benchmark.speed=null",
            "benchmark.edges=[]",
            f"paths.run_dir={evaluated[0].parent / 'again'}",
        )
    )
    before = evaluated[1]["models"]["unsharp"]["tracks"]["noisy"]
    assert results["models"]["unsharp"]["tracks"]["noisy"] == before
    assert (results["speed"], results["edges"]) == (None, {})


def test_finished_evaluations_are_lined_up(evaluated: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    cfg = compose("evaluate", [f"compare=[{evaluated[0]}]"], str(tmp_path))
    compared = compare(cfg)
    found = next(
        one
        for one in compared.differences
        if (one.first, one.second, one.track, one.metric, one.condition)
        == ("input", "student", "noisy", "psnr", "")
    )
    assert found.interval.mean == pytest.approx(
        evaluated[1]["models"]["student"]["tracks"]["noisy"]["gain_psnr"]
    )
    with (tmp_path / "comparison.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == len(compared.differences)


@pytest.mark.parametrize("setting", ["benchmark.limits.Set5=1", "benchmark.limits={Set5:1}"])
@pytest.mark.parametrize("benchmark", ["sharpbench", "sharpbench_quick"])
def test_some_images_of_a_set(setting: str, benchmark: str, root: Path, tmp_path: Path) -> None:
    given = [f"benchmark={benchmark}", f"benchmark.root={root}", setting, "benchmark.sets=[Set5,Kodak24]"]
    bench: SharpBench = instantiate(compose("evaluate", given, str(tmp_path)).benchmark)
    assert [f"{image.set}/{image.name}" for image in bench.images()[0]] == [
        "Set5/baby",
        "Kodak24/01",
        "Kodak24/02",
    ]


def test_the_commands_own_words(
    evaluated: tuple[Path, dict[str, Any]], root: Path, tmp_path: Path, call: Callable[..., Any]
) -> None:
    unknown = call(main, "benchmark=sharpbench", "benchmark.tracks=[blurry]", f"benchmark.root={root}")
    assert unknown.code == 1
    assert "blurry" in unknown.err
    assert "gaussian" in unknown.err
    baseline = call(main, "benchmark=sharpbench", "benchmark.baselines=[unsarp]", f"benchmark.root={root}")
    assert "unknown baseline 'unsarp'; there are input, unsharp, unsharp-oracle, cas" in baseline.err
    both = call(main, "benchmark=sharpbench", "rating=true", "rating.images=4")
    assert both.err == (
        "error: rating.images cannot be set beside rating=true, which replaces all of rating; set its parts: "
        "rating.page, rating.images, rating.pairs_per_image, rating.answers\n"
    )
    absent = call(main, "benchmark=sharpbench", f"benchmark.root={tmp_path / 'nowhere'}")
    assert absent.code == 1
    assert str(tmp_path / "nowhere") in absent.err
    both = call(main, "benchmark=sharpbench", f"data.val_dir={root}")
    assert both.code == 2
    assert both.err.endswith("leave out data.val_dir, or benchmark=\n")
    rated = call(main, "model=input", f"data.val_dir={root}", "rating=true")
    assert rated.code == 2
    assert "rating=true needs benchmark=sharpbench_quick" in rated.err
    lined_up = call(main, f"compare=[{evaluated[0]}]", f"paths.output_root={tmp_path}", "name=lined")
    assert lined_up.code == 0
    assert "student - input" in lined_up.out


def test_nothing_to_rate_is_said_before_anything_is_measured(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SharpBench, "run", lambda *_, **__: pytest.fail("measured first"))
    alone = ["rating=true", "benchmark.baselines=[]", "benchmark.tracks=[noisy]"]
    with pytest.raises(ValueError, match="there is nothing to rate: input share no condition"):
        evaluate_benchmark(config(tmp_path, root, *alone))
    sharp = ["rating=true", "benchmark.baselines=[unsharp]", "benchmark.tracks=[sharp]"]
    with pytest.raises(ValueError, match="there is nothing to rate: input, unsharp share no condition"):
        evaluate_benchmark(config(tmp_path, root, *sharp))
    several = ["rating.page=true", "benchmark.baselines=[unsharp,cas]", "benchmark.tracks=[noisy]"]
    few = ["rating.images=1", "rating.pairs_per_image=1"]
    with pytest.raises(ValueError, match="1 questions cannot connect all models, which leaves"):
        evaluate_benchmark(config(tmp_path, root, *several, *few))
    for setting in ("rating.images", "rating.pairs_per_image"):
        with pytest.raises(ConfigError, match=f"^{setting}: expected a whole number of at least 1, found 0$"):
            evaluate_benchmark(config(tmp_path, root, *several, f"{setting}=0"))


def test_a_rating_page_that_fails_at_last_loses_no_result(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published: list[Any] = []
    monkeypatch.setattr("sharpkd.evaluate.publish_summary", lambda *given: published.append(given[-1]))
    monkeypatch.setattr(SharpBench, "rating_examples", lambda *_: [])
    console = Console(file=io.StringIO(), width=200)
    small = ["benchmark.baselines=[unsharp]", "benchmark.tracks=[noisy]", "benchmark.speed=null"]
    with pytest.raises(ValueError, match="there is no example to rate"):
        evaluate_benchmark(config(tmp_path, root, "rating=true", "benchmark.edges=[]", *small), console)
    assert isinstance(console.file, io.StringIO)
    assert "unsharp" in console.file.getvalue()
    assert published == [json.loads((tmp_path / "out" / "metrics.json").read_text())]


def test_scores_of_an_earlier_evaluation_are_not_lost_silently(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "rating.csv").touch()
    small = ["benchmark.baselines=[unsharp]", "benchmark.tracks=[noisy]", "benchmark.speed=null"]
    evaluate_benchmark(config(tmp_path, root, "benchmark.edges=[]", *small))
    assert caplog.text.count("score the answers again: python -m sharpkd.evaluate rating.answers=") == 1


def test_a_dashboard_that_fails_leaves_the_rating_page(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sharpkd.evaluate.publish_summary", lambda *_: 1 / 0)
    small = ["benchmark.baselines=[unsharp]", "benchmark.tracks=[noisy]", "benchmark.speed=null"]
    with pytest.raises(ZeroDivisionError):
        evaluate_benchmark(config(tmp_path, root, "rating=true", "benchmark.edges=[]", *small))
    assert (tmp_path / "out" / "rating.html").is_file()


def test_rating_true_is_short_for_the_page(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        evaluate_benchmark(
            config(
                tmp_path,
                root,
                "rating=true",
                "benchmark.baselines=[unsharp]",
                "benchmark.tracks=[noisy]",
                "benchmark.speed=null",
                "benchmark.edges=[]",
            )
        )
    assert "4 pairs to choose between" in caplog.text
    assert (tmp_path / "out" / "rating.html").is_file()
    assert "earlier evaluation" not in caplog.text


def test_on_ones_own_folder_baselines_and_onnx_files_too(
    root: Path, student_checkpoint: Path, student_onnx: Path, tmp_path: Path
) -> None:
    models = (
        f"model={{net:{student_checkpoint},onnx:{student_onnx},unsharp:unsharp,wiener-oracle:wiener-oracle}}"
    )
    cfg = compose(
        "evaluate",
        [models, f"data.val_dir={root / 'Set5'}", "degradation.sigma=1.6", "metrics.lpips_weights=null"],
        str(tmp_path),
    )
    results = evaluate(cfg)
    assert list(results) == ["input", "net", "onnx", "unsharp", "wiener-oracle", "_meta"]
    assert results["onnx"]["psnr"] == pytest.approx(results["net"]["psnr"], abs=0.01)
    assert results["onnx"]["ms_per_image"] > 0
    assert results["wiener-oracle"]["psnr"] > results["unsharp"]["psnr"] > results["input"]["psnr"]
    assert results["wiener-oracle"]["ms_per_image"] is None


def test_what_has_to_be_told_the_blur_needs_one_that_is_known(root: Path, tmp_path: Path) -> None:
    cfg = compose(
        "evaluate",
        ["model=wiener-oracle", f"data.val_dir={root / 'Set5'}", "degradation=lowres"],
        str(tmp_path),
    )
    with pytest.raises(ValueError, match="needs to be told the blur"):
        evaluate(cfg)


def test_nothing_is_measured_without_a_name(root: Path, tmp_path: Path) -> None:
    cfg = compose("evaluate", [f"data.val_dir={root}"], str(tmp_path))
    with pytest.raises(ConfigError, match="evaluation needs model=FILE"):
        evaluate(cfg)


def test_only_what_some_condition_asks_for_is_measured(
    root: Path, student_checkpoint: Path, tmp_path: Path
) -> None:
    small = ["benchmark.tracks=sr", "benchmark.speed=null", "benchmark.edges=[]", "benchmark.examples=2"]
    results = evaluate_benchmark(config(tmp_path, root, *small))
    assert list(results["models"]) == ["input", "unsharp", "unsharp-oracle", "cas"]
    with pytest.raises(
        ValueError, match=r"student \(scale 1\) is made for none of the conditions asked for: sr/2"
    ):
        evaluate_benchmark(config(tmp_path, root, f"model={student_checkpoint}", *small))


def test_a_net_that_fails_on_what_is_shown_is_left_out_there(
    root: Path,
    student_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    condition = conditions(["noisy"])[0]
    specs = specs_of(["input", str(student_checkpoint)])
    models = {spec.name: spec.open() for spec in specs}
    monkeypatch.setattr(models["student"], "restore", lambda *test: 1 / 0)
    image = BenchmarkImage("Set5", "baby", root / "Set5" / "baby.png", "face")
    shown = example_of(image, condition, models)
    assert list(shown.outputs) == ["input"]
    assert "student is not shown on Set5/baby: division by zero" in caplog.text
