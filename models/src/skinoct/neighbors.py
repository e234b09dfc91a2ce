"""Slices with their neighbors, as the network sees them."""

from __future__ import annotations

import numpy as np

from skinoct.grid import Grid, resize
from skinoct.intensity import IntensityConfig, IntensityScale, normalize
from skinoct.segmentation import FloatArray
from skinoct.tomogram import Voxels


class NeighborReader:
    """Reads slices with their neighbors, normalized and at the size of the network.

    Gone through in order, every slice is read once: what the next ones need as neighbors is kept.

    Parameters
    ----------
    voxels : array or reader of one, shape (Z, Y, X)
    scale : IntensityScale
        Of its gray values.
    intensity : IntensityConfig
    grid : Grid
    context : int
        Neighbors on each side.
    """

    def __init__(
        self, voxels: Voxels, scale: IntensityScale, intensity: IntensityConfig, grid: Grid, context: int
    ) -> None:
        self._voxels, self._scale, self._intensity = voxels, scale, intensity
        self._grid, self._context = grid, context
        self._kept = np.empty((0, *grid.network), np.float32)
        self._first = 0

    def read(self, start: int, stop: int) -> FloatArray:
        """Return slices ``start`` to ``stop`` with their neighbors as channels, float32 (n, C, H, W)."""
        reach = self._context * self._grid.slice_step
        first, last = max(0, start - reach), min(self._voxels.shape[0], stop + reach)
        block = self._slices(first, last)
        return stack_neighbors(block, start - first, stop - start, self._context, self._grid.slice_step)

    def _slices(self, first: int, last: int) -> FloatArray:
        """Return normalized slices (n, H, W); those that were returned the last time are not read again."""
        end = self._first + len(self._kept)
        known = self._kept[first - self._first :] if self._first <= first < end <= last else self._kept[:0]
        new = normalize(np.asarray(self._voxels[first + len(known) : last]), self._scale, self._intensity)
        block = np.concatenate([known, resize(new, self._grid.network)])
        self._first, self._kept = first, block
        return block


def stack_neighbors(slices: FloatArray, start: int, count: int, context: int, step: int = 1) -> FloatArray:
    """Give each slice its neighbors as channels, without copying them.

    Parameters
    ----------
    slices : float32, shape (n, H, W)
        Consecutive slices; beyond its ends the outermost slice is repeated.
    start, count : int
        Which slices to return.
    context : int
        Neighbors on each side.
    step : int
        Slices from one neighbor to the next.

    Returns
    -------
    float32, shape (count, 2 * context + 1, H, W)
        A view, in which a slice that is a neighbor of several lies once.
    """
    reach = context * step
    before, after = max(0, reach - start), max(0, start + count + reach - len(slices))
    if before or after:
        slices = np.pad(slices, ((before, after), (0, 0), (0, 0)), mode="edge")
    first = start + before - reach
    needed = np.ascontiguousarray(slices[first : first + count + 2 * reach])
    # Writeable only because PyTorch warns of arrays that are not; nobody writes.
    windows = np.lib.stride_tricks.sliding_window_view(needed, 2 * reach + 1, axis=0, writeable=True)
    return np.moveaxis(windows[..., ::step], -1, 1)
