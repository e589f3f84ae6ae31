"""One evaluation on SharpBench, from the models' names to the finished report."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from sharpkd.data.images import read_image
from sharpkd.evaluation.baselines import BASELINES, looks_at_the_truth
from sharpkd.evaluation.benchmark.edges import EdgeScore, measure_edges
from sharpkd.evaluation.benchmark.image_sets import BenchmarkImage, MissingSet, find_images_of
from sharpkd.evaluation.benchmark.report import write_benchmark_report
from sharpkd.evaluation.benchmark.runner import (
    NO_LPIPS,
    Failure,
    LPIPSSettings,
    Measured,
    Progress,
    measure,
    open_model,
    told_by_image,
)
from sharpkd.evaluation.benchmark.summary import summarise
from sharpkd.evaluation.benchmark.worst_cases import worst_cases
from sharpkd.evaluation.machine import machine
from sharpkd.evaluation.model_names import as_list
from sharpkd.evaluation.models import CURVES, Model, ModelSpec, specs_of
from sharpkd.evaluation.pages.examples import Example
from sharpkd.evaluation.protocols import TRACKS, Condition, Image, Pair, conditions, make_pair
from sharpkd.evaluation.rating.opinions import spread, take_turns
from sharpkd.evaluation.rows import INPUT, META, write_rows
from sharpkd.evaluation.speed import measure_speed, remarks_on
from sharpkd.runs.folder import write_json

log = logging.getLogger(__name__)


class SharpBench:
    """The benchmark with its settings.

    Args:
        root: folder with one folder for each set.
        sets: names of sets.
        limits: set -> number of its images that are used, evenly spread; None for all.
        tracks: names of tracks.
        baselines: measured beside the user's models; ``input`` always is.
        workers: processes; null for one a core, 0 for none beside this one.
        cache_dir: where measured scores are kept.
        speed: arguments of :func:`sharpkd.evaluation.speed.measure_speed`, or null to leave it out.
        edges: sigmas at which overshoot and acutance are measured on synthetic edges; empty leaves them out.
        examples: how many images the report shows.

    Raises:
        ValueError: an unknown track or baseline.
    """

    def __init__(
        self,
        root: str,
        sets: Sequence[str],
        tracks: Sequence[str] = TRACKS,
        baselines: Sequence[str] = (INPUT,),
        limits: Mapping[str, int | None] | None = None,
        workers: int | None = None,
        cache_dir: str = "",
        speed: Mapping[str, Any] | None = None,
        edges: Sequence[float] = (),
        examples: int = 8,
    ) -> None:
        self.root = Path(root).expanduser()
        self.sets = as_list(sets)
        self.limits = {name: limit for name, limit in (limits or {}).items() if limit is not None}
        self.conditions = conditions(as_list(tracks) or None)
        self.baselines = list(dict.fromkeys([INPUT, *as_list(baselines)]))
        if unknown := [name for name in self.baselines if name not in BASELINES]:
            raise ValueError(f"unknown baseline {unknown[0]!r}; there are {', '.join(BASELINES)}")
        self.workers = workers
        self.cache_dir = Path(cache_dir).expanduser()
        self.speed = None if speed is None else dict(speed)
        self.edges = [float(sigma) for sigma in edges]
        self.examples = examples

    def images(self) -> tuple[list[BenchmarkImage], list[MissingSet]]:
        """The images that are there, and the sets that are not; looked for once.

        Raises:
            FileNotFoundError: none of the sets is there; says how to get them.
        """
        return self._images

    @cached_property
    def _images(self) -> tuple[list[BenchmarkImage], list[MissingSet]]:
        images, missing = find_images_of(self.root, self.sets, self.limits)
        for absent in missing:
            log.warning("%s", absent.message)
        if not images:
            raise FileNotFoundError(
                f"none of {', '.join(self.sets)} is in {self.root.absolute()}; "
                "set benchmark.root to the folder that holds them"
            )
        return images, missing

    def specs(self, model: Any, trusted: Sequence[str] = ()) -> list[ModelSpec]:
        """The baselines that some condition asks for and the user's models, ``input`` first.

        Raises:
            ValueError: one of the user's models is made for none of the conditions.
        """
        wanted = specs_of(model, tuple(trusted)) if model else []
        named = {spec.name for spec in wanted}
        added = [
            spec for spec in specs_of(self.baselines, ()) if spec.name not in named and self._asks_for(spec)
        ]
        for spec in wanted:
            if not self._asks_for(spec):
                asked = ", ".join(condition.name for condition in self.conditions)
                raise ValueError(
                    f"{spec.name} (scale {open_model(spec).scale}) is made for none of the conditions asked "
                    f"for: {asked}"
                )
        return sorted([*added, *wanted], key=lambda spec: (spec.name != INPUT, spec.kind != "baseline"))

    def _asks_for(self, spec: ModelSpec) -> bool:
        return any(open_model(spec).applies_to(condition) for condition in self.conditions)

    def run(
        self,
        specs: Sequence[ModelSpec],
        folder: Path,
        lpips: LPIPSSettings,
        *,
        meta: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> dict[str, Any]:
        """Measure, and write ``metrics.json``, ``per_image.csv`` and ``report.html`` into ``folder``.

        Returns:
            What ``metrics.json`` holds: ``models`` (see
            :func:`sharpkd.evaluation.benchmark.summary.summarise`), ``speed``, ``edges``, ``_meta``.

        Raises:
            FileNotFoundError: none of the sets is there.
            ValueError: a model could not be measured at all, or no image can be read.
        """
        images, missing = self.images()
        models = {spec.name: open_model(spec) for spec in specs}
        # what a file says wrongly of itself is better said now than after hours
        facts: dict[str, Mapping[str, Any]] = {spec.name: models[spec.name].facts() for spec in specs}
        measured = measure(
            specs,
            images,
            self.conditions,
            self.cache_dir,
            lpips=lpips,
            workers=self.workers,
            progress=progress,
        )
        _refuse_unmeasured(models, measured)
        folder.mkdir(parents=True, exist_ok=True)
        # these rows are not the ones that an earlier evaluation here has summed up
        (folder / "metrics.json").unlink(missing_ok=True)
        write_rows(folder / "per_image.csv", measured.rows)
        log.info("measured; scores of single images: %s", folder / "per_image.csv")
        speed = self._timed(list(models.values()))
        edges = self._on_edges(models)
        results = {
            **summarise(measured.rows, facts),
            "speed": speed,
            "edges": {name: [asdict(score) for score in scores] for name, scores in edges.items()},
            META: {
                "benchmark": "SharpBench",
                "sets": sorted({image.set for image in images}, key=self.sets.index),
                "images": len(images),
                "missing": [vars(absent) for absent in missing],
                "unreadable": measured.unreadable,
                "altered": measured.altered,
                "failures": [vars(failure) for failure in measured.failures],
                "conditions": [condition.name for condition in self.conditions],
                "lpips": None if lpips.fingerprint == NO_LPIPS else f"lpips-{lpips.backbone}",
                **machine(),
                **(meta or {}),
            },
        }
        write_json(folder / "metrics.json", results)
        log.info("writing the report")
        write_benchmark_report(
            folder / "report.html",
            results,
            measured.rows,
            self.worst_examples(measured, specs, images, models),
            speed,
            edges,
            _curves(facts),
            self._notes(results),
        )
        return results

    def worst_examples(
        self,
        measured: Measured,
        specs: Sequence[ModelSpec],
        images: Sequence[BenchmarkImage],
        models: Mapping[str, Model],
    ) -> list[Example]:
        """The images where the user's models (else the baselines) do worst, restored once more to be seen."""
        shown = [spec.name for spec in specs if spec.kind != "baseline"] or [spec.name for spec in specs]
        by_name = {(image.set, image.name): image for image in images}
        by_condition = {condition.name: condition for condition in self.conditions}
        cases = worst_cases(measured.rows, shown, self.examples)
        wanted = [(by_name[case.set, case.image], by_condition[case.condition]) for case in cases]
        return _examples(wanted, models)

    def rated_conditions(self, specs: Sequence[ModelSpec]) -> list[Condition]:
        """Those under which people have something to choose between.

        Conditions that a single model is made for, and ``sharp``, ask nothing of a rater and are left out; so
        are those that none of the user's models is made for, where there is any.

        Raises:
            ValueError: no condition is left.
        """
        models = [open_model(spec) for spec in specs]
        own = _own(specs)
        usable = [
            condition
            for condition in self.conditions
            if condition.track != "sharp"
            and sum(model.applies_to(condition) for model in models) > 1
            and any(model.applies_to(condition) for model in models if model.name in own)
        ]
        if not usable:
            names = ", ".join(spec.name for spec in specs)
            raise ValueError(f"there is nothing to rate: {names} share no condition with anything to restore")
        return usable

    def rating_examples(self, specs: Sequence[ModelSpec], count: int) -> list[Example]:
        """``count`` images for people to rate, evenly spread, under conditions that take turns.

        Each of the user's models is asked about as often as the others, as far as that goes.

        Raises:
            ValueError: there is nothing to rate, see :meth:`rated_conditions`.
        """
        models = {spec.name: open_model(spec) for spec in specs}
        shown = _examples(self._rated(specs, count), models)
        return [example for example in shown if len(example.outputs) > 1]

    def rating_offers(self, specs: Sequence[ModelSpec], count: int) -> list[list[str]]:
        """The models that each of those images is to have an output of, before any is measured.

        Raises:
            ValueError: there is nothing to rate, see :meth:`rated_conditions`.
        """
        models = {spec.name: open_model(spec) for spec in specs}
        return [
            [name for name, model in models.items() if model.applies_to(condition)]
            for _, condition in self._rated(specs, count)
        ]

    def _rated(self, specs: Sequence[ModelSpec], count: int) -> list[tuple[BenchmarkImage, Condition]]:
        usable = self.rated_conditions(specs)
        own = [open_model(spec) for spec in specs if spec.name in _own(specs)]
        offers = [[model.name for model in own if model.applies_to(condition)] for condition in usable]
        images, _ = self.images()
        chosen = spread(len(images), count)
        turns = take_turns(offers, len(chosen))
        return [(images[index], usable[turn]) for index, turn in zip(chosen, turns, strict=True)]

    def _timed(self, models: Sequence[Model]) -> dict[str, Any] | None:
        if self.speed is None:
            return None
        log.info("timing frames")
        speed = measure_speed(models, **self.speed)
        for remark in remarks_on(speed):
            log.info("%s", remark)
        return speed

    def _on_edges(self, models: Mapping[str, Model]) -> dict[str, list[EdgeScore]]:
        if self.edges:
            log.info("measuring synthetic edges")
        return {name: scores for name, model in models.items() if (scores := self._edges(model))}

    def _edges(self, model: Model) -> list[EdgeScore]:
        """Scores on synthetic edges; none of a model that enlarges, or that has to see the sharp image."""
        told = [_blur(sigma) for sigma in self.edges]
        if looks_at_the_truth(model.name) or not all(model.applies_to(condition) for condition in told):
            return []
        scores = []
        for condition, sigma in zip(told, self.edges, strict=True):
            try:
                scores += measure_edges(partial(_restore_blind, model, condition), [sigma])
            except Exception as error:  # a net or its engine may fail in any way
                log.warning("%s on an edge blurred with sigma %g: %s", model.name, sigma, error)
        return scores

    def _notes(self, results: Mapping[str, Any]) -> list[str]:
        meta = results[META]
        notes = [
            f"{meta['images']} images of {', '.join(meta['sets'])}; every output rounded to 8 bit, metrics "
            "averaged per image. PSNR on RGB, SSIM on luma; on sr both on luma, without a border of s pixels."
        ]
        notes += [absent["message"] for absent in meta["missing"]]
        notes += [f"Left out: {reason}" for reason in meta["unreadable"]]
        if altered := meta["altered"]:
            notes.append(
                f"Not comparable with other evaluations: the pixels of {len(altered)} image(s) are not the "
                f"benchmark's own ({', '.join(altered[:5])}{', …' if len(altered) > 5 else ''})."
            )
        notes += told_by_image([Failure(**failed) for failed in meta["failures"]])
        return notes + (remarks_on(results["speed"]) if results["speed"] is not None else [])


