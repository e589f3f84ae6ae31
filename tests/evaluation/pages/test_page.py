"""What pages are made of."""

from __future__ import annotations

import base64
import io
import json
import re
import stat
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sharpkd.evaluation.pages import page


def test_parts_are_put_in_once_and_never_read_as_places(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {
        "t.html": "@@house_head@@<p>@@a@@ @@b@@</p>",
        "pages/house/head.html": "<style>@@house_css@@</style>",
        "pages/house/house.css": "css",
        "pages/house/house.js": "js",
    }
    monkeypatch.setattr(page, "asset", texts.__getitem__)
    assert page.fill("t.html", {"a": "@@b@@", "b": "2 @@ 3"}) == "<style>css</style><p>@@b@@ 2 @@ 3</p>"
    expected = "t.html has places for b; given are a, house_head, house_js"
    with pytest.raises(ValueError, match=re.escape(expected)):
        page.fill("t.html", {"a": ""})


@pytest.mark.parametrize(
    "template", ["benchmark/page/page", "comparison/page", "folder/page", "rating/page/page", "sweeps/page"]
)
def test_every_page_has_the_common_head_once(template: str) -> None:
    text = page.asset(f"{template}.html")
    places = set(text.split("@@")[1::2])
    filled = page.fill(f"{template}.html", dict.fromkeys(places - {"house_head", "house_js"}, ""))
    head, _, _ = filled.partition("</head>")
    # browsers look for the encoding in the first kilobyte alone
    assert 0 <= head.find('<meta charset="utf-8">') < 1000
    for line in ('name="viewport"', 'name="color-scheme"', 'rel="icon"', "--panel:", "<title>"):
        assert line in head
    assert head.count("@media (prefers-color-scheme: dark)") == 1


def test_json_cannot_end_its_script_and_is_valid() -> None:
    data = {"a": "</script>", "b": [float("nan"), (1.5, float("-inf"))], "c": {"d": True}}
    text = page.script_json(data)
    assert "<" not in text
    assert json.loads(text) == {"a": "</script>", "b": [None, [1.5, None]], "c": {"d": True}}


def test_an_image_is_kept_exactly_or_nearly() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    smooth = np.broadcast_to(np.arange(40, dtype=np.uint8)[None, :, None] * 6, (24, 40, 3)).copy()

    def decoded(uri: str) -> np.ndarray:
        kind, _, text = uri.partition("base64,")
        assert kind == "data:image/webp;"
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB"))

    assert np.array_equal(decoded(page.data_uri(pixels)), pixels)
    near = decoded(page.data_uri(smooth, quality=80)).astype(int)
    assert 0 < np.abs(near - smooth).mean() < 4
    assert len(page.data_uri(pixels, 40)) < len(page.data_uri(pixels, 80)) < len(page.data_uri(pixels))


def test_thinned_keeps_the_ends_and_five_digits() -> None:
    steps, values = list(range(1001)), [step / 7 for step in range(1001)]
    thin = page.thinned(steps, values, 11)
    assert thin["x"] == [0, 100, 200, 300, 400, 500, 600, 700, 800, 900, 1000]
    assert thin["y"][1] == 14.286
    assert page.thinned([3, 4], [1.0, 2.0], 11) == {"x": [3, 4], "y": [1, 2]}


def test_a_file_is_replaced_whole_and_readable_by_all(tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    page.replace_file(path, "one")
    before = path.stat().st_ino
    page.replace_file(path, "two\n")
    assert path.read_bytes() == b"two\n"
    assert path.stat().st_ino != before
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_plotly_is_there() -> None:
    assert "Plotly" in page.plotly_script()
