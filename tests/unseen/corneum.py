"""Corneum: sheets of keratin, each a row of flat corneocytes that lift off here and there."""

from __future__ import annotations

import numpy as np

from .recipe import Floats, Grid, Rng
from .scatter import drift


def corneum_reflectivity(rng: Rng, grid: Grid, depth_um: Floats, thickness_um: Floats) -> Floats:
    """Return the reflectivity of the corneum, mean about 1, shape (Z, Y, X).

    Parameters
    ----------
    depth_um : float32 (Z, Y, X)
        Below the surface of the skin.
    thickness_um : float32 (Z, X)
    """
    mean_um = float(thickness_um.mean())
    sheets = max(2, round(mean_um / rng.uniform(2.0, 4.5)))
    wave = 0.25 * drift(rng, grid, 18.0) + 0.4 * drift(rng, grid, 50.0)
    place = depth_um / thickness_um[:, None] * sheets + wave[:, None]
    sheet = np.clip(np.floor(place), 0, sheets).astype(np.int32)
    inside = place - np.floor(place)
    cell_um = rng.uniform(20, 38)
    shift = rng.random(sheets + 1).astype(np.float32)[sheet]
    column = (grid.x_um + 0.4 * grid.z_um[:, None]) / cell_um
    cell = np.floor(column[:, None] + shift).astype(np.int32) % 997
    table = rng.lognormal(-0.15, 0.45, (sheets + 1, 997)).astype(np.float32)
    table *= rng.lognormal(0, 0.45, (sheets + 1, 1)).astype(np.float32)
    cleft = 1 - rng.uniform(0.4, 0.8) * np.exp(-((np.minimum(inside, 1 - inside) / 0.17) ** 2))
    return np.asarray(table[sheet, cell] * cleft, np.float32)
