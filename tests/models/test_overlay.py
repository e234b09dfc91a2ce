"""Pictures show the image where nothing lies over it and the layer's color where it does."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
import pytest

from skinoct.errors import OptionError
from skinoct.labels import CLASSES, Label
from skinoct.overlay import overlay, to_gray, triptych, write_png

IMAGE = np.random.default_rng(0).integers(0, 4000, (20, 30)).astype(np.uint16)
LABELS = np.repeat(np.arange(6, dtype=np.uint8), 5)[np.newaxis].repeat(20, axis=0)


def test_opacity_goes_from_image_to_layers() -> None:
    gray = to_gray(IMAGE)
    np.testing.assert_array_equal(overlay(IMAGE, LABELS, opacity=0), np.stack([gray] * 3, axis=2))
    full = overlay(IMAGE, LABELS, opacity=1)
    for item in CLASSES:
        assert (full[item.label == LABELS] == item.overlay_color).all()
    np.testing.assert_array_equal(full[LABELS == 0][:, 0], gray[LABELS == 0])


def test_only_what_is_wanted() -> None:
    picture = overlay(IMAGE, LABELS, opacity=1, show=[Label.DEJ])
    colored = (picture != to_gray(IMAGE)[..., np.newaxis]).any(axis=2)
    np.testing.assert_array_equal(colored, LABELS == Label.DEJ)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_gray_uses_the_whole_range(dtype: type) -> None:
    gray = to_gray((IMAGE / 20).astype(dtype))
    assert (gray.min(), gray.max()) == (0, 255)
    assert not to_gray(np.full((4, 4), 7, dtype)).any()


def test_triptych_and_png(tmp_path: Path) -> None:
    picture = triptych(IMAGE, LABELS)
    assert picture.shape == (20, 98, 3)
    write_png(tmp_path / "a.png", picture)
    np.testing.assert_array_equal(imagecodecs.png_decode((tmp_path / "a.png").read_bytes()), picture)
    with pytest.raises(OptionError, match="exists already"):
        write_png(tmp_path / "a.png", picture)


def test_bad_options() -> None:
    with pytest.raises(OptionError, match="one shape"):
        overlay(IMAGE, LABELS[:3])
    with pytest.raises(OptionError, match="from 0 to 1"):
        overlay(IMAGE, LABELS, opacity=40)
