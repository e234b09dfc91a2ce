"""What clinicians read off the layers: thickness, interdigitation, papillae, undulation, confidence.

Measurement, not diagnosis. Lengths are micrometers. Where the data do not decide - no calibration, no
distance of slices, no DEJ in view - the value is None and ``notes`` says why. Ratios grow with noise, so the
smoothing before them is part of the result.
"""

from __future__ import annotations

import csv
import io
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from skinoct import measure_surface as surface
from skinoct.errors import OptionError
from skinoct.labels import Label
from skinoct.measure_surface import Map, Mask
from skinoct.segmentation import DEJ_TOP, DERMIS_TOP, EPIDERMIS_TOP, FloatArray, Segmentation
from skinoct.tomogram_types import PixelSize

SMOOTHING_UM = 2.0
PROMINENCE_UM = 5.0
GAP_CONFIDENCE = 0.3
_LEAST_SLICES = 3
"""Of a surface in space."""
_MIN_AREA_MM2 = 0.01
"""Papillae are not counted in less: that is not even one of them on most skin."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class SliceMeasures(_Frozen):
    """Measures of one B-scan; of a whole tomogram the same names mean all B-scans together."""

    thickness_mean_um: float | None
    """Epidermis from its top to the middle of the DEJ band, vertically, mean over columns."""
    thickness_median_um: float | None
    thickness_p5_um: float | None
    """5th percentile: the epidermis above the papillae."""
    interdigitation_index: float | None
    """Length of the DEJ over the length of the straight line through it, after smoothing; 1 is straight."""
    undulation_rms_um: float | None
    """Root mean square, within B-scans, of the DEJ's height without its parabolic trend."""
    peak_to_valley_um: float | None
    """Highest minus lowest point of the same."""
    dominant_period_um: float | None
    """Period along the width of the image with the most power."""
    asymmetry: float | None
    """Difference of the median thickness of left and right half over the median of both; 0 is symmetric."""
    confidence: float | None
    """Mean over columns with a DEJ of how far the image itself decided it, 0 to 1."""
    gap_fraction: float
    """Share of columns in which the DEJ is missing or less confident than ``gap_confidence``."""
    absent_fraction: float
    """Share of columns in which no DEJ is in view."""
    overhang_fraction: float | None
    """Share of columns in which the pixel decoding meets dermis above epidermis."""


class Calibration(_Frozen):
    """Micrometers per pixel; ``z`` is None when the distance of slices is unknown."""

    z: float | None
    y: float
    x: float


class Measurements(SliceMeasures):
    """Measures of one tomogram."""

    area_ratio: float | None
    """Area of the DEJ over its projection, tilt removed, after smoothing; 1 is flat."""
    papillae_per_mm2: float | None
    """Peaks of the DEJ at least ``prominence_um`` high."""
    shape: tuple[int, int, int]
    """(Z, Y, X)."""
    pixel_size_um: Calibration | None
    smoothing_um: float
    """Standard deviation of the Gaussian applied to the DEJ before everything but the thickness."""
    prominence_um: float
    gap_confidence: float
    motion_removed: bool
    """Whether jumps of the skin surface between slices were taken out of the height map first."""
    notes: list[str] = Field(default_factory=list)
    """Why values are missing, in words."""
    slices: list[SliceMeasures] = Field(default_factory=list)

    def to_csv(self) -> str:
        """Return one row per slice (1-based), empty where a value is None."""
        file = io.StringIO()
        names = list(SliceMeasures.model_fields)
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["slice", *names])
        for number, row in enumerate(self.slices, 1):
            writer.writerow([number, *(_cell(getattr(row, name)) for name in names)])
        return file.getvalue()


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


