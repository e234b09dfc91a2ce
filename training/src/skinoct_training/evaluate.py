"""An evaluation that a reviewer would accept: unseen tomograms, micrometers, baselines, intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from skinoct.checkpoint import Card, Checkpoint
from skinoct.errors import DatasetError
from skinoct.intensity import IntensityConfig, measure_intensity, normalize, sample_indices
from skinoct.labels import CLASSES
from skinoct.predictor import Predictor
from skinoct.segmentation import FloatArray, LabelArray, Segmentation
from skinoct.tomogram import Tomogram
from skinoct_training import baselines
from skinoct_training.dataset import CALIBRATE, Case, LabelOptions, open_image, pixel_um_of, read_labels
from skinoct_training.leaks import Leaks, find_leaks, known
from skinoct_training.metrics import (
    FEWEST,
    Figures,
    bootstrap,
    brightness_strata,
    calibration,
    confusion,
    nest,
    score,
    summarize,
)

STRATA = ("dark", "middle", "bright")
SLICE_STRIDE = 8
"""Of the leaking split: every eighth slice is examined, as in the paper (439 of 3512)."""
LEAK = (
    "SPLIT BY SLICE: the examined slices are neighbors of slices that were trained on. These figures show how much "
    "such a split flatters; they say nothing about skin that was never seen."
)
NO_ORACLE = (
    "No tomogram shows the skin surface above a whole DEJ, so the baseline of a constant thickness below it is "
    "missing; draw glycerol and glass as well."
)


@dataclass(frozen=True)
class EvaluationOptions:
    """What to compare."""

    labels: LabelOptions = field(default_factory=LabelOptions)
    by_slice: bool = False
    """Examine only the slices that a training with the leaking split held out."""
    paper: Checkpoint | None = None
    """A checkpoint of the paper's recipe, decoded as the paper did."""


@dataclass(frozen=True)
class Subject:
    """The annotated slices of one tomogram."""

    name: str
    images: FloatArray
    """(Z, Y, X), normalized."""
    annotated: LabelArray
    """(Z, Y, X), 0 unknown."""
    slices: npt.NDArray[np.intp]
    """(Z,) their 0-based positions in the tomogram."""
    um: tuple[float, float]
    """(depth, width) of a pixel in micrometers."""


@dataclass(frozen=True)
class Example:
    """One slice to show: image, annotation and prediction, each (Y, X)."""

    tomogram: str
    slice_number: int
    """1-based, as ImageJ counts."""
    mae_um: float
    image: FloatArray
    annotated: LabelArray
    predicted: LabelArray


@dataclass
class Outcome:
    """Everything measured, before it is written down."""

    names: list[str] = field(default_factory=list)
    figures: dict[str, list[Figures]] = field(default_factory=dict)
    """By method, one per tomogram; ``model`` is the checkpoint."""
    strata: dict[str, list[Figures]] = field(default_factory=dict)
    """Of the model, by brightness."""
    confusion: dict[str, npt.NDArray[np.int64]] = field(default_factory=dict)
    calibration: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros((10, 3)))
    examples: list[Example] = field(default_factory=list)
    leaks: Leaks = field(default_factory=Leaks)
    """Tomograms that the checkpoint knows."""
    uncalibrated: list[str] = field(default_factory=list)
    """Tomograms whose files tell no pixel size."""


