"""Surfaces of a patch of skin: glass, skin, bottom of the corneum, DEJ; heights in um below the top of the image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from skinoct_training.phantom.fields import FloatArray, band_noise, smooth_noise
from skinoct_training.phantom.spec import Spec

MARGIN_UM = 150.0
"""Fields are periodic; this much more than the view is drawn so that its edges do not meet."""
DUCT_UM = 9.0
"""Radius of the coil of a sweat duct."""

THICK_UNEVEN_UM = 6.0
"""Standard deviation of the thickness of the corneum of friction skin, apart from its ridges."""


@dataclass(frozen=True)
class Surfaces:
    """Depth of each surface, float32 (Z, X), um."""

    pane: FloatArray
    skin: FloatArray
    corneum: FloatArray
    dej: FloatArray
    furrow: FloatArray
    """How far furrows and follicles sink the skin, um; not a surface."""
    duct: FloatArray
    """Closeness to the axis of a sweat duct, 0 to 1; not a surface."""


def draw_surfaces(rng: np.random.Generator, spec: Spec) -> Surfaces:
    """Draw the surfaces of one tomogram.

    The DEJ follows the skin smoothed over about the thickness of the epidermis, so that furrows fade with depth, and
    carries the papillae. The living epidermis keeps at least a fifth of its thickness over the highest papilla.
    """
    anatomy, grid = spec.anatomy, spec.grid
    slices, _, width = grid.shape
    z = (np.arange(slices, dtype=np.float32) - slices / 2)[:, None] * np.float32(grid.z_um)
    x = (np.arange(width, dtype=np.float32) - width / 2)[None, :] * np.float32(grid.x_um)
    tilt = anatomy.tilt_x * x + anatomy.tilt_z * z + draw_bow(rng, spec) + draw_ridges(rng, spec, z, x)
    wave = anatomy.wave_um * lateral(rng, spec, 90.0)
    rough = 0.6 * lateral(rng, spec, 4.0) + 0.8 * lateral(rng, spec, 12.0)
    follicles = draw_spots(rng, spec, anatomy.follicles_mm2, anatomy.follicle_um)
    furrows = draw_furrows(rng, spec) + anatomy.follicle_depth_um * follicles
    sunk = ndimage.gaussian_filter(furrows, (20 / grid.z_um, 20 / grid.x_um), mode="nearest")
    relief = tilt + wave + rough + furrows
    pane = max(anatomy.pane_um, 0.0)
    skin = relief - min(float(np.percentile(relief, 2)), float(relief.min()) + 3) + pane + anatomy.gap_um
    pane_line = np.full_like(skin, anatomy.pane_um) + 0.003 * anatomy.tilt_x * x
    skin = np.maximum(skin, pane_line)
    base = skin - furrows + rng.uniform(0.4, 1.0) * sunk - rough
    uneven = min(0.15, THICK_UNEVEN_UM / anatomy.corneum_um) if anatomy.ridge_um else 0.15
    horn = anatomy.corneum_um * (1 + uneven * lateral(rng, spec, 25.0)).clip(0.4, 2.0)
    spread = anatomy.cellular_um * (1 + 0.08 * lateral(rng, spec, 120.0)).clip(0.5, 1.6)
    dej = base + anatomy.corneum_um + spread + draw_papillae(rng, spec)
    # The sheath of a hair is epidermis: the DEJ goes down beside it, wider than the funnel above.
    dej += 0.5 * anatomy.follicle_depth_um * np.sqrt(follicles)
    least = 0.2 * anatomy.cellular_um + 4.0
    # A furrow ends above the DEJ, which passes below it as a smooth line: it does not follow a slit.
    skin = np.maximum(np.minimum(skin, dej - horn - least), pane_line)
    corneum = skin + horn
    dej = np.maximum(dej, corneum + least)
    dej = ndimage.gaussian_filter(dej, (2.5 / grid.z_um, 2.5 / grid.x_um), mode="nearest")
    duct = draw_spots(rng, spec, anatomy.ducts_mm2, DUCT_UM)
    surfaces = [pane_line, skin, corneum, dej, furrows, duct]
    return Surfaces(*(np.asarray(surface, np.float32) for surface in surfaces))


def draw_bow(rng: np.random.Generator, spec: Spec) -> FloatArray:
    """Draw how much deeper than at its top round skin lies (1, X), um."""
    if not spec.anatomy.bow_um:
        return np.zeros((1, 1), np.float32)
    x = np.linspace(-1, 1, spec.grid.shape[2], dtype=np.float32) - np.float32(rng.uniform(-0.6, 0.6))
    return np.asarray(spec.anatomy.bow_um * (x / np.abs(x).max()) ** 2, np.float32)[None]


def draw_ridges(rng: np.random.Generator, spec: Spec, z: FloatArray, x: FloatArray) -> FloatArray:
    """Draw the ridges of friction skin in um, at places ``z`` (Z, 1) and ``x`` (1, X): parallel, but for slow bends."""
    anatomy = spec.anatomy
    if not anatomy.ridge_um:
        return np.zeros((1, 1), np.float32)
    angle = rng.uniform(-np.pi / 2, np.pi / 2)
    across = np.cos(angle) * x + np.sin(angle) * z + 0.15 * anatomy.ridge_pitch_um * lateral(rng, spec, 300.0)
    wave = np.cos(2 * np.pi * across / anatomy.ridge_pitch_um + rng.uniform(0, 2 * np.pi))
    # Ridges are broad and the furrows between them narrow; depth grows downwards.
    return np.asarray(-anatomy.ridge_um * (1 - (0.5 * (1 - wave)) ** rng.uniform(1.0, 3.0)), np.float32)


def lateral(rng: np.random.Generator, spec: Spec, width_um: float) -> FloatArray:
    """Draw standard noise over the view (Z, X), correlated over ``width_um`` in both directions."""
    grid = spec.grid
    padding = [int(np.ceil((MARGIN_UM + 2 * width_um) / step)) for step in (grid.z_um, grid.x_um)]
    shape = (grid.shape[0] + padding[0], grid.shape[2] + padding[1])
    field = smooth_noise(rng, shape, (width_um / grid.z_um, width_um / grid.x_um))
    return field[: grid.shape[0], : grid.shape[2]]


def draw_spots(rng: np.random.Generator, spec: Spec, per_mm2: float, radius_um: float) -> FloatArray:
    """Scatter round spots: closeness (Z, X) to the nearest center, 1 there, falling over ``radius_um``."""
    grid = spec.grid
    pad = 2 * radius_um
    extent = np.array([grid.shape[0] * grid.z_um, grid.shape[2] * grid.x_um])
    count = int(rng.poisson(per_mm2 * 1e-6 * float(np.prod(extent + 2 * pad))))
    z, x = np.meshgrid(np.arange(grid.shape[0]) * grid.z_um, np.arange(grid.shape[2]) * grid.x_um, indexing="ij")
    closeness = np.zeros(z.shape, np.float32)
    for center_z, center_x in rng.uniform(-pad, extent + pad, (count, 2)):
        square = ((z - center_z) ** 2 + (x - center_x) ** 2) / radius_um**2
        closeness = np.maximum(closeness, np.exp(-square).astype(np.float32))
    return closeness


def draw_papillae(rng: np.random.Generator, spec: Spec) -> FloatArray:
    """Draw the relief of the DEJ (Z, X) in um, mean about 0; dermal papillae point up (negative).

    A band-limited field, sharpened a little where papillae are young and tall: rete ridges are narrower than the
    plateaus between them.
    """
    anatomy, grid = spec.anatomy, spec.grid
    padding = [int(np.ceil(3 * anatomy.papilla_pitch_um / step)) for step in (grid.z_um, grid.x_um)]
    shape = (grid.shape[0] + padding[0], grid.shape[2] + padding[1])
    periods = (anatomy.papilla_pitch_um / grid.z_um, anatomy.papilla_pitch_um / grid.x_um)
    field = band_noise(rng, shape, periods)[: grid.shape[0], : grid.shape[2]]
    sharpened = np.tanh(rng.uniform(0.3, 1.2) * field + rng.uniform(-0.4, 0.4))
    fine = 0.08 * lateral(rng, spec, 9.0)
    return np.asarray(anatomy.papilla_um * 0.5 * (sharpened - sharpened.mean() + fine), np.float32)


def draw_furrows(rng: np.random.Generator, spec: Spec) -> FloatArray:
    """Draw the depth of furrows (Z, X) in um: lines between the cells of a Voronoi pattern, of varying depth."""
    anatomy, grid = spec.anatomy, spec.grid
    slices, _, width = grid.shape
    extent_z, extent_x = slices * grid.z_um, width * grid.x_um
    pad = anatomy.furrow_pitch_um
    count = max(4, int((extent_z + 2 * pad) * (extent_x + 2 * pad) / anatomy.furrow_pitch_um**2))
    seeds = rng.uniform((-pad, -pad), (extent_z + pad, extent_x + pad), (min(count, 400), 2)).astype(np.float32)
    z, x = np.meshgrid(np.arange(slices) * grid.z_um, np.arange(width) * grid.x_um, indexing="ij")
    bend = 8.0 * lateral(rng, spec, 30.0)
    nearest = np.full((2, slices, width), np.inf, np.float32)
    for seed_z, seed_x in seeds:
        distance = np.hypot(z - seed_z, x + bend - seed_x).astype(np.float32)
        nearest[1] = np.minimum(nearest[1], np.maximum(nearest[0], distance))
        nearest[0] = np.minimum(nearest[0], distance)
    from_line = (nearest[1] - nearest[0]) / 2
    depth = anatomy.furrow_um * np.clip(0.6 + 0.5 * lateral(rng, spec, 60.0), 0.0, 1.6)
    profile = np.exp(-((from_line / anatomy.furrow_width_um) ** rng.uniform(1.0, 1.8)))
    return np.asarray(depth * profile, np.float32)
