"""Stacks saved by a real ImageJ are read with their voxels, axis and pixel size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from skinoct.errors import TomogramError
from skinoct.tomogram import read_tomogram

VOXELS = np.arange(42).reshape(3, 2, 7)


@pytest.mark.imagej
def test_what_imagej_saves(tmp_path: Path, ask_imagej: Callable[..., None]) -> None:
    ask_imagej("save", tmp_path)
    files = {path.stem: path for path in tmp_path.glob("*.tif")}
    refused = {"channels": "multi-channel", "color": "color-image"}
    for name, kind in refused.items():
        with pytest.raises(TomogramError) as caught:
            read_tomogram(files.pop(name))
        assert caught.value.kind == kind
    tomograms = {name: read_tomogram(path) for name, path in files.items()}
    for name, tomogram in tomograms.items():
        np.testing.assert_array_equal(tomogram.voxels[:], VOXELS, err_msg=name)
        assert tomogram.axis == ("T" if name == "times" else "Z"), name
    for bits, dtype in ((8, np.uint8), (16, np.uint16), (32, np.float32)):
        assert tomograms[f"plain {bits}"].voxels.dtype == dtype
    for name in ("um", "micro sign", "mm"):
        size = tomograms.pop(name).pixel_size_um
        assert size is not None, name
        assert (size.x, size.y, size.z) == pytest.approx((0.9, 0.8, 2.0), rel=1e-5), name
    for name, tomogram in tomograms.items():
        assert tomogram.pixel_size_um is None, name
