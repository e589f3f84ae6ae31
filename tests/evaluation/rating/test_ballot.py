"""The page that asks people: what is in it, and what is not."""

from __future__ import annotations

import base64
import io
import json
import re
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sharpkd.evaluation.pages.examples import Example
from sharpkd.evaluation.rating.ballot import make_rating_page, plan_questions

MODELS = ("input", "unsharp-oracle", "pixel <student>", "teacher")


def pixels(seed: int, height: int = 20, width: int = 30) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def examples(count: int = 3, models: tuple[str, ...] = MODELS) -> list[Example]:
    return [
        Example(
            f"Kodak24/kodim{i:02}",
            "gaussian/1.6",
            pixels(i),
            {m: pixels(100 * i + k) for k, m in enumerate(models)},
        )
        for i in range(1, count + 1)
    ]


def study_of(page: Path) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="study">(.*?)</script>', page.read_text("utf-8"))
    assert found is not None
    return dict(json.loads(found[1]))


def decoded(address: str) -> NDArray[np.uint8]:
    kind, _, data = address.partition(";base64,")
    assert kind == "data:image/webp"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


def test_the_page_is_blind_and_holds_the_outputs_without_loss(tmp_path: Path) -> None:
    given = examples()
    result = make_rating_page(given, tmp_path / "new" / "rating.html", seed=3, pairs_per_image=None)
    text = result.page.read_text("utf-8")
    for name in ("unsharp", "student", "teacher", "kodim", "gaussian"):
        assert name not in text
    assert "input" not in text.split('id="study"')[1].split("</script>")[0]
    study, key = study_of(result.page), json.loads(result.key.read_text())
    assert result.key == tmp_path / "new" / f"rating_{study['study']}_key.json"
    assert study["study"] == key["study"]
    assert result.pairs == len(study["trials"]) == len(given) * 6
    assert study["images"].keys() == key["images"].keys()
    assert len(key["images"]) == len(given) * len(MODELS)
    outputs = {(one.image, one.condition, model): one.outputs[model] for one in given for model in MODELS}
    for token, address in study["images"].items():
        one = key["images"][token]
        np.testing.assert_array_equal(decoded(address), outputs[one["image"], one["condition"], one["model"]])


def test_the_page_fetches_nothing(tmp_path: Path) -> None:
    text = make_rating_page(examples(), tmp_path / "rating.html").page.read_text("utf-8")
    assert re.findall(r"https?://|//cdn|@import|url\(", text) == []
    assert set(re.findall(r'(?:src|href)="([^"]*)"', text)) == {"data:,"}


def test_the_same_seed_asks_the_same_and_another_otherwise(tmp_path: Path) -> None:
    asked = []
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        page = make_rating_page(examples(), tmp_path / f"{name}.html", seed=seed, pairs_per_image=2)
        key = json.loads(page.key.read_text())
        questions = [[key["images"][token] for token in pair] for pair in key["trials"].values()]
        asked.append({(one["image"], *sorted((one["model"], two["model"]))) for one, two in questions})
    assert asked[0] == asked[1] != asked[2]


def test_other_pictures_make_another_study(tmp_path: Path) -> None:
    studies = []
    for seed in (2, 3):
        example = Example("a", "sharp", pixels(0), {"x": pixels(1), "y": pixels(seed)})
        studies.append(study_of(make_rating_page([example], tmp_path / "rating.html").page))
    one, two = studies
    assert one["study"] != two["study"]
    assert one["images"].keys().isdisjoint(two["images"])


@pytest.mark.parametrize(("count", "limit"), [(5, 2), (1, 3), (7, 1), (4, 4)])
def test_a_limited_page_compares_evenly_and_connects_all(tmp_path: Path, count: int, limit: int) -> None:
    page = make_rating_page(examples(count), tmp_path / "rating.html", seed=1, pairs_per_image=limit)
    key = json.loads(page.key.read_text())
    asked: Counter[frozenset[str]] = Counter()
    places: Counter[str] = Counter()
    for first, second in key["trials"].values():
        one, two = key["images"][first], key["images"][second]
        assert one["image"] == two["image"]
        places[one["image"]] += 1
        asked[frozenset((one["model"], two["model"]))] += 1
    assert set(places.values()) == {limit}
    counts = [asked[frozenset(pair)] for pair in combinations(MODELS, 2)]
    assert max(counts) - min(counts) <= 1
    reached = {MODELS[0]}
    for _ in MODELS:
        reached |= {name for pair in asked if pair & reached for name in pair}
    assert reached == set(MODELS)


def test_the_tokens_say_nothing_about_the_model(tmp_path: Path) -> None:
    page = make_rating_page(examples(40, ("a", "b")), tmp_path / "rating.html")
    key = json.loads(page.key.read_text())
    firsts = [key["images"][first]["model"] for first, _ in study_of(page.page)["trials"].values()]
    # 40 fair coins: 5 to 35 of one side in all but one of a million pages
    assert 5 <= firsts.count("a") <= 35
    assert all(re.fullmatch("x[0-9a-f]{10}", token) for token in key["images"])


