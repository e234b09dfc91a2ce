"""The answer for one tomogram: layer boundaries or labels, confidence, and who said so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from skinoct.labels import Label
from skinoct.tomogram_types import PixelSize

Decode = Literal["ordered", "pixel"]
LabelArray = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]

GLYCEROL_TOP, EPIDERMIS_TOP, DEJ_TOP, DERMIS_TOP = range(4)
"""Rows of ``Segmentation.boundaries``: where each class but the first begins."""


@dataclass(frozen=True)
class ModelIdentity:
    """Which checkpoint gave an answer."""

    name: str
    sha256: str
    """Of all that decides an answer: ``skinoct.checkpoint.Card.fingerprint``."""


def draw_layers(boundaries: FloatArray, height: int) -> LabelArray:
    """Draw label slices from boundaries.

    A pixel of row ``y`` belongs to the layer whose top is at or above its center ``y + 0.5``. An absent layer
    has the same top as the one below it.

    Parameters
    ----------
    boundaries : float32, shape (4, Z, X)
        Tops of glycerol, epidermis, DEJ and dermis in pixels from the top edge of the image; 0 is above
        everything, ``height`` is below everything. Must not decrease along the first axis.
    height : int
        Rows of the result.

    Returns
    -------
    uint8, shape (Z, height, X)
        Labels 1 to 5, never decreasing down a column.
    """
    _, slices, width = boundaries.shape
    kind = np.int16 if height < np.iinfo(np.int16).max else np.int32  # narrow numbers are compared faster
    first_row = np.clip(np.ceil(boundaries - 0.5), 0, height).astype(kind)
    rows = np.arange(height, dtype=kind)[:, None]
    labels = np.full((slices, height, width), Label.GLASS, np.uint8)
    for image, tops in zip(labels, np.swapaxes(first_row, 0, 1), strict=True):
        for top in tops:
            image += rows >= top
    return labels


@dataclass(frozen=True)
class Segmentation:
    """Layers of one tomogram.

    Exactly one of ``boundaries`` (``decode == "ordered"``) and ``pixel_labels`` (``decode == "pixel"``) is
    given.
    """

    shape: tuple[int, int, int]
    """(Z, Y, X) of the tomogram."""
    decode: Decode
    boundaries: FloatArray | None
    """(4, Z, X) pixels: tops of glycerol, epidermis, DEJ, dermis; see ``draw_layers``."""
    pixel_labels: LabelArray | None
    """(Z, Y, X) labels of ``pixel`` decoding; may be a memory map."""
    confidence: FloatArray
    """(Z, X) in 0..1: how far the image itself, not the neighbors, decided the DEJ of a column."""
    overhang: npt.NDArray[np.bool_]
    """(Z, X): columns in which the pixel decoding meets dermis or DEJ above epidermis."""
    pixel_size_um: PixelSize | None
    """What was used for micrometers: the caller's, else the file's; None when neither knew."""
    band_thickness_um: float
    model: ModelIdentity

    def block(self, start: int, stop: int) -> LabelArray:
        """Return labels of slices ``start`` to ``stop`` (0-based, half open) as uint8 (n, Y, X)."""
        if self.boundaries is not None:
            return draw_layers(self.boundaries[:, start:stop], self.shape[1])
        assert self.pixel_labels is not None
        return np.asarray(self.pixel_labels[start:stop])

    def blocks(self, size: int = 16) -> Iterator[LabelArray]:
        """Yield the label stack in order, ``size`` slices at a time, so that memory stays flat."""
        for start in range(0, self.shape[0], size):
            yield self.block(start, min(start + size, self.shape[0]))

    def labels(self) -> LabelArray:
        """Return the whole label stack, uint8 (Z, Y, X)."""
        return self.block(0, self.shape[0])