def read_subject(case: Case, options: EvaluationOptions, intensity: IntensityConfig) -> tuple[Subject, Tomogram]:
    """Read the annotated slices of a tomogram.

    Raises
    ------
    DatasetError
        When nothing is annotated, or nothing of what shall be examined.
    """
    tomogram = open_image(case)
    um = pixel_um_of(tomogram)
    labels = read_labels(case, tomogram.voxels.shape, options.labels, um[0])
    slices = np.flatnonzero(labels.any(axis=(1, 2)))
    if options.by_slice:
        slices = slices[slices % SLICE_STRIDE == SLICE_STRIDE // 2]
    if slices.size == 0:
        raise DatasetError(f"{case.annotation} annotates no slice that can be compared; draw ROIs on some.")
    voxels = tomogram.voxels
    samples = (voxels[z : z + 1] for z in sample_indices(voxels.shape[0], intensity))
    scale = measure_intensity(samples, intensity)
    images = np.concatenate([normalize(voxels[int(z) : int(z) + 1], scale, intensity) for z in slices])
    return Subject(case.name, images, labels[slices], slices, um), tomogram


def evaluate(
    checkpoint: Checkpoint,
    cases: Sequence[Case],
    options: EvaluationOptions,
    *,
    predictor: Predictor | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Measure a checkpoint and its baselines on annotated tomograms, one after the other.

    Raises
    ------
    DatasetError
        When a tomogram or its annotation cannot be used.
    """
    predictor = predictor or Predictor(checkpoint)
    paper = Predictor(unweighted(options.paper)) if options.paper else None
    intensity = checkpoint.card.intensity
    thickness = mean_thickness_um(cases, options)
    outcome = Outcome(leaks=find_leaks(cases, known(checkpoint.card)))
    for case in cases:
        progress(case.name)
        subject, tomogram = read_subject(case, options, intensity)
        if tomogram.pixel_size_um is None:
            outcome.uncalibrated.append(case.name)
        outcome.names.append(case.name)
        segmentation = predictor.segment(tomogram, decode="ordered")
        measure_model(outcome, subject, segmentation)
        band_px = checkpoint.card.band_thickness_um / subject.um[0]
        least_px = baselines.LEAST_EPIDERMIS_UM / subject.um[0]
        opponents = {"intensity_viterbi": baselines.intensity_viterbi(subject.images, band_px, least_px)}
        if np.isfinite(thickness):
            opponents["constant_thickness_oracle"] = baselines.constant_thickness(
                subject.annotated, thickness / subject.um[0], band_px
            )
        opponents["same_network_per_pixel"] = pick(predictor.segment(tomogram, decode="pixel"), subject)
        if paper:
            opponents["paper_recipe"] = pick(paper.segment(tomogram, decode="pixel"), subject)
        for name, labels in opponents.items():
            measure_method(outcome, name, subject, labels)
    return outcome


def pick(segmentation: Segmentation, subject: Subject) -> LabelArray:
    """Return the labels of the annotated slices, uint8 (Z, Y, X)."""
    return np.concatenate([segmentation.block(int(z), int(z) + 1) for z in subject.slices])


def unweighted(checkpoint: Checkpoint) -> Checkpoint:
    """Return a checkpoint for plain argmax as in the paper: its class weights are not divided out."""
    card: Card = checkpoint.card.model_copy(update={"class_weights": (1.0,) * len(CLASSES)})
    return Checkpoint(card, checkpoint.weights, checkpoint.folder)


def mean_thickness_um(cases: Sequence[Case], options: EvaluationOptions) -> float:
    """Return the mean annotated distance from skin surface to DEJ over all tomograms in micrometers."""
    values = []
    for case in cases:
        tomogram = open_image(case)
        um = pixel_um_of(tomogram)
        labels = read_labels(case, tomogram.voxels.shape, options.labels, um[0])
        values.append(baselines.mean_thickness(labels) * um[0])
    finite = [v for v in values if np.isfinite(v)]
    return float(np.mean(finite)) if finite else float("nan")


def measure_method(outcome: Outcome, name: str, subject: Subject, labels: LabelArray) -> Figures:
    """Add the figures of one method on one tomogram."""
    figures = score(labels, subject.annotated, um=subject.um, slices=subject.slices)
    outcome.figures.setdefault(name, []).append(figures)
    counts = confusion(labels, subject.annotated)
    outcome.confusion[name] = outcome.confusion.get(name, np.zeros_like(counts)) + counts
    return figures


def measure_model(outcome: Outcome, subject: Subject, segmentation: Segmentation) -> None:
    """Add everything that is measured of the checkpoint itself."""
    labels = pick(segmentation, subject)
    measure_method(outcome, "model", subject, labels)
    strata = brightness_strata(subject.images, subject.annotated)
    for index, name in enumerate(STRATA):
        columns = strata == index
        if columns.any():
            figures = score(labels, subject.annotated, um=subject.um, slices=subject.slices, columns=columns)
            outcome.strata.setdefault(name, []).append(figures)
    confidence = segmentation.confidence[subject.slices]
    tolerance = segmentation.band_thickness_um
    outcome.calibration += calibration(confidence, labels, subject.annotated, subject.um[0], tolerance)
    outcome.examples += examples(subject, labels)


def examples(subject: Subject, labels: LabelArray) -> Iterator[Example]:
    """Choose the slices with the least, the median and the largest DEJ error."""
    errors = [
        score(labels[z : z + 1], subject.annotated[z : z + 1], um=subject.um)["dej.mae_um"] for z in range(len(labels))
    ]
    order = [int(z) for z in np.argsort(errors) if np.isfinite(errors[int(z)])]
    for z in dict.fromkeys(order[i] for i in (0, len(order) // 2, -1) if order):
        yield Example(
            subject.name,
            int(subject.slices[z]) + 1,
            errors[z],
            subject.images[z].copy(),
            subject.annotated[z].copy(),
            labels[z].copy(),
        )


def report(outcome: Outcome, checkpoint: Checkpoint, options: EvaluationOptions) -> dict[str, Any]:
    """Return what ``report.json`` holds."""
    model = outcome.figures["model"]
    warnings = [*([LEAK] if options.by_slice else []), *outcome.leaks.warnings()]
    if "constant_thickness_oracle" not in outcome.figures:
        warnings.append(NO_ORACLE)
    if outcome.uncalibrated:
        warnings.append(f"Without a pixel size: {', '.join(outcome.uncalibrated)}; {CALIBRATE}.")
    return {
        "checkpoint": checkpoint.card.name,
        "weights_sha256": checkpoint.card.weights_sha256,
        "tomograms": outcome.names,
        "warnings": warnings,
        **nest(summarize(model)),
        "intervals": nest({k: list(v) if np.isfinite(v[0]) else None for k, v in bootstrap(model).items()}),
        "interval_method": interval_method(len(model)),
        "per_tomogram": {name: nest(f) for name, f in zip(outcome.names, model, strict=True)},
        "strata": {name: nest(summarize(rows)) for name, rows in outcome.strata.items()},
        "confusion": {name: counts.tolist() for name, counts in outcome.confusion.items()},
        "calibration": [
            {"columns": int(n), "confidence": claimed / n, "within_one_band": good / n}
            for n, claimed, good in outcome.calibration
            if n
        ],
        "baselines": {name: nest(summarize(rows)) for name, rows in outcome.figures.items() if name != "model"},
    }


def interval_method(count: int) -> str:
    """Say where the intervals of so many tomograms come from, or why there are none."""
    if count < FEWEST:
        return f"none: {count} tomogram{'s' if count != 1 else ''}, fewer than {FEWEST}, say too little about others"
    return f"95 %, percentile bootstrap over {count} tomograms; too narrow when they are few"


def card_figures(content: dict[str, Any]) -> dict[str, Any]:
    """Return what a checkpoint's card carries of a report: figures, intervals and the baselines' DEJ."""
    keys = ("classes", "accuracy", "dej", "epidermis", "order_violations")
    baselines_dej = {name: tree["dej"] for name, tree in content["baselines"].items()}
    return {
        "tomograms": content["tomograms"],
        "warnings": content["warnings"],
        **{key: content[key] for key in keys},
        "intervals": {"dej": content["intervals"].get("dej", {})},
        "interval_method": content["interval_method"],
        "baselines": baselines_dej,
    }
