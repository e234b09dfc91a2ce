"""Ordered decoding: order and completeness by construction, accuracy where there is evidence, honesty where not."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from skinoct.decode import (
    DecodeConfig,
    OrderedDecoder,
    decode_pixel,
    decode_slices,
    each_column,
    find_overhangs,
    for_slices_apart,
    for_wide_columns,
    smooth_across_slices,
    thickness_prices,
    typical_thickness,
    with_own_thickness,
)
from skinoct.errors import OptionError
from skinoct.labels import Label
from skinoct.line_search import LANES, Lanes, best_line, suited_lanes
from skinoct.segmentation import draw_layers

FloatArray = npt.NDArray[np.float32]
ROWS, COLUMNS = 120, 160


def skin_lines(slices: int) -> FloatArray:
    """Glass, furrowed skin and a wavy DEJ whose band is 5.6 rows thick."""
    x, z = np.arange(COLUMNS, dtype=np.float32), np.arange(slices, dtype=np.float32)[:, None]
    dej = 70 + 12 * np.sin(x / 15 + z / 30)
    skin = 25 + 4 * np.sin(x / 30) + 0 * z
    return np.stack([np.full_like(dej, 4), skin, dej - 2.8, dej + 2.8]).astype(np.float32)


def evidence(lines: FloatArray, certainty: float = 0.8, noise: float = 0.5, seed: int = 0) -> FloatArray:
    """Noisy probabilities (Z, 5, Y, X) for known lines."""
    labels = draw_layers(lines, ROWS)
    rng = np.random.default_rng(seed)
    raw = (labels[:, None] == np.arange(1, 6)[None, :, None, None]) * np.float32(certainty) + 0.05
    raw = raw + noise * rng.random(raw.shape, dtype=np.float32)
    return (raw / raw.sum(axis=1, keepdims=True)).astype(np.float32)


def decode(probabilities: FloatArray, config: DecodeConfig | None = None) -> tuple[FloatArray, FloatArray]:
    slices, _, rows, columns = probabilities.shape
    decoder = OrderedDecoder(config or DecodeConfig(), (slices, rows, columns))
    decoder.add(probabilities)
    surfaces = decoder.finish()
    return surfaces.boundaries, surfaces.confidence


def lines_of(
    probabilities: FloatArray, config: DecodeConfig, lanes: Lanes | None = None
) -> tuple[FloatArray, FloatArray]:
    return decode_slices([probabilities], config, (len(probabilities), *probabilities.shape[2:]), lanes)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3), st.integers(1, 40), st.integers(1, 30), st.integers(0, 2**31))
def test_any_probabilities_give_ordered_columns_without_islands(
    slices: int, rows: int, columns: int, seed: int
) -> None:
    raw = np.random.default_rng(seed).random((slices, 5, rows, columns), dtype=np.float32) ** 4 + 1e-6
    boundaries, confidence = decode(raw / raw.sum(axis=1, keepdims=True))
    assert np.all(np.diff(boundaries, axis=0) >= 0)
    assert boundaries.min() >= 0
    assert boundaries.max() <= rows
    labels = draw_layers(boundaries, rows)
    assert labels.shape == (slices, rows, columns)
    assert np.all(np.diff(labels.astype(int), axis=1) >= 0)
    assert set(np.unique(labels)) <= {1, 2, 3, 4, 5}
    assert np.all((confidence >= 0) & (confidence <= 1))


def test_smoothing_across_slices_keeps_a_steady_fall_and_calms_the_rest() -> None:
    lines = np.repeat(skin_lines(1), 12, axis=1)
    lines[2:] += 2 * np.arange(12, dtype=np.float32)[:, None] - 10
    confidence = np.ones(lines.shape[1:], np.float32)
    config = DecodeConfig()
    np.testing.assert_allclose(smooth_across_slices(lines, confidence, ROWS, config), lines, atol=1e-3)
    shaken = lines.copy()
    shaken[2:] += np.random.default_rng(0).normal(0, 2, lines.shape[1:]).astype(np.float32)
    calmed = smooth_across_slices(shaken, confidence, ROWS, config)
    assert np.abs(calmed - lines)[2].mean() < 0.6 * np.abs(shaken - lines)[2].mean()
    skin_moves = np.random.default_rng(1).normal(0, 3, (12, 1)).astype(np.float32)
    moved = smooth_across_slices(shaken + skin_moves, confidence, ROWS, config)
    np.testing.assert_allclose(moved - skin_moves, calmed, atol=1e-3)


class TestThickness:
    def test_it_decides_where_the_image_says_nothing(self) -> None:
        lines = skin_lines(3)
        blind = evidence(lines, certainty=5)
        blind[:, 2:] = blind[:, 2:].mean(axis=1, keepdims=True)
        found, confidence = decode(blind, DecodeConfig(row_um=2.0, epidermis_um=90.0))
        middle = (found[2] + found[3]) / 2
        np.testing.assert_allclose(middle - found[1], 45, atol=3)
        assert confidence.max() < 0.5

    def test_what_the_image_says_counts_more(self) -> None:
        lines = skin_lines(3)
        for row_um in (1.0, 4.0):  # half and twice the usual thickness
            found, _ = decode(evidence(lines), DecodeConfig(row_um=row_um, epidermis_um=90.0))
            assert np.abs(found - lines)[2:].mean() < 0.3

    def test_without_a_size_of_pixels_it_has_no_price(self) -> None:
        probabilities = evidence(skin_lines(2))
        free = decode(probabilities, DecodeConfig(epidermis_price=0, row_um=3.0))
        unknown = decode(probabilities, DecodeConfig(epidermis_price=50))
        for one, other in zip(free, unknown, strict=True):
            np.testing.assert_array_equal(one, other)


def test_slices_far_apart_are_smoothed_less() -> None:
    config = DecodeConfig(smooth_slices=3, smooth_slices_um=6)
    assert [for_slices_apart(config, z).smooth_slices for z in (None, 0.5, 2.0, 6.0, 60.0)] == [3, 3, 3, 1, 0.1]


def test_lines_are_found_to_a_fraction_of_a_row() -> None:
    lines = skin_lines(6)
    found, confidence = decode(evidence(lines))
    assert np.abs(found - lines)[2:].mean() < 0.25
    assert np.abs(found - lines)[1].mean() < 0.6
    assert np.abs(found - lines)[0].mean() < 0.3
    assert confidence.mean() > 0.5


def test_the_band_has_the_annotators_thickness_everywhere() -> None:
    found, _ = decode(evidence(skin_lines(3)), DecodeConfig(band_thickness_px=5.6))
    np.testing.assert_allclose(found[3] - found[2], 5.6, atol=1e-3)


@given(st.integers(0, 2**31))
@settings(max_examples=10, deadline=None)
def test_the_band_is_one_piece_whatever_the_network_says(seed: int) -> None:
    """Evidence that jumps up and down still gives a band in which each column touches the next."""
    rng = np.random.default_rng(seed)
    lines = skin_lines(1)
    jumps = rng.choice([-25.0, 0.0, 25.0], COLUMNS // 16).repeat(16)
    lines[2:] += jumps
    found, _ = decode(evidence(lines, certainty=3.0))
    labels = draw_layers(found, ROWS) == Label.DEJ
    assert labels.any(axis=1).all()
    assert ndimage.label(labels[0], np.ones((3, 3)))[1] == 1


def test_a_dark_gap_is_crossed_and_flagged() -> None:
    lines = skin_lines(3)
    probabilities = evidence(lines)
    probabilities[:, :, :, 60:90] = 0.2
    found, confidence = decode(probabilities)
    assert np.all(found[3] - found[2] > 5)
    assert confidence[:, 62:88].mean() < 0.3 * confidence[:, :50].mean()


@pytest.mark.parametrize("below", [5.0, 200.0])
def test_a_dej_below_the_image_is_absent_not_invented(below: float) -> None:
    lines = skin_lines(2)
    lines[2:] = ROWS + below
    found, _ = decode(evidence(np.minimum(lines, ROWS)))
    labels = draw_layers(found, ROWS)
    assert not np.isin(labels, (Label.DEJ, Label.DERMIS)).any()
    assert (labels == Label.EPIDERMIS).any()


def test_no_glass_in_view_is_no_glass() -> None:
    lines = skin_lines(2)
    lines[0] = 0
    labels = draw_layers(decode(evidence(lines))[0], ROWS)
    assert not (labels == Label.GLASS).any()


def test_blocks_decode_like_the_whole() -> None:
    probabilities = evidence(skin_lines(7))
    whole, _ = decode(probabilities)
    decoder = OrderedDecoder(DecodeConfig(), (7, ROWS, COLUMNS))
    for start, stop in ((0, 1), (1, 4), (4, 7)):
        decoder.add(probabilities[start:stop])
    np.testing.assert_allclose(decoder.finish().boundaries, whole, atol=1e-4)


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 11), st.integers(1, 40), st.integers(1, 40), st.integers(0, 4), st.integers(0, 2**31))
def test_lines_do_not_depend_on_the_lanes(slices: int, rows: int, columns: int, reach: int, seed: int) -> None:
    """Large images are searched with fewer lanes, for the sake of memory, and give the same bits."""
    raw = np.random.default_rng(seed).random((slices, 5, rows, columns), dtype=np.float32) ** 4 + 1e-6
    raw /= raw.sum(axis=1, keepdims=True)
    config = DecodeConfig(dej_reach=reach)
    expected = lines_of(raw, config)
    for count in (1, 2, 4):
        for one, other in zip(lines_of(raw, config, LANES[:count]), expected, strict=True):
            np.testing.assert_array_equal(one, other)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 8), st.integers(1, 12), st.integers(0, 7), st.floats(0, 3), st.integers(0, 2**31))
def test_the_best_line_is_the_best_of_all(columns: int, rows: int, reach: int, price: float, seed: int) -> None:
    """A search that tries every step, column by column, finds no better line and reports the same maximum."""
    score = np.random.default_rng(seed).normal(size=(columns, rows, 1)).astype(np.float32)
    _, found = best_line(score, price, reach, (0,))
    rows_apart = np.abs(np.arange(rows)[:, None] - np.arange(rows)[None])
    way = np.where(rows_apart <= (reach or rows), price * rows_apart, np.inf)
    left, right = np.zeros((columns, rows)), np.zeros((columns, rows))
    for x in range(1, columns):
        left[x] = (left[x - 1] + score[x - 1, :, 0] - way).max(axis=1)
        right[-1 - x] = (right[-x] + score[-x, :, 0] - way).max(axis=1)
    total = left + score[..., 0] + right
    chosen = np.take_along_axis(total, found.astype(np.intp), axis=1)[:, 0]
    np.testing.assert_allclose(chosen, total.max(axis=1), atol=1e-4)


@pytest.mark.parametrize("columns", [1, 2, 7, 8])
def test_lines_between_pairs_are_straight(columns: int) -> None:
    middles = (np.arange(-(-columns // 2), dtype=np.float32) * 2 + 0.5)[:, None]
    straight = each_column(3 * middles, columns)[:, 0]
    inner = slice(1, columns - 1 - columns % 2)
    np.testing.assert_allclose(straight[inner], 3 * np.arange(columns)[inner], atol=1e-5)
    assert straight.shape == (columns,)


def test_a_tomogram_tells_its_own_thickness() -> None:
    lines = skin_lines(3)
    truth = ((lines[2] + lines[3]) / 2 - lines[1]).mean()
    boundaries, confidence = lines_of(evidence(lines), DecodeConfig())
    own = typical_thickness(boundaries, confidence, ROWS)
    assert own == pytest.approx(truth, rel=0.15)
    boundaries[3] = ROWS
    assert typical_thickness(boundaries, confidence, ROWS) is None


def test_prices_of_both_thicknesses_add_up() -> None:
    """Their sum, but for a constant, is the price of the usual thickness plus that of the tomogram's own."""
    config = DecodeConfig(row_um=0.9, epidermis_price=16, own_price=80)
    both = thickness_prices(with_own_thickness(config, 40.0), 200)
    usual = thickness_prices(config, 200)
    own = thickness_prices(config.model_copy(update={"epidermis_um": 36.0, "epidermis_price": 80.0}), 200)
    difference = (both - usual - own)[1:]
    np.testing.assert_allclose(difference, difference[0], atol=1e-2)


