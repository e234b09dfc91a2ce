"""What a tomogram is once it is read; every tomogram format makes one of these.

Axes are ``(Z, Y, X)``: slice, depth, width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy.typing as npt

SliceAxis = Literal["Z", "T", "I"]
"""How the file calls the slices: depth order, time, or not at all."""

UPLOADED = "the uploaded tomogram"
"""Name of a tomogram that came without a file name."""


@dataclass(frozen=True)
class PixelSize:
    """Size of a voxel in micrometers; ``z`` is None where a file does not tell the distance of slices."""

    y: float
    x: float
    z: float | None = None


class Voxels(Protocol):
    """An array of shape (Z, Y, X), uint8, uint16 or float32, read slice by slice."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(Z, Y, X)."""
        ...

    @property
    def dtype(self) -> Any:
        """Type of a voxel."""
        ...

    def __getitem__(self, slices: slice) -> npt.NDArray[Any]:
        """Return slices ``start:stop`` as an array (n, Y, X)."""
        ...


@dataclass(frozen=True)
class Tomogram:
    """A stack of B-scans and what its file says of it."""

    voxels: Voxels
    name: str
    """What errors call it: the file's name, or "the uploaded tomogram"."""
    pixel_size_um: PixelSize | None = None
    """None when the file is not calibrated in a unit of length."""
    axis: SliceAxis = "Z"

    @property
    def shape(self) -> tuple[int, int, int]:
        """(Z, Y, X)."""
        return self.voxels.shape
