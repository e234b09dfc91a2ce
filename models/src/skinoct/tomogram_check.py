"""Voxels that nothing can be learned from are refused while they are read, so no second pass is needed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from skinoct.errors import TomogramError
from skinoct.tomogram_types import Voxels

BLOCK_SLICES = 16
"""Slices read at once wherever a whole stack is passed through."""

_SIGNED_OFFSET = np.uint16(1 << 15)


def working_dtype(dtype: np.dtype[Any], name: str) -> np.dtype[Any]:
    """Return the type voxels of a file's ``dtype`` are handed on in: uint8, uint16 or float32.

    Raises
    ------
    TomogramError
        When tomograms do not come in that type (kind ``voxel-type``).
    """
    kind_size = f"{dtype.kind}{dtype.itemsize}"
    if kind_size in ("u1", "u2"):
        return np.dtype(kind_size)
    if kind_size == "i2":
        return np.dtype(np.uint16)
    if kind_size in ("f2", "f4", "f8"):
        return np.dtype(np.float32)
    raise TomogramError(
        f"The voxels of {name} are {dtype.name}. Convert them to 8-bit, 16-bit or 32-bit float "
        "(ImageJ: Image > Type) and save again.",
        kind="voxel-type",
    )


def to_working(slices: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Convert (n, Y, X) to native uint8, uint16 or float32; signed 16-bit moves up by 32768 as in ImageJ."""
    if slices.dtype.kind == "i":
        native = slices.astype(np.int16, copy=False)
        return native.view(np.uint16) ^ _SIGNED_OFFSET
    if slices.dtype.kind == "f":
        with np.errstate(over="ignore"):  # becomes Inf, which the check names
            return slices.astype(np.float32, copy=False)
    return slices.astype(slices.dtype.newbyteorder("="), copy=False)


class CheckedVoxels:
    """Voxels in their working type; reading a slice with NaN or infinity raises ``TomogramError``."""

    def __init__(self, voxels: Voxels, name: str) -> None:
        self._voxels = voxels
        self._name = name
        self.shape: tuple[int, int, int] = voxels.shape
        self.dtype: np.dtype[Any] = working_dtype(np.dtype(voxels.dtype), name)

    def __getitem__(self, slices: slice) -> npt.NDArray[Any]:
        """Return slices ``start:stop`` as (n, Y, X)."""
        block = to_working(np.asarray(self._voxels[slices]))
        if block.dtype.kind == "f":
            check_finite(block, slices.indices(self.shape[0])[0], self._name)
        return block


def check_finite(block: npt.NDArray[Any], first: int, name: str) -> None:
    """Raise ``TomogramError`` (kind ``not-finite``) at the first slice of (n, Y, X) with NaN or infinity.

    ``first`` is the 0-based slice that the block starts with.
    """
    for index, image in enumerate(block):
        if not np.isfinite(image).all():
            nan = bool(np.isnan(image).any())
            what, command = ("NaN", "Noise > Remove NaNs") if nan else ("infinite values", "Math > Max, then Min")
            raise TomogramError(
                f"Slice {first + index + 1} of {name} holds {what}. Replace them by numbers "
                f"(ImageJ: Process > {command}) and save again.",
                kind="not-finite",
            )


def iter_blocks(voxels: Voxels, size: int = BLOCK_SLICES) -> Iterator[npt.NDArray[Any]]:
    """Yield a stack in order as arrays (n, Y, X) of at most ``size`` slices."""
    for start in range(0, voxels.shape[0], size):
        yield voxels[start : min(start + size, voxels.shape[0])]


def check_not_constant(voxels: Voxels, name: str) -> None:
    """Read slices until two voxels differ: one slice of a real tomogram, all of a constant one.

    Raises
    ------
    TomogramError
        When every voxel has one value (kind ``constant-image``).
    """
    first = None
    for block in iter_blocks(voxels, 1):
        if first is None:
            first = block.flat[0]
        if (block != first).any():
            return
    raise TomogramError(
        f"Every voxel of {name} has the value {first}, so there is nothing to segment. "
        "Check that the recording was exported correctly.",
        kind="constant-image",
    )
