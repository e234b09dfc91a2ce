"""The compiled part of ordered decoding: scores of columns and the search for the best line.

Everything here runs over several slices at once, one in each lane, the last axis of every array: the search is a
chain of maxima along rows and columns, in which each step waits for the one before, and only other slices can fill
the processor meanwhile. How many lanes there are changes speed and memory and not a bit of any answer.
``skinoct.decode`` says what is computed and why; this file only makes it fast.

The functions learn the number of lanes from the length of a tuple, because that is part of its type: it is known when
they are compiled, and a loop over eight lanes becomes one instruction.

Compiled by numba at first use, and kept on disk from then on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

from skinoct.labels import Label

FloatArray = npt.NDArray[np.float32]
Function = TypeVar("Function", bound=Callable[..., Any])

Lanes = tuple[int, ...]
LANES: Lanes = (0,) * 8
"""As many as suit the processor: eight float32 fill a 256-bit register."""
SEARCH_BYTES = 256 * 2**20
"""Memory that the search may take; images too large for it with all lanes are searched with fewer, but at least one."""
_LANE_BYTES = 36
"""Of a search for each pixel and lane: a score at each of nine stages that are needed at the same time."""
_TILE = 16
"""Rows and columns scored together: a cache line of the network's answer each."""
FORBIDDEN = np.float32(-1e6)
_GLASS, _GLYCEROL, _EPIDERMIS, _DEJ, _DERMIS = (
    label - 1 for label in (Label.GLASS, Label.GLYCEROL, Label.EPIDERMIS, Label.DEJ, Label.DERMIS)
)


def compiled(function: Function) -> Function:
    """Compile with numba; the machine code is kept on disk where some folder for it can be written."""
    try:
        return cast(Function, numba.njit(cache=True, nogil=True)(function))
    except RuntimeError:  # neither beside the package nor in the user's cache
        return cast(Function, numba.njit(nogil=True)(function))


def suited_lanes(rows: int, columns: int) -> Lanes:
    """Return lanes for images (Y, X): eight, four, two or one."""
    count = len(LANES)
    while count > 1 and count * rows * columns * _LANE_BYTES > SEARCH_BYTES:
        count //= 2
    return LANES[:count]


@compiled
def turn(logs: FloatArray, left: int, top: int, tile: FloatArray, lanes: Lanes) -> None:
    """Copy a piece of ``logs`` (lanes, 5, Y, X) to ``tile`` (rows, columns, 5, lanes).

    Apart from ``column_scores`` because the slices of one pixel lie as far apart as caches dislike most: here each line
    of the cache is read once. All lanes are copied, also empty ones: one instruction takes as many as it knows of.
    """
    _, labels, rows, columns = logs.shape
    height, width = min(tile.shape[0], rows - top), min(tile.shape[1], columns - left)
    for label in range(labels):
        for k in range(height):
            for x in range(width):
                for lane in range(len(lanes)):
                    tile[k, x, label, lane] = logs[lane, label, top + k, left + x]


