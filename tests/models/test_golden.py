"""The golden slice tells a network that changed from one that is only computed elsewhere."""

from __future__ import annotations

import hashlib
from importlib.resources import files

import numpy as np
import pytest

from skinoct.errors import CheckpointError
from skinoct.golden import MAX_DEJ_UM, SHAPE, check_answer, dej_difference_um, golden_slice, layer_tops


def sharp(*tops: int) -> np.ndarray:
    """Return probabilities (1, 5, H, W) of layers that begin at four rows."""
    rows = np.arange(SHAPE[0])
    layer = sum((rows >= top).astype(int) for top in tops)
    one_hot = (layer[None, :] == np.arange(5)[:, None]).astype(np.float32)
    return np.repeat(one_hot[None, :, :, None], SHAPE[1], axis=3)


def test_the_slice_is_the_same_for_ever() -> None:
    image = golden_slice(5)
    assert image.shape == (1, 5, *SHAPE)
    assert image.dtype == np.float32
    assert 0 <= image.min() < image.max() <= 1
    stored = files("skinoct").joinpath("golden.npy").read_bytes()
    assert hashlib.sha256(stored).hexdigest() == "598ca45782da90cbb549f80bebbd9084d2c84f438186a9a0448435bf94e31507"


@pytest.mark.parametrize("channels", [1, 3, 5, 7])
def test_the_slice_lies_in_the_middle_of_its_neighbors(channels: int) -> None:
    image, five = golden_slice(channels), golden_slice(5)
    assert image.shape == (1, channels, *SHAPE)
    np.testing.assert_array_equal(image[0, channels // 2], five[0, 2])
    np.testing.assert_array_equal(image[0, 0], five[0, max(0, 2 - channels // 2)])
    np.testing.assert_array_equal(image[0, -1], five[0, min(4, 2 + channels // 2)])


def test_tops_of_sharp_layers_are_their_rows() -> None:
    np.testing.assert_allclose(layer_tops(sharp(10, 40, 100, 106)), np.tile([[10], [40], [100], [106]], SHAPE[1]))


def test_the_worse_edge_of_the_dej_counts() -> None:
    one, other = layer_tops(sharp(10, 40, 100, 106)), layer_tops(sharp(10, 45, 100, 108))
    assert dej_difference_um(one, other, 0.9) == pytest.approx(1.8)


def test_only_small_differences_pass() -> None:
    expected = layer_tops(sharp(10, 40, 100, 106))
    check_answer("m", sharp(10, 40, 100, 106), expected, 0.9)
    check_answer("m", sharp(10, 40, 100, 106), expected + 0.9 * MAX_DEJ_UM, 0.9)
    with pytest.raises(CheckpointError, match=r"m puts the DEJ .* 0\.9 um away"):
        check_answer("m", sharp(10, 40, 101, 107), expected, 0.9)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.5])
def test_what_is_no_probability_is_refused(bad: float) -> None:
    probabilities = sharp(10, 40, 100, 106)
    probabilities[0, 0, 0, 0] = bad
    with pytest.raises(CheckpointError, match="no probabilities"):
        check_answer("m", probabilities, layer_tops(sharp(10, 40, 100, 106)), 0.9)
