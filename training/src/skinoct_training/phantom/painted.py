"""The family ``painted``: skin whose layers look like nothing in particular.

The surfaces are those of skin, the look is not: brightness and texture of every layer are drawn at random, without
physics, in the manner of Billot et al., *SynthSeg: Segmentation of brain MRI scans of any contrast and resolution*,
Medical Image Analysis 86 (2023). What a network can learn from it is the order, the shape and the thickness of the
layers, and to look for whatever changes between them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from skinoct_training.phantom.chance import chance, log_uniform, uniform
from skinoct_training.phantom.fields import FloatArray, smooth_noise
from skinoct_training.phantom.geometry import Surfaces
from skinoct_training.phantom.spec import Look, Spec
from skinoct_training.phantom.tissue import attenuation, blend, depths, draw_medium, follow, noise

LEAST_CHANGE = 0.25
"""Of brightness at the DEJ, as a logarithm: less is hardly seen where texture does not change, too."""


def paint(rng: np.random.Generator, spec: Spec) -> Spec:
    """Return the spec of a ``wide`` or ``deep`` tomogram whose tissue is painted."""
    return replace(spec, family="painted", look=_paint_look(rng, spec.look))


def _paint_look(rng: np.random.Generator, look: Look) -> Look:
    """Draw what the painted tissue has in common with that of the other families."""
    change = uniform(rng, LEAST_CHANGE, 1.5) * (1 if chance(rng, 0.6) else -1)
    return replace(
        look,
        medium=log_uniform(rng, 0.001, 0.5),
        corneum=log_uniform(rng, 0.15, 6),
        corneum_edge_um=log_uniform(rng, 0.3, 15),
        dermis_step=float(np.exp(change)),
        step_edge_um=log_uniform(rng, 0.3, 12),
        clouds=log_uniform(rng, 0.03, 0.5),
        patches=log_uniform(rng, 0.03, 0.5),
        mu_epidermis_mm=uniform(rng, 0, 8),
        mu_dermis_mm=uniform(rng, 0, 8),
    )


def draw_painted_tissue(rng: np.random.Generator, spec: Spec, surfaces: Surfaces) -> FloatArray:
    """Return intensity (Z, Y, X), 1 in the mean over all skin in view, attenuation with depth included."""
    look = spec.look
    depth, under_skin, under_corneum, under_dej = depths(spec, surfaces)
    share = np.clip(under_corneum / np.maximum(under_corneum - under_dej, 1.0), 0, 1).astype(np.float32)
    corneum = look.corneum * draw_profile(rng, under_skin, log_uniform(rng, 3, 40)) * draw_texture(rng, spec, surfaces)
    epidermis = draw_profile(rng, share, log_uniform(rng, 0.15, 1.0)) * draw_texture(rng, spec, surfaces)
    dermis = draw_profile(rng, under_dej, log_uniform(rng, 10, 150)) * draw_texture(rng, spec, surfaces)
    epidermis = epidermis * (1 + look.clouds * noise(rng, spec, 18.0)).clip(0.2)
    dermis = dermis * np.exp(look.patches * noise(rng, spec, 45.0))
    tissue = blend(corneum, epidermis, under_corneum, look.corneum_edge_um)
    tissue = blend(tissue, look.dermis_step * dermis, under_dej, look.step_edge_um)
    for under_um, likely in ((under_skin, 0.5), (under_corneum, 0.2), (under_dej, 0.25)):
        tissue = tissue * draw_line(rng, spec, under_um, likely)
    tissue = tissue * draw_blobs(rng, spec) * attenuation(spec, under_skin, under_dej)
    # The camera is set to what it sees, or all of a bright dermis is white.
    skin = under_skin >= 0
    tissue = tissue / tissue[skin].mean() if skin.any() else tissue
    medium = draw_medium(rng, spec, depth, surfaces)
    return np.asarray(np.where(skin, np.maximum(tissue, 0.003), medium), np.float32)


def draw_profile(rng: np.random.Generator, position: FloatArray, knot: float) -> FloatArray:
    """Draw how bright a layer is by ``position`` in it, 1 where it begins: a random walk with a step every ``knot``.

    Positions beyond the layer's ends count as those ends; after thirty knots brightness stays as it is.
    """
    steps = rng.normal(0, log_uniform(rng, 0.03, 0.35), 30)
    steps[0] = 0
    knots = np.arange(30, dtype=np.float32) * np.float32(knot)
    return np.exp(np.interp(position, knots, np.cumsum(steps))).astype(np.float32)


def draw_texture(rng: np.random.Generator, spec: Spec, surfaces: Surfaces) -> FloatArray:
    """Draw the texture of one layer (Z, Y, X), mean about 1: grains, cells, fibers or lamellae of any size."""
    grid = spec.grid
    contrast = log_uniform(rng, 0.03, 0.9)
    size_um, stretch = log_uniform(rng, 1.0, 25.0), log_uniform(rng, 0.3, 6.0)
    widths = (size_um / grid.z_um, size_um / grid.y_um, size_um * stretch / grid.x_um)
    field = smooth_noise(rng, grid.shape, widths)
    if chance(rng, 0.5):
        line = surfaces.skin if chance(rng, 0.5) else surfaces.dej
        field = follow(field, line / np.float32(grid.y_um))
    elif chance(rng, 0.5):
        lean = np.broadcast_to(
            uniform(rng, -0.6, 0.6) * np.arange(grid.shape[2], dtype=np.float32), surfaces.skin.shape
        )
        field = follow(field, lean)
    shape: Callable[[FloatArray], FloatArray] = SHAPES[int(rng.integers(len(SHAPES)))]
    texture = np.exp(np.float32(contrast) * shape(field))
    return np.asarray(texture / texture.mean(), np.float32)


def soft(field: FloatArray) -> FloatArray:
    """As smooth as the noise itself."""
    return field


def ridged(field: FloatArray) -> FloatArray:
    """Bright lines between dark patches, as walls between cells."""
    return np.asarray(1 - 2 * np.abs(field), np.float32)


def dark_spots(field: FloatArray) -> FloatArray:
    """Dark spots on an even ground, as nuclei."""
    return np.asarray(-2.5 * (field > 0.9), np.float32)


def bright_spots(field: FloatArray) -> FloatArray:
    """Bright spots on an even ground, as pigment."""
    return np.asarray(2.5 * (field > 1.3), np.float32)


SHAPES = (soft, ridged, dark_spots, bright_spots)


def draw_line(rng: np.random.Generator, spec: Spec, under_um: FloatArray, likely: float) -> FloatArray:
    """Draw a line, bright or dark, along or beside a surface (Z, Y, X): a factor, 1 where there is none."""
    if not chance(rng, likely):
        return np.ones((1, 1, 1), np.float32)
    width_um = max(log_uniform(rng, 1, 12), 0.5 * spec.grid.y_um)
    factor = log_uniform(rng, 1.3, 5) if chance(rng, 0.7) else log_uniform(rng, 0.2, 0.8)
    middle_um = uniform(rng, 0, 1.5) * width_um * (1 if chance(rng, 0.5) else -1)
    line = np.exp(-(((under_um - np.float32(middle_um)) / np.float32(width_um)) ** 2))
    return np.asarray(1 + (factor - 1) * line, np.float32)


def draw_blobs(rng: np.random.Generator, spec: Spec) -> FloatArray:
    """Draw what lies across layers (Z, Y, X): large patches, brighter or darker, that mean nothing."""
    if chance(rng, 0.5):
        return np.ones((1, 1, 1), np.float32)
    field = noise(rng, spec, log_uniform(rng, 10, 60), stretch_x=log_uniform(rng, 0.5, 3))
    within = 1 / (1 + np.exp(-(field - uniform(rng, 1.0, 2.2)) / 0.1))
    return np.asarray(1 + (log_uniform(rng, 0.3, 3.0) - 1) * within, np.float32)
