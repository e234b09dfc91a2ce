"""The compiled part of ordered decoding: scores of columns and the search for the best line.

Everything here runs over several slices at once, one in each lane, the last axis of every array: the search is a
chain of maxima along rows and columns, in which each step waits for the one before, and only other slices can fill
the processor meanwhile. How many lanes there are changes speed and memory and not a bit of any answer.
``skinoct.decode`` says what is computed and why; this file only makes it fast.

The functions learn the number of lanes from the length of a tuple, because that is part of its type: it is known when
they are compiled, and all lanes of a step fit one register (``skinoct.simd``).

Compiled by numba at first use, and kept on disk from then on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

from skinoct.labels import Label
from skinoct.simd import add, choose, load, splat, store, subtract

FloatArray = npt.NDArray[np.float32]
Function = TypeVar("Function", bound=Callable[..., Any])

Lanes = tuple[int, ...]
LANES: Lanes = (0,) * 8
"""As many as suit the processor: eight float32 fill a 256-bit register."""
SEARCH_BYTES = 256 * 2**20
"""Memory that the search may take; images too large for it with all lanes are searched with fewer, but at least one."""
_LANE_BYTES = 46
"""Bytes that a search needs for each pixel and lane: a score at each of nine stages that are needed at the same time,
and the logarithms that it begins with."""
_TILE = 16
"""Rows and columns scored together: a cache line of the network's answer each."""
FORBIDDEN = np.float32(-1e6)
_GLASS, _GLYCEROL, _EPIDERMIS, _DEJ, _DERMIS = (
    label - 1 for label in (Label.GLASS, Label.GLYCEROL, Label.EPIDERMIS, Label.DEJ, Label.DERMIS)
)
_PANE, _SKIN = 5, 6
"""Places of the best borders so far, after the sums of the layers."""


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
def pair_products(
    image: FloatArray, floor: float, dark_as_epidermis: float, dark_as_dermis: float, products: FloatArray
) -> None:
    """Multiply the probabilities of pairs of columns, each at least ``floor``.

    Parameters
    ----------
    image : float32, shape (5, Y, X)
    floor, dark_as_epidermis, dark_as_dermis : float
        As in ``skinoct.decode.DecodeConfig``.
    products : float32, shape (5, Y, ceil(X / 2))
        Written; an odd last column stands for two.
    """
    labels, rows, columns = image.shape
    least = np.float32(floor)
    for label in range(labels):
        share = np.float32(0)
        if label == _EPIDERMIS:
            share = np.float32(dark_as_epidermis)
        elif label == _DERMIS:
            share = np.float32(dark_as_dermis)
        for y in range(rows):
            line, dark, out = image[label, y], image[_GLYCEROL, y], products[label, y]
            for x in range(columns // 2):
                one = max(max(line[2 * x], least), share * dark[2 * x])
                other = max(max(line[2 * x + 1], least), share * dark[2 * x + 1])
                out[x] = one * other
            if columns % 2:
                last = max(max(line[columns - 1], least), share * dark[columns - 1])
                out[columns // 2] = last * last


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
    shape, count = (columns, rows + 1, len(lanes)), len(lanes)
    glass, above_skin = np.empty(shape, np.float32), np.empty(shape, np.float32)
    above_dej, below = np.empty(shape, np.float32), np.empty(shape, np.float32)
    tile = np.zeros((_TILE, _TILE, 5, count), np.float32)
    sums = np.zeros((columns, 7, count), np.float32)
    sums[:, _PANE] = FORBIDDEN
    sums[:, _SKIN] = FORBIDDEN
    flat = glass.reshape(-1), above_skin.reshape(-1), above_dej.reshape(-1), below.reshape(-1)
    flat_tile, flat_sums = tile.reshape(-1), sums.reshape(-1)
    for left in range(0, columns, _TILE):
        for top in range(0, rows + 1, _TILE):
            turn(logs, left, top, tile, lanes)
            height = min(_TILE, rows + 1 - top)
            for x in range(left, min(left + _TILE, columns)):
                out = (x * (rows + 1) + top) * count
                score_rows(flat_tile, (x - left) * 5 * count, flat_sums, x * 7 * count, flat, out, height, lanes)
    return glass, above_skin, above_dej, below


@compiled
def score_rows(
    gains: FloatArray,
    first: int,
    sums: FloatArray,
    above: int,
    scores: tuple[FloatArray, FloatArray, FloatArray, FloatArray],
    out: int,
    height: int,
    lanes: Lanes,
) -> None:
    """Score some rows of one column; all arrays are flat.

    Parameters
    ----------
    gains : float32
        The tile from its column ``first`` on: what each layer gains by each row. What comes after the last row of
        the image counts nowhere.
    sums : float32
        From ``above`` on (7, lanes): what each layer gained by the rows before, then the best border of the glass and
        of the skin so far; brought up to date.
    scores : four float32
        As ``column_scores`` returns them; from ``out`` on ``height`` rows are written.
    """
    count = len(lanes)
    glass, above_skin, above_dej, below = scores
    in_glass, in_glycerol = load(sums, above + _GLASS * count, lanes), load(sums, above + _GLYCEROL * count, lanes)
    in_epidermis, in_dej = load(sums, above + _EPIDERMIS * count, lanes), load(sums, above + _DEJ * count, lanes)
    in_dermis = load(sums, above + _DERMIS * count, lanes)
    best_pane, best_skin = load(sums, above + _PANE * count, lanes), load(sums, above + _SKIN * count, lanes)
    for k in range(height):
        pane = subtract(in_glass, in_glycerol)
        best_pane = choose(pane, best_pane, pane, best_pane)
        skin = subtract(add(best_pane, in_glycerol), in_epidermis)
        best_skin = choose(skin, best_skin, skin, best_skin)
        at, row = out + k * count, first + k * _TILE * 5 * count
        store(glass, at, pane)
        store(above_skin, at, skin)
        store(above_dej, at, subtract(add(best_skin, in_epidermis), in_dej))
        store(below, at, subtract(in_dej, in_dermis))
        in_glass = add(in_glass, load(gains, row + _GLASS * count, lanes))
        in_glycerol = add(in_glycerol, load(gains, row + _GLYCEROL * count, lanes))
        in_epidermis = add(in_epidermis, load(gains, row + _EPIDERMIS * count, lanes))
        in_dej = add(in_dej, load(gains, row + _DEJ * count, lanes))
        in_dermis = add(in_dermis, load(gains, row + _DERMIS * count, lanes))
    store(sums, above + _GLASS * count, in_glass)
    store(sums, above + _GLYCEROL * count, in_glycerol)
    store(sums, above + _EPIDERMIS * count, in_epidermis)
    store(sums, above + _DEJ * count, in_dej)
    store(sums, above + _DERMIS * count, in_dermis)
    store(sums, above + _PANE * count, best_pane)
    store(sums, above + _SKIN * count, best_skin)


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
def charge_thickness(
    score: FloatArray, skin: FloatArray, band: int, price: FloatArray, least_price: FloatArray, lanes: Lanes
) -> FloatArray:
    """Take off what a thickness of the epidermis costs.

    Parameters
    ----------
    score : float32, shape (X, band + Y + 1, lanes)
        From ``band_scores``.
    skin : float32, shape (X, lanes)
        Row of the skin surface; 0 where it is out of view.
    band : int
        Rows of the band.
    price : float32, shape (n,)
        Of each number of rows from the skin surface to the middle of the DEJ.
    least_price : float32, shape (n,)
        The same where the skin surface lies above the image, or the DEJ below it: there are more rows than are seen.
    lanes : tuple

    Returns
    -------
    float32, shape (X, band + Y + 1, lanes)
    """
    columns, positions, _ = score.shape
    last = len(price) - 1
    charged = np.empty_like(score)
    for x in range(columns):
        for i in range(positions):
            for lane in range(len(lanes)):
                thickness = i - np.float32(0.5) * band - skin[x, lane]
                at = min(int(max(thickness, np.float32(0))), last)
                out_of_view = skin[x, lane] < np.float32(0.5) or i == positions - 1
                charged[x, i, lane] = score[x, i, lane] - (least_price[at] if out_of_view else price[at])
    return charged


@compiled
def forbid_below(score: FloatArray, limit: FloatArray, lanes: Lanes) -> None:
    """Forbid, in place, the positions of ``score`` (X, P, lanes) past ``limit`` (X, lanes)."""
    for x in range(score.shape[0]):
        for p in range(score.shape[1]):
            for lane in range(len(lanes)):
                if p > limit[x, lane]:
                    score[x, p, lane] = FORBIDDEN


@compiled
def best_positions(score: FloatArray, lanes: Lanes) -> FloatArray:
    """Return the best position of each column of ``score`` (X, P, lanes) by itself, the first of equals: (X, lanes)."""
    columns, positions, _ = score.shape
    best = np.zeros((columns, len(lanes)), np.float32)
    for x in range(columns):
        for lane in range(len(lanes)):
            highest = score[x, 0, lane]
            for p in range(1, positions):
                if score[x, p, lane] > highest:
                    highest = score[x, p, lane]
                    best[x, lane] = p
    return best


@compiled
def spread_near(carried: FloatArray, spare: FloatArray, step_price: float, reach: int, lanes: Lanes) -> None:
    """Let each position of (P, lanes) take, in place, the best of those within ``reach``, less the price of the way.

    By steps of 1, 2, 3, 6, ... positions, each as long as all before it and one more: their sums are all distances.
    ``spare`` is room of the same shape.
    """
    count, last = len(lanes), carried.shape[0] - 1
    source, target = carried.reshape(carried.size), spare.reshape(spare.size)
    covered, swapped = 0, False
    while covered < min(reach, last):
        step = min(covered + 1, reach - covered, last)
        price = splat(np.float32(step * step_price), lanes)
        for p in range(last + 1):
            best = load(source, p * count, lanes)
            if p >= step:
                above = subtract(load(source, (p - step) * count, lanes), price)
                best = choose(above, best, above, best)
            if p + step <= last:
                under = subtract(load(source, (p + step) * count, lanes), price)
                best = choose(under, best, under, best)
            store(target, p * count, best)
        source, target = target, source
        covered, swapped = covered + step, not swapped
    if swapped:
        carried[:] = spare


@compiled
def spread_up(carried: FloatArray, step_price: float, lanes: Lanes) -> None:
    """Let each position of (P, lanes) take, in place, the best of those below it, less the price of the way.

    With the same from above it is the distance transform of Felzenszwalb and Huttenlocher, *Distance Transforms of
    Sampled Functions*, Theory of Computing 2012, section 3.
    """
    count, last = len(lanes), carried.shape[0] - 1
    flat, price = carried.reshape(carried.size), splat(np.float32(step_price), lanes)
    best = load(flat, last * count, lanes)
    for p in range(last - 1, -1, -1):
        here, come = load(flat, p * count, lanes), subtract(best, price)
        best = choose(come, here, come, here)
        store(flat, p * count, best)


@compiled
def from_the_left(
    score: FloatArray, carried: FloatArray, known: FloatArray, step_price: float, far: bool, lanes: Lanes
) -> None:
    """Add a column to the best lines that come from the left.

    Parameters
    ----------
    score : float32, shape (P, lanes)
        Of the column.
    carried : float32, shape (P, lanes)
        Score of the best line that reaches each position before the column; after it when this is done.
    known : float32, shape (P, lanes)
        The same is written here, before lines step.
    step_price : float
    far : bool
        Whether lines step down by any number of rows at once; otherwise they stay.
    """
    count, last = len(lanes), carried.shape[0] - 1
    gains, flat, out = score.reshape(score.size), carried.reshape(carried.size), known.reshape(known.size)
    base, price = load(flat, 0, lanes), splat(np.float32(step_price), lanes)
    # Only differences matter; without a base the sums of a wide image lose float32 precision.
    best = splat(FORBIDDEN, lanes)
    for p in range(last + 1):
        here = add(subtract(load(flat, p * count, lanes), base), load(gains, p * count, lanes))
        store(out, p * count, here)
        come = subtract(best, price)
        best = choose(come, here, come, here) if far else here
        store(flat, p * count, best)


@compiled
def from_the_right(
    score: FloatArray,
    carried: FloatArray,
    known: FloatArray,
    best_row: FloatArray,
    step_price: float,
    far: bool,
    lanes: Lanes,
) -> None:
    """Add a column to the best lines that come from the right, and find the best line through it.

    Parameters
    ----------
    score, carried : float32, shape (P, lanes)
        As for ``from_the_left``.
    known : float32, shape (P, lanes)
        The best lines from the left; the sum of both is written here.
    best_row : float32, shape (lanes,)
        Position of the highest sum is written here, the first of equal ones.
    step_price, far
        As for ``from_the_left``.
    """
    count, last = len(lanes), carried.shape[0] - 1
    gains, flat, sums = score.reshape(score.size), carried.reshape(carried.size), known.reshape(known.size)
    base, price = load(flat, 0, lanes), splat(np.float32(step_price), lanes)
    best = splat(FORBIDDEN, lanes)
    highest, row = splat(-np.inf, lanes), splat(np.float32(0), lanes)
    for p in range(last + 1):
        come_here = subtract(load(flat, p * count, lanes), base)
        both = add(load(sums, p * count, lanes), come_here)
        store(sums, p * count, both)
        row = choose(both, highest, splat(np.float32(p), lanes), row)
        highest = choose(both, highest, both, highest)
        here = add(come_here, load(gains, p * count, lanes))
        come = subtract(best, price)
        best = choose(come, here, come, here) if far else here
        store(flat, p * count, best)
    store(best_row, 0, row)


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
    known = np.empty_like(score)
    carried = np.zeros((positions, len(lanes)), np.float32)
    spare, row = np.empty_like(carried), np.empty(len(lanes), np.float32)
    for x in range(columns):
        from_the_left(score[x], carried, known[x], step_price, reach == 0, lanes)
        if reach:
            spread_near(carried, spare, step_price, reach, lanes)
        else:
            spread_up(carried, step_price, lanes)
    line = np.empty((columns, len(lanes)), np.float32)
    best = np.zeros((columns, len(lanes)), np.int32)
    carried[:] = 0
    for x in range(columns - 1, -1, -1):
        from_the_right(score[x], carried, known[x], row, step_price, reach == 0, lanes)
        refine(known[x], row, line[x], best[x], lanes)
        if reach:
            spread_near(carried, spare, step_price, reach, lanes)
        else:
            spread_up(carried, step_price, lanes)
    return line, best


@compiled
def refine(column: FloatArray, row: FloatArray, line: FloatArray, best: npt.NDArray[np.int32], lanes: Lanes) -> None:
    """Refine the maximum ``row`` of each lane of ``column`` (P, lanes) by a parabola; results of shape (lanes,)."""
    last = column.shape[0] - 1
    for lane in range(len(lanes)):
        at = int(row[lane])
        best[lane] = at
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
