"""Every kind of file a tomogram comes in is read to the same voxels, pixel size and axis."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skinoct.tomogram import PixelSize, iter_blocks, read_tomogram, write_tomogram
from skinoct.tomogram_calibration import um_per_unit


def stack(dtype: type, shape: tuple[int, ...] = (5, 20, 30)) -> np.ndarray:
    values = np.random.default_rng(7).integers(0, 250, shape)
    return values.astype(dtype)


def tiff(voxels: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, voxels, **options)
    return file.getvalue()


IMAGEJ = {"imagej": True}
PLAIN = {"photometric": "minisblack", "metadata": None}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize(
    ("options", "axis"),
    [
        ({**IMAGEJ, "metadata": {"axes": "ZYX"}}, "Z"),
        ({**IMAGEJ, "metadata": {"axes": "TYX"}}, "T"),
        ({**IMAGEJ, "metadata": {"axes": "ZYX"}, "byteorder": ">"}, "Z"),
        ({**IMAGEJ, "metadata": {"axes": "ZYX"}, "compression": "zlib"}, "Z"),
        ({**PLAIN}, "I"),
        ({**PLAIN, "byteorder": ">"}, "I"),
        ({**PLAIN, "bigtiff": True}, "I"),
        ({**PLAIN, "bigtiff": True, "compression": "zstd", "byteorder": ">"}, "I"),
        ({**PLAIN, "compression": "lzw", "predictor": True, "rowsperstrip": 3}, "I"),
        ({**PLAIN, "compression": "packbits"}, "I"),
        ({**PLAIN, "rowsperstrip": 3}, "I"),
        ({**PLAIN, "tile": (16, 16)}, "I"),
        ({**PLAIN, "tile": (16, 16), "compression": "zlib"}, "I"),
        ({"ome": True, "photometric": "minisblack", "metadata": {"axes": "ZYX"}}, "Z"),
        ({"ome": True, "photometric": "minisblack", "metadata": {"axes": "TYX"}}, "T"),
    ],
)
def test_every_tiff_gives_its_voxels(dtype: type, options: dict, axis: str) -> None:
    voxels = stack(dtype)
    tomogram = read_tomogram(tiff(voxels, **options))
    assert (tomogram.shape, tomogram.voxels.dtype, tomogram.axis) == (voxels.shape, voxels.dtype, axis)
    np.testing.assert_array_equal(tomogram.voxels[:], voxels)
    np.testing.assert_array_equal(tomogram.voxels[2:4], voxels[2:4])
    assert tomogram.voxels[5:9].shape == (0, 20, 30)
    assert tomogram.voxels[:].dtype.isnative
    assert tomogram.pixel_size_um is None


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32, np.float64, ">u2", ">f4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_every_npy_gives_its_voxels(dtype: str, order: str) -> None:
    voxels = stack(np.uint8).astype(dtype)
    file = io.BytesIO()
    np.save(file, np.asarray(voxels, order=order))
    tomogram = read_tomogram(file.getvalue())
    assert tomogram.shape == voxels.shape
    expected = voxels.astype(np.int32) + 32768 if dtype is np.int16 else voxels
    np.testing.assert_array_equal(tomogram.voxels[:], expected)
    np.testing.assert_array_equal(tomogram.voxels[3:4], expected[3:4])


def test_sources_agree(tmp_path: Path) -> None:
    voxels = stack(np.uint16)
    path = tmp_path / "a stack without extension"
    path.write_bytes(tiff(voxels, **PLAIN, compression="zlib"))
    with path.open("rb") as file:
        data = path.read_bytes()
        pipe = io.BytesIO(data)
        pipe.seekable = lambda: False  # type: ignore[method-assign]
        for source in (path, str(path), data, bytearray(data), memoryview(data), file, pipe):
            np.testing.assert_array_equal(read_tomogram(source).voxels[1:3], voxels[1:3])
    assert read_tomogram(path).name == path.name
    assert read_tomogram(path, name="mine").name == "mine"
    assert read_tomogram(path.read_bytes()).name == "the uploaded tomogram"


def test_signed_16_bit_moves_up_as_in_imagej() -> None:
    voxels = np.array([[[-32768, -1, 0, 32767]] * 4], np.int16)
    read = read_tomogram(tiff(voxels, **PLAIN)).voxels[:]
    assert read.dtype == np.uint16
    assert read[0, 0].tolist() == [0, 32767, 32768, 65535]


def test_a_single_bscan_and_a_tiny_one_are_tomograms() -> None:
    assert read_tomogram(tiff(stack(np.uint8, (224, 512)), **PLAIN)).shape == (1, 224, 512)
    assert read_tomogram(tiff(stack(np.uint8, (10, 10)), **IMAGEJ)).shape == (1, 10, 10)
    file = io.BytesIO()
    np.save(file, stack(np.uint8, (10, 10)))
    assert read_tomogram(file.getvalue()).shape == (1, 10, 10)


def test_a_palette_counts_as_gray() -> None:
    voxels = stack(np.uint8)
    colors = np.random.default_rng(0).integers(0, 65535, (3, 256)).astype(np.uint16)
    data = tiff(voxels, photometric="palette", colormap=colors, metadata=None)
    np.testing.assert_array_equal(read_tomogram(data).voxels[:], voxels)


def test_min_is_white_is_inverted() -> None:
    voxels = stack(np.uint8)
    read = read_tomogram(tiff(voxels, photometric="miniswhite", metadata=None))
    np.testing.assert_array_equal(read.voxels[:], 255 - voxels)


def test_imagej_stack_with_one_directory(tmp_path: Path) -> None:
    """ImageJ writes stacks beyond 4 GB with a directory for the first slice only."""
    voxels = stack(np.uint16)
    path = tmp_path / "huge.tif"
    tifffile.imwrite(path, voxels, imagej=True, metadata={"axes": "ZYX"}, truncate=True)
    with tifffile.TiffFile(path) as tif:
        assert len(tif.pages) == 1
    np.testing.assert_array_equal(read_tomogram(path).voxels[:], voxels)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Exception, match=r"huge\.tif is cut off: it ends within slice 5"):
        read_tomogram(path)


def test_tifffiles_truncated_stacks_are_whole() -> None:
    voxels = stack(np.uint16)
    tomogram = read_tomogram(tiff(voxels, photometric="minisblack", truncate=True))
    np.testing.assert_array_equal(tomogram.voxels[:], voxels)


def test_more_channels_than_imagej_shows_are_slices() -> None:
    voxels = stack(np.uint8, (9, 20, 30))
    tomogram = read_tomogram(tiff(voxels, imagej=True, metadata={"axes": "CYX"}))
    assert tomogram.axis == "I"
    np.testing.assert_array_equal(tomogram.voxels[:], voxels)


def test_strips_are_read_in_the_order_that_the_directory_says() -> None:
    voxels = stack(np.uint8, (2, 20, 30))
    whole = tiff(voxels, **PLAIN, rowsperstrip=5)
    with tifffile.TiffFile(io.BytesIO(whole)) as opened:
        page = opened.pages[1]
        offsets, place = page.dataoffsets, page.tags["StripOffsets"].valueoffset
    turned = [offsets[n] for n in (3, 0, 2, 1)]
    changed = bytearray(whole)
    changed[place : place + 16] = np.array(turned, "<u4").tobytes()
    for strip, offset in enumerate(turned):
        changed[offset : offset + 150] = voxels[1, 5 * strip : 5 * strip + 5].tobytes()
    np.testing.assert_array_equal(read_tomogram(bytes(changed)).voxels[:], voxels)


def test_beyond_4_gb_without_reading_it(tmp_path: Path) -> None:
    """A sparse file of 5 GB: the last slice is found where it must be."""
    path = tmp_path / "5gb.tif"
    shape = (1250, 2000, 2000)
    description = f"ImageJ=1.54p\nimages={shape[0]}\nslices={shape[0]}\n"
    tifffile.imwrite(path, stack(np.uint8, shape[1:]), photometric="minisblack", description=description, metadata=None)
    with tifffile.TiffFile(path) as tif:
        start = tif.pages.first.dataoffsets[0]
    with path.open("r+b") as file:
        file.truncate(start + shape[0] * shape[1] * shape[2])
        file.seek(start + shape[0] * shape[1] * shape[2] - 1)
        file.write(b"\x09")
    tomogram = read_tomogram(path)
    assert tomogram.shape == shape
    assert tomogram.voxels[1249:][0, -1, -1] == 9


def test_thumbnails_are_not_slices() -> None:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as tif:
        for image in stack(np.uint8):
            tif.write(image, photometric="minisblack", metadata=None)
        tif.write(stack(np.uint8, (5, 6)), photometric="minisblack", metadata=None, subfiletype=1)
    assert read_tomogram(file.getvalue()).shape == (5, 20, 30)


@pytest.mark.parametrize(
    ("unit", "factor"),
    [
        ("um", 1),
        ("µm", 1),
        ("\u03bcm", 1),
        ("\\u00B5m", 1),
        ("micron", 1),
        ("Microns", 1),
        ("micrometer", 1),
        ("nm", 1e-3),
        ("mm", 1e3),
        ("cm", 1e4),
        ("inch", 25400),
    ],
)
def test_imagej_units(unit: str, factor: float) -> None:
    assert um_per_unit(unit) == factor
    if not unit.isascii():
        return
    data = tiff(
        stack(np.uint8),
        imagej=True,
        resolution=(factor / 0.9, factor / 0.8),
        metadata={"axes": "ZYX", "unit": unit, "spacing": 2 / factor},
    )
    size = read_tomogram(data).pixel_size_um
    assert size is not None
    assert (size.x, size.y, size.z) == pytest.approx((0.9, 0.8, 2.0), rel=1e-5)


@pytest.mark.parametrize("unit", ["pixel", "pixels", "", " ", "parsec", "nan"])
def test_other_units_are_no_calibration(unit: str) -> None:
    metadata = {"axes": "ZYX", "unit": unit} if unit else {"axes": "ZYX"}
    assert read_tomogram(tiff(stack(np.uint8), imagej=True, resolution=(2, 2), metadata=metadata)).pixel_size_um is None


def test_missing_spacing_is_unknown() -> None:
    data = tiff(stack(np.uint8), imagej=True, resolution=(1, 1), metadata={"axes": "ZYX", "unit": "um"})
    assert read_tomogram(data).pixel_size_um == PixelSize(1.0, 1.0, None)


@pytest.mark.parametrize("dpi", [72, 96, 150, 300, 600, 1200, 2400, 4800])
def test_print_resolution_is_no_calibration(dpi: int) -> None:
    for options in (PLAIN, {"imagej": True, "metadata": {"axes": "ZYX", "unit": "inch"}}):
        data = tiff(stack(np.uint8), **options, resolution=(dpi, dpi), resolutionunit=2)
        assert read_tomogram(data).pixel_size_um is None


def test_a_microscope_in_baseline_tags_is_a_calibration() -> None:
    data = tiff(stack(np.uint8), **PLAIN, resolution=(1e4 / 0.9, 1e4 / 0.9), resolutionunit=3)
    size = read_tomogram(data).pixel_size_um
    assert size is not None
    assert size.x == pytest.approx(0.9, rel=1e-4)
    assert size.z is None


def test_ome_calibration_and_plane_order() -> None:
    voxels = stack(np.uint8)
    metadata = {
        "axes": "ZYX",
        "PhysicalSizeX": 900,
        "PhysicalSizeXUnit": "nm",
        "PhysicalSizeY": 0.8,
        "PhysicalSizeZ": 2,
    }
    data = tiff(voxels, ome=True, photometric="minisblack", metadata=metadata)
    assert read_tomogram(data).pixel_size_um == PixelSize(0.8, pytest.approx(0.9), 2.0)
    planes = "".join(f'<TiffData IFD="{4 - z}" FirstZ="{z}" PlaneCount="1"/>' for z in range(5))
    xml = (
        '<?xml version="1.0"?>'
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="30" SizeY="20" SizeZ="5" SizeC="1" '
        f'SizeT="1">{planes}</Pixels></Image></OME>'
    )
    reversed_data = tiff(voxels, photometric="minisblack", description=xml, metadata=None)
    np.testing.assert_array_equal(read_tomogram(reversed_data).voxels[:], voxels[::-1])


def test_many_slices_take_the_memory_of_a_few(tmp_path: Path) -> None:
    import tracemalloc

    path = tmp_path / "long.tif"
    write_tomogram(path, stack(np.uint8, (2000, 64, 64)))
    tracemalloc.start()
    total = sum(int(block.sum()) for block in iter_blocks(read_tomogram(path).voxels))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total > 0
    assert peak < 3e6  # the stack is 8 MB


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    shape=st.tuples(*[st.integers(1, 6)] * 3),
    dtype=st.sampled_from([np.uint8, np.uint16, np.float32]),
    axis=st.sampled_from(["Z", "T"]),
    size=st.floats(0.05, 50),
)
def test_written_tomograms_come_back(shape: tuple[int, int, int], dtype: type, axis: str, size: float) -> None:
    voxels = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    if voxels.size == 1:
        return  # constant
    file = io.BytesIO()
    write_tomogram(file, voxels, pixel_size_um=PixelSize(size, 2 * size, 3.5), axis=axis)
    tomogram = read_tomogram(file.getvalue())
    np.testing.assert_array_equal(tomogram.voxels[:], voxels)
    assert tomogram.pixel_size_um is not None
    assert tomogram.pixel_size_um.y == pytest.approx(size, rel=1e-4)
    assert tomogram.pixel_size_um.x == pytest.approx(2 * size, rel=1e-4)
    if shape[0] > 1:
        assert tomogram.axis == axis
        assert tomogram.pixel_size_um.z == (3.5 if axis == "Z" else None)
