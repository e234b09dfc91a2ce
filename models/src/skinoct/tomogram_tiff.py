"""Tomograms in TIFF: ImageJ stacks (also its single-directory ones beyond 4 GB), plain, OME and BigTIFF.

Directories are checked when a file is opened and pixels read when they are asked for, a page at a time, so
that a tomogram of any length takes the memory of the slices in use.
"""

from __future__ import annotations

import json
import logging
import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from skinoct.errors import TomogramError
from skinoct.tiff_structure import directory_offsets, truncated
from skinoct.tomogram_calibration import from_baseline, from_imagej, from_ome
from skinoct.tomogram_check import working_dtype
from skinoct.tomogram_ome import OmeStack, read_ome
from skinoct.tomogram_source import Source
from skinoct.tomogram_types import PixelSize, SliceAxis, Tomogram

_GRAY = (0, 1, 3)
"""Photometric interpretations min-is-white, min-is-black and palette."""

_COMPRESSIONS = (1, 5, 7, 8, 32773, 32946, 50000)
"""None, LZW, JPEG, Deflate (two numbers), PackBits, Zstandard."""

_LARGEST_PAGE = 1 << 28
"""Bytes of a slice: 16384 x 16384 pixels of 8 bits."""
MOST_CHANNELS = 7
"""More than ImageJ shows as channels: a stack of more was saved without saying along which axis its slices lie."""
_DEFECTS = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
    AssertionError,
    struct.error,
)
"""What tifffile and the codecs raise on damaged data; OSError is left alone."""

# Damage that tifffile would log is raised here as a TomogramError; without a handler Python prints such
# log lines to stderr.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class _Layout:
    """How all pages of a stack are stored; pages that differ in it are refused."""

    height: int
    width: int
    dtype: np.dtype[Any]
    """Type in the file, with its byte order."""
    raw: bool
    """Uncompressed and in one piece, so that bytes are pixels."""
    inverted: bool
    decode: Callable[..., Any]
    jpeg_tables: bytes | None

    @property
    def nbytes(self) -> int:
        return self.height * self.width * self.dtype.itemsize


Segments = npt.NDArray[np.int64]
"""(n, 2): offset and byte count of the strips or tiles of one page."""


class _TiffVoxels:
    """Pages of a TIFF, read on demand."""

    def __init__(self, source: Source, layout: _Layout, pages: Sequence[Segments]) -> None:
        self._source = source
        self._layout = layout
        self._pages = pages
        self.shape = (len(pages), layout.height, layout.width)
        self.dtype = layout.dtype

    def __getitem__(self, slices: slice) -> npt.NDArray[Any]:
        wanted = range(*slices.indices(self.shape[0]))
        result = np.zeros((len(wanted), *self.shape[1:]), self.dtype)
        with self._source.open() as file:
            for image, index in zip(result, wanted, strict=True):
                parts = []
                for offset, count in self._pages[index].tolist():
                    file.seek(offset)
                    parts.append(file.read(count))
                    if len(parts[-1]) < count:
                        raise truncated(self._source.name, index)
                self._fill(image, parts, index)
        return result

    def _fill(self, image: npt.NDArray[Any], parts: list[bytes], index: int) -> None:
        layout = self._layout
        if layout.raw and len(parts) == 1:
            image[:] = np.frombuffer(parts[0], layout.dtype).reshape(image.shape)
        else:
            try:
                for number, data in enumerate(parts):
                    _paste(image, layout, data, number)
            except _DEFECTS:
                raise TomogramError(
                    f"Slice {index + 1} of {self._source.name} is damaged and cannot be decompressed. "
                    "Copy or save the file again.",
                    kind="damaged-tiff",
                ) from None
        if layout.inverted:
            np.subtract(np.iinfo(image.dtype).max, image, out=image)


def _paste(image: npt.NDArray[Any], layout: _Layout, data: bytes, number: int) -> None:
    """Decode one strip or tile into its place; edge tiles reach beyond the image."""
    segment, (_, _, top, left, _), shape = layout.decode(data, number, jpegtables=layout.jpeg_tables)
    if segment is None or segment.ndim != 4:
        raise ValueError("no pixels")
    rows, columns = min(shape[1], layout.height - top), min(shape[2], layout.width - left)
    pixels = segment[0, :rows, :columns, 0]
    if pixels.shape != (rows, columns):
        raise ValueError("too few pixels")
    image[top : top + rows, left : left + columns] = pixels


