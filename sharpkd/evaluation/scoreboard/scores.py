"""Measuring nets for a scoreboard: each file of weights once on the same images."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from sharpkd.checkpoint import LoadedNet, file_sha256
from sharpkd.data.images import find_images
from sharpkd.evaluation.benchmark.row_cache import hash_of_sources
from sharpkd.evaluation.fingerprints import hash_of_code
from sharpkd.evaluation.folder.evaluation import FolderEvaluation, score
from sharpkd.evaluation.scoreboard.table import INPUT, ImageScores
from sharpkd.runs.folder import write_json

METRICS = ("psnr", "ssim")
SOURCES = (
    "data/crops",
    "data/degradation",
    "data/degradation_maths",
    "data/images",
    "evaluation/folder/evaluation",
    "functional",
    "nets",
)
"""What decides, beside weights and images, what a score is; kept scores of other code are measured anew."""


class Scoring:
    """Scores of nets on folders of images, kept in a file beside the weights.

    Args:
        folders: of images; the last part of the path names the set.
        degradation: any albumentations transform; seeded by each image's name.
        scale: how many times smaller the degraded image is.
        use_condition: tell the nets what the degradation did.
        trusted: packages of a user's own nets: scores are measured anew where their code has changed.

    Raises:
        FileNotFoundError: a folder or its images are missing.
    """

    def __init__(
        self,
        folders: Mapping[str, Path],
        degradation: Any,
        scale: int = 1,
        use_condition: bool = False,
        trusted: Sequence[str] = (),
    ) -> None:
        self.sets = {name: _images(folder) for name, folder in folders.items()}
        self.degradation = degradation
        self.scale = scale
        self.use_condition = use_condition
        files = {name: [file_sha256(path) for path in paths] for name, paths in self.sets.items()}
        self.trusted = tuple(trusted)
        code = [hash_of_sources(SOURCES), *sorted(_sources_of(degradation))]
        settings = [files, repr(degradation), scale, use_condition, code]
        self._key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()

    def of(self, loaded: LoadedNet, name: str, kept: Path) -> dict[str, ImageScores]:
        """Scores of the degraded images (``input``) and of a net, from ``kept`` where they are there.

        Args:
            loaded: the net; scores of other weights or images are measured anew.
            name: of the net in the result.
            kept: JSON file.

        Raises:
            UnreadableImage: a file cannot be read.
            FloatingPointError: the net's output is not finite.
        """
        key = f"{loaded.sha256} {hash_of_code(loaded.net, self.trusted)} {self._key}"
        if kept.is_file():
            content = _read(kept)
            if content.get("key") == key:
                return dict(content["scores"])
        scores: dict[str, ImageScores] = {INPUT: {}, name: {}}
        for group, paths in self.sets.items():
            measured = self._measure({name: loaded.net}, paths)
            for who in scores:
                scores[who] = {**scores[who], group: {image: of[who] for image, of in measured.items()}}
        write_json(kept, {"key": key, "scores": scores})
        return scores

    def _measure(
        self, nets: Mapping[str, nn.Module], paths: list[Path]
    ) -> dict[str, dict[str, dict[str, float | None]]]:
        evaluation = FolderEvaluation(nets, paths, self.degradation, self.scale, self.use_condition)
        found = {}
        for index, image in enumerate(evaluation.names):
            sharp, versions = evaluation.restored(index)
            for who, output in versions.items():
                if not output.isfinite().all():
                    raise FloatingPointError(f"the output of {who} on {image} is not finite")
            scores = {who: score(output, sharp) for who, output in versions.items()}
            found[image] = {who: {metric: of[metric] for metric in METRICS} for who, of in scores.items()}
        return found


def _sources_of(degradation: Any) -> set[str]:
    """SHA-256 of the files in which a user's own transforms stand, those inside compositions too."""
    found = set()
    if type(degradation).__module__.partition(".")[0] not in ("sharpkd", "albumentations"):
        source = inspect.getsourcefile(type(degradation))
        found |= {file_sha256(Path(source))} if source else set()
    for part in getattr(degradation, "transforms", ()):
        found |= _sources_of(part)
    return found


def _read(path: Path) -> dict[str, Any]:
    """What is kept; empty where the file is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"eval_dirs: there is no folder {folder.absolute()}")
    files = find_images(folder)
    if not files:
        raise FileNotFoundError(f"eval_dirs: no image in {folder.absolute()}")
    return files
