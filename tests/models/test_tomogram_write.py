"""What skinoct writes is what ImageJ opens, and nothing of the user's is overwritten."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest

from skinoct.errors import OptionError, TomogramError
from skinoct.labels import color_table
from skinoct.tomogram import PixelSize, read_tomogram, write_labels, write_tomogram

SIZE = PixelSize(0.9, 0.8, 2.0)


def labels(shape: tuple[int, int, int] = (7, 30, 40)) -> np.ndarray:
    return np.sort(np.random.default_rng(5).integers(0, 6, shape), axis=1).astype(np.uint8)


@pytest.mark.imagej
@pytest.mark.parametrize("axis", ["Z", "T"])
def test_imagej_opens_label_stacks(tmp_path: Path, ask_imagej: Callable[..., None], axis: str) -> None:
    stack = labels()
    write_labels(tmp_path / "labels.tif", [stack[:3], stack[3:]], stack.shape, pixel_size_um=SIZE, axis=axis)
    ask_imagej("open", tmp_path / "labels.tif", tmp_path / "seen.npz")
    seen = np.load(tmp_path / "seen.npz")
    np.testing.assert_array_equal(seen["pixels"], stack)
    assert seen["dimensions"].tolist() == [40, 30, 1, *((7, 1) if axis == "Z" else (1, 7))]
    assert seen["unit"] == "micron"
    assert seen["size"][1:] == pytest.approx([0.9, 0.8], rel=1e-5)
    if axis == "Z":
        assert seen["size"][0] == 2.0
    np.testing.assert_array_equal(seen["colors"], color_table())
    assert seen["display"].tolist() == [0, 255]


@pytest.mark.imagej
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_imagej_opens_tomograms(tmp_path: Path, ask_imagej: Callable[..., None], dtype: type) -> None:
    stack = labels().astype(dtype) * 40
    write_tomogram(tmp_path / "tomogram.tif", stack, pixel_size_um=SIZE)
    ask_imagej("open", tmp_path / "tomogram.tif", tmp_path / "seen.npz")
    seen = np.load(tmp_path / "seen.npz")
    np.testing.assert_array_equal(seen["pixels"], stack)
    assert seen["dimensions"].tolist() == [40, 30, 1, 7, 1]
    assert seen["size"] == pytest.approx([2.0, 0.9, 0.8], rel=1e-5)


def test_labels_come_back_and_one_slice_is_enough() -> None:
    for stack in (labels(), labels((1, 10, 10))):
        file = io.BytesIO()
        write_labels(file, iter([stack]), stack.shape, pixel_size_um=SIZE)
        tomogram = read_tomogram(file.getvalue())
        np.testing.assert_array_equal(tomogram.voxels[:], stack)
        assert tomogram.pixel_size_um is not None
        assert tomogram.pixel_size_um.z == 2.0


def test_blocks_must_add_up() -> None:
    stack = labels()
    for blocks in ([stack[:6]], [stack, stack[:1]], [stack[:, :20]], [stack.astype(np.uint16)]):
        with pytest.raises(TomogramError, match="was announced"):
            write_labels(io.BytesIO(), blocks, stack.shape)


def test_never_overwrites_unasked(tmp_path: Path) -> None:
    path = tmp_path / "precious.tif"
    path.write_text("precious")
    for write in (
        lambda **options: write_tomogram(path, labels(), **options),
        lambda **options: write_labels(path, [labels()], labels().shape, **options),
    ):
        path.write_text("precious")
        with pytest.raises(OptionError, match=r"precious\.tif exists already"):
            write()
        assert path.read_text() == "precious"
        write(overwrite=True)
        assert read_tomogram(path).shape == labels().shape
    assert [p.name for p in tmp_path.iterdir()] == ["precious.tif"]


def test_a_link_stays_and_what_it_points_to_is_kept_or_replaced(tmp_path: Path) -> None:
    there, link = tmp_path / "there.tif", tmp_path / "link.tif"
    link.symlink_to(there)
    with pytest.raises(OptionError, match="exists already"):
        write_tomogram(link, labels())
    write_tomogram(link, labels(), overwrite=True)
    assert link.is_symlink()
    assert read_tomogram(there).shape == labels().shape


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("skinoct.output_file.tempfile.mkstemp", refuse)
    with pytest.raises(OptionError, match=r"Nothing can be written to the folder .* \(Permission denied\)"):
        write_tomogram(tmp_path / "a.tif", labels())


def test_the_longest_name_of_a_file(tmp_path: Path) -> None:
    write_tomogram(tmp_path / ("n" * 251 + ".tif"), labels())


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TomogramError):
        write_labels(tmp_path / "half.tif", [labels()[:2]], labels().shape)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OptionError, match="There is no folder"):
        write_tomogram(tmp_path / "none" / "a.tif", labels())


def test_labels_can_be_written_without_zlib_ng(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(imagecodecs.ZLIBNG, "available", False)
    write_labels(tmp_path / "labels.tif", [labels()], labels().shape)
    assert np.array_equal(read_tomogram(tmp_path / "labels.tif").voxels[:], labels())
