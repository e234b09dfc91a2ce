"""Every kind of synthetic skin by its name: the families of phantoms, and the instruments of the second generator."""

from __future__ import annotations

from typing import Literal

from skinoct_training.instruments.make import make_recorded
from skinoct_training.phantom.make import make_phantom
from skinoct_training.phantom.spec import FAMILIES as PHANTOMS
from skinoct_training.phantom.spec import Family as PhantomFamily
from skinoct_training.synthetic import Synthetic

Family = PhantomFamily | Literal["instruments"]
FAMILIES: tuple[Family, ...] = (*PHANTOMS, "instruments")


def make_synthetic(seed: int | tuple[int, ...], slices: int, family: Family) -> Synthetic:
    """Make one tomogram of ``slices`` B-scans; the same seed gives the same voxels."""
    if family == "instruments":
        return make_recorded(seed, slices)
    return make_phantom(seed, slices, family)
