"""Tiny annotated tomograms and settings that train in a second."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import tifffile

from skinoct.labels import Label
from skinoct.rois import trace, write_roi_set
from skinoct_training.cli import main

TINY = {
    "network": {"in_slices": 3, "stem": [2, 2], "widths": [8, 12]},
    "crop": [48, 48],
    "epoch_images": 16,
    "batch": 4,
    "val_slices": 4,
    "bfloat16": False,  # or else it would depend on the processor
}


def skin(seed: int, shape: tuple[int, int, int] = (6, 48, 64)) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Return an image and its labels, (Z, Y, X) each: flat layers with a wavy DEJ 5.6 px thick."""
    rng = np.random.default_rng(seed)
    z, x = np.arange(shape[0])[:, None], np.arange(shape[2])
    dej = 28 + 4 * np.sin(x / 9 + seed)[None] + 0.5 * z
    y = np.arange(shape[1])[None, :, None] + 0.5
    labels = 1 + (y > 3) + (y > 12 + seed % 3)
    labels = labels + (y > dej[:, None] - 2.8) + (y > dej[:, None] + 2.8)
    mean = np.array([0, 240, 20, 170, 130, 90])[labels]
    image = np.clip(mean * (1 + 0.2 * rng.normal(size=shape)), 0, 255)
    return image.astype(np.uint8), labels.astype(np.uint8)


def write_stack(path: Path, stack: npt.NDArray[np.generic], um: float | None = None) -> None:
    """Write an ImageJ stack."""
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"axes": "ZYX"} | ({"unit": "um", "spacing": um} if um else {})
    resolution = (1 / um, 1 / um) if um else None
    tifffile.imwrite(path, stack, imagej=True, metadata=metadata, resolution=resolution)


MakeData = Callable[..., Path]


@pytest.fixture(autouse=True)
def little_rehearsal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw few phantoms for fine-tunes: they take longer than the tests' trainings."""
    monkeypatch.setattr("skinoct_training.rehearsal.TOMOGRAMS", 2)
    monkeypatch.setattr("skinoct_training.rehearsal.SLICES", 2)


@pytest.fixture
def make_data(tmp_path: Path) -> MakeData:
    """Return a function that writes a training folder of ``count`` tomograms."""

    def make(
        name: str = "data",
        count: int = 3,
        *,
        rois: Sequence[Label] | None = None,
        every: int = 1,
        um: float | None = None,
        first_seed: int = 0,
    ) -> Path:
        for index in range(count):
            image, labels = skin(first_seed + index)
            folder = tmp_path / name / f"t{index}"
            write_stack(folder / "tomogram.tif", image, um)
            labels[np.arange(len(labels)) % every != 0] = 0
            if rois is None:
                write_stack(folder / "labels.tif", labels, um)
            else:
                write_roi_set(folder / "RoiSet.zip", trace(labels, labels_to_trace=rois))
        return tmp_path / name

    return make


@pytest.fixture
def tiny_config(tmp_path: Path) -> Path:
    """Write settings of a tiny network."""
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(TINY))
    return path


@pytest.fixture
def tiny_settings() -> dict[str, object]:
    """Return settings of a tiny network."""
    return json.loads(json.dumps(TINY))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a tiny network on three tomograms once; returns the folder with `data`, `net` and `tiny.json`."""
    folder = tmp_path_factory.mktemp("trained")
    for index in range(3):
        image, labels = skin(index)
        write_stack(folder / "data" / f"t{index}" / "tomogram.tif", image)
        write_stack(folder / "data" / f"t{index}" / "labels.tif", labels)
    (folder / "tiny.json").write_text(json.dumps(TINY))
    words = ["fit", str(folder / "data"), "--out", str(folder / "net"), "--run", str(folder / "run")]
    assert main([*words, "--epochs", "25", "--config", str(folder / "tiny.json"), "--threads", "1"]) == 0
    return folder