def _own(specs: Sequence[ModelSpec]) -> list[str]:
    """What people are to be asked about: the user's models, else the input, beside which the others are."""
    return [spec.name for spec in specs if spec.kind != "baseline"] or [INPUT]


def _blur(sigma: float) -> Condition:
    return Condition("gaussian", f"gaussian/{sigma:g}", sigma=sigma)


def _restore_blind(model: Model, condition: Condition, degraded: Image) -> Image:
    # nobody may look at the sharp edge here: it is the input that stands in its place
    return model.restore(Pair(degraded, degraded), condition)


def _examples(
    wanted: Sequence[tuple[BenchmarkImage, Condition]], models: Mapping[str, Model]
) -> list[Example]:
    """Those of the images that can be read and degraded."""
    shown = []
    for image, condition in wanted:
        try:
            shown.append(example_of(image, condition, models))
        except (OSError, ValueError) as error:
            log.warning("%s/%s is not shown: %s", image.set, image.name, error)
    return shown


def example_of(image: BenchmarkImage, condition: Condition, models: Mapping[str, Model]) -> Example:
    """What every model that is made for the condition makes of one image; one that fails is left out."""
    pair = make_pair(condition, read_image(image.path), image.name)
    outputs = {}
    for name, model in models.items():
        if model.applies_to(condition):
            try:
                outputs[name] = model.restore(pair, condition)
            except Exception as error:  # a net or its engine may fail in any way
                log.warning("%s is not shown on %s/%s: %s", name, image.set, image.name, error)
    return Example(f"{image.set}/{image.name}", condition.name, pair.sharp, outputs)


def _refuse_unmeasured(models: Mapping[str, Model], measured: Measured) -> None:
    seen = {row.model for row in measured.rows}
    for name in models:
        reasons = [failure.reason for failure in measured.failures if failure.model == name]
        if name not in seen and reasons:
            raise ValueError(f"{name} failed on every image: {reasons[0]}")


def _curves(facts: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, Path]]:
    """The training logs of the runs behind the models."""
    return [
        (name, Path(known["run"]) / CURVES) for name, known in facts.items() if known.get("run") is not None
    ]
