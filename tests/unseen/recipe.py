"""The parameters of one tomogram: skin, view, light and display."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Rng = np.random.Generator
Scale = Literal["amplitude", "root", "decibel"]


@dataclass(frozen=True)
class Skin:
    """Anatomy and scattering; reflectivities are relative to the living epidermis."""

    corneum_um: float
    epidermis_um: float
    """From the corneum to the tips of the rete ridges."""
    pitch_um: float
    """Distance of neighboring papillae."""
    papilla_um: float
    """Height of a typical papilla."""
    elongation: float
    """1 for round papillae, more for ridges."""
    furrows_per_mm: float
    furrow_um: float
    roughness_um: float
    follow: float
    """How much of a furrow the DEJ follows, 0 to 1."""
    cell_um: float
    nucleus_contrast: float
    membrane_contrast: float
    corneum_gain: float
    basal_gain: float
    dermis_gain: float
    fiber_contrast: float
    vessels_per_mm: float
    elastosis_gain: float = 1.0
    """1 where there is no elastosis."""
    elastosis_um: float = 0.0
    follicles: int = 0
    hairs: int = 0


@dataclass(frozen=True)
class View:
    """What the image covers."""

    rows: int
    columns: int
    slices: int
    pixel_um: float
    slice_um: float
    glass_um: float
    """Height of the glass below the top of the image; 0 where it is out of view."""
    gap_um: float
    """From glass (or the top of the image) to the skin; negative where skin begins above the image."""
    tilt: float
    dome_um: float
    debris: int


@dataclass(frozen=True)
class Light:
    """How light travels and interferes; extinctions per mm of depth, resolutions as FWHM."""

    axial_um: float
    lateral_um: float
    looks: int
    """Speckle patterns averaged."""
    corneum_mu: float
    epidermis_mu: float
    dermis_mu: float
    patchiness: float
    """Relative variation of the extinction along the skin."""
    spread: float
    """Share of light that moves to either neighboring column from one row to the next."""
    haze: float
    floor: float
    reflex: float
    medium: float


@dataclass(frozen=True)
class Screen:
    """How detected light becomes gray values."""

    scale: Scale
    black_percentile: float
    white_percentile: float
    gamma: float
    bits: Literal[8, 16]
    vignette: float
    row_jitter: float
    stretch: int = 1
    """Columns per A-scan."""
    sharpen: float = 0.0
    median: bool = False
    quantization: float = 0.0
    """Step of the 8 x 8 DCT at its lowest frequency; 0 for none."""
    glare: int = 0
    """Saturated patches."""


@dataclass(frozen=True)
class Recipe:
    """All of one tomogram."""

    skin: Skin
    view: View
    light: Light
    screen: Screen


@dataclass(frozen=True)
class Grid:
    """Centers of the voxels in micrometers."""

    z_um: Floats
    y_um: Floats
    x_um: Floats
    pixel_um: float

    @classmethod
    def of(cls, view: View) -> Grid:
        """Return the voxels of ``view``."""
        axes = ((view.slices, view.slice_um), (view.rows, view.pixel_um), (view.columns, view.pixel_um))
        z_um, y_um, x_um = (np.arange(count, dtype=np.float32) * np.float32(step) for count, step in axes)
        return cls(z_um, y_um, x_um, view.pixel_um)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(Z, Y, X)."""
        return len(self.z_um), len(self.y_um), len(self.x_um)
