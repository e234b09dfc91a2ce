"""What an ROI is once it is read: a class, a slice and a shape.

Coordinates are (x, y) in pixels. Areas use pixel corners: pixel (0, 0) reaches from (0, 0) to (1, 1). Lines
use pixel centers, as ImageJ does since 1.52u: the point (10, 10) lies in the middle of pixel (10, 10).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skinoct.errors import RoiError
from skinoct.labels import CLASSES, IGNORE_NAME, Label

Points = npt.NDArray[np.float64]
"""(n, 2): x, y."""


@dataclass(frozen=True, eq=False)
class Paths:
    """An area: closed paths, filled by the even-odd rule, so a path within another is a hole."""

    paths: tuple[Points, ...]


@dataclass(frozen=True)
class Oval:
    """An ellipse in its bounding box, whole pixels as ImageJ keeps it."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True, eq=False)
class Stroke:
    """A line with a width; ``straight`` is ImageJ's straight line, which it widens by another rule."""

    points: Points
    width: float = 0.0
    """Pixels; 0 and 1 both cover one pixel."""
    straight: bool = False


@dataclass(frozen=True, eq=False)
class Roi:
    """One region of interest."""

    name: str
    label: Label | None
    """None when neither name nor group tell the class."""
    slice_index: int | None
    """0-based; None when the file does not tell the slice."""
    shape: Paths | Oval | Stroke
    file: str = "the ROI set"
    """What errors call the file it came from."""

    def __str__(self) -> str:
        """Name for a sentence: which ROI of which file."""
        return f"ROI {self.name} in {self.file}"


def required_label(roi: Roi) -> Label:
    """Return the class of an ROI.

    Raises
    ------
    RoiError
        When the ROI has none (kind ``unknown-class``), naming it and the names that are known.
    """
    if roi.label is None:
        known = ", ".join([*(item.name for item in CLASSES), IGNORE_NAME])
        raise RoiError(
            f"{roi} does not tell its class. Rename it in the ROI Manager to one of {known} (a number may "
            f"follow, such as dej-0012), or give it the group 1 to {len(CLASSES)}.",
            kind="unknown-class",
        )
    return roi.label


def required_slice(roi: Roi, slices: int) -> int:
    """Return the 0-based slice of an ROI in a stack of ``slices``; the only slice needs no telling.

    Raises
    ------
    RoiError
        When it is unknown (kind ``unknown-slice``) or past the last slice (kind ``slice-out-of-range``).
    """
    if roi.slice_index is None:
        if slices == 1:
            return 0
        raise RoiError(
            f"{roi} does not tell its slice. Open the stack and the set in ImageJ, go to the slice, "
            "select the ROI, press Update in the ROI Manager, and save the set again.",
            kind="unknown-slice",
        )
    if not 0 <= roi.slice_index < slices:
        raise RoiError(
            f"{roi} lies in slice {roi.slice_index + 1}, but the tomogram has {slices}. "
            "Check that the ROI set belongs to this tomogram.",
            kind="slice-out-of-range",
        )
    return roi.slice_index
