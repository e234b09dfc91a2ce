"""Choose how lines are drawn through a network's probabilities, on tomograms that nothing else is measured on.

Coordinate descent: one setting of the decoding after the other takes the value with the lowest error, as long as that
helps. The network runs once; only decoding is repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from skinoct.checkpoint import Checkpoint
from skinoct.decode import OrderedDecoder
from skinoct.decode_config import DecodeConfig
from skinoct.engines import Engine, network_config
from skinoct.neighbors import stack_neighbors
from skinoct.segmentation import LabelArray, draw_layers
from skinoct_training.dataset import Case, LabelOptions, load_volumes
from skinoct_training.metrics import calibration, column_errors, join_errors
from skinoct_training.validation import Window, windows

CANDIDATES: dict[str, tuple[Any, ...]] = {
    "dej_step_price": (0.3, 1.0, 3.0, 8.0, 25.0, 60.0),
    "dej_reach": (1, 2, 3),
    "smooth_columns": (1.0, 2.0, 3.0, 5.0, 8.0),
    "smooth_slices": (0.0, 1.0, 2.0, 3.0, 5.0),
    "floor": (0.005, 0.02, 0.05, 0.1),
}
"""Values that are tried, in this order."""
TEMPERATURES = (4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
SLICES = 8
"""Annotated slices of each tomogram."""
LEAST_GAIN = 0.005
"""A change must lower the error by this share; less is chance."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Evidence:
    """What the network says about some slices, and the truth."""

    probabilities: npt.NDArray[np.float16]
    """(Z, 5, Y, X)."""
    labels: LabelArray
    """(Z, Y, X)."""
    pixel_um: float
    """Height of a pixel."""


def gather(
    checkpoint: Checkpoint, engine: Engine, cases: list[Case], labels: LabelOptions
) -> Iterable[tuple[Evidence, ...]]:
    """Run the network over annotated tomograms at its own pixel size; yields what there is of each.

    Raises
    ------
    DatasetError
        When a tomogram cannot be used.
    """
    card = checkpoint.card
    context = network_config(checkpoint).in_slices // 2
    for volume in load_volumes(cases, pixel_um=card.pixel_size_um, intensity=card.intensity, options=labels):
        chosen = windows(volume, SLICES, card.slice_step_um, context=context)
        yield tuple(_evidence(engine, window, context) for window in chosen)


def _evidence(engine: Engine, window: Window, context: int) -> Evidence:
    found = [
        engine.probabilities(stack_neighbors(window.images, z, 1, context, window.step)).astype(np.float16)
        for z in range(len(window.images))
    ]
    return Evidence(np.concatenate(found), window.labels, window.pixel_um)


def decoded(item: Evidence, config: DecodeConfig) -> tuple[LabelArray, npt.NDArray[np.float32]]:
    """Return labels (Z, Y, X) and confidence (Z, X)."""
    slices, _, rows, columns = item.probabilities.shape
    decoder = OrderedDecoder(config, (slices, rows, columns))
    decoder.add(item.probabilities.astype(np.float32))
    surfaces = decoder.finish()
    return draw_layers(surfaces.boundaries, rows), surfaces.confidence


def error_um(evidence: Sequence[Sequence[Evidence]], config: DecodeConfig) -> float:
    """Return the mean over tomograms of the DEJ's error, a missing DEJ counted as lying at the edge of the image."""
    errors = [
        join_errors([column_errors(decoded(item, config)[0], item.labels, item.pixel_um) for item in tomogram])
        for tomogram in evidence
    ]
    return float(np.nanmean([error.score_um for error in errors]))


def overconfidence(evidence: Sequence[Sequence[Evidence]], config: DecodeConfig) -> float:
    """Return how far claimed confidence and the share of columns within one band of the truth are apart.

    The expected calibration error of Guo et al., *On Calibration of Modern Neural Networks*, ICML 2017.
    """
    counts = np.zeros((10, 3))
    for item in chain.from_iterable(evidence):
        labels, confidence = decoded(item, config)
        band_um = config.band_thickness_px * item.pixel_um
        counts += calibration(confidence, labels, item.labels, item.pixel_um, band_um, len(counts))
    columns, claimed, good = counts.T
    return float(np.abs(claimed - good).sum() / max(columns.sum(), 1))


def calibrate(evidence: Sequence[Sequence[Evidence]], start: DecodeConfig, say: Say) -> DecodeConfig:
    """Return the settings with the temperature at which confidence is what it claims to be."""
    best = start, overconfidence(evidence, start)
    for value in TEMPERATURES:
        trial = start.model_copy(update={"temperature": value})
        apart = overconfidence(evidence, trial)
        say(f"temperature = {value:g}: confidence is off by {apart:.3f}")
        best = min(best, (trial, apart), key=lambda pair: pair[1])
    return best[0]


def tune(evidence: Sequence[Sequence[Evidence]], start: DecodeConfig, say: Say) -> DecodeConfig:
    """Return the settings with the lowest error that one pass over ``CANDIDATES`` finds, confidence made true.

    Each trial is said.
    """
    config, best = start, error_um(evidence, start)
    say(f"as it is: {best:.2f} um")
    for name, values in CANDIDATES.items():
        for value in values:
            trial = config.model_copy(update={name: value})
            if trial == config:
                continue
            error = error_um(evidence, trial)
            say(f"{name} = {value:g}: {error:.2f} um")
            if error < best * (1 - LEAST_GAIN):
                config, best = trial, error
    return calibrate(evidence, config, say)
