"""What is drawn for one tomogram: site, age, layers, optics and artifacts.

Ranges follow the measured anatomy and optics of skin (docs/phantom.md lists the sources). Five families share them:
``ffoct`` looks like the full-field OCT of the paper; ``wide`` draws appearance far outside any one microscope -
contrast of the layers in either direction, other grain, other pixel sizes, other cues of the DEJ - so that a network
trained on it cannot rely on one look; ``deep`` (``skinoct_training.phantom.deep``) looks like OCT with large pixels;
``thick`` (``skinoct_training.phantom.thick``) is skin of palms, soles and fingertips; the layers of ``painted``
(``skinoct_training.phantom.painted``) look like nothing in particular.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Family = Literal["ffoct", "wide", "deep", "thick", "painted"]
FAMILIES: tuple[Family, ...] = ("ffoct", "wide", "deep", "thick", "painted")


@dataclass(frozen=True)
class Grid:
    """Sampling of the image."""

    shape: tuple[int, int, int]
    """(Z, Y, X)."""
    z_um: float
    y_um: float
    x_um: float
    told_um: float | None = None
    """Pixel size, the same along all axes, that the file states whatever the true one is; None for the truth. A file
    that lost its calibration is taken at the pixel size of the network."""


@dataclass(frozen=True)
class Anatomy:
    """Shape of one patch of skin; lengths in um."""

    site: str
    age_years: float
    pane_um: float
    """Depth of the glass surface; negative when the glass is out of view."""
    gap_um: float
    """From the glass to the highest skin; negative when the skin begins above the image."""
    corneum_um: float
    cellular_um: float
    papilla_um: float
    papilla_pitch_um: float
    furrow_um: float
    furrow_pitch_um: float
    furrow_width_um: float
    follicles_mm2: float
    follicle_um: float
    """Radius of the funnel in which a hair stands."""
    follicle_depth_um: float
    ducts_mm2: float
    """Sweat ducts, which wind through the epidermis."""
    wave_um: float
    tilt_x: float
    tilt_z: float
    bow_um: float
    """How much deeper the skin lies at the sides of the view than at its highest point, as on a finger."""
    ridge_um: float = 0.0
    """Height of the ridges of friction skin, which the DEJ follows."""
    ridge_pitch_um: float = 500.0


@dataclass(frozen=True)
class Look:
    """Brightness and texture; amplitudes relative to the epidermis."""

    glass: float
    glass_band_um: float
    """Thickness of glass that is bright above its surface line; 0 where only the surface shines."""
    glass_edge: float
    """Width of the edges of that line, relative to those in FF-OCT."""
    entrance: float
    """Factor of the line in which the light enters the skin; 1 in FF-OCT, where none is seen."""
    entrance_um: float
    medium: float
    corneum: float
    corneum_stripes: float
    corneum_edge_um: float
    """Over which the corneum fades into the cells below it."""
    dermis_step: float
    """Reflectivity of the dermis just below the DEJ over that of the epidermis."""
    step_edge_um: float
    """Over which that step is spread."""
    basal: float
    basal_um: float
    papillary: float
    """Factor of a papillary layer of ``papillary_um`` below the DEJ."""
    papillary_um: float
    junction: float
    """Factor of a line of 3 um on the DEJ itself; 1 in FF-OCT, where none is seen."""
    nuclei: float
    """Contrast of the nuclei: 0 none, 1 black."""
    nucleus_um: float
    """Diameter of the nuclei in the plane of the skin."""
    nuclei_seen: float
    """Share of the cells whose nucleus is seen."""
    cell_pitch_um: float
    collagen: float
    vessels: float
    spots: float
    ducts: float
    """Contrast of the turns of a sweat duct."""
    clouds: float
    """Contrast of slow variations within each layer."""
    patches: float
    """Contrast of the dark and bright patches of the dermis, wider than its bundles."""
    mu_epidermis_mm: float
    mu_dermis_mm: float


@dataclass(frozen=True)
class Optics:
    """From tissue to gray values."""

    grain_y_px: float
    grain_x_px: float
    looks: int
    """Independent speckle patterns averaged."""
    floor: float
    """Incoherent light and shot noise, relative to the epidermis."""
    compression: Literal["linear", "root", "log"]
    exposure: float
    """Gray value of the epidermis, 0..1."""
    vignette: float
    row_jitter: float
    frame_jitter: float
    motion_px: float
    fringes: float
    tears: bool
    hairs: int
    shadows: int
    furrow_shade: float
    """Light lost below a deep furrow: 0 none, 1 all."""
    depth_gain: float
    """Exponent of the gain from top to bottom by which a microscope's software makes up for attenuation."""
    grains: float
    """Noise of single pixels, relative to the epidermis."""
    flares: int
    """Bright stripes over all depth where the surface throws the light straight back."""
    ghosts: int
    """Level lines of stray reflections, at any depth."""
    margin: float
    """Share of the width that is black at one side or both."""
    bits: int


@dataclass(frozen=True)
class Spec:
    """One tomogram."""

    family: Family
    grid: Grid
    anatomy: Anatomy
    look: Look
    optics: Optics
