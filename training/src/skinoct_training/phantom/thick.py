"""The family ``thick``: skin of palms, soles and fingertips.

Friction skin has a corneum of a tenth to half a millimeter through which sweat ducts wind, ridges at the surface, no
hair, and high papillae in rows below the ridges. OCT shows the corneum darker than the line where light enters, and the
DEJ as deep as the whole field of a full-field microscope.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from skinoct_training.phantom.chance import chance, log_uniform, uniform
from skinoct_training.phantom.deep import draw_large_pixels
from skinoct_training.phantom.spec import Anatomy, Grid, Look, Spec


def draw_thick_grid(rng: np.random.Generator, slices: int) -> Grid:
    """Draw pixels of all sizes, mostly large; every third file does not tell theirs."""
    y_um = log_uniform(rng, 1.6, 5.0) if chance(rng, 0.8) else log_uniform(rng, 0.7, 1.6)
    return draw_large_pixels(rng, slices, y_um, untold=0.33)


def thicken(rng: np.random.Generator, spec: Spec) -> Spec:
    """Return the spec of a ``wide`` or ``deep`` tomogram with friction skin in it."""
    return replace(
        spec,
        family="thick",
        anatomy=_thicken_anatomy(rng, spec.anatomy, spec.grid),
        look=_thicken_look(rng, spec.look),
    )


def _thicken_anatomy(rng: np.random.Generator, anatomy: Anatomy, grid: Grid) -> Anatomy:
    depth_um = grid.shape[1] * grid.y_um
    corneum, cellular = log_uniform(rng, 80, 450), log_uniform(rng, 50, 160)
    if chance(rng, 0.9):
        # A microscopist chooses a field in which the DEJ lies.
        fitting = min(1.0, uniform(rng, 0.45, 0.75) * depth_um / (corneum + cellular))
        corneum, cellular = corneum * fitting, cellular * fitting
    gap_um = uniform(rng, 0.02, 0.3) * depth_um
    return replace(
        anatomy,
        site="friction",
        pane_um=-10.0 if chance(rng, 0.6) else min(anatomy.pane_um, 0.1 * depth_um),
        gap_um=min(gap_um, max(0.0, 0.9 * depth_um - corneum - cellular)),
        corneum_um=corneum,
        cellular_um=max(cellular, 15.0),
        papilla_um=min(uniform(rng, 10, 90), 1.2 * cellular),
        papilla_pitch_um=uniform(rng, 90, 250),
        furrow_um=uniform(rng, 0, 30),
        follicles_mm2=0.0,
        ducts_mm2=uniform(rng, 1, 10),
        ridge_um=log_uniform(rng, 4, 90),
        ridge_pitch_um=uniform(rng, 300, 700),
    )


def _thicken_look(rng: np.random.Generator, look: Look) -> Look:
    return replace(
        look,
        corneum=log_uniform(rng, 0.2, 2.5),
        corneum_stripes=uniform(rng, 0, 0.5),
        corneum_edge_um=log_uniform(rng, 0.5, 15),
        ducts=uniform(rng, 0.2, 0.95),
        mu_epidermis_mm=uniform(rng, 0, 3),
    )
