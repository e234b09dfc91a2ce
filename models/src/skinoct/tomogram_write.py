"""Tomograms and label stacks out: ImageJ TIFF, written block by block so that memory stays flat."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
import numpy.typing as npt
import tifffile

from skinoct.errors import TomogramError
from skinoct.labels import color_table
from skinoct.output_file import open_output
from skinoct.tomogram_check import iter_blocks, to_working, working_dtype
from skinoct.tomogram_types import PixelSize, SliceAxis, Voxels

_DEFLATE = "zlib"
_LEVEL = 3
"""Of compression: layers are large areas, which more effort makes hardly smaller."""


def write_tomogram(
    target: str | Path | BinaryIO,
    voxels: Voxels | npt.NDArray[Any],
    *,
    pixel_size_um: PixelSize | None = None,
    axis: SliceAxis = "Z",
    overwrite: bool = False,
) -> None:
    """Write a tomogram as an uncompressed ImageJ TIFF stack.

    Beyond 4 GB the file has one directory for all slices, as ImageJ itself writes such stacks.

    Parameters
    ----------
    voxels : shape (Z, Y, X) or (Y, X)
        uint8, uint16 or float32; int16 is moved up by 32768, float64 becomes float32.
    axis : "Z", "T" or "I"
        "T" makes the slices frames; an unlabeled axis is written as slices.

    Raises
    ------
    TomogramError
        When ImageJ has no such type of voxels (kind ``voxel-type``).
    OptionError
        When the file exists and ``overwrite`` is False.
    """
    stack: Any = voxels[np.newaxis] if isinstance(voxels, np.ndarray) and voxels.ndim == 2 else voxels
    dtype = working_dtype(np.dtype(stack.dtype), "the tomogram to be written")
    slices = (to_working(image) for block in iter_blocks(stack) for image in np.asarray(block))
    with open_output(target, overwrite=overwrite) as file, tifffile.TiffWriter(file, imagej=True) as tif:
        tif.write(
            slices,
            shape=_imagej_shape(stack.shape, axis),
            dtype=dtype,
            photometric="minisblack",
            **_calibration(pixel_size_um, axis),
        )


def write_labels(
    target: str | Path | BinaryIO,
    blocks: Iterable[npt.NDArray[np.uint8]],
    shape: tuple[int, int, int],
    *,
    pixel_size_um: PixelSize | None = None,
    axis: SliceAxis = "Z",
    overwrite: bool = False,
) -> None:
    """Write a label stack as a Deflate-compressed ImageJ TIFF with slices, calibration and the label colors.

    Parameters
    ----------
    blocks : iterable of uint8 (n, Y, X)
        The stack in order, some slices at a time; see ``Segmentation.blocks``.
    shape : (Z, Y, X)
        Of the whole stack.

    Raises
    ------
    TomogramError
        When the blocks do not add up to ``shape`` (kind ``dimensions``).
    OptionError
        When the file exists and ``overwrite`` is False.
    """
    colors = color_table().T.astype(np.uint16) * 257  # TIFF colors are 16-bit
    with open_output(target, overwrite=overwrite) as file, tifffile.TiffWriter(file, imagej=True) as tif:
        tif.write(
            map(_deflate, _label_slices(blocks, shape)),
            shape=_imagej_shape(shape, axis),
            dtype=np.uint8,
            photometric="palette",
            colormap=colors,
            compression=_DEFLATE,
            rowsperstrip=shape[1],
            **_calibration(pixel_size_um, axis),
        )


def _deflate(slice_: npt.NDArray[np.uint8]) -> bytes:
    """Compress a slice; by zlib-ng, which is several times as fast as the zlib that tifffile chooses."""
    raw = slice_.tobytes()
    if imagecodecs.ZLIBNG.available:
        return bytes(imagecodecs.zlibng_encode(raw, level=_LEVEL))
    return zlib.compress(raw, _LEVEL)


def _label_slices(
    blocks: Iterable[npt.NDArray[np.uint8]], shape: tuple[int, int, int]
) -> Iterator[npt.NDArray[np.uint8]]:
    left = shape[0]
    # One block ahead, so that the last slice is handed on only when it is the last: a writer that reads
    # ahead in a thread of its own would swallow an error that comes after it.
    for block, following in pairwise(chain(blocks, [None])):
        assert block is not None
        left -= len(block)
        if block.dtype != np.uint8 or block.shape[1:] != shape[1:]:
            raise _wrong_shape(f"{block.dtype.name} {block.shape}", shape)
        if left < 0 or (left == 0 and following is not None):
            raise _wrong_shape("more", shape)
        yield from map(np.ascontiguousarray, block)
    if left:
        raise _wrong_shape(f"{shape[0] - left} slices", shape)


def _wrong_shape(found: str, shape: tuple[int, int, int]) -> TomogramError:
    return TomogramError(f"A label stack of shape {shape}, uint8, was announced; {found} came.", kind="dimensions")


def _imagej_shape(shape: tuple[int, ...], axis: SliceAxis) -> tuple[int, ...]:
    """Return all six axes TZCYXS, so that tifffile does not guess at an axis of length 1 or 3."""
    if len(shape) != 3 or 0 in shape:
        raise TomogramError(f"A stack to be written needs axes (Z, Y, X), not the shape {shape}.", kind="dimensions")
    frames, slices = (shape[0], 1) if axis == "T" else (1, shape[0])
    return frames, slices, 1, *shape[1:], 1


def _calibration(size: PixelSize | None, axis: SliceAxis) -> dict[str, Any]:
    """Return the arguments of ``TiffWriter.write`` that say pixel size and axes."""
    metadata: dict[str, Any] = {"axes": "TZCYXS", "mode": None}
    if size is None:
        return {"metadata": metadata}
    # The ASCII spelling: "micron" is what ImageJ itself turns um into, and every version reads it.
    metadata["unit"] = "micron"
    if size.z is not None and axis != "T":
        metadata["spacing"] = size.z
    return {"metadata": metadata, "resolution": (1 / size.x, 1 / size.y), "resolutionunit": 1}
