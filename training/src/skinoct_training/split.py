"""Which tomograms are held out: always whole ones, never slices of one that is trained on.

Neighboring slices are nearly the same image; a split by slice lets a network be examined on what it learned
by heart.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from skinoct.errors import DatasetError, OptionError
from skinoct_training.dataset import Case

DEFAULT_SHARE = 0.15
"""Of the tomograms that are held out when nobody says how many."""


def hold_out(cases: Sequence[Case], count: int | None, seed: int) -> tuple[list[Case], list[Case]]:
    """Split tomograms into those to train on and those to validate on.

    Parameters
    ----------
    cases : sequence of Case
        Sorted by name, so that the split depends on ``seed`` alone.
    count : int or None
        How many to hold out; 0 for none, None for a share of 15 %, at least one.
    seed : int

    Raises
    ------
    DatasetError
        When too few tomograms are there.
    OptionError
        When ``count`` is negative.
    """
    if count is not None and count < 0:
        raise OptionError(f"--val {count} is not possible; give the number of tomograms to hold out, 0 or more.")
    if count is None:
        count = max(1, round(DEFAULT_SHARE * len(cases)))
    if count >= len(cases):
        have = "one tomogram only" if len(cases) == 1 else f"{len(cases)} tomograms"
        raise DatasetError(
            f"There {'is' if len(cases) == 1 else 'are'} {have}, and {count} must be held out to measure the error on "
            "skin that training never saw; add annotated tomograms, or give --val 0 to train on all without measuring."
        )
    held = set(np.random.default_rng(seed).permutation(len(cases))[:count].tolist())
    return [c for i, c in enumerate(cases) if i not in held], [cases[i] for i in sorted(held)]
