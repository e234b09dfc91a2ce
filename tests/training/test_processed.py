"""Processed tomograms: repeatable, the truth untouched, and each step of the software does what its name says."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from skinoct_training.families import PROCESSED, make_synthetic
from skinoct_training.instruments.make import make_recorded
from skinoct_training.processed import Processed, Software, apply, draw_software, even, guided, process, resample

NOTHING = Software(
    fewer_columns=0,
    average_columns=0,
    median_px=(1, 1),
    guided_px=0,
    guided_contrast=0.1,
    even_px=0,
    even_power=0.5,
    sharpen_px=0,
    sharpen=1,
    black=0,
    white=0,
    gamma=1,
    jpeg_quality=0,
)
NOISE = np.random.default_rng(0).random((60, 80), dtype=np.float32)


@pytest.fixture(scope="module")
def tomograms() -> list[Processed]:
    made = [make_synthetic((7, seed), 2, "processed") for seed in range(12)]
    assert all(isinstance(tomogram, Processed) for tomogram in made)
    return [tomogram for tomogram in made if isinstance(tomogram, Processed)]


def test_the_same_seed_gives_the_same_voxels(tomograms: list[Processed]) -> None:
    again = make_synthetic((7, 1), 2, "processed")
    assert np.array_equal(tomograms[1].voxels, again.voxels)
    assert not np.array_equal(tomograms[1].voxels, tomograms[2].voxels)


def test_software_is_drawn_apart_from_the_tomogram() -> None:
    """Else a kind of skin would always come with the same steps."""
    for seed in range(6):
        rng = np.random.default_rng((7, seed))
        rng.integers(len(PROCESSED))
        made = make_synthetic((7, seed), 1, "processed")
        assert isinstance(made, Processed)
        assert made.software != draw_software(rng)


def test_every_family_but_that_of_the_paper_is_processed(tomograms: list[Processed]) -> None:
    assert len({type(t.recorded).__name__ + str(t.recorded.facts.get("family", "")) for t in tomograms}) == len(
        PROCESSED
    )


def test_the_truth_is_that_of_the_recorded_tomogram() -> None:
    recorded = make_recorded((3, 1), 2)
    shown = process(np.random.default_rng(0), recorded)
    assert np.array_equal(shown.labels, recorded.labels)
    assert shown.pixel_size_um == recorded.pixel_size_um
    assert shown.voxels.shape == recorded.voxels.shape


def test_every_tomogram_is_of_8_bits_and_shows_something(tomograms: list[Processed]) -> None:
    for tomogram in tomograms:
        assert tomogram.voxels.dtype == np.uint8
        assert len(np.unique(tomogram.voxels)) > 30


def test_every_tomogram_tells_what_was_done_to_it(tomograms: list[Processed]) -> None:
    told = [json.loads(json.dumps(t.facts))["processed"] for t in tomograms]
    assert len({str(facts) for facts in told}) == len(told)
    for step in ("fewer_columns", "average_columns", "guided_px", "even_px", "sharpen_px", "jpeg_quality"):
        used = [facts[step] > 0 for facts in told]
        assert 0 < sum(used) < len(used)


def test_without_any_step_gray_values_are_only_stretched() -> None:
    shown = apply(NOISE, NOTHING).astype(float)
    assert (shown.min(), shown.max()) == (0, 255)
    stretched = 255 * (NOISE - NOISE.min()) / (NOISE.max() - NOISE.min())
    assert np.abs(shown - stretched).max() <= 0.51


@pytest.mark.parametrize(
    "software",
    [
        replace(NOTHING, average_columns=3),
        replace(NOTHING, median_px=(3, 3)),
        replace(NOTHING, guided_px=3, guided_contrast=0.6),
        replace(NOTHING, fewer_columns=2),
    ],
)
def test_filters_calm_noise(software: Software) -> None:
    before, after = (np.abs(np.diff(apply(NOISE, s).astype(float), axis=1)).mean() for s in (NOTHING, software))
    assert after < 0.8 * before


def test_the_guided_filter_keeps_an_edge() -> None:
    image = np.where(np.arange(80) < 40, np.float32(0.2), np.float32(0.8)) + 0.02 * (NOISE - 0.5)
    smooth = guided(np.asarray(image, np.float32), 3, 0.1)
    assert np.diff(smooth[:, 36:44].mean(0)).max() > 0.5
    assert smooth[:, 10:30].std() < 0.5 * image[:, 10:30].std()


def test_evening_out_brings_dark_and_bright_sides_together() -> None:
    image = np.asarray(np.linspace(0.1, 1, 400)[None] * np.ones((60, 1)), np.float32)
    evened = even(image, 20, 0.8)
    assert evened[:, -20:].mean() / evened[:, :20].mean() < 0.5 * image[:, -20:].mean() / image[:, :20].mean()


def test_fewer_columns_keep_the_width_and_both_ends() -> None:
    wide = resample(NOISE, 2.5)
    assert wide.shape == NOISE.shape
    np.testing.assert_allclose(wide[:, [0, -1]], NOISE[:, [0, -1]], atol=1e-6)


def test_a_lossy_file_differs_but_little() -> None:
    smooth = np.asarray(np.hypot(*np.mgrid[0:64, 0:96]) / 120, np.float32)
    lossy, exact = (apply(smooth, replace(NOTHING, jpeg_quality=q)).astype(float) for q in (50, 0))
    assert 0 < np.abs(lossy - exact).mean() < 6
