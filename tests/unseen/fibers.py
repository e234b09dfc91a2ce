"""Dermis: bundles of curved collagen fibers, thin and tangled below the DEJ, thick and flat further down."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from .recipe import Floats, Grid, Mask, Rng, Skin
from .relief import Relief


@dataclass(frozen=True)
class _Weave:
    """One kind of bundle."""

    per_cell: float
    """Bundles per 100 um x 100 um of the image."""
    length_um: float
    radius_um: float
    angle: float
    """Deviation from the horizontal, rad."""
    curl: float
    """Turn along a bundle, rad."""
    strands: int


_FINE = _Weave(200, 34, 1.4, 0.55, 0.7, 3)
_COARSE = _Weave(55, 120, 4.5, 0.25, 0.35, 6)
_ELASTIC = _Weave(170, 26, 2.6, 0.8, 1.3, 3)
_SLAB_UM = 6.0


def dermis_reflectivity(rng: Rng, grid: Grid, relief: Relief, skin: Skin, dermis: Mask) -> Floats:
    """Return the reflectivity of the dermis, shape (Z, Y, X); 0 elsewhere.

    Parameters
    ----------
    dermis : bool (Z, Y, X)
    """
    if not dermis.any():
        return np.zeros(grid.shape, np.float32)
    below_um = grid.y_um[:, None] - relief.dej_um[:, None]
    papillary_um = rng.uniform(25, 70)
    deep = 1 / (1 + np.exp(-np.clip((below_um - papillary_um) / 12, -30, 30)))
    fibers = (1 - deep) * _weave(rng, grid, relief, _FINE) + deep * _weave(rng, grid, relief, _COARSE)
    contrast = skin.fiber_contrast
    value = 1 - contrast + contrast * fibers
    if skin.elastosis_um > 0:
        grenz_um = rng.uniform(8, 22)
        inside = np.clip((below_um - grenz_um) / 8, 0, 1) * np.clip(
            (grenz_um + skin.elastosis_um - below_um) / 15, 0, 1
        )
        tangle = 1 - contrast + contrast * _weave(rng, grid, relief, _ELASTIC)
        value = value * (1 - inside) + inside * skin.elastosis_gain * tangle
    return np.asarray(skin.dermis_gain * value * dermis, np.float32)


def _weave(rng: Rng, grid: Grid, relief: Relief, weave: _Weave) -> Floats:
    """Return how much collagen of one kind there is, about 1 on the average, shape (Z, Y, X)."""
    x_um, y_um, z_um, light = _strands(rng, grid, relief, weave)
    _, rows, columns = grid.shape
    column, row = (np.rint(place / grid.pixel_um).astype(np.int32) for place in (x_um, y_um))
    seen = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
    flat, light, z_um = row[seen] * columns + column[seen], light[seen], z_um[seen]
    out = np.empty(grid.shape, np.float32)
    for index, here_um in enumerate(grid.z_um):
        section = light * np.exp(-(((z_um - here_um) / 3.0) ** 2))
        image = np.bincount(flat, section, rows * columns).astype(np.float32).reshape(rows, columns)
        out[index] = gaussian_filter(image, max(0.7, 0.8 / grid.pixel_um))
    level = gaussian_filter1d(gaussian_filter1d(out.mean(axis=0), 25 / grid.pixel_um, 0), 25 / grid.pixel_um, 1)
    return np.asarray(np.clip(out / (level + 0.02 * level.max() + 1e-6), 0, 3.2), np.float32)


def _strands(rng: Rng, grid: Grid, relief: Relief, weave: _Weave) -> tuple[Floats, Floats, Floats, Floats]:
    """Return points along the fibers: x, y and z in micrometers and brightness, flat arrays."""
    top_um = float(relief.dej_um.min()) - 10
    bottom_um = float(grid.y_um[-1]) + 20
    width_um, height_um = float(grid.x_um[-1]), max(10.0, bottom_um - top_um)
    length_um = weave.length_um * max(1.0, grid.pixel_um / 1.5)
    points = max(8, int(1.2 * length_um / grid.pixel_um))
    budget = int(900_000 / (points * weave.strands))
    wanted = weave.per_cell * (width_um + length_um) * height_um / 1e4 * (weave.length_um / length_um)
    count = (max(8, min(budget, int(wanted))), 1, 1)
    along = np.linspace(-0.5, 0.5, points, dtype=np.float32) + 0 * rng.random(count)
    turn = rng.normal(0, weave.angle, count) + weave.curl * (rng.normal(0, 1, count) * along)
    turn = turn + 0.5 * weave.curl * np.sin(2 * np.pi * (along * rng.uniform(0.6, 1.6, count) + rng.random(count)))
    step_um = length_um / points
    shape = (count[0], weave.strands, 1)
    radius_um = weave.radius_um * max(1.0, grid.pixel_um / 2) * rng.lognormal(0, 0.4, count)
    x_um = rng.uniform(-length_um / 2, width_um + length_um / 2, count) + np.cumsum(np.cos(turn), -1) * step_um
    x_um = x_um - length_um / 2 + radius_um * rng.normal(0, 0.3, shape)
    y_um = rng.uniform(top_um, bottom_um, count) + np.cumsum(np.sin(turn), -1) * step_um
    y_um = y_um + radius_um * rng.normal(0, 0.5, shape)
    z_um = rng.uniform(-_SLAB_UM, grid.z_um[-1] + _SLAB_UM, count) + rng.normal(0, 0.25, count) * along * length_um
    z_um = z_um + radius_um * rng.normal(0, 0.3, shape)
    light = rng.lognormal(0, 0.45, count) * rng.lognormal(0, 0.4, shape) * np.ones_like(x_um)
    flat = (np.broadcast_to(part, x_um.shape).astype(np.float32).ravel() for part in (x_um, y_um, z_um, light))
    x_flat, y_flat, z_flat, light_flat = flat
    return x_flat, y_flat, z_flat, light_flat
