"""Engines on the shipped weights: what is measured with one is what another would have measured."""

from __future__ import annotations

import numpy as np
import pytest

from skinoct.checkpoint import Checkpoint, find_checkpoint, load_checkpoint
from skinoct.engines import make_engine
from skinoct.labels import CLASSES
from skinoct.predictor import Predictor
from skinoct.segmentation import Segmentation
from skinoct.tomogram import PixelSize, Tomogram
from skinoct_training.phantom.make import make_phantom


@pytest.fixture(scope="module")
def shipped() -> Checkpoint:
    return load_checkpoint(find_checkpoint(None))


def both(shipped: Checkpoint, tomogram: Tomogram) -> tuple[Segmentation, Segmentation]:
    """Segment with torch and with OpenVINO."""
    first, second = (Predictor(shipped, engine=make_engine(shipped, name)).segment(tomogram) for name in ENGINES)
    return first, second


ENGINES = ("torch", "openvino")


def test_the_dej_moves_less_than_a_fiftieth_of_a_micrometer(shipped: Checkpoint) -> None:
    phantom = make_phantom((91, 0), 12, "ffoct")
    reference, other = both(shipped, Tomogram(phantom.voxels, "phantom", phantom.pixel_size_um))
    assert reference.boundaries is not None
    assert other.boundaries is not None
    moved = np.abs(reference.boundaries[2] - other.boundaries[2]) * phantom.pixel_size_um.y
    assert moved.mean() <= 0.02
    first, second = reference.labels(), other.labels()
    for layer in CLASSES:
        here, there = first == layer.label, second == layer.label
        if here.any() or there.any():
            assert 2 * (here & there).sum() / (here.sum() + there.sum()) >= 0.999


@pytest.mark.parametrize(
    "shape",
    [
        (1, 1, 1),
        (1, 2, 2),
        (1, 23, 4096),
        (3, 225, 511),
        (1, 1500, 33),
        pytest.param((1, 4096, 4096), marks=pytest.mark.slow),
    ],
)
def test_any_size_gives_the_same_layers(shipped: Checkpoint, shape: tuple[int, int, int]) -> None:
    """Smooth bright layers of 16 bits, because on noise alone ties are broken by rounding."""
    rows = np.linspace(0, 1, shape[1], dtype=np.float32)[None, :, None]
    light = np.where(rows < 0.25, 0.02, np.exp(-3 * rows)) * 40_000
    voxels = (light + 500 * np.random.default_rng(0).random(shape, np.float32)).astype(np.uint16)
    reference, other = both(shipped, Tomogram(voxels, "layers", PixelSize(0.9, 0.9)))
    assert reference.shape == other.shape == shape
    same = reference.labels() == other.labels()
    assert same.mean() >= 0.999
