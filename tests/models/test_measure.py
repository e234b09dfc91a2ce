"""Measures agree with analytic surfaces to 1 %, and are None where the data do not decide."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable

import numpy as np
import pytest
from scipy import integrate

from skinoct.errors import OptionError
from skinoct.measure import Measurements, boundaries_from_labels, measure
from skinoct.measure_surface import count_peaks
from skinoct.segmentation import draw_layers
from skinoct.tomogram import PixelSize

PX = 0.9
SHAPE = (440, 512)
HEIGHT = 224
SIZE = PixelSize(PX, PX, PX)
Z, X = np.indices(SHAPE) * PX  # micrometers
WIDTH_UM, DEPTH_UM = SHAPE[1] * PX, SHAPE[0] * PX
BAND_PX = 5.6


def layers(depth_um: np.ndarray, skin_um: np.ndarray | float = 30.0) -> np.ndarray:
    """Return boundaries whose DEJ has its middle at ``depth_um`` (Z, X)."""
    middle = np.broadcast_to(depth_um, SHAPE) / PX
    skin = np.broadcast_to(skin_um, SHAPE) / PX
    tops = [np.zeros(SHAPE), skin, middle - BAND_PX / 2, middle + BAND_PX / 2]
    return np.stack(tops).astype(np.float32)


def measured(depth_um: np.ndarray, **options: object) -> Measurements:
    return measure(layers(depth_um), SIZE, height=HEIGHT, **options)


def test_a_plane_is_flat() -> None:
    result = measured(np.full(SHAPE, 100.0))
    assert result.thickness_mean_um == pytest.approx(70, rel=1e-4)
    assert result.thickness_median_um == pytest.approx(70, rel=1e-4)
    assert result.thickness_p5_um == pytest.approx(70, rel=1e-4)
    assert result.interdigitation_index == pytest.approx(1, abs=1e-4)
    assert result.area_ratio == pytest.approx(1, abs=1e-4)
    assert result.papillae_per_mm2 == 0
    assert result.undulation_rms_um == pytest.approx(0, abs=0.01)
    assert result.peak_to_valley_um == pytest.approx(0, abs=0.02)
    assert result.dominant_period_um is None
    assert result.asymmetry == pytest.approx(0, abs=1e-3)
    assert (result.gap_fraction, result.absent_fraction) == (0, 0)
    assert result.smoothing_um == 2.0
    assert result.notes == []


def test_a_tilted_plane_is_flat_too() -> None:
    result = measured(60 + 0.12 * X + 0.06 * Z)
    assert result.interdigitation_index == pytest.approx(1, abs=1e-3)
    assert result.area_ratio == pytest.approx(1, abs=1e-3)
    assert result.undulation_rms_um == pytest.approx(0, abs=0.05)
    assert result.papillae_per_mm2 == 0
    assert result.dominant_period_um is None
    assert result.thickness_mean_um == pytest.approx(float((30 + 0.12 * X + 0.06 * Z).mean()), rel=1e-3)
    expected = 0.12 * WIDTH_UM / 2 / float(np.median(30 + 0.12 * X + 0.06 * Z))
    assert result.asymmetry == pytest.approx(expected, rel=0.01)


def arc(slope: Callable[[float], float], period: float) -> float:
    return integrate.quad(lambda x: np.hypot(1, slope(x)), 0, period)[0] / period


def test_a_sine() -> None:
    amplitude, period = 12.0, WIDTH_UM / 4  # 115 um, as papillae
    result = measured(110 + amplitude * np.cos(2 * np.pi * X / period))
    k = 2 * np.pi / period
    expected = arc(lambda x: amplitude * k * np.sin(k * x), period)
    assert expected > 1.09
    assert result.interdigitation_index == pytest.approx(expected, rel=0.01)
    assert result.area_ratio == pytest.approx(expected, rel=0.01)
    assert result.undulation_rms_um == pytest.approx(amplitude / np.sqrt(2), rel=0.01)
    assert result.peak_to_valley_um == pytest.approx(2 * amplitude, rel=0.01)
    assert result.dominant_period_um == pytest.approx(period, rel=0.01)
    assert result.thickness_mean_um == pytest.approx(80, rel=0.01)
    assert result.thickness_p5_um == pytest.approx(80 - amplitude * np.cos(np.pi * 0.05), rel=0.01)
    for row in result.slices[::50]:
        assert row.interdigitation_index == pytest.approx(expected, rel=0.01)
        assert row.dominant_period_um == pytest.approx(period, rel=0.01)


@pytest.mark.parametrize("period", [60.0, 80.0, 97.3])
def test_the_period_of_any_sine(period: float) -> None:
    result = measured(110 + 8 * np.sin(2 * np.pi * X / period + 0.7))
    assert result.dominant_period_um == pytest.approx(period, rel=0.01)


def test_an_egg_crate() -> None:
    amplitude, nx, nz = 15.0, 4, 3
    kx, kz = 2 * np.pi * nx / WIDTH_UM, 2 * np.pi * nz / DEPTH_UM
    result = measured(110 + amplitude * np.sin(kx * X) * np.sin(kz * Z))

    def area(x: float, z: float) -> float:
        hx = amplitude * kx * np.cos(kx * x) * np.sin(kz * z)
        hz = amplitude * kz * np.sin(kx * x) * np.cos(kz * z)
        return float(np.sqrt(1 + hx * hx + hz * hz))

    expected = integrate.dblquad(lambda z, x: area(x, z), 0, WIDTH_UM / nx, 0, DEPTH_UM / nz)[0]
    expected /= WIDTH_UM / nx * DEPTH_UM / nz
    assert result.area_ratio == pytest.approx(expected, rel=0.01)
    assert result.papillae_per_mm2 == pytest.approx(2 * nx * nz / (WIDTH_UM * DEPTH_UM * 1e-6), rel=0.01)
    assert result.undulation_rms_um == pytest.approx(amplitude / 2, rel=0.01)
    assert result.peak_to_valley_um == pytest.approx(2 * amplitude, rel=0.01)
    assert result.dominant_period_um == pytest.approx(WIDTH_UM / nx, rel=0.01)


def test_bumps_below_the_prominence_are_no_papillae() -> None:
    k = 2 * np.pi * 4 / WIDTH_UM
    low = 110 + 2.0 * np.sin(k * X) * np.sin(k * Z)
    assert measured(low).papillae_per_mm2 == 0
    assert measured(low, prominence_um=1.0).papillae_per_mm2 > 0


def test_prominence_is_measured_over_the_saddle() -> None:
    profile = np.array([0, 5, 0, 9, 6, 8, 0, 3, 0], float)
    heights = np.zeros((5, 9))
    heights[1:4] = profile
    heights[2] += np.where(profile > 0, 1, 0)
    known = np.ones(heights.shape, bool)
    counts = [count_peaks(heights, known, prominence) for prominence in (1, 2.5, 4.5, 6.5, 9.5, 11)]
    assert counts == [4, 3 + 0, 2, 1, 1, 0]


def test_motion_between_slices_is_no_area() -> None:
    random = np.random.default_rng(0)
    motion = np.cumsum(random.normal(0, 2, SHAPE[0]))[:, None]
    k = 2 * np.pi * 4 / WIDTH_UM
    depth = 110 + 10 * np.cos(k * X) * np.cos(k * Z)
    still = measure(layers(depth), SIZE, height=HEIGHT)
    moving = measure(layers(depth + motion, 40 + motion), SIZE, height=HEIGHT)
    assert moving.motion_removed
    assert moving.area_ratio == pytest.approx(still.area_ratio, rel=0.001)
    assert moving.interdigitation_index == pytest.approx(still.interdigitation_index, rel=0.001)
    assert moving.papillae_per_mm2 == pytest.approx(still.papillae_per_mm2, rel=0.1)


def test_gaps_change_nothing_but_the_gaps() -> None:
    depth = 110 + 12 * np.cos(2 * np.pi * X / (WIDTH_UM / 4))
    boundaries = layers(depth)
    absent = np.random.default_rng(1).random(SHAPE) < 0.05
    boundaries[2][absent] = boundaries[3][absent]
    confidence = np.where(np.arange(SHAPE[1]) < 128, 0.1, 0.9)[None].repeat(SHAPE[0], 0).astype(np.float32)
    result = measure(boundaries, SIZE, height=HEIGHT, confidence=confidence)
    whole = measure(layers(depth), SIZE, height=HEIGHT)
    assert result.absent_fraction == pytest.approx(absent.mean())
    assert result.gap_fraction == pytest.approx(1 - 0.75 * (1 - absent.mean()), rel=0.01)
    assert result.confidence == pytest.approx(0.7, rel=0.01)
    assert whole.confidence is None
    for name in (
        "interdigitation_index",
        "undulation_rms_um",
        "dominant_period_um",
        "thickness_mean_um",
        "area_ratio",
    ):
        assert getattr(result, name) == pytest.approx(getattr(whole, name), rel=0.01)


def test_none_instead_of_invented_numbers() -> None:
    depth = 110 + 10 * np.cos(X / 15)
    uncalibrated = measure(layers(depth), None, height=HEIGHT)
    for name in (
        "thickness_mean_um",
        "interdigitation_index",
        "undulation_rms_um",
        "area_ratio",
        "dominant_period_um",
    ):
        assert getattr(uncalibrated, name) is None
    assert "pixel size is unknown" in uncalibrated.notes[0]
    assert uncalibrated.asymmetry is not None

    no_z = measure(layers(depth), PixelSize(PX, PX), height=HEIGHT)
    assert no_z.thickness_mean_um is not None
    assert (no_z.area_ratio, no_z.papillae_per_mm2) == (None, None)
    assert "distance of slices is unknown" in no_z.notes[0]

    absent = layers(depth)
    absent[2:] = HEIGHT
    none = measure(absent, SIZE, height=HEIGHT)
    assert none.absent_fraction == 1
    assert all(
        value is None
        for name, value in none
        if name.endswith("_um") and name.split("_")[0] not in ("smoothing", "prominence", "pixel")
    )
    assert "No DEJ is in view" in none.notes[0]

    no_skin = layers(depth, 0.0)
    assert measure(no_skin, SIZE, height=HEIGHT).thickness_mean_um is None
    assert measure(no_skin, SIZE, height=HEIGHT).interdigitation_index is not None


def test_a_band_cut_by_the_image_is_not_in_view() -> None:
    boundaries = layers(np.full(SHAPE, 100.0))
    boundaries[2, :, :200], boundaries[3, :, :200] = HEIGHT - 2, HEIGHT
    result = measure(boundaries, SIZE, height=HEIGHT)
    assert result.absent_fraction == pytest.approx(200 / 512)
    assert result.thickness_mean_um == pytest.approx(70, rel=1e-4)


@pytest.mark.parametrize("shape", [(1, 1), (1, 10), (2, 40), (3, 3), (1, 512)])
def test_small_tomograms(shape: tuple[int, int]) -> None:
    tops = np.array([0, 2, 5, 7], np.float32)[:, None, None] * np.ones(shape, np.float32)
    result = measure(tops, SIZE, height=10, overhang=np.ones(shape, bool))
    assert result.thickness_mean_um == pytest.approx(3.6)
    assert result.overhang_fraction == 1
    assert result.papillae_per_mm2 is None
    assert len(result.slices) == shape[0]


def test_json_and_csv() -> None:
    result = measured(110 + 10 * np.cos(X / 15))
    assert Measurements.model_validate_json(result.model_dump_json()) == result
    rows = list(csv.DictReader(io.StringIO(result.to_csv())))
    assert len(rows) == SHAPE[0]
    assert [row["slice"] for row in rows[:2]] == ["1", "2"]
    assert float(rows[0]["thickness_mean_um"]) == pytest.approx(result.slices[0].thickness_mean_um, rel=1e-5)
    assert rows[0]["confidence"] == ""


def test_boundaries_from_labels_invert_drawing() -> None:
    random = np.random.default_rng(3)
    tops = np.sort(random.integers(0, 21, (4, 5, 30)), axis=0).astype(np.float32)
    np.testing.assert_array_equal(boundaries_from_labels(draw_layers(tops, 20)), tops)


def test_bad_options() -> None:
    with pytest.raises(OptionError, match="above 0"):
        measured(np.full(SHAPE, 100.0), smoothing_um=0.0)


def test_a_whole_tomogram_in_seconds() -> None:
    random = np.random.default_rng(0)
    start = time.perf_counter()
    measured(110 + random.normal(0, 3, SHAPE))
    assert time.perf_counter() - start < 20