@compiled
def column_scores(logs: FloatArray, lanes: Lanes) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Score every row of every column as the border of two layers.

    Parameters
    ----------
    logs : float32, shape (lanes, 5, Y, X)
        Log probabilities, zero in lanes without a slice.
    lanes : tuple

    Returns
    -------
    glass, above_skin, above_dej, below : float32, shape (X, Y + 1, lanes)
        At row ``k``: glass above against glycerol; the best glass and glycerol above against epidermis; the best of
        everything above against DEJ; DEJ above against dermis.
    """
    _, _, rows, columns = logs.shape
    shape = (columns, rows + 1, len(lanes))
    glass, above_skin = np.empty(shape, np.float32), np.empty(shape, np.float32)
    above_dej, below = np.empty(shape, np.float32), np.empty(shape, np.float32)
    tile = np.zeros((_TILE, _TILE, 5, len(lanes)), np.float32)
    sums = np.zeros((columns, 5, len(lanes)), np.float32)
    best_pane = np.full((columns, len(lanes)), FORBIDDEN, np.float32)
    best_skin = np.full((columns, len(lanes)), FORBIDDEN, np.float32)
    for left in range(0, columns, _TILE):
        for top in range(0, rows + 1, _TILE):
            turn(logs, left, top, tile, lanes)
            for x in range(left, min(left + _TILE, columns)):
                for k in range(top, min(top + _TILE, rows + 1)):
                    for lane in range(len(lanes)):
                        pane = sums[x, _GLASS, lane] - sums[x, _GLYCEROL, lane]
                        best_pane[x, lane] = max(best_pane[x, lane], pane)
                        skin = best_pane[x, lane] + sums[x, _GLYCEROL, lane] - sums[x, _EPIDERMIS, lane]
                        best_skin[x, lane] = max(best_skin[x, lane], skin)
                        glass[x, k, lane] = pane
                        above_skin[x, k, lane] = skin
                        above_dej[x, k, lane] = best_skin[x, lane] + sums[x, _EPIDERMIS, lane] - sums[x, _DEJ, lane]
                        below[x, k, lane] = sums[x, _DEJ, lane] - sums[x, _DERMIS, lane]
                    if k < rows:
                        for label in range(5):
                            for lane in range(len(lanes)):
                                sums[x, label, lane] += tile[k - top, x - left, label, lane]
    return glass, above_skin, above_dej, below


@compiled
def band_scores(above_dej: FloatArray, below: FloatArray, band: int, lanes: Lanes) -> FloatArray:
    """Score every row at which the DEJ band may begin.

    Parameters
    ----------
    above_dej, below : float32, shape (X, Y + 1, lanes)
        From ``column_scores``.
    band : int
        Rows of the band.
    lanes : tuple

    Returns
    -------
    float32, shape (X, band + Y + 1, lanes)
        Index ``i`` is a band that begins at row ``i - band``; index 0 is a DEJ above the image, the last index a
        DEJ below it.
    """
    columns, positions, _ = above_dej.shape
    score = np.zeros((columns, band + positions, len(lanes)), np.float32)
    for x in range(columns):
        for i in range(band + positions):
            for lane in range(len(lanes)):
                value = below[x, min(i, positions - 1), lane]
                # The band begins above the image, lies within it, or leaves it at the bottom.
                if i >= band:
                    value += above_dej[x, i - band, lane]
                score[x, i, lane] = value
    return score


@compiled
def charge_thickness(score: FloatArray, skin: FloatArray, band: int, price: FloatArray, lanes: Lanes) -> None:
    """Take off, in place, what a thickness of the epidermis costs.

    Parameters
    ----------
    score : float32, shape (X, band + Y + 1, lanes)
        From ``band_scores``.
    skin : float32, shape (X, lanes)
        Row of the skin surface.
    band : int
        Rows of the band.
    price : float32, shape (n,)
        Of each number of rows from the skin surface to the middle of the DEJ.
    lanes : tuple
    """
    columns, positions, _ = score.shape
    for x in range(columns):
        for i in range(positions):
            for lane in range(len(lanes)):
                thickness = i - np.float32(0.5) * band - skin[x, lane]
                at = int(max(thickness, np.float32(0)))
                score[x, i, lane] -= price[at if at < len(price) else len(price) - 1]


@compiled
def forbid_below(score: FloatArray, limit: FloatArray, lanes: Lanes) -> None:
    """Forbid, in place, the positions of ``score`` (X, P, lanes) past ``limit`` (X, lanes)."""
    for x in range(score.shape[0]):
        for p in range(score.shape[1]):
            for lane in range(len(lanes)):
                if p > limit[x, lane]:
                    score[x, p, lane] = FORBIDDEN


@compiled
def spread(carried: FloatArray, step_price: float, lanes: Lanes) -> None:
    """Let each position of (P, lanes) take, in place, the best of all others less the price of the way.

    Felzenszwalb and Huttenlocher, *Distance Transforms of Sampled Functions*, Theory of Computing 2012, section 3.
    """
    price = np.float32(step_price)
    last = carried.shape[0] - 1
    for p in range(1, last + 1):
        for lane in range(len(lanes)):
            carried[p, lane] = max(carried[p, lane], carried[p - 1, lane] - price)
    for p in range(last - 1, -1, -1):
        for lane in range(len(lanes)):
            carried[p, lane] = max(carried[p, lane], carried[p + 1, lane] - price)


@compiled
def spread_near(carried: FloatArray, step_price: float, reach: int, lanes: Lanes) -> None:
    """Do what ``spread`` does, but only over ``reach`` positions."""
    price = np.float32(step_price)
    last = carried.shape[0] - 1
    above = np.zeros(len(lanes), np.float32)
    for _ in range(reach):
        for lane in range(len(lanes)):
            above[lane] = carried[0, lane]
        for p in range(last + 1):
            for lane in range(len(lanes)):
                here = carried[p, lane]
                beside = max(above[lane], carried[min(p + 1, last), lane])
                carried[p, lane] = max(here, beside - price)
                above[lane] = here


@compiled
def best_line(
    score: FloatArray, step_price: float, reach: int, lanes: Lanes
) -> tuple[FloatArray, npt.NDArray[np.int32]]:
    """Find the line of highest score, with a price on each row of step between columns.

    Parameters
    ----------
    score : float32, shape (X, P, lanes)
        Of each position in each column.
    step_price : float
    reach : int
        Rows that the line may step between two columns; 0 for any number.
    lanes : tuple

    Returns
    -------
    line : float32, shape (X, lanes)
        Position, refined below one row by the parabola through the maximum and its neighbors.
    best : int32, shape (X, lanes)
        The same, not refined.
    """
    columns, positions, _ = score.shape
    from_left = np.empty_like(score)
    carried = np.zeros((positions, len(lanes)), np.float32)
    # Only differences matter; without a base the sums of a wide image lose float32 precision.
    base = np.zeros(len(lanes), np.float32)
    for x in range(columns):
        for p in range(positions):
            for lane in range(len(lanes)):
                from_left[x, p, lane] = carried[p, lane] - base[lane] + score[x, p, lane]
                carried[p, lane] = from_left[x, p, lane]
        if reach:
            spread_near(carried, step_price, reach, lanes)
        else:
            spread(carried, step_price, lanes)
        base[:] = carried[0]
    line = np.empty((columns, len(lanes)), np.float32)
    best = np.zeros((columns, len(lanes)), np.int32)
    column = np.empty((positions, len(lanes)), np.float32)
    carried[:] = 0
    base[:] = 0
    for x in range(columns - 1, -1, -1):
        for p in range(positions):
            for lane in range(len(lanes)):
                from_right = carried[p, lane] - base[lane]
                column[p, lane] = from_left[x, p, lane] + from_right
                carried[p, lane] = from_right + score[x, p, lane]
        pick(column, line[x], best[x], lanes)
        if reach:
            spread_near(carried, step_price, reach, lanes)
        else:
            spread(carried, step_price, lanes)
        base[:] = carried[0]
    return line, best


@compiled
def pick(column: FloatArray, line: FloatArray, best: npt.NDArray[np.int32], lanes: Lanes) -> None:
    """Find the maximum of each lane of ``column`` (P, lanes) and refine it; results of shape (lanes,), zero before."""
    last = column.shape[0] - 1
    highest = np.empty(len(lanes), np.float32)
    highest[:] = column[0]
    for p in range(1, last + 1):
        for lane in range(len(lanes)):  # without branches, so that all lanes are compared at once
            higher = column[p, lane] > highest[lane]
            highest[lane] = column[p, lane] if higher else highest[lane]
            best[lane] = p if higher else best[lane]
    for lane in range(len(lanes)):
        at = best[lane]
        offset = np.float32(0)
        if 0 < at < last:
            left, right = column[at - 1, lane], column[at + 1, lane]
            curvature = left - 2 * column[at, lane] + right
            if curvature < -1e-6:
                offset = min(max(np.float32(0.5) * (left - right) / curvature, np.float32(-0.5)), np.float32(0.5))
        line[lane] = at + offset


@compiled
def subtract_best(score: FloatArray, divisor: float, lanes: Lanes) -> None:
    """Turn scores (X, P, lanes), in place, into logarithms of probabilities, apart from a factor."""
    scale = np.float32(1 / divisor)
    for x in range(score.shape[0]):
        highest = np.zeros(len(lanes), np.float32)
        for lane in range(len(lanes)):
            highest[lane] = score[x, 0, lane]
        for p in range(score.shape[1]):
            for lane in range(len(lanes)):
                highest[lane] = max(highest[lane], score[x, p, lane])
        for p in range(score.shape[1]):
            for lane in range(len(lanes)):
                score[x, p, lane] = (score[x, p, lane] - highest[lane]) * scale


@compiled
def share_within(mass: FloatArray, best: npt.NDArray[np.int32], reach: int, lanes: Lanes) -> FloatArray:
    """Return the share (X, lanes) of ``mass`` (X, P, lanes) within ``reach`` positions of ``best`` (X, lanes)."""
    columns, positions, _ = mass.shape
    share = np.empty((columns, len(lanes)), np.float32)
    for x in range(columns):
        inside, total = np.zeros(len(lanes), np.float32), np.zeros(len(lanes), np.float32)
        for p in range(positions):
            for lane in range(len(lanes)):
                total[lane] += mass[x, p, lane]
                if abs(p - best[x, lane]) <= reach:
                    inside[lane] += mass[x, p, lane]
        for lane in range(len(lanes)):
            share[x, lane] = inside[lane] / total[lane]
    return share


@compiled
def likeliest(probabilities: FloatArray) -> npt.NDArray[np.uint8]:
    """Return the channel of the highest of the probabilities (Z, C, Y, X) of each pixel, uint8 (Z, Y, X)."""
    slices, channels, rows, columns = probabilities.shape
    classes = np.zeros((slices, rows, columns), np.uint8)
    best = np.empty(columns, np.float32)
    for z in range(slices):
        for y in range(rows):
            best[:] = probabilities[z, 0, y]
            for channel in range(1, channels):
                for x in range(columns):  # without branches, so that many columns are compared at once
                    higher = probabilities[z, channel, y, x] > best[x]
                    best[x] = probabilities[z, channel, y, x] if higher else best[x]
                    classes[z, y, x] = channel if higher else classes[z, y, x]
    return classes


@compiled
def runs_inverted(classes: npt.NDArray[np.uint8], above: int, below: int, least_rows: int) -> npt.NDArray[np.bool_]:
    """Tell the columns (Z, X) where ``least_rows`` of class ``above`` lie above as many of class ``below``.

    ``classes`` is uint8 of shape (Z, Y, X).
    """
    slices, rows, columns = classes.shape
    inverted = np.zeros((slices, columns), np.bool_)
    for z in range(slices):
        seen, then = np.zeros(columns, np.int32), np.zeros(columns, np.int32)
        for y in range(rows):
            for x in range(columns):
                value = classes[z, y, x]
                seen[x] += value == above
                then[x] += (value == below) & (seen[x] >= least_rows)
        for x in range(columns):
            inverted[z, x] = then[x] >= least_rows
    return inverted
