"""ROIs out: a RoiSet.zip that ImageJ's ROI Manager opens, each ROI at its slice and in its class's color."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from roifile import ROI_COLOR_NONE, ROI_OPTIONS, ROI_TYPE, ImagejRoi

from skinoct.errors import RoiError
from skinoct.labels import Label, layer
from skinoct.output_file import open_output
from skinoct.roi_types import Oval, Paths, Points, Roi, Stroke

_OPAQUE, _TRANSLUCENT = 255, 64
_FARTHEST_PX = 65535
"""The largest coordinate that fits into the header of an ROI."""
_LONG_AGO = (1980, 1, 1, 0, 0, 0)
"""Time of all entries, so that the same ROIs make the same file."""

_MOVE, _LINE, _CLOSE = 0.0, 1.0, 4.0


def write_roi_set(target: str | Path | BinaryIO, rois: Iterable[Roi], *, overwrite: bool = False) -> None:
    """Write a RoiSet.zip.

    Slices become positions (1-based in ImageJ), classes become groups and translucent fills; ImageJ itself
    colors the outlines by group. Names are kept; a name
    that occurs again gets a number.

    Raises
    ------
    RoiError
        When there are no ROIs (kind ``empty-roi-set``): ImageJ cannot open an empty set; or one lies farther out than
        ImageJ can tell (kind ``image-too-large``).
    OptionError
        When the file exists and ``overwrite`` is False.
    """
    names: set[str] = set()
    with open_output(target, overwrite=overwrite) as file, zipfile.ZipFile(file, "w") as archive:
        for roi in rois:
            name = _unique(roi.name, names)
            entry = zipfile.ZipInfo(f"{name}.roi", _LONG_AGO)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, _encode(roi, name))
        if not names:
            raise RoiError("There are no ROIs to write: no class occurs in any slice.", kind="empty-roi-set")


def _unique(name: str, names: set[str]) -> str:
    name = name.replace("/", "_").replace("\\", "_") or "roi"
    unique, number = name, 1
    while unique in names:
        number += 1
        unique = f"{name}-{number}"
    names.add(unique)
    return unique


def _encode(roi: Roi, name: str) -> bytes:
    shape = roi.shape
    if isinstance(shape, Paths):
        raw = _area(shape.paths)
    elif isinstance(shape, Oval):
        raw = ImagejRoi(roitype=ROI_TYPE.OVAL)
        _set_box(raw, shape.left, shape.top, shape.left + shape.width, shape.top + shape.height)
    else:
        raw = _line(shape)
    raw.name = name
    raw.position = 0 if roi.slice_index is None else roi.slice_index + 1
    if roi.label:
        raw.group = int(roi.label)
        raw.stroke_color = _argb(roi.label, _OPAQUE)
        if isinstance(shape, Paths | Oval):
            raw.fill_color = _argb(roi.label, _TRANSLUCENT)
    return raw.tobytes()


def _argb(label: Label, alpha: int) -> bytes:
    return bytes([alpha, *layer(label).overlay_color]) if label else ROI_COLOR_NONE


def _set_box(raw: ImagejRoi, left: int, top: int, right: int, bottom: int) -> None:
    if max(left, top, right, bottom) > _FARTHEST_PX:
        raise RoiError(
            f"ImageJ keeps ROIs in images of up to {_FARTHEST_PX} pixels a side only. Take the label TIFF instead.",
            kind="image-too-large",
        )
    raw.left, raw.top, raw.right, raw.bottom = left, top, right, bottom


def _box(points: Points) -> tuple[int, int, int, int]:
    (left, top), (right, bottom) = np.floor(points.min(axis=0)), np.ceil(points.max(axis=0))
    return int(left), int(top), int(right), int(bottom)


def _area(paths: tuple[Points, ...]) -> ImagejRoi:
    """Make one path a traced ROI and several a composite."""
    box = _box(np.concatenate(paths))
    if len(paths) == 1 and len(paths[0]) < 1 << 15:
        raw = ImagejRoi(roitype=ROI_TYPE.TRACED)
        _set_box(raw, *box)
        _set_vertices(raw, paths[0])
        return raw
    segments = np.concatenate([_segments(points) for points in paths])
    raw = ImagejRoi(roitype=ROI_TYPE.RECT, shape_roi_size=len(segments), multi_coordinates=segments)
    _set_box(raw, *box)
    return raw


def _segments(points: Points) -> npt.NDArray[np.float32]:
    """Return one closed path in the form of ImageJ's composites: kind, x, y, kind, x, y, ..., kind."""
    moves = np.full((len(points), 3), _LINE, np.float32)
    moves[0, 0] = _MOVE
    moves[:, 1:] = points
    return np.append(moves.ravel(), np.float32(_CLOSE))


def _set_vertices(raw: ImagejRoi, points: Points) -> None:
    """Store vertices as whole numbers where they are, else in single precision beside rounded ones."""
    rounded = np.floor(points).astype(np.int32)
    raw.n_coordinates = len(points)
    raw.integer_coordinates = rounded - np.array([raw.left, raw.top], np.int32)
    if (rounded != points).any() or min(raw.left, raw.top) < 0:
        raw.options |= ROI_OPTIONS.SUB_PIXEL_RESOLUTION
        raw.subpixel_coordinates = points.astype(np.float32)


def _line(line: Stroke) -> ImagejRoi:
    if line.straight:
        (x1, y1), (x2, y2) = line.points[0].tolist(), line.points[-1].tolist()
        raw = ImagejRoi(roitype=ROI_TYPE.LINE, x1=x1, y1=y1, x2=x2, y2=y2)
        _set_box(raw, *_box(line.points))
    else:
        raw = ImagejRoi(roitype=ROI_TYPE.FREELINE)
        _set_box(raw, *_box(line.points))
        _set_vertices(raw, line.points)
    raw.stroke_width = round(line.width)
    raw.float_stroke_width = line.width
    return raw
