"""Random points that keep their distance, and smooth random curves."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.interpolate import CubicSpline
from scipy.spatial import cKDTree

from .recipe import Floats, Grid, Rng


def keep_apart(points: Floats, radius: Floats) -> npt.NDArray[np.intp]:
    """Return the indices of points that stay when earlier points push later ones out of their radius.

    Parameters
    ----------
    points : float32 (N, D)
    radius : float32 (N,)
        A pair closer than the mean of both radii loses its later point.
    """
    pairs = cKDTree(points).query_pairs(float(radius.max()), output_type="ndarray")
    distance = np.linalg.norm(points[pairs[:, 0]] - points[pairs[:, 1]], axis=1)
    pairs = np.sort(pairs[distance < (radius[pairs[:, 0]] + radius[pairs[:, 1]]) / 2], axis=1)
    alive = np.ones(len(points), bool)
    undecided = pairs
    while len(undecided):
        later = np.unique(undecided[:, 1])
        first = np.setdiff1d(undecided[:, 0], later)
        alive[undecided[np.isin(undecided[:, 0], first), 1]] = False
        undecided = undecided[alive[undecided].all(axis=1)]
    return np.flatnonzero(alive)


def disc_points(rng: Rng, low: tuple[float, ...], high: tuple[float, ...], distance_um: float) -> Floats:
    """Return Poisson-disc points, shape (N, D), in the box from ``low`` to ``high``."""
    size = np.subtract(high, low)
    count = 4 + int(3 * np.prod(size / distance_um))
    points = (np.asarray(low) + rng.random((count, len(low))) * size).astype(np.float32)
    return np.asarray(points[keep_apart(points, np.full(count, distance_um, np.float32))])


def drift(rng: Rng, grid: Grid, scale_um: float) -> Floats:
    """Return a smooth random curve of about unit deviation over the skin, shape (Z, X).

    Its knots lie ``scale_um`` apart, unevenly; neighboring slices see it at a slant.
    """
    along = grid.x_um[None] + rng.uniform(-1, 1) * grid.z_um[:, None]
    low, high = float(along.min()) - 2 * scale_um, float(along.max()) + 2 * scale_um
    count = max(5, int((high - low) / scale_um))
    knots = np.linspace(low, high, count) + rng.uniform(-0.3, 0.3, count) * (high - low) / count
    return np.asarray(CubicSpline(knots, rng.standard_normal(count))(along), np.float32)
