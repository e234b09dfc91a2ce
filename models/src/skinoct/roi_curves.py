"""Curves as the polygons that ImageJ fills: composites, rounded and rotated rectangles, ellipses, splines.

ImageJ keeps a composite as a list of path segments (``java.awt.geom.PathIterator``) and fills it after
flattening: a Bezier curve is halved until its control points lie within 0.01 pixel of its chord, at most
ten times. An ellipse is a polygon of 72 vertices, a spline one of a point every two pixels, 100 at least.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.interpolate import CubicSpline

from skinoct.roi_types import Points

_FLATNESS = 0.01
_DEEPEST = 10
_MOST_POINTS = 1 << 20
_ELLIPSE_VERTICES = 72
_SPLINE_EXTENSION = 7
"""Nodes by which a closed spline goes on periodically beyond either end before it is fitted."""
_SHORTEST_STEP = 1e-3
_MOVE, _LINE, _QUADRATIC, _CUBIC, _CLOSE = range(5)
_POINTS = {_MOVE: 1, _LINE: 1, _QUADRATIC: 2, _CUBIC: 3, _CLOSE: 0}

Point = tuple[float, float]


def flatten_composite(segments: npt.NDArray[np.float32]) -> tuple[Points, ...]:
    """Return the closed paths of a composite ROI's array of segments.

    Raises
    ------
    ValueError
        When the array is not one of path segments.
    """
    if not np.isfinite(segments).all():
        raise ValueError("coordinates are not finite")
    values = _to_imagej_precision(segments).tolist()
    paths: list[list[Point]] = []
    at = total = 0
    while at < len(values):
        kind = int(values[at])
        count = _POINTS.get(kind, -1)
        numbers = values[at + 1 : at + 1 + 2 * count]
        if count < 0 or len(numbers) < 2 * count or (not paths and kind != _MOVE):
            raise ValueError(f"not a path segment: {kind}")
        points = list(zip(numbers[::2], numbers[1::2], strict=True))
        at += 1 + 2 * count
        if kind == _MOVE:
            paths.append(points)
        elif kind == _CLOSE:
            paths.append([paths[-1][0]])  # a segment that follows goes on from the start
        else:
            piece = _flatten([paths[-1][-1], *points], 0)
            total += len(piece)
            if total > _MOST_POINTS:
                raise ValueError("more points than any drawing has")
            paths[-1].extend(piece)
    return tuple(np.array(path, np.float64) for path in paths if len(path) >= 3)


def _to_imagej_precision(segments: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Round coordinates as ImageJ does, which keeps them relative to the shape's box in single precision."""
    values = segments.astype(np.float32)
    is_point = np.zeros(len(values), np.bool_)
    at = 0
    while at < len(values):
        count = _POINTS.get(int(values[at]), 0)
        is_point[at + 1 : at + 1 + 2 * count] = True
        at += 1 + 2 * count
    where = np.flatnonzero(is_point)
    result = values.astype(np.float64)
    for axis in (where[0::2], where[1::2]):
        if len(axis):
            base = np.float32(math.floor(values[axis].min()))
            result[axis] = (values[axis] - base).astype(np.float64) + float(base)
    return result


def _flatten(curve: list[Point], depth: int) -> list[Point]:
    """Return the points after the first of a Bezier curve given by its 2, 3 or 4 control points."""
    if len(curve) == 2 or depth == _DEEPEST or _is_flat(curve):
        return [curve[-1]]
    left, right = [curve[0]], [curve[-1]]
    points = curve
    while len(points) > 1:  # de Casteljau: halve all distances until one point is left
        points = [((a[0] + b[0]) / 2, (a[1] + b[1]) / 2) for a, b in pairwise(points)]
        left.append(points[0])
        right.append(points[-1])
    return _flatten(left, depth + 1) + _flatten(right[::-1], depth + 1)


def _is_flat(curve: list[Point]) -> bool:
    return all(_distance_to_chord(point, curve[0], curve[-1]) < _FLATNESS for point in curve[1:-1])


def _distance_to_chord(point: Point, start: Point, end: Point) -> float:
    dx, dy = end[0] - start[0], end[1] - start[1]
    px, py = point[0] - start[0], point[1] - start[1]
    length = dx * dx + dy * dy
    share = min(1.0, max(0.0, (px * dx + py * dy) / length)) if length else 0.0
    return math.hypot(px - share * dx, py - share * dy)


