"""Images of ImageJ: pixels and calibration out, position of slices, whether one was closed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from jpype import JClass

from skinoct.tomogram import PixelSize, SliceAxis
from skinoct_fiji.failures import ImageError

MICROMETERS = {
    "um": 1.0, "µm": 1.0, "μm": 1.0, "micron": 1.0, "microns": 1.0, "micrometer": 1.0, "micrometers": 1.0,
    "nm": 1e-3, "nanometer": 1e-3, "mm": 1e3, "millimeter": 1e3, "cm": 1e4, "centimeter": 1e4, "m": 1e6, "meter": 1e6,
    "inch": 25400.0, "in": 25400.0,
}  # fmt: skip
GRAY8, GRAY16, GRAY32, COLOR_256, COLOR_RGB = range(5)
PLAUSIBLE_UM = (0.1, 10.0)
"""Pixels that an optical tomogram can have, as in ``skinoct.grid``; the dots per inch of a picture are none."""
UNSIGNED = {0: GRAY8, 2: GRAY16}
"""Types of ``ij.io.FileInfo`` whose numbers begin at 0, and the type of the image that they open as."""


@dataclass(frozen=True)
class Region:
    """Part of an image that is segmented; the rest stays untouched."""

    first: int
    """First of the slices, 0-based among the slices of the frame."""
    last: int
    """One past the last."""
    x: int
    y: int
    width: int
    height: int


class Stack:
    """A gray image of ImageJ as a tomogram (Z, Y, X): the slices of the channel and frame in view.

    Reads slice by slice when asked, so a virtual stack is never in memory as a whole.

    Raises
    ------
    ImageError
        When there is no image, or it is in color.
    """

    def __init__(self, image: Any) -> None:
        if image is None:
            raise ImageError("No image is open. Open a tomogram (File > Open) and click on it, then try again.")
        self.image = image
        self.title = str(image.getTitle())
        if int(image.getType()) == COLOR_RGB:
            raise ImageError(
                f"'{self.title}' is a color image. Turn it into a gray one with Image > Type > 8-bit, then try again."
            )
        lengths = (int(image.getNChannels()), int(image.getNSlices()), int(image.getNFrames()))
        self._along = _slice_axis(lengths)
        self.count = lengths[self._along]
        self.axis: SliceAxis = "T" if self._along == 2 else "Z"
        self.hyperstack = bool(image.isHyperStack())
        self._shown = (int(image.getC()), int(image.getZ()), int(image.getT()))
        self.width, self.height = int(image.getWidth()), int(image.getHeight())
        self._inverted = _is_inverted(image)
        self._id = int(image.getID())
        self._listed = self._in_list()

    @property
    def dtype(self) -> npt.DTypeLike:
        """Type of a voxel; signed 16-bit images hold unsigned numbers and an offset of -32768."""
        return {GRAY16: np.uint16, GRAY32: np.float32}.get(int(self.image.getType()), np.uint8)

    def whole(self) -> Region:
        """Return all of the image."""
        return Region(0, self.count, 0, 0, self.width, self.height)

    def file(self) -> Path | None:
        """Return the file that an image shows as a whole and unchanged; None for any other image."""
        info = self.image.getOriginalFileInfo()
        if info is None or self.image.changes or self.count != int(self.image.getStackSize()):
            return None
        path = Path(str(info.directory or "")) / str(info.fileName or "")
        return path if self.title == path.name and path.is_file() else None

    def rectangle(self) -> tuple[int, int, int, int] | None:
        """Return x, y, width and height of the selected rectangle inside the image, or None."""
        roi = self.image.getRoi()
        if roi is None or int(roi.getType()) != 0 or str(roi.getTypeAsString()) != "Rectangle":
            return None
        bounds = roi.getBounds().intersection(JClass("java.awt.Rectangle")(0, 0, self.width, self.height))
        if bounds.isEmpty():
            return None
        return int(bounds.x), int(bounds.y), int(bounds.width), int(bounds.height)

    def position(self, index: int) -> tuple[int, int, int]:
        """Return channel, slice and frame (1-based) of slice ``index`` (0-based) of the tomogram."""
        place = list(self._shown)
        place[self._along] = index + 1
        return place[0], place[1], place[2]

    def stack_index(self, index: int) -> int:
        """Return ImageJ's stack index (1-based) of slice ``index`` (0-based)."""
        return int(self.image.getStackIndex(*self.position(index)))

    def place_of(self, stack_index: int) -> tuple[int, int, int]:
        """Return channel, slice and frame (1-based) at ImageJ's stack index (1-based), also behind the last slice."""
        if stack_index > int(self.image.getStackSize()):
            return self.position(stack_index - 1)
        channel, depth, frame = (int(number) for number in self.image.convertIndexToPosition(stack_index))
        return channel, depth, frame

    def index_of(self, place: tuple[int, int, int]) -> int | None:
        """Return the slice (0-based) of a channel, slice and frame (1-based; 0: any); None when it is any."""
        return place[self._along] - 1 if place[self._along] > 0 else None

    def in_frame(self, place: tuple[int, int, int]) -> bool:
        """Whether a channel, slice and frame (1-based; 0: any) are of this tomogram: other frames are other ones."""
        return self._along == 2 or place[2] in (0, self._shown[2])

    def read(self, index: int, region: Region) -> npt.NDArray[Any]:
        """Return one slice of a region as an array (Y, X); ``index`` counts from the region's first slice."""
        try:
            pixels = self.image.getStack().getPixels(self.stack_index(region.first + index))
        except JClass("java.lang.IllegalArgumentException"):  # an image that was closed has an empty stack
            pixels = None
        if pixels is None:
            raise ImageError(f"'{self.title}' was closed while it was being read. Nothing was changed.")
        plane = np.asarray(pixels).view(self.dtype).reshape(self.height, self.width)
        part = plane[region.y : region.y + region.height, region.x : region.x + region.width]
        return np.invert(part) if self._inverted else part

    def pixel_size_um(self) -> PixelSize | None:
        """Return the calibration in micrometers, None for an image in pixels."""
        calibration = self.image.getCalibration()
        unit = MICROMETERS.get(str(calibration.getUnit()).strip().lower())
        if unit is None:
            return None
        depth = float(calibration.pixelDepth) * unit
        return PixelSize(
            y=float(calibration.pixelHeight) * unit,
            x=float(calibration.pixelWidth) * unit,
            z=depth if depth > 0 else None,
        )

    def implausible_um(self) -> float | None:
        """Return the calibration of a pixel that no optical tomogram has, None when there is nothing odd about it."""
        size = self.pixel_size_um()
        edges = (size.y, size.x) if size else ()
        return next((edge for edge in edges if not PLAUSIBLE_UM[0] <= edge <= PLAUSIBLE_UM[1]), None)

    def _in_list(self) -> bool:
        return JClass("ij.WindowManager").getImage(self._id) is not None

    def closed(self) -> bool:
        """Whether the user closed the image since this was made; an image that never had a window is not."""
        return self._listed and not self._in_list()


