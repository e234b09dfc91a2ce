"""ImageJ's RoiSet.zip and .roi files in; ``roifile`` decodes them, this module says what they mean."""

from __future__ import annotations

import logging
import re
import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from roifile import ROI_OPTIONS, ROI_SUBTYPE, ROI_TYPE, ImagejRoi

from skinoct.errors import RoiError
from skinoct.labels import NUM_CLASSES, Label, label_from_name
from skinoct.roi_curves import ellipse, fit_spline, flatten_composite, rotated_rectangle, rounded_rectangle
from skinoct.roi_types import Oval, Paths, Points, Roi, Stroke
from skinoct.roi_zip import zip_entries

# What roifile would log about damaged ROIs is raised here; without a handler Python prints it to stderr.
logging.getLogger("roifile").addHandler(logging.NullHandler())

UPLOADED = "the ROI set"

_SLICE_IN_NAME = re.compile(r"(\d{4,6})-\d{4,6}-\d{4,6}(?:-\d+)?")
"""ImageJ's own names: slice, y and x of the center, perhaps a counter; 5 and 6 digits for large numbers."""

_AREAS = (ROI_TYPE.POLYGON, ROI_TYPE.FREEHAND, ROI_TYPE.TRACED)
_ROTATED = (ROI_SUBTYPE.ELLIPSE, ROI_SUBTYPE.ROTATED_RECT)
_AXIS_OFFSET = 18
"""Where a .roi file keeps the ends of the axis of an ellipse or a rotated rectangle."""
_PARAMETER_OFFSET = 52
"""Where a .roi file keeps the aspect ratio of an ellipse or the width of a rotated rectangle."""
_LINES = (ROI_TYPE.FREELINE, ROI_TYPE.POLYLINE, ROI_TYPE.LINE)
_FARTHEST = 1e6


def read_roi_set(source: str | Path | bytes | BinaryIO, *, name: str | None = None) -> list[Roi]:
    """Read a RoiSet.zip or a single .roi file.

    The class comes from the name (``dej-0012``), else from the group (1 to 5). The slice comes from the
    position in the header, else from the first of z, t and channel position that is not 1, else from a name such
    as ``0012-0100-0256``, else it is None.

    Raises
    ------
    RoiError
        Naming file and ROI, with a ``kind``: ``no-such-file``, ``not-an-roi-set``, ``empty-roi-set``,
        ``damaged-zip``, ``encrypted-zip``, ``nested-zip``, ``zip-too-large``, ``not-an-roi``,
        ``unsupported-roi``.
    """
    data, file = _content(source, name)
    if data.startswith(b"Iout"):
        return [_decode(data, Path(file).stem, file, single=True)]
    if not data.startswith(b"PK"):
        raise RoiError(
            f"{file} is neither a RoiSet.zip nor a .roi file. Save the ROIs in ImageJ's ROI Manager (More > Save).",
            kind="not-an-roi-set",
        )
    rois = [_decode(content, entry, file) for entry, content in zip_entries(data, file)]
    if not rois:
        raise RoiError(
            f"{file} holds no ROIs. Save the set again from ImageJ's ROI Manager (More > Save).",
            kind="empty-roi-set",
        )
    return rois


def _content(source: str | Path | bytes | BinaryIO, name: str | None) -> tuple[bytes, str]:
    if isinstance(source, bytes):
        return source, name or UPLOADED
    if not isinstance(source, str | Path):
        return source.read(), name or UPLOADED
    path = Path(source)
    try:
        return path.read_bytes(), name or path.name
    except OSError as error:
        raise RoiError(f"{path} cannot be read ({error.strerror}). Check the path.", kind="no-such-file") from None


def _entry_name(entry: str, own: str) -> str:
    """Return the name of the ROI in an entry of a zip: without its folders, but not without what it is called itself.

    ImageJ writes an ROI named ``epidermis/dermis`` to an entry ``epidermis/dermis.roi``.
    """
    stem = entry[:-4] if entry.lower().endswith(".roi") else entry
    return stem if stem == own else stem.replace("\\", "/").rsplit("/", 1)[-1]


def _decode(data: bytes, entry: str, file: str, *, single: bool = False) -> Roi:
    """Decode one ROI; the name of its entry is what the ROI Manager shows."""
    try:
        raw = ImagejRoi.frombytes(data)
    except (ValueError, TypeError, LookupError, OverflowError, MemoryError, struct.error):
        raise RoiError(
            f"{_entry_name(entry, '')} in {file} is not an ImageJ ROI, or a damaged one. "
            "Remove it from the set and save the set again.",
            kind="not-an-roi",
        ) from None
    name = raw.name if single and raw.name else _entry_name(entry, raw.name)
    try:
        shape = _shape(raw, data, f"ROI {name} in {file}")
    except (ValueError, TypeError, IndexError, OverflowError):
        raise RoiError(f"ROI {name} in {file} is damaged. Draw it again or delete it.", kind="not-an-roi") from None
    return Roi(name, _label(raw, name), _slice_index(raw, name), shape, file)


def _label(raw: ImagejRoi, name: str) -> Label | None:
    found = label_from_name(name)
    if found is None:
        found = label_from_name(raw.name)
    if found is None and 1 <= raw.group <= NUM_CLASSES:
        found = Label(raw.group)
    return found


