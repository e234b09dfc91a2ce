"""Living epidermis: Voronoi cells in 3-D, flat above and round below, a row of basal cells along the DEJ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d
from scipy.spatial import cKDTree

from .recipe import Floats, Grid, Mask, Rng, Skin
from .relief import Relief
from .scatter import keep_apart

_CANDIDATES = 4
_BASAL_UM = 4.5
_ABOVE_UM = 25.0
_FLATTENING = 1.3


@dataclass(frozen=True)
class _Cells:
    """Centers (x, z, unrolled depth) of shape (N, 3), in micrometers, and what each holds, shape (N,)."""

    centers_um: Floats
    cytoplasm: Floats
    nucleus_um: Floats
    basal: Mask


def epidermis_reflectivity(rng: Rng, grid: Grid, relief: Relief, skin: Skin, living: Mask) -> Floats:
    """Return the reflectivity of the living epidermis, about 1, shape (Z, Y, X); 0 elsewhere.

    Parameters
    ----------
    living : bool (Z, Y, X)
        Epidermis below the corneum.
    """
    cells = _place_cells(rng, grid, relief, skin)
    out = np.zeros(grid.shape, np.float32)
    tree, middle = cKDTree(cells.centers_um), len(grid.z_um) // 2
    coarse = _nearest(tree, grid, relief, middle)
    for slice_index, mask in enumerate(living):
        row, column = np.nonzero(mask)
        candidates = coarse[row // 2, column // 2]
        spot = _unroll(grid, relief, slice_index, row, column)
        out[slice_index, row, column] = _paint(cells, candidates, spot, skin)
    basal_um = (relief.dej_um[:, None] - grid.y_um[:, None]) / (0.9 * skin.cell_um)
    upper = (grid.y_um[:, None] - relief.corneum_um[:, None]) / 7
    out *= 1 + (skin.basal_gain - 1) * np.exp(-(np.clip(basal_um, 0, 3) ** 4))
    out *= 1 + 0.5 * np.exp(-(np.clip(upper, 0, 3) ** 2))  # keratohyalin
    return out


def _stretch(depth_um: Floats, thickness_um: Floats) -> Floats:
    """Return the unrolled depth, in which all cells are round."""
    share = np.clip(depth_um / thickness_um, -0.5, 1.2)
    return np.asarray(thickness_um * (share + _FLATTENING * (share - np.maximum(share, 0) ** 2 / 2)), np.float32)


def _roof(grid: Grid, relief: Relief) -> Floats:
    """Return the height from which cells are stacked, shape (Z, X): the corneum without its sharp furrows."""
    smooth = gaussian_filter1d(relief.corneum_um, 14 / grid.pixel_um, axis=1)
    return np.asarray(np.minimum(smooth, relief.dej_um - 12), np.float32)


def _place_cells(rng: Rng, grid: Grid, relief: Relief, skin: Skin) -> _Cells:
    """Return basal cells along the DEJ and, above them, cells that grow wider toward the corneum."""
    thickness = relief.dej_um - _roof(grid, relief)
    margin_um, pitch_um = 15.0, skin.cell_um
    size = (float(grid.x_um[-1]) + 2 * margin_um, float(grid.z_um[-1]) + 2 * margin_um)
    area = size[0] * size[1] / pitch_um**2
    top_um = float(thickness.max()) * (1 + _FLATTENING / 2)
    counts = int(3 * area), min(60_000, int(2.5 * area * (top_um + _ABOVE_UM) / pitch_um))
    points = rng.random((sum(counts), 3)).astype(np.float32)
    points[:, :2] = points[:, :2] * size - margin_um
    column = np.clip(np.rint(points[:, 0] / grid.pixel_um), 0, len(grid.x_um) - 1).astype(np.intp)
    local_um = thickness.mean(axis=0)[column]
    points[:, 2] = points[:, 2] * (top_um + _ABOVE_UM) - _ABOVE_UM
    basal = np.arange(len(points)) < counts[0]
    level_um = _stretch(local_um - _BASAL_UM - rng.normal(0, 0.8, len(points)).astype(np.float32), local_um)
    points[basal, 2] = level_um[basal]
    radius = (pitch_um * np.where(basal, 0.72, 0.82 + 0.35 * np.clip(1 - points[:, 2] / top_um, 0, 1))).astype(
        np.float32
    )
    valid = basal | (points[:, 2] < level_um - 3)
    points, radius, basal = points[valid], radius[valid], basal[valid]
    kept = keep_apart(points, radius)
    bright = rng.lognormal(0, np.where(basal[kept], 0.3, 0.18)).astype(np.float32)
    bright[rng.random(len(kept)) < 0.01] *= 2.2  # Langerhans cells and others that shine
    nucleus_um = np.clip(rng.normal(0.37, 0.05, len(kept)) * radius[kept], 2.0, 5.4)
    nucleus_um[rng.random(len(kept)) < 0.12] = 0.1
    return _Cells(points[kept], bright, nucleus_um.astype(np.float32), basal[kept])


def _unroll(
    grid: Grid, relief: Relief, slice_index: int, row: npt.NDArray[np.intp], column: npt.NDArray[np.intp]
) -> Floats:
    """Return where pixels lie among the cells, shape (N, 3)."""
    top = _roof(grid, relief)[slice_index]
    thickness = relief.dej_um[slice_index] - top
    depth = _stretch(grid.y_um[row] - top[column], thickness[column])
    return np.stack([grid.x_um[column], np.full(len(row), grid.z_um[slice_index]), depth], axis=1)


def _nearest(tree: cKDTree, grid: Grid, relief: Relief, slice_index: int) -> npt.NDArray[np.intp]:
    """Return the cells nearest to every second pixel of a slice, shape (Y / 2, X / 2, candidates)."""
    _, rows, columns = grid.shape
    row, column = (index.ravel() for index in np.mgrid[0:rows:2, 0:columns:2])
    out = np.zeros((len(row), _CANDIDATES), np.intp)
    y_um, slack_um = grid.y_um[row], 12
    top, bottom = relief.corneum_um.min(axis=0), relief.dej_um.max(axis=0)
    near = (y_um > top[column] - slack_um) & (y_um < bottom[column] + slack_um)
    spot = _unroll(grid, relief, slice_index, row[near], column[near])
    out[near] = tree.query(spot, _CANDIDATES, eps=0.1)[1] if near.any() else 0
    return out.reshape((rows + 1) // 2, (columns + 1) // 2, _CANDIDATES)


def _paint(cells: _Cells, candidates: npt.NDArray[np.intp], spot: Floats, skin: Skin) -> Floats:
    """Return the reflectivity of pixels at ``spot`` (N, 3) whose nearest cells are ``candidates`` (N, k)."""
    away = cells.centers_um[candidates] - spot[:, None]
    distance = np.sqrt((away**2).sum(axis=2))
    nearest = np.argmin(distance, axis=1)[:, None]
    mine = np.take_along_axis(candidates, nearest, axis=1)[:, 0]
    near = np.sort(distance, axis=1)[:, :2]
    value = cells.cytoplasm[mine] * (1 + skin.membrane_contrast * np.exp(-(near[:, 1] - near[:, 0]) / 1.2))
    nucleus = 1 / (1 + np.exp(np.clip((near[:, 0] - cells.nucleus_um[mine]) / 0.35, -30, 30)))
    above = np.take_along_axis(away[:, :, 2], nearest, axis=1)[:, 0]
    cap = cells.basal[mine] & (above > 1) & (above < 5) & (cells.cytoplasm[mine] > 1.05)
    value *= 1 + 0.8 * max(0.0, skin.basal_gain - 1) * cap  # melanin above the nucleus
    return np.asarray(value * (1 - skin.nucleus_contrast * nucleus), np.float32)
