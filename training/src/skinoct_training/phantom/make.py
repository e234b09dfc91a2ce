"""One phantom tomogram from a seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from skinoct.segmentation import draw_layers
from skinoct.tomogram import PixelSize
from skinoct_training.phantom.draw import draw_spec
from skinoct_training.phantom.fields import FloatArray
from skinoct_training.phantom.geometry import draw_surfaces
from skinoct_training.phantom.optics import digitize, form_image, move
from skinoct_training.phantom.spec import Family, Spec
from skinoct_training.phantom.tissue import draw_tissue

BAND_UM = 5.0
"""Thickness of the doctors' DEJ band in the paper."""


@dataclass(frozen=True)
class Phantom:
    """A synthetic tomogram and its truth."""

    voxels: npt.NDArray[Any]
    """uint8 or uint16 (Z, Y, X)."""
    boundaries: FloatArray
    """(4, Z, X) rows: tops of glycerol, epidermis, DEJ and dermis."""
    spec: Spec

    @property
    def labels(self) -> npt.NDArray[np.uint8]:
        """The exact label stack, uint8 (Z, Y, X)."""
        return draw_layers(self.boundaries, self.voxels.shape[1])

    @property
    def pixel_size_um(self) -> PixelSize:
        """Size of a voxel as the file states it, which may be wrong (``Grid.told_um``)."""
        grid = self.spec.grid
        if grid.told_um is not None:
            return PixelSize(y=grid.told_um, x=grid.told_um, z=grid.told_um)
        return PixelSize(y=grid.y_um, x=grid.x_um, z=grid.z_um)


def make_phantom(seed: int | tuple[int, ...], slices: int, family: Family = "ffoct") -> Phantom:
    """Make one tomogram of ``slices`` B-scans of 224 x 512 pixels; the same seed gives the same voxels."""
    rng = np.random.default_rng(seed)
    spec = draw_spec(rng, family, slices)
    surfaces = draw_surfaces(rng, spec)
    gray = form_image(rng, spec, draw_tissue(rng, spec, surfaces), surfaces)
    y_um = spec.grid.y_um
    # Who draws the band sees only what the file says of its pixels.
    half = BAND_UM / 2 / (spec.grid.told_um or y_um)
    lines = np.stack([surfaces.pane, surfaces.skin, surfaces.dej]) / np.float32(y_um)
    gray, lines = move(rng, spec, gray, lines)
    rows = spec.grid.shape[1]
    pane, skin, dej = lines
    boundaries = np.stack([pane, skin, dej - half, dej + half])
    boundaries = np.clip(np.maximum.accumulate(boundaries, axis=0), 0, rows).astype(np.float32)
    return Phantom(digitize(gray, spec), boundaries, spec)