def test_own_thickness_needs_no_pixel_size() -> None:
    config = with_own_thickness(DecodeConfig(own_price=80), 40.0)
    assert thickness_prices(config, 200).argmin() == 40
    assert with_own_thickness(DecodeConfig(own_price=80), None).row_um is None
    assert with_own_thickness(DecodeConfig(row_um=0.9), 40.0) == DecodeConfig(row_um=0.9)


def test_a_band_of_enlarged_columns_has_no_gap() -> None:
    config = DecodeConfig(band_thickness_px=4.2, dej_reach=3)
    assert for_wide_columns(config, 1.0).dej_reach == 3
    assert for_wide_columns(config, 2.0).dej_reach == 2
    assert for_wide_columns(config, 9.0).dej_reach == 1
    assert for_wide_columns(config.model_copy(update={"dej_reach": 0}), 2.0).dej_reach == 0


def test_skin_that_looks_like_glycerol_does_not_take_the_dej_with_it() -> None:
    """Where the epidermis is doubtful, a skin surface searched for by itself sinks to the bottom of the image."""
    lines = skin_lines(1)
    lines[2:] = np.array([[[65.0]], [[70.6]]])
    seen = evidence(lines)
    rows = np.arange(ROWS)[:, None] + np.zeros(COLUMNS)
    middle = slice(50, 110)
    doubtful, epidermis, dermis = (rows > lines[1]) & (rows < 40), (rows >= 40) & (rows < 65), rows > lines[3]
    for layer, glycerol, skin, label in ((doubtful, 0.6, 0.3, 2), (epidermis, 0.2, 0.7, 2), (dermis, 0.09, 0.87, 4)):
        odds = np.full((5, 1, 1), 0.01, np.float32)
        odds[[1, label], 0, 0] = glycerol, skin
        seen[0][:, :, middle] = np.where(layer[:, middle], odds, seen[0][:, :, middle])
    config = with_own_thickness(DecodeConfig(own_price=80, dej_step_price=20), 45.0)
    found, _ = lines_of(seen, config)
    np.testing.assert_allclose(found[2], lines[2], atol=4)


