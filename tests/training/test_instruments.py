"""The second generator: repeatable, ordered, of four scales, apart from the phantoms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from skinoct.labels import Label
from skinoct.rois import rasterize, read_roi_set
from skinoct.tomogram import read_tomogram
from skinoct_training.cli import main
from skinoct_training.instruments.fields import between, blobs
from skinoct_training.instruments.make import KINDS, Recorded, make_recorded


@pytest.fixture(scope="module")
def recorded() -> Sequence[Recorded]:
    return [make_recorded((1, number), 2) for number in range(16)]


def test_one_seed_gives_the_same_voxels_and_another_does_not(recorded: Sequence[Recorded]) -> None:
    again = make_recorded((1, 3), 2)
    assert again.facts == recorded[3].facts
    np.testing.assert_array_equal(again.voxels, recorded[3].voxels)
    np.testing.assert_array_equal(again.labels, recorded[3].labels)
    other = make_recorded((2, 3), 2)
    assert other.voxels.shape != again.voxels.shape or (other.voxels != again.voxels).any()


def test_every_instrument_occurs_and_some_files_do_not_tell_their_pixel_size(recorded: Sequence[Recorded]) -> None:
    assert {r.kind for r in recorded} == set(KINDS)
    assert 0 < sum(r.told_um is not None for r in recorded) < len(recorded)
    for tomogram in recorded:
        assert tomogram.pixel_size_um.y == (tomogram.pixel_um if tomogram.told_um is None else 0.9)


def test_layers_are_in_order_and_the_band_is_5_um_thick(recorded: Sequence[Recorded]) -> None:
    for tomogram in recorded:
        labels = tomogram.labels
        assert tomogram.voxels.shape == labels.shape
        assert labels.shape[0] == 2
        assert (np.diff(labels.astype(int), axis=1) >= 0).all()
        assert set(np.unique(labels)) >= {Label.GLYCEROL, Label.EPIDERMIS, Label.DEJ, Label.DERMIS}
        thickness_um = (labels == Label.DEJ).sum(axis=1) * tomogram.pixel_size_um.y
        assert np.abs(thickness_um - 5).max() <= tomogram.pixel_size_um.y
        assert abs(thickness_um.mean() - 5) < 0.3


def test_instruments_differ_in_pixel_size(recorded: Sequence[Recorded]) -> None:
    usual = {kind: np.median([r.pixel_um for r in recorded if r.kind == kind]) for kind in KINDS}
    assert usual["ffoct"] < usual["lcoct"] < usual["coarse"] < usual["commercial"]


def test_smooth_noise_is_as_smooth_as_asked() -> None:
    rng = np.random.default_rng(0)
    for sigma in (1.0, 6.0, 25.0):
        noise = blobs(rng, (2, 300, 400), (0, sigma, sigma))
        assert noise.shape == (2, 300, 400)
        assert noise.std() == pytest.approx(1, abs=0.01)
        # A Gaussian of sigma leaves a variance of 1 / (2 sigma^2) to the differences of white noise's neighbors.
        steps = np.diff(noise, axis=2).std()
        assert steps == pytest.approx(1 / (np.sqrt(2) * sigma), rel=0.3)


def test_between_samples_is_a_straight_line() -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4) ** 2
    places = np.array([0.0, 0.25, 1.5, 1.75])
    expected = ndimage.map_coordinates(values, np.meshgrid(places, np.arange(4), indexing="ij"), order=1)
    np.testing.assert_allclose(between(values, 0, places), expected, rtol=1e-6)


def test_the_command_writes_it_with_a_doctors_rois(tmp_path: Path) -> None:
    out = tmp_path / "skin"
    words = ["--tomograms", "2", "--slices", "3", "--seed", "4", "--family", "instruments"]
    assert main(["phantom", str(out), *words]) == 0
    for case in sorted(out.iterdir()):
        labels = np.asarray(read_tomogram(case / "labels.tif").voxels[0:3])
        drawn = rasterize(read_roi_set(case / "RoiSet.zip"), labels.shape)
        assert (drawn == labels).mean() > 0.98
        assert '"instrument": ' in (case / "phantom.json").read_text()
