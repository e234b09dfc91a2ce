"""Derived labels: where geometry decides, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skinoct.labels import Label
from skinoct_training.annotation import MIN_EPIDERMIS_UM, band_runs, derive_layers


def column(*runs: tuple[int, int]) -> np.ndarray:
    """Return (1, Y, 1) labels from (label, rows) runs."""
    values = [label for label, rows in runs for _ in range(rows)]
    return np.array(values, np.uint8)[None, :, None]


@pytest.mark.parametrize(
    ("drawn", "expected"),
    [
        # Between the skin surface and the DEJ lies epidermis, below the DEJ dermis.
        ([(2, 3), (0, 4), (4, 2), (0, 3)], [(2, 3), (3, 4), (4, 2), (5, 3)]),
        # Between glass and epidermis lies glycerol; above glass there is only glass.
        ([(0, 2), (1, 1), (0, 4), (3, 3), (4, 2)], [(1, 2), (1, 1), (2, 4), (3, 3), (4, 2)]),
        # Nobody knows where the DEJ is between epidermis and dermis.
        ([(3, 3), (0, 5), (5, 2)], [(3, 3), (0, 5), (5, 2)]),
        # Nobody knows what lies above a lone epidermis or below it.
        ([(0, 2), (3, 3), (0, 3)], [(0, 2), (3, 3), (0, 3)]),
        # An overhang, two DEJs in a column, stays open in between.
        ([(3, 2), (4, 2), (0, 3), (4, 2), (5, 2)], [(3, 2), (4, 2), (0, 3), (4, 2), (5, 2)]),
        # A seam between layers drawn by hand is divided among them.
        ([(2, 4), (0, 1), (3, 5), (4, 2)], [(2, 4), (3, 6), (4, 2)]),
        ([(1, 2), (0, 2), (2, 4), (0, 3), (3, 5), (4, 2)], [(1, 3), (2, 6), (3, 7), (4, 2)]),
        # More than a seam: there may be another layer.
        ([(2, 4), (0, 4), (3, 5)], [(2, 4), (0, 4), (3, 5)]),
        ([(0, 6)], [(0, 6)]),
    ],
)
def test_gaps_are_filled_where_only_one_layer_fits(
    drawn: list[tuple[int, int]], expected: list[tuple[int, int]]
) -> None:
    np.testing.assert_array_equal(derive_layers(column(*drawn)), column(*expected))


def test_above_a_lone_dej_is_epidermis_as_far_as_anatomy_guarantees() -> None:
    derived = derive_layers(column((0, 50), (4, 6), (0, 4)), pixel_um=1.0)[0, :, 0]
    reach = round(MIN_EPIDERMIS_UM)
    assert derived[: 50 - reach].max() == 0
    assert (derived[50 - reach : 50] == Label.EPIDERMIS).all()
    assert (derived[56:] == Label.DERMIS).all()


def test_ignored_regions_stay_unlabeled() -> None:
    drawn = column((2, 3), (0, 6), (4, 2), (0, 3))
    ignored = np.zeros(drawn.shape, bool)
    ignored[0, 5:7] = True
    derived = derive_layers(drawn, ignored)[0, :, 0]
    assert derived[5:7].tolist() == [0, 0]
    assert derived[3:5].tolist() == [3, 3]


def test_an_ignored_seam_stays_unlabeled() -> None:
    drawn = column((2, 4), (0, 2), (3, 5), (4, 2))
    ignored = np.zeros(drawn.shape, bool)
    ignored[0, 4:6] = True
    np.testing.assert_array_equal(derive_layers(drawn, ignored), drawn)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30))
def test_drawn_pixels_never_change_and_order_is_never_broken_by_filling(values: list[int]) -> None:
    drawn = np.array(values, np.uint8)[None, :, None]
    derived = derive_layers(drawn)
    np.testing.assert_array_equal(derived[drawn > 0], drawn[drawn > 0])
    np.testing.assert_array_equal(derive_layers(derived)[derived > 0], derived[derived > 0])
    if (np.diff(drawn[drawn > 0].astype(int)) >= 0).all():
        assert (np.diff(derived[derived > 0].astype(int)) >= 0).all()


def test_only_whole_bands_tell_their_thickness() -> None:
    whole = column((3, 4), (4, 5), (5, 4))
    cut = column((4, 5), (5, 8))
    broken = column((3, 2), (4, 2), (3, 1), (4, 2), (5, 6))
    stack = np.concatenate([whole, cut, broken], axis=2)
    assert band_runs(stack).tolist() == [5]