def _is_inverted(image: Any) -> bool:
    """Whether 0 is white in the file of an image: its contrast is then inverted, as ``skinoct.tomogram`` reads it.

    In ImageJ's own files an inverted LUT is only a way of looking.
    """
    info = image.getOriginalFileInfo()
    if info is None or not info.whiteIsZero or str(info.description).startswith("ImageJ="):
        return False
    return UNSIGNED.get(int(info.fileType)) == int(image.getType()) and bool(image.isInvertedLut())


def _slice_axis(lengths: tuple[int, int, int]) -> int:
    """Return which of channels, slices and frames holds the B-scans: a plain stack may be opened as any."""
    channels, depth, frames = lengths
    if depth > 1:
        return 1
    if frames > 1:
        return 2
    return 0 if channels > 1 else 1


class RegionVoxels:
    """A region of a ``Stack`` as voxels (Z, Y, X), read on demand."""

    def __init__(self, stack: Stack, region: Region) -> None:
        self._stack, self._region = stack, region

    @property
    def shape(self) -> tuple[int, int, int]:
        """(Z, Y, X)."""
        return self._region.last - self._region.first, self._region.height, self._region.width

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a voxel."""
        return np.dtype(self._stack.dtype)

    @property
    def ndim(self) -> int:
        """Three."""
        return 3

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, slices: slice) -> npt.NDArray[Any]:
        indices = range(*slices.indices(self.shape[0]))
        out = np.empty((len(indices), *self.shape[1:]), self.dtype)
        for at, index in enumerate(indices):
            out[at] = self._stack.read(index, self._region)
        return out
