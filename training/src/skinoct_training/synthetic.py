"""What every generator of synthetic skin gives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from skinoct.segmentation import draw_layers
from skinoct.tomogram import PixelSize

BAND_UM = 5.0
"""Thickness of the doctors' DEJ band in the paper."""
UNCALIBRATED_UM = 0.9
"""What a file without calibration is taken for: the pixel size of the shipped networks."""


@dataclass(frozen=True)
class Synthetic(ABC):
    """A synthetic tomogram and its truth."""

    voxels: npt.NDArray[Any]
    """uint8 or uint16 (Z, Y, X)."""
    boundaries: npt.NDArray[np.float32]
    """(4, Z, X) rows: tops of glycerol, epidermis, DEJ and dermis."""

    @property
    def labels(self) -> npt.NDArray[np.uint8]:
        """The exact label stack, uint8 (Z, Y, X)."""
        return draw_layers(self.boundaries, self.voxels.shape[1])

    @property
    @abstractmethod
    def pixel_size_um(self) -> PixelSize:
        """Size of a voxel as the file states it, which may be wrong."""

    @property
    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """What was drawn, for ``phantom.json``."""


def layer_boundaries(
    pane: npt.NDArray[np.floating],
    skin: npt.NDArray[np.floating],
    dej: npt.NDArray[np.floating],
    pixel_um: float,
    rows: int,
) -> npt.NDArray[np.float32]:
    """Return the tops of the layers from three lines in rows (Z, X), the DEJ as a band of ``BAND_UM``.

    Returns
    -------
    float32, shape (4, Z, X)
        In order and within the image.
    """
    half = BAND_UM / 2 / pixel_um
    lines = np.stack([pane, skin, dej - half, dej + half])
    return np.clip(np.maximum.accumulate(lines, axis=0), 0, rows).astype(np.float32)