def _slice_index(raw: ImagejRoi, name: str) -> int | None:
    if raw.position > 0:
        return int(raw.position) - 1
    positions = [int(p) for p in (raw.z_position, raw.t_position, raw.c_position) if p > 0]
    if positions:  # all of them are told of an ROI in a hyperstack, and 1 along the axes that it does not have
        return next((p for p in positions if p > 1), 1) - 1
    for text in (name, raw.name):
        match = _SLICE_IN_NAME.fullmatch(text)
        if match and int(match[1]) > 0:
            return int(match[1]) - 1
    return None


def _shape(raw: ImagejRoi, data: bytes, who: str) -> Paths | Oval | Stroke:
    if raw.composite:
        if raw.multi_coordinates is None:
            raise ValueError("a composite without paths")
        return Paths(_checked(flatten_composite(raw.multi_coordinates), who))
    if raw.subtype in _ROTATED and raw.roitype in (ROI_TYPE.FREEHAND, ROI_TYPE.POLYGON):  # ImageJ 1.54 writes polygons
        return Paths(_checked((_rotated(raw, data),), who))
    if raw.subtype == ROI_SUBTYPE.UNDEFINED:
        if raw.roitype == ROI_TYPE.RECT:
            return _rectangle(raw)
        if raw.roitype == ROI_TYPE.OVAL:
            return Oval(*_box(raw))
        if raw.roitype in _AREAS:
            return Paths(_checked((_vertices(raw, closed=True),), who))
        if raw.roitype in _LINES:
            return _line(raw, who)
    kind = raw.subtype.name if raw.subtype != ROI_SUBTYPE.UNDEFINED else raw.roitype.name
    raise RoiError(
        f"{who} is of type {kind.lower()}, which covers no area. Delete it from the set.",
        kind="unsupported-roi",
    )


def _rotated(raw: ImagejRoi, data: bytes) -> Points:
    """Read an ellipse or a rotated rectangle, both kept as a line and a number."""
    # roifile reads the line of freehand ROIs only.
    start, end = np.array(struct.unpack_from(">4f", data, _AXIS_OFFSET), np.float64).reshape(2, 2)
    (number,) = struct.unpack_from(">f", data, _PARAMETER_OFFSET)
    if not (np.isfinite([*start, *end, number]).all() and (start != end).any()):
        raise ValueError("no axis")
    make = ellipse if raw.subtype == ROI_SUBTYPE.ELLIPSE else rotated_rectangle
    return make(start, end, number)


def _checked(paths: tuple[Points, ...], who: str) -> tuple[Points, ...]:
    """Refuse vertices that no image has, such as NaN."""
    for points in paths:
        if not (np.abs(points) < _FARTHEST).all():
            raise RoiError(f"{who} has impossible coordinates. Draw it again or delete it.", kind="not-an-roi")
    return paths


def _box(raw: ImagejRoi) -> tuple[int, int, int, int]:
    """Return left, top, width, height in the whole pixels that ImageJ fills; at least one pixel."""
    if raw.subpixelrect:
        left, top, width, height = (
            int(raw.xd),
            int(raw.yd),
            int(np.ceil(raw.widthd)),
            int(np.ceil(raw.heightd)),
        )
    else:
        left, top, width, height = raw.left, raw.top, raw.right - raw.left, raw.bottom - raw.top
    return left, top, max(width, 1), max(height, 1)


def _rectangle(raw: ImagejRoi) -> Paths:
    left, top, width, height = _box(raw)
    if raw.rounded_rect_arc_size > 0:
        return Paths((rounded_rectangle(left, top, width, height, raw.rounded_rect_arc_size),))
    right, bottom = left + width, top + height
    return Paths((np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float64),))


def _vertices(raw: ImagejRoi, *, closed: bool) -> Points:
    """Return absolute vertices, rounded where ImageJ rounds them: relative to the smallest, in float32."""
    if raw.subpixelresolution and raw.subpixel_coordinates is not None:
        single = np.asarray(raw.subpixel_coordinates, np.float32)
        if not len(single) or not np.isfinite(single).all():
            return np.full((1, 2), np.inf)
        base = single.min(axis=0)
        points = np.asarray((single - base).astype(np.float64) + base.astype(np.float64))
    elif raw.integer_coordinates is not None:
        points = np.asarray(raw.integer_coordinates + np.array([raw.left, raw.top]), np.float64)
    else:
        raise ValueError("no vertices")
    is_spline = raw.options & ROI_OPTIONS.SPLINE_FIT and len(points) > 1 and np.abs(points).max() < _FARTHEST
    return fit_spline(points, closed=closed) if is_spline else points


def _line(raw: ImagejRoi, who: str) -> Stroke:
    straight = raw.roitype == ROI_TYPE.LINE
    if straight:
        points: Points = np.array([[raw.x1, raw.y1], [raw.x2, raw.y2]], np.float64)
    else:
        points = _vertices(raw, closed=False).astype(np.float32).astype(np.float64)
    width: Any = raw.float_stroke_width if raw.float_stroke_width > 0 else raw.stroke_width
    if not len(points) or not 0 <= width < _FARTHEST:
        raise ValueError("no line")
    return Stroke(_checked((points,), who)[0], float(width), straight)