def read_tiff(source: Source) -> Tomogram:
    """Open a TIFF stack.

    Raises
    ------
    TomogramError
        Kinds ``truncated``, ``damaged-tiff``, ``empty``, ``color-image``, ``multi-channel``, ``voxel-type``,
        ``mixed-page-sizes``, ``dimensions``, ``compression``.
    """
    with source.open() as file:
        count = len(directory_offsets(file, source.size, source.name))
        file.seek(0)
        try:
            with tifffile.TiffFile(file, name=source.name) as tif:
                return _read_stack(tif, count, source)
        except _DEFECTS:
            raise TomogramError(
                f"{source.name} is damaged: its description of the images makes no sense. Copy or save it again.",
                kind="damaged-tiff",
            ) from None


def _read_stack(tif: tifffile.TiffFile, count: int, source: Source) -> Tomogram:
    first = tif.pages.first
    layout = _layout(first, source.name)
    meta = (tif.imagej_metadata or {}) if first.is_imagej else {}
    announced = _imagej_count(meta, source.name)
    ome = read_ome(first.description, source.name) if first.is_ome else None
    if first.is_shaped and count == 1:
        announced = _shaped_count(first)
    if count == 1 and announced > 1:
        pages = _virtual_pages(first, layout, announced, source)
    else:
        pages = _pages(tif, count, layout, source)
    if len(pages) < announced:
        raise TomogramError(
            f"{source.name} announces {announced} slices and holds {len(pages)}. Copy or save it again.",
            kind="truncated",
        )
    if ome is not None:
        pages = _in_ome_order(pages, ome, source.name)
    axis: SliceAxis = ome.axis if ome is not None else _imagej_axis(meta)
    voxels = _TiffVoxels(source, layout, pages)
    return Tomogram(voxels, source.name, _pixel_size(first, meta, ome, axis), axis)


def _layout(page: tifffile.TiffPage, name: str) -> _Layout:
    """Say how a page is stored; raise when it cannot be one B-scan."""
    photometric = int(page.photometric)
    if page.samplesperpixel > 1 or photometric not in _GRAY:
        if photometric in (0, 1, 3):
            raise _multi_channel(name)
        raise TomogramError(
            f"{name} is a color image. Convert it to 8- or 16-bit gray (ImageJ: Image > Type > 8-bit) and save again.",
            kind="color-image",
        )
    if page.dtype is None:
        raise TomogramError(
            f"The voxels of {name} have a type that cannot be read. Save it as 8-bit, 16-bit or 32-bit float.",
            kind="voxel-type",
        )
    working_dtype(page.dtype, name)
    if int(page.compression) not in _COMPRESSIONS:
        raise TomogramError(
            f"{name} is compressed in a way that is not supported ({page.compression!s}). "
            "Save it uncompressed, with LZW or with Deflate.",
            kind="compression",
        )
    if page.imagedepth != 1 or 0 in (page.imagelength, page.imagewidth):
        raise TomogramError(f"{name} does not hold plain two-dimensional slices.", kind="dimensions")
    order = page.parent.byteorder if page.bitspersample % 8 == 0 else "="
    dtype = page.dtype.newbyteorder(order)
    if page.imagelength * page.imagewidth * dtype.itemsize > _LARGEST_PAGE:
        raise TomogramError(
            f"A slice of {name} has {page.imagelength} x {page.imagewidth} pixels, more than can be read.",
            kind="dimensions",
        )
    raw = int(page.compression) == 1 and page.is_contiguous and page.bitspersample in (8, 16, 32, 64)
    inverted = photometric == 0 and not page.is_imagej and dtype.kind == "u"
    return _Layout(
        page.imagelength, page.imagewidth, dtype, raw, inverted, page.decode, page.jpegtables
    )  # fmt: skip


def _pages(tif: tifffile.TiffFile, count: int, first: _Layout, source: Source) -> list[Segments]:
    """Check every page against the first and return where each one's pixels are."""
    pages = []
    for index in range(count):
        page = tif.pages[index]
        assert isinstance(page, tifffile.TiffPage)
        if index and page.is_reduced:
            continue  # a thumbnail
        _check_same(page, tif.pages.first, index, source.name)
        pages.append(_segments(page, first, index, source))
    return pages


def _check_same(page: tifffile.TiffPage, first: tifffile.TiffPage, index: int, name: str) -> None:
    if page.shape != first.shape:
        size, size_first = ((p.imagelength, p.imagewidth, p.samplesperpixel) for p in (page, first))
        if size[2] != size_first[2]:
            raise _multi_channel(name)
        raise TomogramError(
            f"Slice {index + 1} of {name} has {size[0]} x {size[1]} pixels and the first slice "
            f"{size_first[0]} x {size_first[1]}. Save slices of one size as one stack.",
            kind="mixed-page-sizes",
        )
    if page.hash != first.hash:
        raise TomogramError(
            f"Slice {index + 1} of {name} is stored in another way (type or compression) than the first. "
            "Open the stack in ImageJ and save it again.",
            kind="mixed-pages",
        )


