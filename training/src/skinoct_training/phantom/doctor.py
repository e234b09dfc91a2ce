"""The ROI set a doctor would leave for a phantom: a hand-traced DEJ band, other layers filled in by a macro."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from skinoct.labels import Label
from skinoct.rois import Paths, Roi, trace
from skinoct_training.phantom.fields import FloatArray
from skinoct_training.synthetic import Synthetic

VERTEX_EVERY_PX = (8, 20)
HAND_PX = 0.4
"""Standard deviation of a vertex from the line that the doctor meant."""


def doctor_rois(phantom: Synthetic, rng: np.random.Generator) -> Iterator[Roi]:
    """Yield ROIs in the order of slices: each part of the DEJ as a polygon, the other layers as exact areas."""
    labels = phantom.labels
    others = (Label.GLASS, Label.GLYCEROL, Label.EPIDERMIS, Label.DERMIS)
    areas = list(trace(labels, labels_to_trace=others))
    for z in range(labels.shape[0]):
        _, _, top, bottom = phantom.boundaries[:, z]
        for part, (first, last) in enumerate(visible_runs(labels[z] == Label.DEJ), start=1):
            name = f"dej-{z + 1:04d}" if part == 1 else f"dej-{z + 1:04d}-{part}"
            yield Roi(name, Label.DEJ, z, Paths((trace_by_hand(top, bottom, (first, last), rng),)))
        yield from (area for area in areas if area.slice_index == z)


def visible_runs(mask: np.typing.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return runs of columns (first, one past last) in which a mask (Y, X) has any pixel."""
    present = np.concatenate([[False], mask.any(axis=0), [False]])
    edges = np.flatnonzero(np.diff(present.astype(np.int8)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2) if b - a >= 2]


def trace_by_hand(
    top: FloatArray, bottom: FloatArray, run: tuple[int, int], rng: np.random.Generator
) -> np.typing.NDArray[np.float64]:
    """Trace the band between two lines (X,) over columns ``run`` as a polygon (n, 2) with a vertex every 8-20 px."""
    first, last = run
    stops = [first]
    while stops[-1] < last:
        stops.append(min(last, stops[-1] + int(rng.integers(*VERTEX_EVERY_PX, endpoint=True))))
    if len(stops) > 2 and stops[-1] - stops[-2] < VERTEX_EVERY_PX[0]:
        del stops[-2]
    x = np.asarray(stops, np.float64)
    columns = np.arange(len(top)) + 0.5
    upper = np.interp(x, columns, top) + rng.normal(0, HAND_PX, len(x))
    lower = np.interp(x, columns, bottom) + rng.normal(0, HAND_PX, len(x))
    lower = np.maximum(lower, upper + 1)
    return np.concatenate([np.stack([x, upper], 1), np.stack([x, lower], 1)[::-1]])