def rounded_rectangle(left: int, top: int, width: int, height: int, diameter: int) -> Points:
    """Return the outline of a rectangle with round corners (``java.awt.geom.RoundRectangle2D``)."""
    rx, ry = min(diameter, width) / 2, min(diameter, height) / 2
    # Control points of a quarter circle, by the tangent at its middle.
    a, b = 1 - math.cos(math.pi / 4), math.tan(math.pi / 4)
    reach = 4 / 3 * a * b / (math.sqrt(1 + b * b) - 1 + a)
    right, bottom = left + width, top + height
    corners = (
        ((left, bottom), (0, -1), (1, 0)),
        ((right, bottom), (-1, 0), (0, -1)),
        ((right, top), (0, 1), (-1, 0)),
        ((left, top), (1, 0), (0, 1)),
    )
    path: list[Point] = []
    for (x, y), (ix, iy), (ox, oy) in corners:
        start = (x + ix * rx, y + iy * ry)
        end = (x + ox * rx, y + oy * ry)
        first = (start[0] - ix * rx * reach, start[1] - iy * ry * reach)
        second = (end[0] - ox * rx * reach, end[1] - oy * ry * reach)
        path += [start, *_flatten([start, first, second, end], 0)]
    return np.array(path, np.float32).astype(np.float64)


def rotated_rectangle(start: Points, end: Points, width: float) -> Points:
    """Return the corners of ImageJ's rotated rectangle around the line from ``start`` to ``end`` (x, y)."""
    step = end - start
    side = 0.5 * width / math.hypot(*step.tolist()) * np.array([step[1], -step[0]])
    return _relative_precision(np.array([start + side, end + side, end - side, start - side]))


def ellipse(start: Points, end: Points, aspect: float) -> Points:
    """Return ImageJ's ellipse: major axis from ``start`` to ``end``, minor axis ``aspect`` times as long."""
    major = end - start
    angle = np.arange(_ELLIPSE_VERTICES) * (2 * math.pi / _ELLIPSE_VERTICES)
    minor = aspect * np.array([-major[1], major[0]])
    outline = (start + end) / 2 + np.outer(np.cos(angle), major / 2) + np.outer(np.sin(angle), minor / 2)
    return _relative_precision(outline)


def _relative_precision(points: Points) -> Points:
    """Round as ImageJ does: to single precision, then again relative to the whole pixel of the box."""
    single = points.astype(np.float32).astype(np.float64)
    base = np.floor(single.min(axis=0))
    return np.asarray((single - base).astype(np.float32) + base)


def fit_spline(nodes: Points, *, closed: bool) -> Points:
    """Return the points of ImageJ's spline through ``nodes``.

    A natural cubic spline of x and y each over the sum of the square roots of the distances of nodes
    (centripetal), evaluated at even steps. The number of points comes from the length of the straight pieces;
    ImageJ takes a smoothed length for freehand ROIs, whose splines may differ from it in single pixels.
    """
    base = nodes.min(axis=0)
    path = np.concatenate([nodes, nodes[:1]]) - base if closed else nodes - base
    distances = np.hypot(*np.diff(path, axis=0).T)
    steps = np.maximum(np.sqrt(distances), _SHORTEST_STEP).astype(np.float32)
    position = np.concatenate([np.zeros(1, np.float32), np.cumsum(steps, dtype=np.float32)]).astype(np.float64)
    count = max(100, int(distances.sum() / 2))
    wanted = np.arange(count) * (position[-1] / (count - 1))
    if closed:
        more = min(_SPLINE_EXTENSION, len(path) - 1)
        before, after = position[-1 - more : -1] - position[-1], position[1 : 1 + more] + position[-1]
        position = np.concatenate([before, position, after])
        path = np.concatenate([path[-1 - more : -1], path, path[1 : 1 + more]])
    spline = CubicSpline(position, path, bc_type="natural")(wanted)
    # ImageJ keeps the points in single precision relative to their own smallest.
    single = spline.astype(np.float32) + base.astype(np.float32)
    smallest = single.min(axis=0)
    return np.asarray((single - smallest).astype(np.float64) + smallest.astype(np.float64))