def _segments(page: tifffile.TiffPage, layout: _Layout, index: int, source: Source) -> Segments:
    """Return offsets and counts of a page's strips or tiles, all within the file."""
    if layout.raw and page.dataoffsets and _in_a_row(page):
        segments = np.array([[page.dataoffsets[0], layout.nbytes]], np.int64)
    else:
        expected = int(np.prod(page.chunked))
        if len(page.dataoffsets) != expected or len(page.databytecounts) != expected:
            raise truncated(source.name, index)
        segments = np.array([page.dataoffsets, page.databytecounts], np.int64).T
    if (segments <= 0).any() or (segments.sum(axis=1) > source.size).any():
        raise truncated(source.name, index)
    return segments


def _in_a_row(page: tifffile.TiffPage) -> bool:
    """Tell whether the strips of a page follow one another, so that they can be read as one."""
    ends = [offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False)]
    return list(page.dataoffsets[1:]) == ends[:-1]


def _virtual_pages(first: tifffile.TiffPage, layout: _Layout, announced: int, source: Source) -> list[Segments]:
    """Locate the slices of a file that has a directory for the first one only.

    ImageJ writes stacks beyond 4 GB like this, and tifffile writes every ImageJ stack and what it calls truncated so:
    the pixels of all slices follow one another from the first slice's offset.
    """
    if not layout.raw:
        raise TomogramError(
            f"{source.name} announces {announced} slices and holds 1. Copy or save it again.",
            kind="truncated",
        )
    start = int(_segments(first, layout, 0, source)[0, 0])
    whole = (source.size - start) // layout.nbytes
    if whole < announced:
        raise truncated(source.name, whole)
    return [np.array([[start + index * layout.nbytes, layout.nbytes]], np.int64) for index in range(announced)]


def _imagej_count(meta: dict[str, Any], name: str) -> int:
    """Return the number of slices that ImageJ's description announces, 1 without one."""
    channels, slices, frames, images = (_count(meta, key) for key in ("channels", "slices", "frames", "images"))
    if channels > MOST_CHANNELS and slices == frames == 1:
        return max(images, channels)
    if channels > 1:
        raise _multi_channel(name)
    if slices > 1 and frames > 1:
        raise TomogramError(
            f"{name} has {slices} slices at {frames} times. Save one tomogram per file "
            "(ImageJ: Image > Duplicate with one frame).",
            kind="dimensions",
        )
    return max(images, slices, frames)


def _shaped_count(page: tifffile.TiffPage) -> int:
    """Return the number of slices that tifffile's own description announces."""
    shape = json.loads(page.shaped_description or "{}").get("shape", [])
    return max(1, math.prod(shape) // (page.imagelength * page.imagewidth)) if shape else 1


def _count(meta: dict[str, Any], key: str) -> int:
    value = meta.get(key, 1)
    return value if isinstance(value, int) and value > 0 else 1


def _imagej_axis(meta: dict[str, Any]) -> SliceAxis:
    if _count(meta, "frames") > 1:
        return "T"
    return "Z" if _count(meta, "slices") > 1 else "I"


def _in_ome_order(pages: list[Segments], ome: OmeStack, name: str) -> list[Segments]:
    if len(ome.directories) < len(pages) and max(ome.directories) < len(pages):
        raise TomogramError(
            f"The OME-XML in {name} tells of {len(ome.directories)} slices, but the file holds {len(pages)}. Open it "
            "in Fiji and save it as a TIFF.",
            kind="dimensions",
        )
    if max(ome.directories) >= len(pages):
        raise TomogramError(
            f"{name} announces {len(ome.directories)} slices and holds {len(pages)}. Copy or save it again.",
            kind="truncated",
        )
    return [pages[directory] for directory in ome.directories]


def _pixel_size(
    page: tifffile.TiffPage, meta: dict[str, Any], ome: OmeStack | None, axis: SliceAxis
) -> PixelSize | None:
    tags = (page.tags.valueof(code, default=None) for code in (282, 283))
    x_resolution, y_resolution = tags
    if ome is not None:
        size = from_ome(ome.pixels)
    elif page.is_imagej:
        size = from_imagej(meta, x_resolution, y_resolution)
    else:
        size = from_baseline(x_resolution, y_resolution, int(page.resolutionunit))
    if size is not None and axis == "T":
        return PixelSize(size.y, size.x)  # frames have no distance
    return size


def _multi_channel(name: str) -> TomogramError:
    return TomogramError(
        f"{name} has more than one channel. Save the channel that holds the OCT signal alone "
        "(ImageJ: Image > Color > Split Channels), or tell ImageJ that its channels are slices (Image > Properties).",
        kind="multi-channel",
    )