def test_a_furrow_does_not_pull_the_dej_up() -> None:
    """The usual distance is kept from the skin around a furrow, not from its bottom."""
    lines = skin_lines(1)
    plain = lines_of(evidence(lines), DecodeConfig(row_um=1.0, epidermis_price=400, epidermis_spread=0.2))[0]
    furrowed = lines.copy()
    furrowed[1, :, 70:82] += 12
    cut = lines_of(evidence(furrowed), DecodeConfig(row_um=1.0, epidermis_price=400, epidermis_spread=0.2))[0]
    np.testing.assert_allclose(cut[2], plain[2], atol=1.5)


PRICED = DecodeConfig(epidermis_price=96.0, epidermis_um=40.0, row_um=0.9, dej_step_price=20.0)


@pytest.mark.parametrize("cut", [20, 35, 60])
def test_skin_that_lies_above_the_image_says_little_of_the_thickness(cut: int) -> None:
    """An image that begins below the skin surface: the DEJ is where it is seen, not where the epidermis would end."""
    lines = skin_lines(4)
    whole = evidence(lines, certainty=8.0)
    found, confidence = decode(np.ascontiguousarray(whole[:, :, cut:]), PRICED)
    seen = lines[2] - cut > 3
    middle = found[2:].mean(axis=0) + cut
    assert np.abs(middle - lines[2:].mean(axis=0))[seen].mean() < 1
    assert confidence[seen].mean() > 0.5


