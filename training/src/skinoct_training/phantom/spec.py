"""What is drawn for one tomogram: site, age, layers, optics and artifacts.

Ranges follow the measured anatomy and optics of skin (docs/phantom.md lists the sources). Two families share them:
``ffoct`` looks like the full-field OCT of the paper; ``wide`` draws appearance far outside any one microscope -
contrast of the layers in either direction, other grain, other pixel sizes, other cues of the DEJ - so that a network
trained on it cannot rely on one look.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

Family = Literal["ffoct", "wide"]


@dataclass(frozen=True)
class Site:
    """Anatomy of one region of the body; lengths in um as (least, most)."""

    name: str
    corneum_um: tuple[float, float]
    cellular_um: tuple[float, float]
    papilla_um: tuple[float, float]
    """Height of the papillae, from trough to top, in young skin."""
    furrow_um: tuple[float, float]


SITES = (
    Site("face", (8, 20), (35, 75), (3, 16), (10, 70)),
    Site("forearm", (11, 22), (40, 75), (12, 40), (15, 60)),
    Site("back", (10, 20), (45, 80), (20, 60), (10, 50)),
    Site("hand", (15, 29), (55, 100), (12, 45), (20, 90)),
    Site("palm", (50, 110), (55, 90), (25, 60), (20, 60)),
)
SITE_CHANCES = (0.3, 0.2, 0.2, 0.25, 0.05)
UNCALIBRATED_UM = 0.9
"""What a file without calibration is taken for: the pixel size of the shipped networks."""
FOLLICLES_MM2, DUCTS_MM2 = 1.4, 1.3


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


def draw_spec(rng: np.random.Generator, family: Family, slices: int) -> Spec:
    """Draw everything that is fixed for one tomogram of ``slices`` B-scans of 224 x 512 pixels."""
    wide = family == "wide"
    grid = _draw_grid(rng, wide, slices)
    return Spec(family, grid, _draw_anatomy(rng, wide, grid), _draw_look(rng, wide), _draw_optics(rng, wide))


def _uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(rng.uniform(low, high))


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _chance(rng: np.random.Generator, share: float) -> bool:
    return bool(rng.random() < share)


def _draw_grid(rng: np.random.Generator, wide: bool, slices: int) -> Grid:
    if not wide:
        return Grid((slices, 224, 512), 0.9, 0.9, 0.9)
    told_um = UNCALIBRATED_UM if _chance(rng, 0.45) else None
    # Deep fields end in darkness far below the DEJ, which must not be taken for the dark medium.
    y_um = _log_uniform(rng, 1.4, 2.4) if _chance(rng, 0.4) else _log_uniform(rng, 0.5, 1.4)
    if told_um is not None:
        y_um = _log_uniform(rng, 0.5, 4.5)
    x_um = y_um * _log_uniform(rng, 0.6, 2.0)
    return Grid((slices, 224, 512), x_um * _log_uniform(rng, 0.7, 4.0), y_um, x_um, told_um)


def _draw_anatomy(rng: np.random.Generator, wide: bool, grid: Grid) -> Anatomy:
    site = SITES[int(rng.choice(len(SITES), p=SITE_CHANCES))]
    age = _uniform(rng, 18, 90)
    decades = (age - 30) / 10
    depth_um = grid.shape[1] * grid.y_um
    corneum = _uniform(rng, *site.corneum_um)
    cellular = _uniform(rng, *site.cellular_um) * (1 - 0.06 * max(decades, 0) * 0.5)
    if wide:
        corneum *= _log_uniform(rng, 0.4, 1.4)
        cellular *= _log_uniform(rng, 0.6, 1.5)
    if wide and _chance(rng, 0.6):
        # A microscopist chooses the field so that the DEJ lies within it: keep it within the depth of view.
        share = _uniform(rng, 0.15, 0.75) * depth_um / (corneum + cellular)
        corneum, cellular = corneum * min(share, 1.6), cellular * min(share, 1.6)
    papilla = _uniform(rng, *site.papilla_um) * float(np.clip(1 - 0.12 * decades, 0.25, 1.1))
    gap = _uniform(rng, 0, 60) if _chance(rng, 0.85) else _uniform(rng, 60, 90)
    pane = _uniform(rng, 0.5, 12) if _chance(rng, 0.8) else _uniform(rng, 12, 60 if wide else 30)
    if wide and _chance(rng, 0.4):
        gap = depth_um * _uniform(rng, 0, 0.45)
    gap = min(gap, max(0.0, depth_um - corneum - cellular - 15 - (pane if wide else 0)))
    if wide:
        gap = gap if _chance(rng, 0.85) else -_uniform(rng, 0, 0.5) * (corneum + cellular)
        gap = gap if _chance(rng, 0.96) else max(gap, depth_um - _uniform(rng, 0.1, 1.0) * (corneum + cellular))
    if _chance(rng, 0.35 if wide else 0.08):
        pane = -10.0
    bow = depth_um * _uniform(rng, 0.05, 0.45) if wide and _chance(rng, 0.3) else 0.0
    return Anatomy(
        site=site.name,
        age_years=age,
        pane_um=pane,
        gap_um=gap,
        corneum_um=corneum,
        cellular_um=max(cellular, 15.0),
        papilla_um=papilla * (_log_uniform(rng, 0.3, 1.5) if wide else 1.0),
        papilla_pitch_um=_uniform(rng, 109, 117) * (_log_uniform(rng, 0.5, 1.8) if wide else _uniform(rng, 0.85, 1.15)),
        furrow_um=_uniform(rng, *site.furrow_um) * (1 + 0.05 * max(decades, 0)),
        furrow_pitch_um=_uniform(rng, 120, 500),
        furrow_width_um=_log_uniform(rng, 3, 30),
        follicles_mm2=FOLLICLES_MM2 * (_uniform(rng, 0, 4) if wide else 1.0),
        follicle_um=_uniform(rng, 15, 50),
        follicle_depth_um=_uniform(rng, 20, 90),
        ducts_mm2=DUCTS_MM2 * (_uniform(rng, 0, 4) if wide else 1.0),
        wave_um=_uniform(rng, 2, 16),
        tilt_x=float(rng.normal(0, 0.08 if wide else 0.05)),
        tilt_z=float(rng.normal(0, 0.04)),
        bow_um=bow,
    )


def _draw_look(rng: np.random.Generator, wide: bool) -> Look:
    """Draw brightness; in one branch of three the DEJ is a step of only 1.0 to 1.15."""
    faint = _chance(rng, 0.33)
    ratio = _uniform(rng, 1.0, 1.15) if faint else _uniform(rng, 1.35, 2.3)
    look = Look(
        glass=_uniform(rng, 3, 8),
        glass_band_um=_uniform(rng, 1, 4) if _chance(rng, 0.3) else 0.0,
        glass_edge=1.0,
        entrance=1.0,
        entrance_um=1.0,
        medium=_uniform(rng, 0.0, 0.06),
        corneum=_uniform(rng, 2.2, 5.0),
        corneum_stripes=_uniform(rng, 0.1, 0.9),
        corneum_edge_um=_uniform(rng, 0.3, 6),
        dermis_step=1 / ratio,
        step_edge_um=_uniform(rng, 0.3, 4),
        basal=_log_uniform(rng, 0.85, 1.7),
        basal_um=_uniform(rng, 5, 12),
        papillary=_uniform(rng, 0.85, 1.15),
        papillary_um=_uniform(rng, 10, 40),
        junction=1.0,
        nuclei=_uniform(rng, 0.7, 0.98),
        nucleus_um=_uniform(rng, 4.5, 8),
        nuclei_seen=_uniform(rng, 0.5, 1.0),
        cell_pitch_um=_uniform(rng, 10, 16),
        collagen=_uniform(rng, 0.25, 0.75),
        vessels=_uniform(rng, 0, 1),
        spots=_uniform(rng, 0, 1),
        ducts=_uniform(rng, 0.2, 0.8),
        clouds=_uniform(rng, 0.05, 0.25),
        patches=_uniform(rng, 0, 0.35),
        mu_epidermis_mm=_uniform(rng, 2, 9),
        mu_dermis_mm=_uniform(rng, 1, 6),
    )
    return _widen_look(rng, look) if wide else look


def _widen_look(rng: np.random.Generator, look: Look) -> Look:
    """Draw appearance outside FF-OCT: any sign and size of contrast, cues that come and go."""
    return replace(
        look,
        glass=_log_uniform(rng, 0.3, 10),
        glass_band_um=_log_uniform(rng, 1, 60) if _chance(rng, 0.4) else 0.0,
        glass_edge=_log_uniform(rng, 1, 8) if _chance(rng, 0.4) else 1.0,
        entrance=_log_uniform(rng, 1.3, 8) if _chance(rng, 0.35) else 1.0,
        entrance_um=_log_uniform(rng, 1, 12),
        medium=_log_uniform(rng, 0.01, 0.2) if _chance(rng, 0.93) else _uniform(rng, 0.2, 0.7),
        corneum=_log_uniform(rng, 0.35, 5),
        corneum_stripes=_uniform(rng, 0, 0.9),
        corneum_edge_um=_uniform(rng, 0.1, 10),
        step_edge_um=_uniform(rng, 0.1, 6),
        dermis_step=look.dermis_step if _chance(rng, 0.3) else _log_uniform(rng, 0.35, 2.2),
        basal=_log_uniform(rng, 0.45, 2.5) if _chance(rng, 0.7) else 1.0,
        basal_um=_uniform(rng, 3, 18),
        papillary=_log_uniform(rng, 0.5, 2.0) if _chance(rng, 0.6) else 1.0,
        papillary_um=_uniform(rng, 8, 60),
        junction=_log_uniform(rng, 0.4, 2.5) if _chance(rng, 0.35) else 1.0,
        nuclei=_uniform(rng, 0, 1) if _chance(rng, 0.65) else 0.0,
        nucleus_um=_uniform(rng, 4, 11),
        cell_pitch_um=_uniform(rng, 7, 20),
        collagen=_uniform(rng, 0, 0.8),
        clouds=_uniform(rng, 0.0, 0.5),
        patches=_uniform(rng, 0.0, 0.6),
        mu_epidermis_mm=_uniform(rng, 0, 10),
        mu_dermis_mm=_uniform(rng, 0, 9),
    )


def _draw_optics(rng: np.random.Generator, wide: bool) -> Optics:
    grain = _uniform(rng, 1.0, 1.8)
    optics = Optics(
        grain_y_px=grain,
        grain_x_px=grain * _uniform(rng, 0.9, 1.4),
        looks=int(rng.integers(2, 7)),
        floor=_log_uniform(rng, 0.02, 0.2),
        compression="linear",
        exposure=_uniform(rng, 0.25, 0.45),
        vignette=_uniform(rng, 0.0, 0.3),
        row_jitter=_uniform(rng, 0, 0.06),
        frame_jitter=_uniform(rng, 0, 0.08),
        motion_px=_log_uniform(rng, 0.3, 2.0),
        fringes=_uniform(rng, 0.03, 0.15) if _chance(rng, 0.25) else 0.0,
        tears=_chance(rng, 0.1),
        hairs=int(rng.poisson(0.3)),
        shadows=int(rng.poisson(1.5)),
        furrow_shade=_uniform(rng, 0.1, 0.8),
        depth_gain=0.0,
        grains=_uniform(rng, 0.02, 0.06),
        flares=0,
        ghosts=0,
        margin=0.0,
        bits=8 if _chance(rng, 0.8) else 16,
    )
    if not wide:
        return optics
    compression: Literal["linear", "root", "log"] = ("linear", "root", "log")[int(rng.integers(3))]
    looks = int(rng.choice([2, 3, 4, 8, 16, 64]))
    # Coarse and fully developed speckle hides every layer: nothing is learned from it.
    grain = _log_uniform(rng, 0.6, 1.8 if looks < 4 else 3.0)
    return replace(
        optics,
        grain_y_px=grain,
        grain_x_px=grain * _log_uniform(rng, 0.7, 3.0),
        looks=looks,
        floor=_log_uniform(rng, 0.01, 0.3),
        compression=compression,
        exposure=_uniform(rng, 0.15, 0.7),
        vignette=_uniform(rng, 0.0, 0.5),
        row_jitter=_uniform(rng, 0, 0.12),
        fringes=_uniform(rng, 0.03, 0.25) if _chance(rng, 0.25) else 0.0,
        shadows=int(rng.poisson(2.0)),
        furrow_shade=_uniform(rng, 0.0, 0.8),
        depth_gain=_uniform(rng, 0, 1.8) if _chance(rng, 0.3) else 0.0,
        grains=_log_uniform(rng, 0.01, 0.25),
        flares=int(rng.poisson(1.5)) if _chance(rng, 0.2) else 0,
        ghosts=int(rng.integers(1, 4)) if _chance(rng, 0.15) else 0,
        margin=_uniform(rng, 0.02, 0.2) if _chance(rng, 0.12) else 0.0,
    )
