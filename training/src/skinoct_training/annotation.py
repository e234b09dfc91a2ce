"""What the doctors left out: labels that geometry decides.

Layers lie in one order and a drawn area is drawn to its end. Between two drawn layers that are neighbors,
or below a DEJ, nothing else can be; everywhere else stays 0, which training ignores. A wrong guess would
teach.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from skinoct.labels import Label

LabelArray = npt.NDArray[np.uint8]

_TOP, _BOTTOM = 0, 6
"""Stand for "nothing drawn above" and "nothing drawn below" in ``_DECIDED``."""

_DECIDED: dict[tuple[int, int], Label] = {
    (_TOP, Label.GLASS): Label.GLASS,
    (Label.GLASS, Label.GLASS): Label.GLASS,
    (Label.GLASS, Label.EPIDERMIS): Label.GLYCEROL,
    (Label.GLYCEROL, Label.GLYCEROL): Label.GLYCEROL,
    (Label.GLYCEROL, Label.DEJ): Label.EPIDERMIS,
    (Label.EPIDERMIS, Label.EPIDERMIS): Label.EPIDERMIS,
    (Label.EPIDERMIS, Label.DEJ): Label.EPIDERMIS,
    (Label.DEJ, Label.DERMIS): Label.DERMIS,
    (Label.DEJ, _BOTTOM): Label.DERMIS,
    (Label.DERMIS, Label.DERMIS): Label.DERMIS,
    (Label.DERMIS, _BOTTOM): Label.DERMIS,
}
"""Class of a gap in a column, by the drawn layers above and below it; every other gap stays open.

Open on purpose: above a lone epidermis or DEJ (glycerol, glass and skin surface are unknown), below a lone
epidermis, between epidermis and dermis (the DEJ is somewhere in there), between two DEJs (an overhang).
"""

SEAM_PX = 3
"""Layers drawn by hand leave a seam between them, or overlap: a border no thicker than this many pixels is both layers'
and goes half to each. Otherwise no column would be known throughout, and the skin surface not at all."""

MIN_EPIDERMIS_UM = 20.0
"""Where only the DEJ is drawn, this much tissue above it is epidermis: living epidermis is 23 to 28 um thin
above papillae and thicker elsewhere (measured in vivo), so that nothing else fits."""


def derive_layers(
    drawn: LabelArray, ignored: npt.NDArray[np.bool_] | None = None, *, pixel_um: float = 0.9
) -> LabelArray:
    """Fill the gaps of annotated slices where geometry decides them.

    Parameters
    ----------
    drawn : uint8, shape (Z, Y, X)
        Labels as drawn, 0 where nothing is; every slice of it is annotated.
    ignored : bool, shape (Z, Y, X), optional
        Regions drawn as ``ignore``; they stay 0.
    pixel_um : float
        Depth of a pixel in micrometers.

    Returns
    -------
    uint8, shape (Z, Y, X)
        A new array; drawn pixels are never changed.
    """
    gap = drawn == 0
    drawn = close_seams(drawn)
    above, below = nearest_drawn(drawn)
    table = np.zeros((7, 7), np.uint8)
    for (upper, lower), label in _DECIDED.items():
        table[upper, lower] = label
    filled = np.where(drawn == 0, table[above, below], drawn)
    reach = max(1, round(MIN_EPIDERMIS_UM / pixel_um))
    filled = np.where((filled == 0) & (above == _TOP) & _just_above_dej(drawn, reach), Label.EPIDERMIS, filled)
    if ignored is not None:
        filled[ignored & gap] = 0
    return filled.astype(np.uint8)


def close_seams(drawn: LabelArray) -> LabelArray:
    """Divide the unlabeled seams between glass, glycerol and epidermis among the layers above and below.

    What lies between other layers is decided without: it is epidermis or dermis up to the DEJ.
    """
    closed = drawn.copy()
    for height in range(1, SEAM_PX + 1):
        rows = drawn.shape[1] - height - 1
        if rows < 1:
            break
        upper, lower = drawn[:, :rows], drawn[:, height + 1 :]
        between = [slice(k, k + rows) for k in range(1, height + 1)]
        seam = (upper > 0) & (upper < Label.EPIDERMIS) & (lower == upper + 1)
        for where in between:
            seam &= drawn[:, where] == 0
        for k, where in enumerate(between):
            closed[:, where][seam] = (upper if k < height // 2 else lower)[seam]
    return closed


def nearest_drawn(drawn: LabelArray) -> tuple[LabelArray, LabelArray]:
    """Return, for each pixel of (Z, Y, X), the nearest label above it and below it (itself where drawn).

    Nothing above is 0, nothing below is 6.
    """
    rows = np.arange(drawn.shape[1], dtype=np.int32)[None, :, None]
    last = np.maximum.accumulate(np.where(drawn > 0, rows, -1), axis=1)
    above = np.where(last >= 0, np.take_along_axis(drawn, np.maximum(last, 0), axis=1), _TOP)
    end = drawn.shape[1]
    following = np.minimum.accumulate(np.where(drawn > 0, rows, end)[:, ::-1], axis=1)[:, ::-1]
    below = np.take_along_axis(drawn, np.minimum(following, end - 1), axis=1)
    return above.astype(np.uint8), np.where(following < end, below, _BOTTOM).astype(np.uint8)


def _just_above_dej(drawn: LabelArray, reach: int) -> npt.NDArray[np.bool_]:
    """Tell the pixels of (Z, Y, X) less than ``reach`` rows above the first DEJ pixel of their column."""
    dej = drawn == Label.DEJ
    first = np.where(dej.any(axis=1), dej.argmax(axis=1), -1)[:, None, :]
    rows = np.arange(drawn.shape[1])[None, :, None]
    return np.asarray((rows < first) & (rows >= first - reach))


def band_runs(labels: LabelArray) -> npt.NDArray[np.int32]:
    """Return the vertical DEJ thickness in pixels of every column of (Z, Y, X) that has a whole band.

    Columns in which the band touches the edge of the image, or is interrupted, say nothing of its thickness.
    """
    dej = labels == Label.DEJ
    count = dej.sum(axis=1)
    span = dej.shape[1] - dej[:, ::-1].argmax(axis=1) - dej.argmax(axis=1)
    whole = (count > 0) & (span == count) & ~dej[:, 0] & ~dej[:, -1]
    return np.asarray(count[whole], np.int32)


def slice_thickness(labels: LabelArray) -> npt.NDArray[np.float64]:
    """Return the mean vertical DEJ thickness of each slice of (Z, Y, X) in pixels; NaN without DEJ."""
    count = (labels == Label.DEJ).sum(axis=1)
    columns = (count > 0).sum(axis=1)
    return np.where(columns > 0, count.sum(axis=1) / np.maximum(columns, 1), np.nan)
