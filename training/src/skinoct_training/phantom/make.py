"""One phantom tomogram from a seed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from skinoct.tomogram import PixelSize
from skinoct_training.phantom.draw import draw_spec
from skinoct_training.phantom.geometry import draw_surfaces
from skinoct_training.phantom.optics import digitize, form_image, move
from skinoct_training.phantom.painted import draw_painted_tissue
from skinoct_training.phantom.spec import Family, Spec
from skinoct_training.phantom.tissue import draw_tissue
from skinoct_training.synthetic import Synthetic, layer_boundaries


@dataclass(frozen=True)
class Phantom(Synthetic):
    """A synthetic tomogram, its truth, and what it was made from."""

    spec: Spec

    @property
    def pixel_size_um(self) -> PixelSize:
        """Size of a voxel as the file states it, which may be wrong (``Grid.told_um``)."""
        grid = self.spec.grid
        if grid.told_um is not None:
            return PixelSize(y=grid.told_um, x=grid.told_um, z=grid.told_um)
        return PixelSize(y=grid.y_um, x=grid.x_um, z=grid.z_um)

    @property
    def facts(self) -> dict[str, Any]:
        """What was drawn."""
        return asdict(self.spec)


def make_phantom(seed: int | tuple[int, ...], slices: int, family: Family = "ffoct") -> Phantom:
    """Make one tomogram of ``slices`` B-scans of 224 x 512 pixels; the same seed gives the same voxels."""
    rng = np.random.default_rng(seed)
    spec = draw_spec(rng, family, slices)
    surfaces = draw_surfaces(rng, spec)
    draw = draw_painted_tissue if family == "painted" else draw_tissue
    gray = form_image(rng, spec, draw(rng, spec, surfaces), surfaces)
    y_um = spec.grid.y_um
    lines = np.stack([surfaces.pane, surfaces.skin, surfaces.dej]) / np.float32(y_um)
    gray, lines = move(rng, spec, gray, lines)
    # Who draws the band sees only what the file says of its pixels.
    pane, skin, dej = lines
    boundaries = layer_boundaries(pane, skin, dej, spec.grid.told_um or y_um, spec.grid.shape[1])
    return Phantom(digitize(gray, spec), boundaries, spec)
