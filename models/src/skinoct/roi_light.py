"""Layers as polygons light enough to drag: a corner every ten pixels or so, within half a pixel.

A traced outline has two corners for every step of one pixel, which nobody can edit by hand. Boundaries of an
ordered segmentation are thinned by the method of Douglas and Peucker (1973): a corner is added where the
line without it would pass more than the tolerance away. Other segmentations have their traced outlines
thinned, whose steps need more corners.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from skinoct.labels import Label, layer
from skinoct.roi_trace import ALL_CLASSES, trace
from skinoct.roi_types import Paths, Points, Roi
from skinoct.segmentation import FloatArray, Segmentation

TOLERANCE = 0.5
"""Pixels, about as well as a hand can draw."""


def light_rois(
    segmentation: Segmentation,
    *,
    labels_to_trace: Sequence[Label] = ALL_CLASSES,
    tolerance: float = TOLERANCE,
) -> Iterator[Roi]:
    """Yield one polygon ROI per slice and class that occurs in it, in the order of slices and classes.

    Parameters
    ----------
    tolerance : float
        Pixels by which a side may pass the boundary.
    """
    if segmentation.boundaries is None:
        for roi in trace(segmentation.blocks(), labels_to_trace=labels_to_trace):
            assert isinstance(roi.shape, Paths)
            paths = tuple(thin_ring(path, tolerance) for path in roi.shape.paths)
            yield replace(roi, shape=Paths(paths))
        return
    edges = _with_borders(segmentation.boundaries, segmentation.shape[1])
    for index in range(segmentation.shape[0]):
        for label in labels_to_trace:
            paths = _bands(edges[label - 1, index], edges[label, index], tolerance)
            if paths:
                yield Roi(f"{layer(label).name}-{index + 1:04d}", label, index, Paths(paths))


def _with_borders(boundaries: FloatArray, height: int) -> npt.NDArray[np.float64]:
    """Return (6, Z, X): top of the image, the four boundaries, its bottom."""
    top = np.zeros_like(boundaries[:1], dtype=np.float64)
    inner = np.clip(boundaries.astype(np.float64), 0, height)
    return np.concatenate([top, inner, top + height])


def _bands(upper: npt.NDArray[np.float64], lower: npt.NDArray[np.float64], tolerance: float) -> tuple[Points, ...]:
    """Return a polygon for each run of columns in which ``lower`` is below ``upper``, both (X,).

    A pixel belongs to the band when its center lies in it, so runs are columns with such a pixel.
    """
    seen = np.ceil(lower - 0.5) > np.ceil(upper - 0.5)
    steps = np.flatnonzero(np.diff(np.concatenate([[False], seen, [False]])))
    paths = []
    for first, last in zip(steps[::2], steps[1::2], strict=True):
        sides = (_side(edge, first, last, tolerance) for edge in (upper, lower))
        above, below = sides
        paths.append(np.concatenate([above, below[::-1]]))
    return tuple(paths)


def _side(edge: npt.NDArray[np.float64], first: int, last: int, tolerance: float) -> Points:
    """Return the thinned boundary of columns ``first`` to ``last``, out to the columns' outer edges."""
    x = np.concatenate([[first], np.arange(first, last) + 0.5, [last]])
    y = np.concatenate([edge[first : first + 1], edge[first:last], edge[last - 1 : last]])
    return thin(np.stack([x, y], axis=1), np.array([0, last - first + 1]), tolerance)


def thin(points: Points, breaks: npt.NDArray[np.int64], tolerance: float) -> Points:
    """Return the points (m, 2) of an open line (n, 2) that are needed to stay within ``tolerance`` of all.

    All pieces between ``breaks`` (indices, the first 0 and the last n - 1) are split at once, so that there
    are as many rounds as splits deep.
    """
    while True:
        distance = _distances(points, breaks)
        worst = np.maximum.reduceat(distance, breaks[:-1])
        piece = np.repeat(np.arange(len(worst)), np.diff(breaks))
        where = np.flatnonzero((distance == worst[piece]) & (distance > tolerance))
        if not len(where):
            return points[breaks]
        breaks = np.union1d(breaks, where[np.unique(piece[where], return_index=True)[1]])


def _distances(points: Points, breaks: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return how far each point but the last is from the line between the breaks around it."""
    lengths = np.diff(breaks)
    start = np.repeat(points[breaks[:-1]], lengths, axis=0)
    along = np.repeat(points[breaks[1:]], lengths, axis=0) - start
    offset = points[:-1] - start
    squared = np.maximum((along**2).sum(axis=1), 1e-12)
    share = np.clip((offset * along).sum(axis=1) / squared, 0, 1)
    result: npt.NDArray[np.float64] = np.hypot(*(offset - share[:, None] * along).T)
    return result


def thin_ring(path: Points, tolerance: float = TOLERANCE) -> Points:
    """Return a closed path of lattice corners with fewer corners, close to its edges' middles."""
    ring = _edge_middles(path)
    ring = np.roll(ring, -int(np.argmin(ring.sum(axis=1))), axis=0)
    ring = np.concatenate([ring, ring[:1]])
    far = int(np.argmax(((ring - ring[0]) ** 2).sum(axis=1)))
    thinned = thin(ring, np.unique([0, far, len(ring) - 1]), tolerance)[:-1]
    return thinned if len(thinned) >= 3 else path


def _edge_middles(path: Points) -> Points:
    """Return the middles of all pixel edges along a closed path (n, 2), and corners that are no steps."""
    after = np.roll(path, -1, axis=0)
    lengths = np.abs(after - path).sum(axis=1).astype(np.int64)
    begins, total = np.cumsum(lengths) - lengths, int(lengths.sum())
    which = np.repeat(np.arange(len(path)), lengths)
    along = (np.arange(total) - begins[which] + 0.5)[:, None]
    middles = path[which] + np.sign(after - path)[which] * along
    corner = (lengths > 1) & (np.roll(lengths, 1) > 1)
    order = np.argsort(np.concatenate([begins[corner], np.arange(total) + 0.5]), kind="stable")
    result: Points = np.concatenate([path[corner], middles])[order]
    return result
