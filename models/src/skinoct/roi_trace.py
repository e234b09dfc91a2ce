"""Labels to ROIs: contours along pixel corners, so that filling them gives back every pixel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from skinoct.labels import CLASSES, Label, layer
from skinoct.roi_types import Paths, Points, Roi

LabelArray = npt.NDArray[np.uint8]
ALL_CLASSES: tuple[Label, ...] = tuple(item.label for item in CLASSES)


def trace(
    labels: LabelArray | Iterable[LabelArray], *, labels_to_trace: Sequence[Label] = ALL_CLASSES
) -> Iterator[Roi]:
    """Yield one ROI per slice and class that occurs in it, in the order of slices and classes.

    Several parts and holes of a class are paths of one ROI (a composite in ImageJ).

    Parameters
    ----------
    labels : uint8 (Z, Y, X), or an iterable of uint8 (n, Y, X)
        A label stack, or its blocks in order; see ``Segmentation.blocks``.
    labels_to_trace : sequence of Label
        Classes wanted.
    """
    index = 0
    for block in [labels] if isinstance(labels, np.ndarray) else labels:
        for image in block:
            for label in labels_to_trace:
                paths = trace_mask(image == label)
                if paths:
                    yield Roi(f"{layer(label).name}-{index + 1:04d}", label, index, Paths(paths))
            index += 1


def trace_mask(mask: npt.NDArray[np.bool_]) -> tuple[Points, ...]:
    """Return the borders of a mask (Y, X) as closed paths of corner points (x, y).

    Borders run clockwise around the mask and counterclockwise around its holes; with y downwards the mask is
    at their right hand. Where two pixels touch by a corner only, the border passes through it twice.

    A corner of a border is a lattice point with an odd number of mask pixels around it, or one with two
    diagonal ones, which counts twice. Along a row of the lattice, corners belong together in pairs, since
    the first starts a piece of border and the second ends it; along a column likewise. Borders follow rows
    and columns by turns.
    """
    padded = np.pad(mask, 1)
    a, b, c, d = padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    single = a ^ b ^ c ^ d
    double = (a ^ b) & (a ^ c) & ~single
    where = np.flatnonzero(single | double)
    if not len(where):
        return ()
    where = np.repeat(where, 1 + double.ravel()[where])
    y, x = np.divmod(where, single.shape[1])
    in_columns = np.argsort(x, kind="stable")  # of equal x the smaller y first, as they come
    vertical = np.empty(len(where), np.int64)
    vertical[in_columns[0::2]], vertical[in_columns[1::2]] = in_columns[1::2], in_columns[0::2]
    inside_below = padded[y + 1, x + 1]
    points = np.stack([x, y], axis=1).astype(np.float64)
    return tuple(points[cycle if inside_below[cycle[0]] else cycle[::-1]] for cycle in _cycles(vertical.tolist()))


def _cycles(vertical: list[int]) -> Iterator[list[int]]:
    """Walk from corner to corner until all are seen, first along a row, to the right, then a column."""
    unseen = [True] * len(vertical)
    for start in range(0, len(vertical), 2):
        if not unseen[start]:
            continue
        cycle: list[int] = []
        at = start
        while unseen[at]:
            across = at ^ 1  # the corner at the other end of this piece of row
            unseen[at] = unseen[across] = False
            cycle += (at, across)
            at = vertical[across]
        yield cycle
