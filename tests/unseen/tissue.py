"""Tissue put together: reflectivity, extinction and labels of every voxel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skinoct.labels import Label

from .cells import epidermis_reflectivity
from .corneum import corneum_reflectivity
from .fibers import dermis_reflectivity
from .inclusions import debris, glands, hair_bodies, vessels
from .recipe import Floats, Grid, Mask, Recipe, Rng
from .relief import Relief
from .scatter import drift

Labels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Tissue:
    """Optical properties, float32 (Z, Y, X) each."""

    reflectivity: Floats
    extinction: Floats
    """Per micrometer."""


def paint_labels(grid: Grid, relief: Relief, band_um: float) -> Labels:
    """Return the labels, shape (Z, Y, X); the DEJ is a band of ``band_um`` of height, at least one pixel."""
    y_um = grid.y_um[:, None]
    labels = np.full(grid.shape, Label.EPIDERMIS, np.uint8)
    labels[y_um < relief.surface_um[:, None]] = Label.GLYCEROL
    labels[y_um < relief.glass_um[:, None]] = Label.GLASS
    dej = relief.dej_um[:, None]
    reach_um = max(band_um, grid.pixel_um) / 2
    seen = dej < grid.y_um[-1] + grid.pixel_um / 2
    labels[(y_um >= dej - reach_um) & seen] = Label.DEJ
    labels[(y_um >= dej + reach_um) & seen] = Label.DERMIS
    return labels


def build_tissue(rng: Rng, grid: Grid, relief: Relief, recipe: Recipe) -> Tissue:
    """Return what scatters in one tomogram."""
    skin, light = recipe.skin, recipe.light
    y_um = grid.y_um[:, None]
    glass, outside = y_um < relief.glass_um[:, None], y_um < relief.surface_um[:, None]
    dermis = y_um >= relief.dej_um[:, None]
    corneum = (y_um < relief.corneum_um[:, None]) & ~outside
    living = ~(outside | corneum | dermis)
    keratin = corneum_reflectivity(rng, grid, y_um - relief.surface_um[:, None], relief.corneum_um - relief.surface_um)
    value = epidermis_reflectivity(rng, grid, relief, skin, living)
    value += dermis_reflectivity(rng, grid, relief, skin, dermis) * glands(rng, grid, relief)
    value += skin.corneum_gain * keratin * corneum
    patches = np.exp(light.patchiness * np.clip(drift(rng, grid, rng.uniform(30, 150)), -1.6, 1.6))[:, None]
    mu = patches * (light.corneum_mu * corneum + light.epidermis_mu * living + light.dermis_mu * dermis)
    value *= np.exp(0.12 * drift(rng, grid, 60.0))[:, None]
    blood = vessels(rng, grid, relief, skin) * dermis
    value *= 1 - rng.uniform(0.55, 0.9) * blood
    mu += blood * rng.uniform(2, 9)
    value += outside * ~glass * light.medium + debris(rng, grid, recipe.view, outside & ~glass)
    value += _reflex(rng, grid, relief, light.reflex) * (relief.surface_um > 0)[:, None]
    rim, shaft = hair_bodies(rng, grid, relief, skin, outside & ~glass)
    value = value * (1 - 0.9 * shaft) + rng.uniform(2, 7) * rim
    mu += shaft * rng.uniform(8, 35)
    _draw_glass(rng, grid, relief, value)
    return Tissue(np.asarray(value, np.float32), np.asarray(mu / 1000, np.float32))


def _reflex(rng: Rng, grid: Grid, relief: Relief, strength: float) -> Floats:
    """Return the mirror-like surface, bright where it lies flat, shape (Z, Y, X)."""
    slope = np.gradient(relief.surface_um, grid.pixel_um, axis=1)
    flat = np.exp(-((slope / 0.35) ** 2)) * np.exp(0.5 * drift(rng, grid, 40.0))
    below_um = grid.y_um[:, None] - relief.surface_um[:, None] - 0.5 * grid.pixel_um
    return np.asarray(strength * flat[:, None] * np.exp(-((below_um / (0.8 * grid.pixel_um)) ** 2)), np.float32)


def _draw_glass(rng: Rng, grid: Grid, relief: Relief, value: Floats) -> None:
    """Draw the glass into the reflectivity ``value``: dim inside, its lower face and now and then a ghost bright."""
    if relief.glass_um.max() <= 0:
        return
    up_um = relief.glass_um[:, None] - grid.y_um[:, None]
    inside: Mask = up_um > 0
    value *= ~inside
    value += inside * rng.uniform(0.0, 0.25)
    thick_um = rng.uniform(0.7, 1.8) * grid.pixel_um
    bright = rng.uniform(6, 40)
    value += bright * np.exp(-np.minimum(((up_um - thick_um) / thick_um) ** 2, 40)).astype(np.float32) * (up_um > -1)
    if rng.random() < 0.4:  # a second reflex, in the glass or in the medium below it
        ghost_um = rng.uniform(-6, 12) * grid.pixel_um
        ghost = bright * rng.uniform(0.03, 0.4) * np.exp(-np.minimum(((up_um - ghost_um) / thick_um) ** 2, 40))
        value += ghost.astype(np.float32)
