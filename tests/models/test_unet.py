"""The network keeps sizes, folds without loss, and its intensities survive any microscope's gain."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from skinoct.intensity import IntensityConfig, measure_intensity, normalize, sample_indices
from skinoct.unet import UNet, UNetConfig, fold, unfold

TINY = UNetConfig(widths=(4, 6, 8), stem=(2, 4))


@pytest.mark.parametrize("size", [(1, 1), (10, 10), (17, 33), (224, 512)])
def test_any_size_comes_back(size: tuple[int, int]) -> None:
    network = UNet(TINY).eval()
    with torch.inference_mode():
        logits = network(torch.rand(2, 3, *size))
    assert logits.shape == (2, 5, *size)
    assert torch.isfinite(logits).all()


def test_folding_loses_nothing_and_keeps_neighbors_together() -> None:
    x = torch.arange(2 * 3 * 8 * 12, dtype=torch.float32).reshape(2, 3, 8, 12)
    assert torch.equal(unfold(fold(x, (2, 4)), (2, 4)), x)
    assert set(fold(x, (2, 4))[0, :8, 0, 0].tolist()) == set(x[0, 0, :2, :4].flatten().tolist())


def test_the_papers_six_filters_exist_when_asked_for() -> None:
    network = UNet(UNetConfig(widths=(4, 6), stem=(1, 1), in_slices=1, filters=6))
    assert network.filters is not None
    assert network(torch.rand(1, 1, 16, 16)).shape == (1, 5, 16, 16)


@pytest.mark.parametrize(
    ("gain", "offset", "dtype"), [(1, 0, np.uint8), (100, 5000, np.uint16), (1e-3, -7, np.float32)]
)
def test_gain_and_offset_of_the_microscope_do_not_matter(gain: float, offset: float, dtype: type) -> None:
    config = IntensityConfig()
    image = np.random.default_rng(0).integers(0, 200, (2, 40, 50)).astype(np.float64)
    there = (image * gain + offset).astype(dtype)
    scales = [measure_intensity(list(v), config) for v in (image, there)]
    plain, changed = (normalize(v, s, config) for v, s in zip((image, there), scales, strict=True))
    assert plain.min() >= 0
    assert plain.max() <= 1
    np.testing.assert_allclose(changed, plain, atol=2e-3)


def test_a_constant_sample_divides_by_nothing() -> None:
    config = IntensityConfig()
    flat = np.full((1, 5, 5), 9, np.uint8)
    assert np.all(normalize(flat, measure_intensity(flat, config), config) == 0)


def test_samples_reach_from_first_to_last_slice() -> None:
    assert sample_indices(1, IntensityConfig()) == [0]
    chosen = sample_indices(439, IntensityConfig(sample_slices=16))
    assert (chosen[0], chosen[-1], len(chosen)) == (0, 438, 16)
