"""Tomograms in numpy's ``.npy`` format: (Y, X) or (Z, Y, X), never with pickled objects.

The header is trusted only when its shape and type account for exactly the bytes that follow it.
"""

from __future__ import annotations

import io
import math
import tokenize
from typing import Any

import numpy as np
import numpy.typing as npt

from skinoct.errors import TomogramError
from skinoct.tomogram_check import working_dtype
from skinoct.tomogram_source import Source
from skinoct.tomogram_types import Tomogram

MAGIC = b"\x93NUMPY"
_LONGEST_HEADER = 1 << 16
_HEADER_DEFECTS = (
    ValueError,
    TypeError,
    SyntaxError,
    EOFError,
    OverflowError,
    MemoryError,
    tokenize.TokenError,
)
"""What numpy raises on a damaged header; the last one while it tries to read it as Python 2 wrote it."""


class _NpyVoxels:
    """Slices of a C-ordered npy file, read on demand."""

    def __init__(self, source: Source, offset: int, dtype: np.dtype[Any], shape: tuple[int, int, int]) -> None:
        self._source = source
        self._offset = offset
        self.dtype = dtype
        self.shape = shape

    def __getitem__(self, slices: slice) -> npt.NDArray[Any]:
        start, stop, _ = slices.indices(self.shape[0])
        count = max(0, stop - start)
        bytes_per_slice = self.shape[1] * self.shape[2] * self.dtype.itemsize
        data = self._source.read(self._offset + start * bytes_per_slice, count * bytes_per_slice)
        if len(data) < count * bytes_per_slice:
            raise _truncated(self._source.name)
        return np.frombuffer(data, self.dtype).reshape(count, *self.shape[1:])


def read_npy(source: Source) -> Tomogram:
    """Read an npy file; nothing but its header is read now, except for Fortran order.

    Raises
    ------
    TomogramError
        Kinds ``damaged-npy``, ``truncated``, ``object-array``, ``voxel-type``, ``dimensions``, ``empty``.
    """
    shape, fortran, dtype, offset = _read_header(source)
    name = source.name
    if dtype.hasobject:
        raise TomogramError(
            f"{name} holds Python objects, which are never loaded. Save the plain array of numbers with "
            "numpy.save(..., allow_pickle=False).",
            kind="object-array",
        )
    working_dtype(dtype, name)
    if len(shape) not in (2, 3):
        raise TomogramError(
            f"{name} has {len(shape)} axes {shape}. Save one B-scan (depth, width) or one tomogram "
            "(slices, depth, width).",
            kind="dimensions",
        )
    if 0 in shape:
        raise TomogramError(f"{name} is empty: its shape is {shape}.", kind="empty")
    expected, found = math.prod(shape) * dtype.itemsize, source.size - offset
    if found < expected:
        raise _truncated(name)
    if found > expected:
        raise TomogramError(
            f"{name} has {found - expected} bytes more than its header announces. Save it again with numpy.save.",
            kind="damaged-npy",
        )
    z, y, x = (1, *shape) if len(shape) == 2 else shape
    if fortran:
        # Slices of a Fortran-ordered file lie scattered over all of it: read it once, as one piece.
        data = np.frombuffer(source.read(offset, expected), dtype).reshape(shape, order="F")
        return Tomogram(np.ascontiguousarray(data).reshape(z, y, x), name, axis="I")
    return Tomogram(_NpyVoxels(source, offset, dtype, (z, y, x)), name, axis="I")


def _read_header(source: Source) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Return shape, Fortran order, type and the offset of the first voxel."""
    header = io.BytesIO(source.read(0, _LONGEST_HEADER))
    try:
        version = np.lib.format.read_magic(header)
        read = np.lib.format.read_array_header_1_0 if version[0] == 1 else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(header)
    except _HEADER_DEFECTS:
        raise TomogramError(
            f"The header of {source.name} is damaged or cut off. Save the array again with numpy.save.",
            kind="damaged-npy",
        ) from None
    if any(isinstance(n, bool) or n < 0 for n in shape):
        raise TomogramError(f"{source.name} announces the shape {shape}, which no array has.", kind="damaged-npy")
    return tuple(int(n) for n in shape), bool(fortran), dtype, header.tell()


def _truncated(name: str) -> TomogramError:
    return TomogramError(f"{name} is cut off: it ends before its last slice. Copy or save it again.", kind="truncated")
