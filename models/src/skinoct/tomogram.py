"""Tomograms in and out: TIFF (ImageJ, plain, OME, BigTIFF) and npy.

Axes are ``(Z, Y, X)``: slice, depth, width. Formats live in modules of their own: ``tomogram_tiff`` and
``tomogram_npy`` read, ``tomogram_write`` writes; this module is where others import from.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from skinoct.errors import TomogramError
from skinoct.tiff_structure import MAGICS
from skinoct.tomogram_check import CheckedVoxels, check_not_constant, iter_blocks
from skinoct.tomogram_npy import MAGIC, read_npy
from skinoct.tomogram_source import Source
from skinoct.tomogram_tiff import read_tiff
from skinoct.tomogram_types import PixelSize, SliceAxis, Tomogram, Voxels
from skinoct.tomogram_write import write_labels, write_tomogram

__all__ = [
    "PixelSize",
    "SliceAxis",
    "Tomogram",
    "Voxels",
    "iter_blocks",
    "read_tomogram",
    "write_labels",
    "write_tomogram",
]

_OTHERS = (
    (b"PK\x03\x04", "a zip archive", "Unpack it and give the TIFF or .npy file inside."),
    (b"\x89PNG", "a PNG picture", "Save the recording as a TIFF stack."),
    (b"\xff\xd8\xff", "a JPEG picture", "Save the recording as a TIFF stack."),
    (b"\x1f\x8b", "a gzip file", "Unpack it first."),
    (b"\x89HDF", "an HDF5 file", "Open it in Fiji and save it as a TIFF stack."),
    (b"%PDF", "a PDF", "Save the recording as a TIFF stack."),
)


def read_tomogram(source: str | Path | bytes | BinaryIO, *, name: str | None = None) -> Tomogram:
    """Open a tomogram; the content decides about the format, not the extension.

    8- and 16-bit voxels stay what they are, signed 16-bit moves up by 32768 as in ImageJ, floats become
    float32. A palette (LUT) counts as gray: its indices are the voxels. Unsigned min-is-white TIFFs are
    inverted, except ImageJ's, where an inverted LUT is only a way of looking. Slices are read when asked for, and
    reading one with NaN or infinity raises then.

    Parameters
    ----------
    source : path, bytes or seekable binary file
        A single B-scan is a tomogram of one slice. A file object must stay open as long as the tomogram is
        in use; a path is opened anew for each use.
    name : str, optional
        What errors call it; a path is called by its file name.

    Returns
    -------
    Tomogram
        ``voxels`` of shape (Z, Y, X), uint8, uint16 or float32.

    Raises
    ------
    TomogramError
        With a ``kind``: ``not-a-tomogram``, ``no-such-file``, ``empty``, ``truncated``, ``damaged-tiff``,
        ``damaged-npy``, ``color-image``, ``multi-channel``, ``mixed-page-sizes``, ``mixed-pages``,
        ``voxel-type``, ``dimensions``, ``object-array``, ``compression``, ``several-files``,
        ``constant-image``, ``not-finite``.
    """
    opened = Source(source, name)
    magic = opened.read(0, 8)
    if not magic:
        raise TomogramError(f"{opened.name} is empty: 0 bytes. Copy or save it again.", kind="empty")
    if magic.startswith(MAGIC):
        tomogram = read_npy(opened)
    elif magic[:4] in MAGICS:
        tomogram = read_tiff(opened)
    else:
        raise _unknown(opened.name, magic)
    voxels = CheckedVoxels(tomogram.voxels, tomogram.name)
    check_not_constant(voxels, tomogram.name)
    return replace(tomogram, voxels=voxels)


def _unknown(name: str, magic: bytes) -> TomogramError:
    for start, what, cure in _OTHERS:
        if magic.startswith(start):
            return TomogramError(f"{name} is {what}, not a tomogram. {cure}", kind="not-a-tomogram")
    return TomogramError(
        f"{name} is neither a TIFF nor a .npy file. Save the tomogram as a TIFF stack (ImageJ: File > Save As > Tiff).",
        kind="not-a-tomogram",
    )
