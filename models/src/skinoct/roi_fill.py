"""Which pixels an ROI covers, pixel for pixel as ImageJ 1.54p fills it.

ImageJ's rule for areas (class ``PolygonFiller``): a pixel is inside when its center is, counted by the
even-odd rule. A center exactly on a left edge is outside, on a right edge inside, since each crossing is
moved 1e-8 to the right; an edge reaches from the rounded y of its upper end to the rounded y of its lower.

Its rule for wide lines (``Roi.convertLineToArea``): the union of one rectangle per segment, the first and the
last longer by half a pixel, and of a triangle on the outer side of every bend; all moved by (0.5, 0.5) from
pixel centers to corners. A straight line is a rotated rectangle without that move: ImageJ 1.53t moved it,
1.54p does not.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from skinoct.roi_curves import rotated_rectangle
from skinoct.roi_types import Oval, Paths, Points, Roi, Stroke

Mask = npt.NDArray[np.bool_]
Crossings = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]

_TIE = 1e-8
_FARTHEST = 1e7
"""Coordinates beyond this are as good as here: no image is that large."""


def roi_mask(roi: Roi | Paths | Oval | Stroke, shape: tuple[int, int]) -> Mask:
    """Return the pixels an ROI covers in an image of ``shape`` (Y, X), as bool (Y, X).

    Parts outside the image are cut off, as in ImageJ.
    """
    area = roi.shape if isinstance(roi, Roi) else roi
    if isinstance(area, Oval):
        return _fill_oval(area, shape)
    if isinstance(area, Paths):
        return _fill_even_odd(area.paths, shape)
    return _fill_line(area, shape)


def _edges(polygons: tuple[Points, ...] | list[Points]) -> tuple[Points, Points]:
    """Return start and end of all edges of closed polygons, each (n, 2)."""
    starts = np.concatenate(polygons)
    ends = np.concatenate([np.roll(points, -1, axis=0) for points in polygons])
    return starts, ends


def _crossings(starts: Points, ends: Points, height: int, width: int) -> Crossings:
    """Return row, first column right of the crossing, and edge number for each row that an edge crosses."""
    down = starts[:, 1] <= ends[:, 1]
    upper, lower = np.where(down[:, None], starts, ends), np.where(down[:, None], ends, starts)
    first, last = (
        np.floor(np.clip(y, -_FARTHEST, _FARTHEST) + 0.5).astype(np.int64) for y in (upper[:, 1], lower[:, 1])
    )
    crosses = first < last
    numbers = np.flatnonzero(crosses)
    upper, lower, first, last = upper[crosses], lower[crosses], first[crosses], last[crosses]
    slope = (lower[:, 0] - upper[:, 0]) / (lower[:, 1] - upper[:, 1])
    x_first = upper[:, 0] + (first - upper[:, 1] + 0.5) * slope + _TIE
    top, bottom = np.clip(first, 0, height), np.clip(last, 0, height)
    counts = bottom - top
    edge = np.repeat(np.arange(len(counts)), counts)
    row = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + top[edge]
    x = x_first[edge] + (row - first[edge]) * slope[edge]
    column = np.floor(np.clip(x + 0.5, 0, width)).astype(np.int64)
    return row, column, numbers[edge]


def _fill_even_odd(paths: tuple[Points, ...], shape: tuple[int, int]) -> Mask:
    height, width = shape
    paths = tuple(points for points in paths if len(points) >= 3)
    mask = np.zeros(shape, np.bool_)
    if not paths:
        return mask
    row, column, _ = _crossings(*_edges(paths), height, width)
    if not len(row):
        return mask
    # Only the rows and columns in use: an ROI is usually much smaller than its image.
    top, bottom, left, right = row.min(), row.max() + 1, column.min(), column.max()
    size = (int(bottom - top), int(right - left + 1))
    flips = np.bincount((row - top) * size[1] + column - left, minlength=size[0] * size[1])
    inside = np.bitwise_xor.accumulate((flips & 1).astype(np.bool_).reshape(size), axis=1)
    mask[top:bottom, left:right] = inside[:, :-1]
    return mask


def _fill_union(polygons: list[Points], shape: tuple[int, int]) -> Mask:
    """Fill many convex polygons, each crossed at most twice by a row."""
    height, width = shape
    starts, ends = _edges(polygons)
    row, column, edge = _crossings(starts, ends, height, width)
    polygon = np.repeat(np.arange(len(polygons)), [len(points) for points in polygons])[edge]
    order = np.lexsort((column, row, polygon))
    row, column = row[order], column[order]
    change = np.zeros((height, width + 1), np.int64)
    np.add.at(change, (row[0::2], column[0::2]), 1)
    np.add.at(change, (row[1::2], column[1::2]), -1)
    return np.add.accumulate(change, axis=1)[:, :width] > 0


def _fill_oval(oval: Oval, shape: tuple[int, int]) -> Mask:
    """Fill an ellipse: pixels whose center is not outside of it."""
    mask = np.zeros(shape, np.bool_)
    top, bottom = (int(np.clip(y, 0, shape[0])) for y in (oval.top, oval.top + oval.height))
    left, right = (int(np.clip(x, 0, shape[1])) for x in (oval.left, oval.left + oval.width))
    a, b = oval.width / 2, oval.height / 2
    x = np.arange(left, right) - oval.left - (a - 0.5)
    y = np.arange(top, bottom)[:, None] - oval.top - (b - 0.5)
    mask[top:bottom, left:right] = x * x / (a * a) + y * y / (b * b) <= 1.0
    return mask


def _fill_line(line: Stroke, shape: tuple[int, int]) -> Mask:
    width = max(line.width, 1.0)
    points = line.points[np.insert(np.any(np.diff(line.points, axis=0) != 0, axis=1), 0, True)]
    if len(points) < 2:
        points = points[0] + np.array([[0.0, 0.0], [1e-3, 0.0]])  # a dot
    polygons = (
        [rotated_rectangle(points[0], points[-1], width)]
        if line.straight
        else [*_segments(points, width), *_bends(points, width)]
    )
    return _fill_union(polygons, shape)


def _single(points: Points) -> Points:
    """Round to single precision, which ImageJ keeps vertices in."""
    return points.astype(np.float32).astype(np.float64)


def _directions(points: Points) -> Points:
    steps = np.diff(points, axis=0)
    return np.asarray(steps / np.hypot(steps[:, 0], steps[:, 1])[:, None])


def _segments(points: Points, width: float) -> list[Points]:
    """Return a rectangle per segment, the first and last longer by half a pixel, in corner coordinates."""
    along = _directions(points)
    side = 0.5 * width * np.stack([along[:, 1], -along[:, 0]], axis=1)
    starts, ends = points[:-1].copy(), points[1:].copy()
    starts[0] -= 0.5 * along[0]
    ends[-1] += 0.5 * along[-1]
    corners = np.stack([starts + side, starts - side, ends - side, ends + side], axis=1)
    return list(_single(corners) + 0.5)


def _bends(points: Points, width: float) -> list[Points]:
    """Return a triangle per bend: it closes the notch between two rectangles, reaching well into both."""
    along = _directions(points)
    side = 0.5 * width * np.stack([along[:, 1], -along[:, 0]], axis=1)
    before, after, bend = side[:-1], side[1:], points[1:-1]
    right = along[1:, 0] * along[:-1, 1] > along[:-1, 0] * along[1:, 1]
    outward = np.where(right, -1.0, 1.0)[:, None]
    inner = _single(_single(bend) - _single(outward * 0.5 * (before + after)))
    triangles = np.stack([inner, bend + outward * before, bend + outward * after], axis=1)
    return list(_single(triangles) + 0.5)