class _Columns(NamedTuple):
    """What is known of each column, (Z, X), before it is summed up.

    Lengths are pixels without calibration, and then not told.
    """

    known: Mask
    """A DEJ is in view."""
    height: Map
    """DEJ in micrometers, upwards."""
    skin: Map
    """Top of the epidermis in micrometers, upwards; NaN where it is not in view."""
    relative_thickness: Map
    """Epidermis in pixels, NaN where surface or DEJ are not in view."""
    size: PixelSize | None
    lengths: npt.NDArray[np.float64]
    """(Z,) along the smoothed DEJ."""
    straight: npt.NDArray[np.float64]
    """(Z,) along the straight line through it."""
    undulation: Map
    """Smoothed DEJ without the parabola of each slice, micrometers."""
    confidence: FloatArray | None
    overhang: Mask | None


def measure(
    boundaries: FloatArray,
    pixel_size_um: PixelSize | None,
    *,
    height: int,
    confidence: FloatArray | None = None,
    overhang: Mask | None = None,
    smoothing_um: float = SMOOTHING_UM,
    prominence_um: float = PROMINENCE_UM,
) -> Measurements:
    """Measure layers given by their boundaries.

    Parameters
    ----------
    boundaries : float32, shape (4, Z, X)
        Tops of glycerol, epidermis, DEJ and dermis in pixels; see ``skinoct.segmentation.draw_layers``.
    pixel_size_um : PixelSize, optional
        None gives only what needs no lengths.
    height : int
        Rows of the image: a layer that begins below them is not in view.
    confidence : float32, shape (Z, X), optional
    overhang : bool, shape (Z, X), optional
    smoothing_um : float
        Standard deviation of the Gaussian before ratios and undulation.
    prominence_um : float
        Least height of a papilla over the saddle to the next higher one.

    Raises
    ------
    OptionError
        When ``smoothing_um`` or ``prominence_um`` is not positive.
    """
    if smoothing_um <= 0 or prominence_um <= 0:
        raise OptionError("Smoothing and prominence are lengths in micrometers; give values above 0.")
    columns = _columns(boundaries, pixel_size_um, height, confidence, overhang, smoothing_um)
    slices = boundaries.shape[1]
    calibration = None
    if pixel_size_um is not None:
        calibration = Calibration(z=pixel_size_um.z, y=pixel_size_um.y, x=pixel_size_um.x)
    skin_in_view, moved_height = _without_motion(columns)
    return Measurements(
        **_summary(columns, slice(None)),
        **_in_space(columns, moved_height, smoothing_um, prominence_um),
        shape=(slices, height, boundaries.shape[2]),
        pixel_size_um=calibration,
        smoothing_um=smoothing_um,
        prominence_um=prominence_um,
        gap_confidence=GAP_CONFIDENCE,
        motion_removed=skin_in_view,
        notes=_notes(columns),
        slices=[SliceMeasures(**_summary(columns, slice(z, z + 1))) for z in range(slices)],
    )


def measure_segmentation(segmentation: Segmentation) -> Measurements:
    """Measure a segmentation; of ``pixel`` decoding, layers are told apart by counting labels per column."""
    if segmentation.boundaries is not None:
        boundaries = segmentation.boundaries
    else:
        boundaries = np.concatenate([boundaries_from_labels(b) for b in segmentation.blocks()], axis=1)
    return measure(
        boundaries,
        segmentation.pixel_size_um,
        height=segmentation.shape[1],
        confidence=segmentation.confidence,
        overhang=segmentation.overhang,
    )


def boundaries_from_labels(labels: npt.NDArray[np.uint8]) -> FloatArray:
    """Return boundaries (4, Z, X) of a label stack (Z, Y, X).

    The top of a class is the number of rows above it: exact for ordered labels 1 to 5. In other columns the
    thickness of every class is kept and its place is not; unlabeled rows (0) count as the class at the top.
    """
    above = [np.count_nonzero(labels < value, axis=1) for value in range(Label.GLYCEROL, Label.DERMIS + 1)]
    return np.stack(above).astype(np.float32)


