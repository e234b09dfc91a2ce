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
_SAME_EXTENT = 0.8
"""Two edges of a band share at least this much of the longer one's extent in x."""
_SAME_LINE_PX = 1.0
"""Lines that are nearer to each other on average are one line, drawn or added twice."""
_THICKEST = 5.0
"""Two lines farther apart than this many times the usual thickness are not the edges of a band."""


def lines_to_bands(rois: Sequence[Roi], thickness_px: float, *, label: Label = Label.DEJ) -> list[Roi]:
    """Turn thin lines of one class into the bands that they stand for.

    A thin line has a stroke width of at most 1. Two of them above each other in a slice are the upper and
    lower edge of a band, which becomes the area between them, as far as both reach. One alone is the middle of a
    band ``thickness_px`` thick. Pieces beside each other, as of an interrupted line, make one edge together, or count
    one by one. A line that was added twice counts once. Lines with a stroke width are bands already; they and all
    other ROIs are passed on as they are.

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
        When three or more lines of a slice lie above each other, or two that cannot be the edges of one band (kind
        ``ambiguous-lines``).
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
    """Group lines that share most of their extent in x; of lines that are the same only the first is kept."""
    groups: list[list[Roi]] = []
    for line in sorted(lines, key=lambda roi: float(_points(roi)[:, 0].min())):
        near = [group for group in groups if any(_overlap(line, other) >= _SAME_BAND for other in group)]
        if any(_same_line(line, other) for group in near for other in group):
            continue
        groups = [group for group in groups if group not in near]
        groups.append([*(other for group in near for other in group), line])
    return groups


def _extent(points: Points) -> tuple[float, float]:
    return float(points[:, 0].min()), float(points[:, 0].max())


def _shared(one: Points, other: Points) -> tuple[float, float, float]:
    """Return first and last x that two lines share, and how far that is; less than 0 where they share nothing."""
    (a0, a1), (b0, b1) = _extent(one), _extent(other)
    return max(a0, b0), min(a1, b1), min(a1, b1) - max(a0, b0)


def _overlap(one: Roi, other: Roi) -> float:
    """Return the shared extent in x as a share of the shorter line's."""
    a, b = _points(one), _points(other)
    return _shared(a, b)[2] / max(min(np.ptp(a[:, 0]), np.ptp(b[:, 0])), 1e-9)


def _below(one: Points, other: Points) -> float:
    """Return by how many pixels ``other`` lies below ``one`` on average, over the extent that they share."""
    first, last, _ = _shared(one, other)
    x = np.linspace(first, last, 64)
    heights = (np.interp(x, *line[np.argsort(line[:, 0], kind="stable")].T) for line in (one, other))
    upper, lower = heights
    return float((lower - upper).mean())


def _same_line(one: Roi, other: Roi) -> bool:
    a, b = _points(one), _points(other)
    longer = max(np.ptp(a[:, 0]), np.ptp(b[:, 0]))
    return bool(_shared(a, b)[2] >= _SAME_EXTENT * longer) and abs(_below(a, b)) < _SAME_LINE_PX


def _band(group: list[Roi], thickness_px: float) -> Roi:
    first = group[0]
    if len(group) == 1:
        assert isinstance(first.shape, Stroke)
        return replace(first, shape=Stroke(first.shape.points, thickness_px))
    upper, lower = (_joined(edge) for edge in _edges(group))
    start, end, shared = _shared(upper, lower)
    if shared < _SAME_EXTENT * max(np.ptp(upper[:, 0]), np.ptp(lower[:, 0])):
        raise _ambiguous(group, "do not begin and end at the same columns. Draw both edges of the band from end to end")
    if _below(upper, lower) > _THICKEST * thickness_px:
        raise _ambiguous(
            group,
            f"are {_below(upper, lower):.0f} px apart, where a band of about {thickness_px:.0f} px is expected. Delete "
            "the one that is not an edge of the DEJ",
        )
    # Lines run through pixel centers, areas along pixel corners: half a pixel between the two.
    outline = np.concatenate([_cut(upper, start, end), _cut(lower, start, end)[::-1]]) + 0.5
    return replace(first, shape=Paths((outline,)))


def _edges(group: list[Roi]) -> tuple[list[Roi], list[Roi]]:
    """Tell the pieces of the upper from those of the lower edge of a band."""
    upper: list[Roi] = []
    lower: list[Roi] = []
    for line in group:
        others = [o for o in group if o is not line and _overlap(line, o) > 0]
        above = {_below(_points(line), _points(other)) > 0 for other in others}
        if len(above) != 1:
            raise _ambiguous(
                group, "lie above each other. Keep two, the upper and the lower edge of the band, or one, its middle"
            )
        (upper if above.pop() else lower).append(line)
    return upper, lower


def _joined(edge: list[Roi]) -> Points:
    pieces = sorted((_points(roi) for roi in edge), key=lambda points: _extent(points)[0])
    return np.concatenate(pieces)


def _cut(line: Points, start: float, end: float) -> Points:
    """Return the part of a line, from left to right, between two columns."""
    first, last = int(np.argmax(line[:, 0] >= start)), int(np.flatnonzero(line[:, 0] <= end)[-1])
    parts = [line[first : last + 1]]  # nothing where one segment reaches beyond both
    if first > 0:
        parts.insert(0, _crossing(line[first - 1], line[first], start))
    if last + 1 < len(line):
        parts.append(_crossing(line[last], line[last + 1], end))
    return np.concatenate(parts)


def _crossing(one: Points, other: Points, x: float) -> Points:
    share = np.clip((x - one[0]) / (other[0] - one[0]), 0, 1)
    return np.array([[x, one[1] + share * (other[1] - one[1])]])


def _ambiguous(group: list[Roi], what: str) -> RoiError:
    first = group[0]
    where = "" if first.slice_index is None else f" in slice {first.slice_index + 1}"
    names = ", ".join(roi.name for roi in group)
    return RoiError(f"{len(group)} lines ({names}){where} of {first.file} {what}.", kind="ambiguous-lines")