def test_the_tokens_cannot_be_worked_out_and_a_written_study_keeps_its_own(tmp_path: Path) -> None:
    pages = [make_rating_page(examples(), tmp_path / name / "rating.html") for name in ("one", "two")]
    keys = [json.loads(page.key.read_text()) for page in pages]
    assert keys[0]["study"] == keys[1]["study"]
    assert not set(keys[0]["images"]) & set(keys[1]["images"])
    assert all(key["secret"] not in page.page.read_text() for key, page in zip(keys, pages, strict=True))
    before = pages[0].page.read_text()
    again = make_rating_page(examples(), tmp_path / "one" / "rating.html")
    assert again.page.read_text() == before
    assert json.loads(again.key.read_text()) == keys[0]
    # another page in its place, and the first one once more
    make_rating_page(examples(), tmp_path / "one" / "rating.html", seed=1)
    assert make_rating_page(examples(), tmp_path / "one" / "rating.html").page.read_text() == before
    again.key.write_text("{")
    other = make_rating_page(examples(), tmp_path / "one" / "rating.html")
    assert other.page.read_text() != before


def test_the_questions_are_known_before_the_pictures(tmp_path: Path) -> None:
    offers = [list(MODELS), list(MODELS[1:]), list(MODELS)]
    given = [
        Example(str(i), "noisy", pixels(i), {name: pixels(i + k) for k, name in enumerate(names)})
        for i, names in enumerate(offers)
    ]
    key = json.loads(make_rating_page(given, tmp_path / "rating.html", 4, 2).key.read_text())
    asked = [[key["images"][token] for token in pair] for pair in key["trials"].values()]
    assert {(int(one["image"]), *sorted((one["model"], two["model"]))) for one, two in asked} == set(
        plan_questions(offers, 4, 2)
    )


def test_the_crop_shows_where_the_outputs_differ(tmp_path: Path) -> None:
    plain = np.full((60, 90, 3), 128, np.uint8)
    changed = plain.copy()
    changed[37:41, 71:75] = 250
    page = make_rating_page(
        [Example("a", "sharp", plain, {"x": plain, "y": changed})], tmp_path / "rating.html", crop=16
    )
    key = json.loads(page.key.read_text())
    shown = {key["images"][token]["model"]: decoded(a) for token, a in study_of(page.page)["images"].items()}
    assert shown["x"].shape == shown["y"].shape == (16, 16, 3)
    assert int((shown["y"] == 250).all(2).sum()) == 16


def test_a_crop_wider_than_the_image_shows_its_whole_width(tmp_path: Path) -> None:
    page = make_rating_page(
        [Example("a", "sharp", pixels(0, 40, 9), {"x": pixels(1, 40, 9), "y": pixels(2, 40, 9)})],
        tmp_path / "rating.html",
        crop=16,
    )
    assert {decoded(address).shape for address in study_of(page.page)["images"].values()} == {(16, 9, 3)}


def one(image: str = "a", models: tuple[str, ...] = ("x", "y")) -> Example:
    return Example(image, "sharp", pixels(0), {name: pixels(0) for name in models})


@pytest.mark.parametrize(
    ("given", "settings", "message"),
    [
        ([], {}, "there is no example to rate; expected at least one"),
        (
            [one(models=("x",))],
            {},
            r"a, sharp has the outputs \['x'\]; a comparison needs at least two models",
        ),
        ([one(), one()], {}, "a, sharp is given twice"),
        ([one()], {"pairs_per_image": 0}, "pairs_per_image is 0; expected at least 1, or null for no limit"),
        ([one()], {"crop": -3}, "crop is -3; expected at least 1, or null for no limit"),
        (
            [one(), one("b", ("p", "q", "r"))],
            {},
            r"these groups of models share no example: p, q, r \| x, y; write a page for each",
        ),
        (
            [one(models=("x", "y", "z"))],
            {"pairs_per_image": 1},
            r"1 questions cannot connect all models, which leaves \w, \w \| \w; "
            r"raise pairs_per_image \(it is 1\) or give more examples",
        ),
    ],
)
def test_what_cannot_be_asked(
    tmp_path: Path, given: list[Example], settings: dict[str, int], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        make_rating_page(given, tmp_path / "rating.html", **settings)
    assert list(tmp_path.iterdir()) == []


def test_a_page_too_large_for_browsers_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sharpkd.evaluation.rating.ballot.MOST_BYTES", 10_000)
    with pytest.raises(ValueError, match=r"the rating page would be 0 MB.*fewer examples or models"):
        make_rating_page(examples(), tmp_path / "rating.html")