def _columns(
    boundaries: FloatArray,
    size: PixelSize | None,
    height: int,
    confidence: FloatArray | None,
    overhang: Mask | None,
    smoothing_um: float,
) -> _Columns:
    skin_row, top, bottom = (boundaries[k] for k in (EPIDERMIS_TOP, DEJ_TOP, DERMIS_TOP))
    # A band cut by the border of the image has its middle elsewhere, and a surface there may lie outside.
    known = (bottom > top) & (top > 0) & (bottom < height)
    in_view = (skin_row > 0) & (skin_row < height)
    middle = (top + bottom) / 2
    thickness = np.where(known & in_view, middle - skin_row, np.float32(np.nan))
    dy, dx = (size.y, size.x) if size is not None else (1.0, 1.0)  # pixels; nothing of it is told
    dej = np.where(known, -middle * np.float32(dy), 0)
    level, slopes = surface.remove_lines(dej, known, dx)
    level = surface.smooth(level, known, (0, smoothing_um / dx)) if size is not None else level
    along = np.arange(known.shape[1], dtype=np.float32) * np.float32(dx)
    tilt = np.outer(slopes, along).astype(np.float32)
    lengths, extents = surface.path_lengths(level + tilt, known, dx)
    undulation = surface.remove_parabolas(level, known, dx, surface.dominant_period(level, known, dx))
    skin = np.where(in_view, -skin_row * np.float32(dy), np.float32(np.nan))
    straight = extents * np.hypot(1.0, slopes)
    return _Columns(known, dej, skin, thickness, size, lengths, straight, undulation, confidence, overhang)


def _summary(columns: _Columns, slices: slice) -> dict[str, Any]:
    """Return the fields of ``SliceMeasures`` over some slices."""
    known = columns.known[slices]
    return {
        **_thickness(columns, slices),
        **_shape(columns, slices),
        **_trust(columns, slices, known),
    }


def _thickness(columns: _Columns, slices: slice) -> dict[str, float | None]:
    rows = columns.relative_thickness[slices]
    values = rows[~np.isnan(rows)]
    dy = columns.size.y if columns.size is not None else None
    if not len(values):
        mean = median = p5 = None
    else:
        mean, median, p5 = (
            float(values.mean(dtype=np.float64)),
            float(np.median(values)),
            float(np.percentile(values, 5)),
        )
    middle = rows.shape[1] // 2
    left, right = (half[~np.isnan(half)] for half in (rows[:, :middle], rows[:, rows.shape[1] - middle :]))
    enough = min(len(left), len(right)) >= surface.MIN_COLUMNS // 2 and bool(median)
    return {
        "thickness_mean_um": _times(mean, dy),
        "thickness_median_um": _times(median, dy),
        "thickness_p5_um": _times(p5, dy),
        "asymmetry": float(abs(np.median(left) - np.median(right)) / median) if enough and median else None,
    }


def _times(value: float | None, factor: float | None) -> float | None:
    return None if value is None or factor is None else value * factor


def _shape(columns: _Columns, slices: slice) -> dict[str, float | None]:
    known, undulation = columns.known[slices], columns.undulation[slices]
    # Slices with a few known columns only would add noise, not shape.
    usable = known & (known.sum(axis=1) >= surface.MIN_COLUMNS)[:, None]
    if columns.size is None or not usable.any():
        names = ("interdigitation_index", "undulation_rms_um", "peak_to_valley_um", "dominant_period_um")
        return dict.fromkeys(names)
    rows = usable.any(axis=1)
    values = undulation[usable]
    return {
        "interdigitation_index": float(columns.lengths[slices][rows].sum() / columns.straight[slices][rows].sum()),
        "undulation_rms_um": float(np.sqrt((values**2).mean(dtype=np.float64))),
        "peak_to_valley_um": float(values.max() - values.min()),
        "dominant_period_um": surface.dominant_period(undulation, usable, columns.size.x),
    }


def _trust(columns: _Columns, slices: slice, known: Mask) -> dict[str, float | None]:
    gaps = ~known
    confidence = None
    if columns.confidence is not None:
        certain = columns.confidence[slices]
        gaps = gaps | (certain < GAP_CONFIDENCE)
        confidence = float(certain[known].mean()) if known.any() else None
    return {
        "confidence": confidence,
        "gap_fraction": float(gaps.mean()),
        "absent_fraction": float((~known).mean()),
        "overhang_fraction": None if columns.overhang is None else float(columns.overhang[slices].mean()),
    }


