"""Suspects ROI sets that were saved to each other's folder, where they hold nothing but the DEJ.

What is drawn tells no skin surface then, but the image does, and the DEJ runs along that of its own tomogram. One DEJ
may follow a stranger's surface better by chance; two that both do so, each the other's, were exchanged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from skinoct.intensity import IntensityConfig, measure_intensity, normalize
from skinoct.tomogram import Tomogram
from skinoct_training.annotation import LabelArray
from skinoct_training.baselines import bright_surface, skin_surface
from skinoct_training.metrics import dej_center

MARGIN = 0.5
"""By how much both correlations must be higher after an exchange. Of 2350 pairs of phantoms of all families none comes
nearer than 0.32; of exchanged pairs, about four in ten are found."""
MOST_SLICES = 20
LEAST_COLUMNS = 50

Lines = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Outline:
    """Skin surface that a tomogram shows, and DEJ that somebody drew."""

    name: str
    slices: list[int]
    """0-based."""
    surface: Lines
    """(n, X), row in each column of these slices."""
    dej: Lines
    """(n, X), NaN where none is drawn."""


def outline(name: str, tomogram: Tomogram, labels: LabelArray) -> Outline | None:
    """Read both lines of a tomogram from some annotated slices; None where the drawn layers tell the surface."""
    slices = np.flatnonzero(labels.any(axis=(1, 2)))
    slices = slices[:: -(-len(slices) // MOST_SLICES) or 1]
    drawn = labels[slices]
    if not slices.size or np.isfinite(skin_surface(drawn)).any():
        return None
    config = IntensityConfig()
    voxels = np.concatenate([tomogram.voxels[int(z) : int(z) + 1] for z in slices])
    images = normalize(voxels, measure_intensity(iter([voxels]), config), config)
    return Outline(name, slices.tolist(), np.asarray(bright_surface(images), float), dej_center(drawn, whole=True))


def exchanged(outlines: Sequence[Outline]) -> Iterator[tuple[str, str]]:
    """Yield the names of two tomograms whose sets belong to each other's, by all appearance."""
    for one, other in combinations(outlines, 2):
        if one.surface.shape[1] != other.surface.shape[1]:
            continue
        gains = (follows(one, other) - follows(one, one), follows(other, one) - follows(other, other))
        if min(gains) > MARGIN:  # never where one of them is NaN
            yield one.name, other.name


def follows(ground: Outline, drawn: Outline) -> float:
    """Return how closely the DEJ of one follows the surface of another: the correlation, mean over common slices.

    NaN where nothing can be compared.
    """
    common = [(ground.slices.index(z), drawn.slices.index(z)) for z in ground.slices if z in drawn.slices]
    found = [correlation(ground.surface[i], drawn.dej[k]) for i, k in common]
    finite = [value for value in found if np.isfinite(value)]
    return float(np.mean(finite)) if finite else float("nan")


def correlation(surface: Lines, dej: Lines) -> float:
    """Return the correlation of two lines (X,); NaN where too little of them is known or one is flat."""
    known = np.isfinite(dej)
    if known.sum() < LEAST_COLUMNS or not surface[known].std() or not dej[known].std():
        return float("nan")
    return float(np.corrcoef(surface[known], dej[known])[0, 1])