def test_a_dej_above_the_image_is_absent_not_invented() -> None:
    probabilities = np.full((4, 5, ROWS, COLUMNS), 0.0025, np.float32)
    probabilities[:, 4] = 0.99
    assert not decode(probabilities, PRICED)[0].any()


def test_prices_do_not_make_the_image_surer() -> None:
    """Confidence is what the image itself says: a line that only its price holds is not believed."""
    vague = np.full((4, 5, ROWS, COLUMNS), 0.2, np.float32)
    vague[:, 1, :20] = 0.9
    vague[:, [0, 2, 3, 4], :20] = 0.025
    assert decode(vague, PRICED)[1].mean() < 0.3


def test_large_images_are_searched_with_fewer_lanes() -> None:
    sizes = ((224, 512), (512, 2048), (1024, 2048), (4096, 4096))
    assert [len(suited_lanes(*size)) for size in sizes] == [8, 4, 2, 1]
    assert suited_lanes(1, 1) == LANES


def test_a_block_of_another_shape_is_refused() -> None:
    decoder = OrderedDecoder(DecodeConfig(), (2, 10, 10))
    with pytest.raises(OptionError, match="slice 1"):
        decoder.add(np.full((1, 5, 9, 10), 0.2, np.float32))
    with pytest.raises(OptionError, match="2 slices"):
        decoder.finish()


def test_pixel_decoding_divides_class_weights_out() -> None:
    # Weight 20 turns a posterior of 0.1 against 0.9 into 2 against 0.9.
    probabilities = np.zeros((1, 5, 1, 1), np.float32)
    probabilities[0, :, 0, 0] = [0, 0, 0.3, 0.7, 0]
    weights = (10.0, 10.0, 1.0, 20.0, 1.0)
    assert decode_pixel(probabilities)[0, 0, 0] == Label.DEJ
    assert decode_pixel(probabilities, weights)[0, 0, 0] == Label.EPIDERMIS


def test_overhangs_are_counted() -> None:
    classes = np.full((1, 30, 4), Label.EPIDERMIS - 1)
    classes[0, 10:15, 1] = Label.DERMIS - 1
    classes[0, 10:12, 2] = Label.DERMIS - 1
    classes[0, 20:, 3] = Label.DERMIS - 1
    assert find_overhangs(classes).tolist() == [[False, True, False, False]]


def test_dark_depths_taken_for_the_medium_do_not_swallow_the_skin() -> None:
    """A tall image whose depths look like the medium, as a network without context sees them."""
    lines = skin_lines(1)
    probabilities = evidence(lines)
    depths = np.full((1, 5, 3 * ROWS, COLUMNS), 0.01, np.float32)
    depths[:, Label.GLYCEROL - 1] = 0.96
    found, _ = decode(np.concatenate([probabilities, depths], axis=2))
    assert np.abs(found - lines)[1:].mean() < 0.6
    medium_alone, _ = decode(depths)
    assert medium_alone[1].min() >= 3 * ROWS - 1  # where there is no skin, none is found