def _without_motion(columns: _Columns) -> tuple[bool, Map]:
    """Take jumps between slices out of the height map, as far as the skin surface tells them.

    The skin moves between two frames; its surface moves along. The mean step of the surface from slice to
    slice, its outer tenths clipped, is the motion: a papilla or a furrow leaves no trace in it. (A median
    would know whole pixels only, where boundaries come from labels.) Returns whether the surface was in
    view, and the map.
    """
    steps = np.diff(columns.skin, axis=0)
    seen = (~np.isnan(steps)).mean(axis=1) > 0.25 if len(steps) else np.zeros(0, np.bool_)
    if not seen.any() or seen.mean() < 0.5:
        return False, columns.height
    motion = np.zeros(len(columns.skin))
    low, high = np.nanpercentile(steps[seen], [10, 90], axis=1)[..., None]
    motion[1:][seen] = np.nanmean(np.clip(steps[seen], low, high), axis=1)
    return True, columns.height - np.cumsum(motion)[:, None].astype(np.float32)


def _in_space(columns: _Columns, height: Map, smoothing_um: float, prominence_um: float) -> dict[str, Any]:
    """Measure the DEJ as a surface; None without the distance of slices."""
    size, known = columns.size, columns.known
    nothing: dict[str, float | None] = {"area_ratio": None, "papillae_per_mm2": None}
    if size is None or size.z is None or min(known.shape) < _LEAST_SLICES or not known.any():
        return nothing
    level = surface.remove_plane(height, known)
    level = surface.smooth(level, known, (smoothing_um / size.z, smoothing_um / size.x))
    step_z, step_x = (max(1, int(smoothing_um / step)) for step in (size.z, size.x))
    coarse, coarse_known = level[::step_z, ::step_x], known[::step_z, ::step_x]
    area_mm2 = _area_mm2(columns)
    papillae = None
    if area_mm2 >= _MIN_AREA_MM2:
        papillae = surface.count_peaks(coarse, coarse_known, prominence_um) / area_mm2
    return {
        "area_ratio": surface.area_ratio(level, known, size.z, size.x),
        "papillae_per_mm2": papillae,
    }


def _notes(columns: _Columns) -> list[str]:
    """Say in words why values are missing."""
    notes = []
    slices = len(columns.known)
    if not columns.known.any():
        notes.append("No DEJ is in view, so nothing of it is measured.")
    elif np.isnan(columns.relative_thickness).all():
        notes.append("The top of the epidermis is not in view, so its thickness is not measured.")
    if columns.size is None:
        notes.append("The pixel size is unknown, so nothing is measured in micrometers. Give the pixel size.")
    elif columns.size.z is None and columns.known.shape[0] > 1:
        notes.append(
            "The distance of slices is unknown, so area ratio and papillae are not measured. "
            "Set the voxel depth in ImageJ (Image > Properties)."
        )
    elif columns.known.any() and slices < _LEAST_SLICES:
        notes.append(f"Area ratio and papillae need {_LEAST_SLICES} slices or more; here are {slices}.")
    elif columns.known.any() and _area_mm2(columns) < _MIN_AREA_MM2:
        notes.append(f"Papillae are counted on {_MIN_AREA_MM2:g} mm2 or more of DEJ; less is in view.")
    if columns.known.any() and columns.known.sum(axis=1).max() < surface.MIN_COLUMNS:
        notes.append(
            f"The shape of the DEJ is measured in slices that show {surface.MIN_COLUMNS} columns of it or more."
        )
    return notes


def _area_mm2(columns: _Columns) -> float:
    """Return how much of the DEJ is in view, seen from above; 0 where the distance of slices is unknown."""
    size = columns.size
    return float(columns.known.sum()) * size.z * size.x * 1e-6 if size is not None and size.z else 0.0
