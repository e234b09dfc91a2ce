"""What every instrument gives, and how a DEJ is made as visible as one wants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from skinoct_training.instruments.anatomy import SITES, Site
from skinoct_training.instruments.fields import Floats, Rng
from skinoct_training.instruments.tissue import Stack


@dataclass(frozen=True)
class Recording:
    """A tomogram as an instrument shows it, and the truth."""

    stack: Stack
    image: Floats
    """(Z, Y, X) gray values, 0 to 255 and beyond."""
    glass_um: Floats | None
    """(Z, X) lower edge of the glass; None where none is in view."""


def draw_pixel(rng: Rng, least_um: float, most_um: float) -> float:
    """Return a pixel size in whole hundredths of a micrometer."""
    return float(np.round(rng.uniform(least_um, most_um), 2))


def draw_slice_distance(rng: Rng, pixel_um: float) -> float:
    """Return one or two pixels."""
    return float(np.round(pixel_um * rng.choice([1, 2]), 2))


def draw_site(rng: Rng, chances: tuple[float, float, float] | None = None) -> Site:
    """Return where on the body the skin is; ``chances`` of face, arm and hand are equal when None."""
    return SITES[int(rng.choice(len(SITES), p=chances))]


def match_step(stack: Stack, shown: Callable[[float], Floats], wanted: float, between_um: tuple[float, float]) -> float:
    """Return the reflectivity of the dermis at which the brightness above the DEJ is ``wanted`` times that below.

    Parameters
    ----------
    shown : callable
        Returns the expected image (Z, Y, X) for a reflectivity.
    between_um : (least, most)
        Distance from the DEJ that is compared.
    """
    least_um, most_um = between_um
    above = (stack.below_dej_um < -least_um) & (stack.below_dej_um > -most_um)
    below = (stack.below_dej_um > least_um) & (stack.below_dej_um < most_um)
    reflectivity = 1.0
    for _ in range(4):
        image = shown(reflectivity)
        got = image[above].mean() / image[below].mean()
        reflectivity *= (got / wanted) ** 1.6  # more than proportional: the display is concave
        reflectivity = float(np.clip(reflectivity, 0.02, 60))
    return reflectivity
