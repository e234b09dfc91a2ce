"""Figures that mean what they say."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from skinoct.segmentation import draw_layers
from skinoct_training import baselines
from skinoct_training.metrics import (
    bootstrap,
    brightness_strata,
    calibration,
    column_errors,
    confusion,
    nest,
    score,
    summarize,
)

SHAPE = (4, 60, 50)
LabelArray = npt.NDArray[np.uint8]


def stack(shift: float = 0.0, band: float = 6.0, slope: float = 0.0) -> LabelArray:
    x = np.arange(SHAPE[2])
    center = 30 + shift + slope * (x - 25) + np.zeros((SHAPE[0], 1))
    lines = np.stack([np.full_like(center, 2), np.full_like(center, 10), center - band / 2, center + band / 2])
    return draw_layers(lines.astype(np.float32), SHAPE[1])


def test_a_perfect_answer_has_perfect_figures() -> None:
    figures = score(stack(), stack(), um=(0.9, 0.9))
    assert figures["dej.mae_um"] == figures["dej.bias_um"] == figures["dej.p95_um"] == 0
    assert figures["dej.normal_distance_um"] == figures["epidermis.thickness_error_um"] == 0
    assert figures["dej.thickness_ratio"] == figures["dej.dice"] == figures["accuracy"] == 1
    assert figures["dej.islands_per_slice"] == figures["dej.gap_fraction"] == figures["order_violations"] == 0
    assert all(figures[f"classes.{c}.recall"] == 1 for c in ("glass", "glycerol", "epidermis", "dej", "dermis"))


@pytest.mark.parametrize("shift", [-7, -1, 2, 5])
def test_a_shift_is_measured_in_micrometers_with_its_sign(shift: int) -> None:
    figures = score(stack(shift), stack(), um=(0.5, 0.9))
    assert figures["dej.mae_um"] == pytest.approx(abs(shift) * 0.5)
    assert figures["dej.bias_um"] == pytest.approx(shift * 0.5)
    assert figures["dej.p95_um"] == pytest.approx(abs(shift) * 0.5)
    assert figures["epidermis.thickness_bias_um"] == pytest.approx(shift * 0.5)
    assert figures["dej.jitter_um"] == pytest.approx(0)


def test_band_dice_falls_as_geometry_says() -> None:
    """Two bands of thickness t at distance d share 1 - d/t."""
    assert score(stack(3), stack(), um=(1, 1))["dej.dice"] == pytest.approx(1 - 3 / 6)


def test_a_doubled_band_has_ratio_two_and_no_bias() -> None:
    figures = score(stack(band=12), stack(), um=(1, 1))
    assert figures["dej.thickness_ratio"] == pytest.approx(2)
    assert figures["dej.bias_um"] == pytest.approx(0)


def test_the_normal_distance_is_shorter_than_the_vertical_one_on_a_slope() -> None:
    figures = score(stack(4, slope=0.6), stack(slope=0.6), um=(1, 1))
    assert figures["dej.normal_distance_um"] < figures["dej.mae_um"]
    assert figures["dej.normal_distance_um"] == pytest.approx(4 / math.hypot(1, 0.6), rel=0.1)


def test_islands_gaps_and_disorder_are_counted() -> None:
    wrong = stack()
    wrong[0, 50:53, 5:8] = 4  # an island in the dermis of one of four slices
    wrong[1:3, :, 10:15][wrong[1:3, :, 10:15] == 4] = 3  # five of fifty columns without DEJ in two slices
    figures = score(wrong, stack(), um=(1, 1))
    assert figures["dej.islands_per_slice"] == pytest.approx((1 + 1 + 1) / 4)  # a gap cuts the band in two
    assert figures["dej.gap_fraction"] == pytest.approx(10 / 200)
    assert figures["order_violations"] == 3
    assert figures["dej.mae_with_gaps_um"] > figures["dej.mae_um"]


def test_jitter_is_the_change_of_the_error_not_of_the_tissue() -> None:
    truth, guess = stack(), stack()
    truth[1], guess[1] = stack(5)[0], stack(5)[0]  # both move
    assert score(guess, truth, um=(1, 1))["dej.jitter_um"] == pytest.approx(0)
    guess[2] = stack(2)[0]  # only the prediction moves
    assert score(guess, truth, um=(1, 1))["dej.jitter_um"] == pytest.approx((0 + 2 + 2) / 3)
    sparse = np.array([0, 10, 20, 30])
    assert math.isnan(score(guess, truth, um=(1, 1), slices=sparse)["dej.jitter_um"])


def test_columns_without_annotation_do_not_count_as_distance() -> None:
    truth = stack()
    truth[:, :, :30] = 0
    assert score(stack(4), truth, um=(1, 1))["dej.normal_distance_um"] == pytest.approx(4)


def test_parts_of_a_tomogram_add_up_to_the_whole() -> None:
    wrong = stack(3)
    wrong[0, 50:53, 5:8] = 4
    wrong[2, 55:57, 40:43] = 4
    left = np.zeros((4, 50), np.bool_)
    left[:, :20] = True
    whole = score(wrong, stack(), um=(1, 1))
    parts = [score(wrong, stack(), um=(1, 1), columns=part) for part in (left, ~left)]
    assert [p["dej.islands_per_slice"] for p in parts] == [0.25, 0.25]
    assert [p["order_violations"] for p in parts] == [3, 3]
    for key in ("dej.islands_per_slice", "order_violations"):
        assert sum(p[key] for p in parts) == whole[key]
    assert [p["dej.normal_distance_um"] for p in parts] == pytest.approx([3, 3], rel=0.05)


def test_unknown_pixels_do_not_count() -> None:
    truth = stack()
    truth[:, :, :25] = 0
    wrong = stack()
    wrong[:, :, :25] = 5
    assert score(wrong, truth, um=(1, 1))["accuracy"] == 1
    assert confusion(wrong, truth).sum() == (truth > 0).sum()


def test_islands_are_counted_beside_what_nobody_knows() -> None:
    truth, guess = stack(slope=0.5), stack(slope=0.5)
    guess[:, 50:53, 5:8] = 4
    assert score(guess, truth, um=(1, 1))["dej.islands_per_slice"] == 1
    truth[:, :, 20:25] = 0
    assert score(guess, truth, um=(1, 1))["dej.islands_per_slice"] == 1
    truth[:, :, 40:] = 0
    assert score(guess, truth, um=(1, 1))["dej.islands_per_slice"] == 1
    guess[:, :, 21:24][guess[:, :, 21:24] == 4] = 5  # a gap where nobody knows
    assert score(guess, truth, um=(1, 1))["dej.islands_per_slice"] == 1
    guess[:, :, 10:12][guess[:, :, 10:12] == 4] = 5  # and one where the DEJ is known
    assert score(guess, truth, um=(1, 1))["dej.islands_per_slice"] == 2


@pytest.mark.parametrize("rows", [slice(27, 30), slice(30, 33), slice(29, 31)])
def test_half_a_band_says_nothing_of_its_center(rows: slice) -> None:
    truth = stack()
    truth[:, rows, :25] = 0
    figures = score(stack(), truth, um=(1, 1))
    assert figures["dej.mae_um"] == figures["dej.bias_um"] == 0
    assert column_errors(stack(), truth, 1.0).signed_um.size == 4 * 25


def test_bands_drawn_alone_are_whole() -> None:
    truth = stack()
    truth[truth != 4] = 0
    assert score(stack(2), truth, um=(1, 1))["dej.mae_um"] == pytest.approx(2)


def test_bands_cut_by_the_edge_say_nothing_of_their_center() -> None:
    truth = stack(29)
    assert column_errors(stack(20), truth, 1.0).signed_um.size == 0
    assert math.isnan(score(stack(20), truth, um=(1, 1))["dej.mae_um"])


def test_averages_weigh_tomograms_equally_and_intervals_hold_them() -> None:
    rows = [{"a.b": 1.0, "c": float("nan")}, {"a.b": 3.0, "c": 2.0}, {"a.b": 8.0, "c": float("nan")}]
    assert summarize(rows) == {"a.b": 4.0, "c": 2.0}
    low, high = bootstrap(2 * rows)["a.b"]
    assert 1 <= low < 4 < high <= 8
    assert str(bootstrap(2 * rows)) == str(bootstrap(2 * rows))
    assert nest({"a.b": 1.0, "a.c": float("nan"), "d": 2}) == {"a": {"b": 1.0, "c": None}, "d": 2}


@pytest.mark.parametrize(("tomograms", "given"), [(1, False), (4, False), (5, True)])
def test_few_tomograms_have_no_interval(tomograms: int, given: bool) -> None:
    """Also where there are more, but few of them have the figure."""
    rows = [{"a": float(n)} for n in range(tomograms)] + [{"a": float("nan")} for _ in range(4)]
    assert math.isfinite(bootstrap(rows)["a"][0]) == given


def test_strata_are_thirds_by_brightness() -> None:
    truth = stack()
    image = np.broadcast_to(np.linspace(0, 1, SHAPE[2]), SHAPE).astype(np.float32)
    strata = brightness_strata(image, truth)
    assert np.bincount(strata.ravel()).min() >= 60
    assert (np.diff(strata, axis=1) >= 0).all()


def test_calibration_compares_what_was_claimed_with_what_was_true() -> None:
    truth, guess = stack(), stack()
    guess[:2] = stack(20)[:2]
    confidence = np.full((4, 50), 0.95, np.float32)
    confidence[:2] = 0.05
    counts = calibration(confidence, guess, truth, 1.0, tolerance_um=5.0)
    assert counts[0].tolist() == pytest.approx([100, 5, 0])
    assert counts[9].tolist() == pytest.approx([100, 95, 100])


class TestBaselines:
    def test_brightness_finds_clear_layers(self) -> None:
        truth = stack(slope=0.2)
        image = np.array([0, 1.0, 0.05, 0.8, 0.6, 0.3], np.float32)[truth]
        guess = baselines.intensity_viterbi(image, 6.0)
        figures = score(guess, truth, um=(1, 1))
        assert figures["dej.mae_um"] < 1.5
        assert figures["order_violations"] == figures["dej.gap_fraction"] == 0

    def test_the_oracle_knows_the_surface_and_nothing_of_the_dej(self) -> None:
        truth = stack(slope=0.4)
        mean = baselines.mean_thickness(truth)
        guess = baselines.constant_thickness(truth, mean, 6.0)
        figures = score(guess, truth, um=(1, 1))
        assert figures["classes.glycerol.recall"] == figures["classes.glass.recall"] == 1
        assert abs(figures["dej.bias_um"]) < 0.6
        assert figures["dej.mae_um"] == pytest.approx(0.4 * 12.5, abs=0.5)
