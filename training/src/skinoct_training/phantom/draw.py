"""Draw what is fixed for one tomogram.

Ranges follow the measured anatomy and optics of skin (docs/phantom.md lists the sources).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from skinoct_training.phantom.chance import chance, log_uniform, uniform
from skinoct_training.phantom.deep import deepen, draw_deep_grid
from skinoct_training.phantom.painted import paint
from skinoct_training.phantom.spec import Anatomy, Family, Grid, Look, Optics, Spec
from skinoct_training.phantom.thick import draw_thick_grid, thicken
from skinoct_training.synthetic import UNCALIBRATED_UM


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
FOLLICLES_MM2, DUCTS_MM2 = 1.4, 1.3


def draw_spec(rng: np.random.Generator, family: Family, slices: int) -> Spec:
    """Draw everything that is fixed for one tomogram of ``slices`` B-scans of 224 x 512 pixels."""
    wide = family != "ffoct"
    if family == "painted":
        return paint(rng, draw_spec(rng, "deep" if chance(rng, 0.5) else "wide", slices))
    grid = _draw_grid_of(rng, family, slices)
    spec = Spec(family, grid, _draw_anatomy(rng, wide, grid), _draw_look(rng, wide), _draw_optics(rng, wide))
    if family == "deep":
        return deepen(rng, spec)
    if family == "thick":
        return thicken(rng, deepen(rng, spec) if chance(rng, 0.7) else spec)
    return spec


def _draw_grid_of(rng: np.random.Generator, family: Family, slices: int) -> Grid:
    if family == "deep":
        return draw_deep_grid(rng, slices)
    if family == "thick":
        return draw_thick_grid(rng, slices)
    return _draw_grid(rng, family == "wide", slices)


def _draw_grid(rng: np.random.Generator, wide: bool, slices: int) -> Grid:
    if not wide:
        return Grid((slices, 224, 512), 0.9, 0.9, 0.9)
    told_um = UNCALIBRATED_UM if chance(rng, 0.45) else None
    # Deep fields end in darkness far below the DEJ, which must not be taken for the dark medium.
    y_um = log_uniform(rng, 1.4, 2.4) if chance(rng, 0.4) else log_uniform(rng, 0.5, 1.4)
    if told_um is not None:
        y_um = log_uniform(rng, 0.5, 4.5)
    x_um = y_um * log_uniform(rng, 0.6, 2.0)
    return Grid((slices, 224, 512), x_um * log_uniform(rng, 0.7, 4.0), y_um, x_um, told_um)


def _draw_anatomy(rng: np.random.Generator, wide: bool, grid: Grid) -> Anatomy:
    site = SITES[int(rng.choice(len(SITES), p=SITE_CHANCES))]
    age = uniform(rng, 18, 90)
    decades = (age - 30) / 10
    depth_um = grid.shape[1] * grid.y_um
    corneum = uniform(rng, *site.corneum_um)
    cellular = uniform(rng, *site.cellular_um) * (1 - 0.06 * max(decades, 0) * 0.5)
    if wide:
        corneum *= log_uniform(rng, 0.4, 1.4)
        cellular *= log_uniform(rng, 0.6, 1.5)
    if wide and chance(rng, 0.6):
        # A microscopist chooses the field so that the DEJ lies within it: keep it within the depth of view.
        share = uniform(rng, 0.15, 0.75) * depth_um / (corneum + cellular)
        corneum, cellular = corneum * min(share, 1.6), cellular * min(share, 1.6)
    papilla = uniform(rng, *site.papilla_um) * float(np.clip(1 - 0.12 * decades, 0.25, 1.1))
    gap = uniform(rng, 0, 60) if chance(rng, 0.85) else uniform(rng, 60, 90)
    pane = uniform(rng, 0.5, 12) if chance(rng, 0.8) else uniform(rng, 12, 60 if wide else 30)
    if wide and chance(rng, 0.4):
        gap = depth_um * uniform(rng, 0, 0.45)
    gap = min(gap, max(0.0, depth_um - corneum - cellular - 15 - (pane if wide else 0)))
    if wide:
        gap = gap if chance(rng, 0.85) else -uniform(rng, 0, 0.5) * (corneum + cellular)
        gap = gap if chance(rng, 0.96) else max(gap, depth_um - uniform(rng, 0.1, 1.0) * (corneum + cellular))
    if chance(rng, 0.35 if wide else 0.08):
        pane = -10.0
    bow = depth_um * uniform(rng, 0.05, 0.45) if wide and chance(rng, 0.3) else 0.0
    return Anatomy(
        site=site.name,
        age_years=age,
        pane_um=pane,
        gap_um=gap,
        corneum_um=corneum,
        cellular_um=max(cellular, 15.0),
        papilla_um=papilla * (log_uniform(rng, 0.3, 1.5) if wide else 1.0),
        papilla_pitch_um=uniform(rng, 109, 117) * (log_uniform(rng, 0.5, 1.8) if wide else uniform(rng, 0.85, 1.15)),
        furrow_um=uniform(rng, *site.furrow_um) * (1 + 0.05 * max(decades, 0)),
        furrow_pitch_um=uniform(rng, 120, 500),
        furrow_width_um=log_uniform(rng, 3, 30),
        follicles_mm2=FOLLICLES_MM2 * (uniform(rng, 0, 4) if wide else 1.0),
        follicle_um=uniform(rng, 15, 50),
        follicle_depth_um=uniform(rng, 20, 90),
        ducts_mm2=DUCTS_MM2 * (uniform(rng, 0, 4) if wide else 1.0),
        wave_um=uniform(rng, 2, 16),
        tilt_x=float(rng.normal(0, 0.08 if wide else 0.05)),
        tilt_z=float(rng.normal(0, 0.04)),
        bow_um=bow,
    )


def _draw_look(rng: np.random.Generator, wide: bool) -> Look:
    """Draw brightness; in one branch of three the DEJ is a step of only 1.0 to 1.15."""
    faint = chance(rng, 0.33)
    ratio = uniform(rng, 1.0, 1.15) if faint else uniform(rng, 1.35, 2.3)
    look = Look(
        glass=uniform(rng, 3, 8),
        glass_band_um=uniform(rng, 1, 4) if chance(rng, 0.3) else 0.0,
        glass_edge=1.0,
        entrance=1.0,
        entrance_um=1.0,
        medium=uniform(rng, 0.0, 0.06),
        corneum=uniform(rng, 2.2, 5.0),
        corneum_stripes=uniform(rng, 0.1, 0.9),
        corneum_edge_um=uniform(rng, 0.3, 6),
        dermis_step=1 / ratio,
        step_edge_um=uniform(rng, 0.3, 4),
        basal=log_uniform(rng, 0.85, 1.7),
        basal_um=uniform(rng, 5, 12),
        papillary=uniform(rng, 0.85, 1.15),
        papillary_um=uniform(rng, 10, 40),
        junction=1.0,
        nuclei=uniform(rng, 0.7, 0.98),
        nucleus_um=uniform(rng, 4.5, 8),
        nuclei_seen=uniform(rng, 0.5, 1.0),
        cell_pitch_um=uniform(rng, 10, 16),
        collagen=uniform(rng, 0.25, 0.75),
        vessels=uniform(rng, 0, 1),
        spots=uniform(rng, 0, 1),
        ducts=uniform(rng, 0.2, 0.8),
        clouds=uniform(rng, 0.05, 0.25),
        patches=uniform(rng, 0, 0.35),
        mu_epidermis_mm=uniform(rng, 2, 9),
        mu_dermis_mm=uniform(rng, 1, 6),
    )
    return _widen_look(rng, look) if wide else look


def _widen_look(rng: np.random.Generator, look: Look) -> Look:
    """Draw appearance outside FF-OCT: any sign and size of contrast, cues that come and go."""
    return replace(
        look,
        glass=log_uniform(rng, 0.3, 10),
        glass_band_um=log_uniform(rng, 1, 60) if chance(rng, 0.4) else 0.0,
        glass_edge=log_uniform(rng, 1, 8) if chance(rng, 0.4) else 1.0,
        entrance=log_uniform(rng, 1.3, 8) if chance(rng, 0.35) else 1.0,
        entrance_um=log_uniform(rng, 1, 12),
        medium=log_uniform(rng, 0.01, 0.2) if chance(rng, 0.93) else uniform(rng, 0.2, 0.7),
        corneum=log_uniform(rng, 0.35, 5),
        corneum_stripes=uniform(rng, 0, 0.9),
        corneum_edge_um=uniform(rng, 0.1, 10),
        step_edge_um=uniform(rng, 0.1, 6),
        dermis_step=look.dermis_step if chance(rng, 0.3) else log_uniform(rng, 0.35, 2.2),
        basal=log_uniform(rng, 0.45, 2.5) if chance(rng, 0.7) else 1.0,
        basal_um=uniform(rng, 3, 18),
        papillary=log_uniform(rng, 0.5, 2.0) if chance(rng, 0.6) else 1.0,
        papillary_um=uniform(rng, 8, 60),
        junction=log_uniform(rng, 0.4, 2.5) if chance(rng, 0.35) else 1.0,
        nuclei=uniform(rng, 0, 1) if chance(rng, 0.65) else 0.0,
        nucleus_um=uniform(rng, 4, 11),
        cell_pitch_um=uniform(rng, 7, 20),
        collagen=uniform(rng, 0, 0.8),
        clouds=uniform(rng, 0.0, 0.5),
        patches=uniform(rng, 0.0, 0.6),
        mu_epidermis_mm=uniform(rng, 0, 10),
        mu_dermis_mm=uniform(rng, 0, 9),
    )


def _draw_optics(rng: np.random.Generator, wide: bool) -> Optics:
    grain = uniform(rng, 1.0, 1.8)
    optics = Optics(
        grain_y_px=grain,
        grain_x_px=grain * uniform(rng, 0.9, 1.4),
        looks=int(rng.integers(2, 7)),
        floor=log_uniform(rng, 0.02, 0.2),
        compression="linear",
        exposure=uniform(rng, 0.25, 0.45),
        vignette=uniform(rng, 0.0, 0.3),
        row_jitter=uniform(rng, 0, 0.06),
        frame_jitter=uniform(rng, 0, 0.08),
        motion_px=log_uniform(rng, 0.3, 2.0),
        fringes=uniform(rng, 0.03, 0.15) if chance(rng, 0.25) else 0.0,
        tears=chance(rng, 0.1),
        hairs=int(rng.poisson(0.3)),
        shadows=int(rng.poisson(1.5)),
        furrow_shade=uniform(rng, 0.1, 0.8),
        depth_gain=0.0,
        grains=uniform(rng, 0.02, 0.06),
        flares=0,
        ghosts=0,
        margin=0.0,
        bits=8 if chance(rng, 0.8) else 16,
    )
    if not wide:
        return optics
    compression: Literal["linear", "root", "log"] = ("linear", "root", "log")[int(rng.integers(3))]
    looks = int(rng.choice([2, 3, 4, 8, 16, 64]))
    # Coarse and fully developed speckle hides every layer: nothing is learned from it.
    grain = log_uniform(rng, 0.6, 1.8 if looks < 4 else 3.0)
    return replace(
        optics,
        grain_y_px=grain,
        grain_x_px=grain * log_uniform(rng, 0.7, 3.0),
        looks=looks,
        floor=log_uniform(rng, 0.01, 0.3),
        compression=compression,
        exposure=uniform(rng, 0.15, 0.7),
        vignette=uniform(rng, 0.0, 0.5),
        row_jitter=uniform(rng, 0, 0.12),
        fringes=uniform(rng, 0.03, 0.25) if chance(rng, 0.25) else 0.0,
        shadows=int(rng.poisson(2.0)),
        furrow_shade=uniform(rng, 0.0, 0.8),
        depth_gain=uniform(rng, 0, 1.8) if chance(rng, 0.3) else 0.0,
        grains=log_uniform(rng, 0.01, 0.25),
        flares=int(rng.poisson(1.5)) if chance(rng, 0.2) else 0,
        ghosts=int(rng.integers(1, 4)) if chance(rng, 0.15) else 0,
        margin=uniform(rng, 0.02, 0.2) if chance(rng, 0.12) else 0.0,
    )
