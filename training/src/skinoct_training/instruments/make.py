"""One tomogram of the second generator from a seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from skinoct.tomogram import PixelSize
from skinoct_training.instruments import coarse, commercial, ffoct, lcoct
from skinoct_training.instruments.fields import Rng
from skinoct_training.instruments.recording import Recording
from skinoct_training.synthetic import UNCALIBRATED_UM, Synthetic, layer_boundaries

Kind = Literal["ffoct", "coarse", "lcoct", "commercial"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SIXTEEN_BITS: tuple[Kind, ...] = ("coarse", "commercial")
"""Instruments of which about every second tomogram has 16 bits."""
UNTOLD = 0.35
"""Share of the tomograms whose files do not tell the size of their pixels."""
INSTRUMENTS: dict[Kind, Callable[[Rng, int], Recording]] = {
    "ffoct": ffoct.draw,
    "coarse": coarse.draw,
    "lcoct": lcoct.draw,
    "commercial": commercial.draw,
}


@dataclass(frozen=True)
class Recorded(Synthetic):
    """A tomogram of one of the instruments."""

    kind: Kind
    pixel_um: float
    slice_um: float
    told_um: float | None
    """Pixel size that the file states whatever the true one is; None for the truth."""

    @property
    def pixel_size_um(self) -> PixelSize:
        """Size of a voxel as the file states it."""
        if self.told_um is not None:
            return PixelSize(self.told_um, self.told_um, self.told_um)
        return PixelSize(self.pixel_um, self.pixel_um, self.slice_um)

    @property
    def facts(self) -> dict[str, Any]:
        """What was drawn."""
        return {
            "family": "instruments",
            "instrument": self.kind,
            "pixel_um": self.pixel_um,
            "slice_um": self.slice_um,
            "told_um": self.told_um,
        }


def make_recorded(seed: int | tuple[int, ...], slices: int) -> Recorded:
    """Make one tomogram of ``slices`` B-scans as one of the instruments shows it."""
    rng = np.random.default_rng(seed)
    kind = KINDS[int(rng.integers(len(KINDS)))]
    told_um = UNCALIBRATED_UM if rng.random() < UNTOLD else None
    recording = INSTRUMENTS[kind](rng, slices)
    pixel_um = recording.stack.pixel_um
    return Recorded(
        digitize(rng, recording, kind),
        # Who draws the band sees only what the file says of its pixels.
        boundaries(recording, told_um or pixel_um),
        kind=kind,
        pixel_um=pixel_um,
        slice_um=recording.stack.slice_um,
        told_um=told_um,
    )


def digitize(rng: Rng, recording: Recording, kind: Kind) -> npt.NDArray[Any]:
    """Return what the file holds, uint8 or uint16 (Z, Y, X)."""
    image = np.clip(recording.image, 0, 255)
    if kind in SIXTEEN_BITS and rng.random() < 0.5:
        return np.asarray(np.round(image * rng.choice([16, 257])).astype(np.uint16))
    return np.round(image).astype(np.uint8)


def boundaries(recording: Recording, band_pixel_um: float) -> npt.NDArray[np.float32]:
    """Return the tops of the layers in rows (4, Z, X), the band drawn for pixels of ``band_pixel_um``."""
    stack = recording.stack
    surface = stack.surface_um / stack.pixel_um
    glass = np.zeros_like(surface) if recording.glass_um is None else recording.glass_um / stack.pixel_um
    return layer_boundaries(
        np.minimum(glass, surface), surface, stack.dej_um / stack.pixel_um, band_pixel_um, stack.shape[1]
    )
