"""Every kind of synthetic skin by its name: phantoms, the instruments of the second generator, and both processed."""

from __future__ import annotations

from typing import Literal

import numpy as np

from skinoct_training.instruments.make import make_recorded
from skinoct_training.phantom.make import make_phantom
from skinoct_training.phantom.spec import FAMILIES as PHANTOMS
from skinoct_training.phantom.spec import Family as PhantomFamily
from skinoct_training.processed import process
from skinoct_training.synthetic import Synthetic

Family = PhantomFamily | Literal["instruments", "processed"]
FAMILIES: tuple[Family, ...] = (*PHANTOMS, "instruments", "processed")
PROCESSED: tuple[Family, ...] = ("wide", "deep", "instruments")
"""What is processed, each as often; the paper's device hands out what it recorded."""


def make_synthetic(seed: int | tuple[int, ...], slices: int, family: Family) -> Synthetic:
    """Make one tomogram of ``slices`` B-scans; the same seed gives the same voxels."""
    if family == "processed":
        # A stream of its own: the tomogram begins with that of the seed.
        (rng,) = np.random.default_rng(seed).spawn(1)
        recorded = make_synthetic(seed, slices, PROCESSED[int(rng.integers(len(PROCESSED)))])
        return process(rng, recorded)
    if family == "instruments":
        return make_recorded(seed, slices)
    return make_phantom(seed, slices, family)
