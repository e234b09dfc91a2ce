"""Every bad tomogram gets one clear sentence, and never an answer that looks right."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from skinoct.errors import SkinoctError, TomogramError
from skinoct.tomogram import read_tomogram


def stack(dtype: type = np.uint8, shape: tuple[int, ...] = (4, 8, 9)) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 250, shape).astype(dtype)


def tiff(voxels: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    options.setdefault("photometric", "minisblack")
    if not options.keys() & {"imagej", "ome"}:
        options.setdefault("metadata", None)
    tifffile.imwrite(file, voxels, **options)
    return file.getvalue()


def npy(array: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def pages(*images: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as tif:
        for image in images:
            tif.write(image, metadata=None, **options)
    return file.getvalue()


def with_nan(value: float) -> np.ndarray:
    voxels = stack(np.float32)
    voxels[2, 3, 4] = value
    return voxels


BAD: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "nothing": (lambda: b"", "empty", "0 bytes"),
    "text": (lambda: b"hello, this is text", "not-a-tomogram", "neither a TIFF nor"),
    "png": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(50), "not-a-tomogram", "a PNG picture"),
    "zip": (lambda: b"PK\x03\x04" + bytes(50), "not-a-tomogram", "Unpack it"),
    "header only": (lambda: b"II*\0\0\0\0\0", "empty", "TIFF without images"),
    "half a header": (lambda: b"II*\0\x08", "truncated", "cut off"),
    "cut off in pixels": (lambda: tiff(stack(shape=(1, 90, 90)))[:-5], "truncated", "within slice 1"),
    "color": (lambda: tiff(stack(shape=(4, 8, 9, 3)), photometric="rgb"), "color-image", "gray"),
    "color in ImageJ": (
        lambda: tiff(stack(shape=(4, 8, 9, 3)), imagej=True, photometric="rgb"),
        "color-image",
        "gray",
    ),
    "two channels in ImageJ": (
        lambda: tiff(stack(shape=(4, 2, 8, 9)), imagej=True, metadata={"axes": "ZCYX"}),
        "multi-channel",
        "Split Channels",
    ),
    "two channels in OME": (
        lambda: tiff(stack(shape=(4, 2, 8, 9)), ome=True, metadata={"axes": "ZCYX"}),
        "multi-channel",
        "more than one channel",
    ),
    "planar channels": (
        lambda: tiff(stack(shape=(2, 8, 9)), planarconfig="separate"),
        "multi-channel",
        "more than one channel",
    ),
    "times and slices": (
        lambda: tiff(stack(shape=(3, 4, 8, 9)), imagej=True, metadata={"axes": "TZYX"}),
        "dimensions",
        "4 slices at 3 times",
    ),
    "mixed sizes": (
        lambda: pages(stack(shape=(8, 9)), stack(shape=(8, 9)), stack(shape=(7, 9)), photometric="minisblack"),
        "mixed-page-sizes",
        "Slice 3 of bad has 7 x 9 pixels and the first slice 8 x 9",
    ),
    "mixed types": (
        lambda: pages(stack(shape=(8, 9)), stack(np.uint16, (8, 9)), photometric="minisblack"),
        "mixed-pages",
        "Slice 2",
    ),
    "32-bit integers": (lambda: tiff(stack(np.uint32)), "voxel-type", "uint32"),
    "1 bit": (lambda: tiff(stack() > 99), "voxel-type", "bool"),
    "complex": (lambda: npy(stack(np.complex64)), "voxel-type", "complex64"),
    "NaN": (lambda: tiff(with_nan(np.nan)), "not-finite", "Slice 3 of bad holds NaN"),
    "Inf": (lambda: npy(with_nan(np.inf)), "not-finite", "Slice 3 of bad holds infinite"),
    "constant": (lambda: tiff(np.full((4, 8, 9), 7, np.uint8)), "constant-image", "the value 7"),
    "object npy": (
        lambda: npy(np.array([[{}, {}], [{}, {}]], object), allow_pickle=True),
        "object-array",
        "never loaded",
    ),
    "structured npy": (lambda: npy(np.zeros((4, 4), "u1,u1")), "voxel-type", "Convert"),
    "text npy": (lambda: npy(np.array([["a", "b"]])), "voxel-type", "Convert"),
    "1-D npy": (lambda: npy(stack(shape=(9,))), "dimensions", "1 axes"),
    "4-D npy": (lambda: npy(stack(shape=(2, 2, 8, 9))), "dimensions", "4 axes"),
    "empty npy": (lambda: npy(stack(shape=(0, 8, 9))), "empty", "empty"),
    "npy cut off": (lambda: npy(stack())[:-1], "truncated", "cut off"),
    "npy with more": (lambda: npy(stack()) + b"x", "damaged-npy", "1 bytes more"),
    "npy header cut off": (lambda: npy(stack())[:30], "damaged-npy", "header"),
    "npy header alone": (lambda: b"\x93NUMPY", "damaged-npy", "header"),
}


@pytest.mark.parametrize("case", BAD)
def test_one_clear_sentence(case: str) -> None:
    make, kind, words = BAD[case]
    with pytest.raises(TomogramError, match=words) as caught:
        read_tomogram(make(), name="bad").voxels[:]
    assert caught.value.kind == kind
    assert "bad" in str(caught.value)
    assert len(str(caught.value)) < 300


def test_paths(tmp_path: Path) -> None:
    with pytest.raises(TomogramError, match="There is no file"):
        read_tomogram(tmp_path / "none.tif")
    with pytest.raises(TomogramError, match="is a folder"):
        read_tomogram(tmp_path)


def test_nan_is_refused_wherever_it_lies() -> None:
    tomogram = read_tomogram(tiff(with_nan(np.nan)))
    assert tomogram.voxels[0:2].shape == (2, 8, 9)
    with pytest.raises(TomogramError, match="Slice 3 of the uploaded tomogram"):
        tomogram.voxels[1:4]


def test_slices_that_a_description_forgets_are_not_lost() -> None:
    voxels = stack(shape=(6, 24, 40))
    described = tiff(voxels, ome=True, photometric="minisblack", metadata={"axes": "ZYX"})
    fewer = described.replace(b'SizeZ="6"', b'SizeZ="3"')
    with pytest.raises(TomogramError, match=r"does not say where|tells of 3 slices, but the file holds 6"):
        read_tomogram(fewer)
    alone = tiff(voxels[:1], photometric="minisblack", metadata=None, description="ImageJ=1.54p\nslices=6\n")
    with pytest.raises(TomogramError, match="cut off"):
        read_tomogram(alone)


def test_one_file_of_an_ome_set_names_the_others() -> None:
    part = tiff(
        stack(), photometric="minisblack", metadata=None,
        description='<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        '<BinaryOnly MetadataFile="all.ome.tif" UUID="urn:uuid:1"/></OME>',
    )  # fmt: skip
    with pytest.raises(TomogramError, match=r"one file of several, described in all\.ome\.tif"):
        read_tomogram(part)


VARIANTS = {
    "plain": {},
    "big-endian": {"byteorder": ">"},
    "BigTIFF": {"bigtiff": True},
    "deflate": {"compression": "zlib"},
    "lzw strips": {"compression": "lzw", "rowsperstrip": 3},
    "tiles": {"tile": (16, 16)},
    "ImageJ": {"imagej": True},
    "ImageJ deflate": {"imagej": True, "compression": "zlib"},
    "OME": {"ome": True},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_cut_off_anywhere(variant: str) -> None:
    """A file that lost its end is refused, or has lost nothing that matters."""
    voxels = stack(shape=(3, 6, 7))
    data = tiff(voxels, **VARIANTS[variant])
    for length in range(1, len(data), 3 if len(data) > 3000 else 1):
        try:
            read = read_tomogram(data[:length]).voxels[:]
        except TomogramError:
            continue
        np.testing.assert_array_equal(read, voxels, err_msg=f"{length} of {len(data)} bytes")


@pytest.mark.parametrize("variant", VARIANTS)
def test_damaged_anywhere(variant: str) -> None:
    """Whatever a flipped byte does, the user never sees anything but a sentence of ours."""
    data = tiff(stack(shape=(3, 6, 7)), **VARIANTS[variant])
    random = np.random.default_rng(11)
    for _ in range(400):
        damaged = bytearray(data)
        for position in random.integers(0, len(data), random.integers(1, 4)):
            damaged[position] = random.choice([0, 1, 0x7F, 0xFF, random.integers(256)])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with contextlib.suppress(SkinoctError):
                read_tomogram(bytes(damaged)).voxels[:]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.int16])
def test_npy_damaged_anywhere(dtype: type) -> None:
    """A flipped byte of the header, where the danger is, ends in a sentence of ours, or changes nothing."""
    data = npy(stack(dtype, (3, 6, 7)))
    random = np.random.default_rng(12)
    for _ in range(2000):
        damaged = bytearray(data)
        for position in random.integers(0, 80, random.integers(1, 4)):
            damaged[position] = random.choice([0, 1, 0x7F, 0xFF, ord("L"), ord("("), random.integers(256)])
        with contextlib.suppress(SkinoctError):
            read_tomogram(bytes(damaged)).voxels[:]


@pytest.mark.parametrize(
    "header", [b"(" * 9000, b"{'descr': '|O', 'fortran_order': False, 'shape': (2,2)}", b"9" * 9000]
)
def test_hostile_npy_headers(header: bytes) -> None:
    data = b"\x93NUMPY\x02\x00" + len(header).to_bytes(4, "little") + header + bytes(100)
    with pytest.raises(TomogramError):
        read_tomogram(data)


def test_directories_in_a_circle() -> None:
    data = bytearray(tiff(stack()))
    with tifffile.TiffFile(io.BytesIO(data)) as tif:
        last, first = tif.pages.next_page_offset, tif.pages.first.offset
    data[last : last + 4] = first.to_bytes(4, "little")
    with pytest.raises(TomogramError, match="makes no sense"):
        read_tomogram(bytes(data))
