"""The family ``deep``: skin as OCT with large pixels shows it, a millimeter deep.

Spectral-domain OCT of skin in air resolves no cells, shows reflectivity in decibels, so that a dermis five times as
bright as the epidermis does not saturate, and ends in noise far below the DEJ. What shines most is the reflex of the
skin's surface.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from skinoct_training.phantom.chance import chance, log_uniform, uniform
from skinoct_training.phantom.spec import Anatomy, Grid, Look, Optics, Spec
from skinoct_training.synthetic import UNCALIBRATED_UM


def draw_deep_grid(rng: np.random.Generator, slices: int) -> Grid:
    """Draw large pixels, mostly wider than high; every second file does not tell their size."""
    return draw_large_pixels(rng, slices, log_uniform(rng, 1.8, 5.0), untold=0.5)


def draw_large_pixels(rng: np.random.Generator, slices: int, y_um: float, untold: float) -> Grid:
    """Draw the width of pixels of ``y_um``; a share ``untold`` of the files does not tell their size."""
    x_um = min(y_um * log_uniform(rng, 0.7, 2.5), 9.5)  # what is larger is taken for a mistake
    told_um = UNCALIBRATED_UM if chance(rng, untold) else None
    return Grid((slices, 224, 512), x_um * log_uniform(rng, 0.7, 3.0), y_um, x_um, told_um)


def deepen(rng: np.random.Generator, spec: Spec) -> Spec:
    """Return the spec of a ``wide`` tomogram as such an instrument would see it."""
    return replace(
        spec,
        family="deep",
        anatomy=_deepen_anatomy(rng, spec.anatomy, spec.grid),
        look=_deepen_look(rng, spec.look, spec.grid),
        optics=_deepen_optics(rng, spec.optics),
    )


def _deepen_anatomy(rng: np.random.Generator, anatomy: Anatomy, grid: Grid) -> Anatomy:
    """Leave the layers as thick as they are in skin, and most of the image to the dermis."""
    depth_um = grid.shape[1] * grid.y_um
    corneum = log_uniform(rng, 40, 150) if chance(rng, 0.12) else log_uniform(rng, 5, 30)
    return replace(
        anatomy,
        pane_um=-10.0 if chance(rng, 0.75) else anatomy.pane_um,
        gap_um=depth_um * uniform(rng, 0.02, 0.5),
        corneum_um=corneum,
        cellular_um=log_uniform(rng, 30, 120),
        papilla_um=anatomy.papilla_um * log_uniform(rng, 0.4, 1.0),
        wave_um=log_uniform(rng, 2, 40),
        furrow_pitch_um=log_uniform(rng, 150, 900),
        furrow_width_um=log_uniform(rng, 8, 70),
        bow_um=depth_um * uniform(rng, 0.05, 0.4) if chance(rng, 0.4) else 0.0,
    )


def _deepen_look(rng: np.random.Generator, look: Look, grid: Grid) -> Look:
    brighter = chance(rng, 0.75)
    return replace(
        look,
        entrance=log_uniform(rng, 1.3, 80) if chance(rng, 0.85) else 1.0,
        entrance_um=grid.y_um * log_uniform(rng, 0.4, 1.8),
        medium=log_uniform(rng, 0.001, 0.1),
        corneum=log_uniform(rng, 0.3, 4.0),
        corneum_edge_um=log_uniform(rng, 0.5, 12),
        nuclei=uniform(rng, 0.0, 0.5) if chance(rng, 0.25) else 0.0,
        dermis_step=log_uniform(rng, 1.15, 7.0) if brighter else log_uniform(rng, 0.4, 1.15),
        step_edge_um=log_uniform(rng, 0.5, 12),
        mu_epidermis_mm=uniform(rng, 0, 5),
        mu_dermis_mm=uniform(rng, 0.5, 7),
    )


def _deepen_optics(rng: np.random.Generator, optics: Optics) -> Optics:
    return replace(
        optics,
        floor=log_uniform(rng, 0.003, 0.2),
        compression="log" if chance(rng, 0.7) else "root",
        exposure=uniform(rng, 0.12, 0.5),
        row_jitter=uniform(rng, 0, 0.05),
        fringes=0.0,
        motion_px=log_uniform(rng, 0.1, 1.0),
    )
