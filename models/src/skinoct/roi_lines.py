"""DEJ annotations drawn as lines become bands: two thin lines are its edges, a single one is its middle."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from skinoct.errors import RoiError
from skinoct.labels import Label
from skinoct.roi_types import Paths, Points, Roi, Stroke

_SAME_BAND = 0.5
"""Two lines belong to one band when they share this much of the shorter one's extent in x."""


def lines_to_bands(rois: Sequence[Roi], thickness_px: float, *, label: Label = Label.DEJ) -> list[Roi]:
    """Turn thin lines of one class into the bands that they stand for.

    A thin line has a stroke width of at most 1. Two of them above each other in a slice are the upper and
    lower edge of a band, which becomes the area between them. One alone is the middle of a band
    ``thickness_px`` thick. Pieces beside each other, as of an interrupted line, count one by one. Lines with
    a stroke width are bands already; they and all other ROIs are passed on as they are.

    Parameters
    ----------
    rois : sequence of Roi
        Of any classes and slices.
    thickness_px : float
        Thickness of a band in pixels, e.g. 5 um divided by the pixel size.
    label : Label
        The class whose lines are bands.

    Raises
    ------
    RoiError
        When three or more lines of a slice lie above each other (kind ``ambiguous-lines``).
    """
    result = [roi for roi in rois if not _is_thin_line(roi, label)]
    lines: defaultdict[int | None, list[Roi]] = defaultdict(list)
    for roi in rois:
        if _is_thin_line(roi, label):
            lines[roi.slice_index].append(roi)
    for in_slice in lines.values():
        for group in _above_each_other(in_slice):
            result.append(_band(group, thickness_px))
    return result


def _is_thin_line(roi: Roi, label: Label) -> bool:
    return roi.label == label and isinstance(roi.shape, Stroke) and roi.shape.width <= 1


def _points(roi: Roi) -> Points:
    assert isinstance(roi.shape, Stroke)
    points = roi.shape.points
    return points if points[0, 0] <= points[-1, 0] else points[::-1]  # left to right


def _above_each_other(lines: list[Roi]) -> list[list[Roi]]:
    """Group lines that share most of their extent in x."""
    groups: list[list[Roi]] = []
    for line in sorted(lines, key=lambda roi: float(_points(roi)[:, 0].min())):
        for group in groups:
            if any(_shared_extent(line, other) >= _SAME_BAND for other in group):
                group.append(line)
                break
        else:
            groups.append([line])
    return groups


def _shared_extent(one: Roi, other: Roi) -> float:
    (a0, a1), (b0, b1) = ((p[:, 0].min(), p[:, 0].max()) for p in (_points(one), _points(other)))
    shorter = max(min(a1 - a0, b1 - b0), 1e-9)
    return float((min(a1, b1) - max(a0, b0)) / shorter)


def _band(group: list[Roi], thickness_px: float) -> Roi:
    first = group[0]
    if len(group) == 1:
        assert isinstance(first.shape, Stroke)
        return replace(first, shape=Stroke(first.shape.points, thickness_px))
    if len(group) == 2:
        # Lines run through pixel centers, areas along pixel corners: half a pixel between the two.
        outline = np.concatenate([_points(first), _points(group[1])[::-1]]) + 0.5
        return replace(first, shape=Paths((outline,)))
    where = "" if first.slice_index is None else f" in slice {first.slice_index + 1}"
    names = ", ".join(roi.name for roi in group)
    raise RoiError(
        f"{len(group)} lines ({names}) lie above each other{where} of {first.file}. Keep two, the upper "
        "and the lower edge of the band, or one, its middle.",
        kind="ambiguous-lines",
    )
