"""Pixel size from what a TIFF says: ImageJ's description, OME-XML, or the baseline resolution tags."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from skinoct.tomogram_types import PixelSize

_UM_PER_UNIT = {
    "um": 1.0,
    "\u00b5m": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
    "micrometers": 1.0,
    "micrometre": 1.0,
    "micrometres": 1.0,
    "nm": 1e-3,
    "nanometer": 1e-3,
    "nanometers": 1e-3,
    "nanometre": 1e-3,
    "nanometres": 1e-3,
    "mm": 1e3,
    "millimeter": 1e3,
    "millimeters": 1e3,
    "millimetre": 1e3,
    "millimetres": 1e3,
    "cm": 1e4,
    "centimeter": 1e4,
    "centimetre": 1e4,
    "m": 1e6,
    "meter": 1e6,
    "metre": 1e6,
    "inch": 25400.0,
    "inches": 25400.0,
    "in": 25400.0,
    '"': 25400.0,
}

_BASELINE_UM_PER_UNIT = {2: 25400.0, 3: 1e4}
"""TIFF tag ResolutionUnit: 2 is inch, 3 is centimeter."""

PRINT_RESOLUTION_UM = 5.0
"""Resolutions in print units from here up (5080 dpi and coarser) describe paper, not a microscope."""

_PRINT_UNITS = ("inch", "inches", "in", "cm")

_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")


def um_per_unit(unit: str | None) -> float | None:
    """Return micrometers per unit; None for ``pixel`` and anything that is not a known length.

    ImageJ writes the micro sign as a six-character escape, backslash u00B5; OME writes U+00B5.
    """
    if unit is None:
        return None
    text = _ESCAPE.sub(lambda match: chr(int(match[1], 16)), unit).strip()
    if text.startswith("Â"):  # UTF-8 that was read as Latin-1
        text = text[1:]
    return _UM_PER_UNIT.get(text.casefold().replace("\u03bc", "\u00b5"))  # Greek mu is the micro sign


def _length(value: Any, scale: float | None) -> float | None:
    """Return ``abs(value) * scale`` in micrometers, None unless it is a positive finite number."""
    try:
        length = abs(float(value)) * (scale if scale is not None else math.nan)
    except (TypeError, ValueError, OverflowError):
        return None
    return length if math.isfinite(length) and length > 0 else None


def _pixel(resolution: Any, scale: float | None) -> float | None:
    """Return the pixel size of a resolution tag, a pair (pixels, units)."""
    try:
        pixels, units = (float(number) for number in resolution)
    except (TypeError, ValueError):
        return None
    return _length(units / pixels, scale) if pixels else None


def from_imagej(metadata: Mapping[str, Any], x_resolution: Any, y_resolution: Any) -> PixelSize | None:
    """Read ImageJ's ``unit``, ``yunit``, ``zunit``, ``spacing`` and the resolution tags.

    ``z`` is None when ``spacing`` is missing: ImageJ leaves it out when it is 1, which is also the value of
    a stack whose slice distance nobody ever set.
    """
    unit = str(metadata.get("unit", ""))
    scale = um_per_unit(unit)
    y = _pixel(y_resolution, um_per_unit(str(metadata.get("yunit", unit))))
    x = _pixel(x_resolution, scale)
    if x is None or y is None:
        return None
    if unit.casefold() in _PRINT_UNITS and x >= PRINT_RESOLUTION_UM:
        return None  # the dots per inch of a picture that ImageJ opened and saved again
    return PixelSize(y, x, _length(metadata.get("spacing"), um_per_unit(str(metadata.get("zunit", unit)))))


def from_ome(pixels: Mapping[str, Any]) -> PixelSize | None:
    """Read PhysicalSizeX/Y/Z and their units (default micrometer) of an OME ``Pixels`` element."""
    x, y, z = (
        _length(pixels.get(f"PhysicalSize{axis}"), um_per_unit(str(pixels.get(f"PhysicalSize{axis}Unit", "um"))))
        for axis in "XYZ"
    )
    return PixelSize(y, x, z) if x is not None and y is not None else None


def from_baseline(x_resolution: Any, y_resolution: Any, unit: int) -> PixelSize | None:
    """Read the baseline tags, which count only as fine as a microscope (below ``PRINT_RESOLUTION_UM``)."""
    scale = _BASELINE_UM_PER_UNIT.get(unit)
    x, y = _pixel(x_resolution, scale), _pixel(y_resolution, scale)
    if x is None or y is None or max(x, y) >= PRINT_RESOLUTION_UM:
        return None
    return PixelSize(y, x)
