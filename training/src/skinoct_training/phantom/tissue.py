"""Reflectivity of the tissue: what each layer sends back from each place."""

from __future__ import annotations

import numpy as np

from skinoct_training.phantom.fields import FloatArray, blur, smooth_noise
from skinoct_training.phantom.geometry import Surfaces
from skinoct_training.phantom.spec import Spec


def draw_tissue(rng: np.random.Generator, spec: Spec, surfaces: Surfaces) -> FloatArray:
    """Return intensity (Z, Y, X) relative to the upper epidermis, attenuation with depth included."""
    look = spec.look
    depth, under_skin, under_corneum, under_dej = depths(spec, surfaces)
    clouds = 1 + look.clouds * noise(rng, spec, 18.0)
    corneum = look.corneum * (1 + look.corneum_stripes * stripes(rng, spec, surfaces)).clip(0.1)
    epidermis = draw_epidermis(rng, spec, -under_dej, under_corneum) * clouds
    dermis = draw_dermis(rng, spec, under_dej) * (1 + look.clouds * noise(rng, spec, 30.0))
    entrance = 1 + (look.corneum - 1) * 0.4 * np.exp(-np.maximum(under_skin, 0) / 4)
    tissue = blend(np.asarray(corneum * entrance, np.float32), epidermis, under_corneum, look.corneum_edge_um)
    tissue = blend(tissue, dermis, under_dej, look.step_edge_um)
    tissue *= 1 + (look.junction - 1) * np.exp(-((under_dej / 2.0) ** 2))
    tissue *= 1 + (look.entrance - 1) * np.exp(-((under_skin / look.entrance_um) ** 2))
    tissue *= ducts(rng, spec, surfaces, depth)
    tissue *= attenuation(spec, under_skin, under_dej)
    medium = draw_medium(rng, spec, depth, surfaces)
    return np.asarray(np.where(under_skin >= 0, np.maximum(tissue, 0.01), medium), np.float32)


def depths(spec: Spec, surfaces: Surfaces) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return how many um pixels lie below the top of the image (1, Y, 1), and below skin, corneum and DEJ (Z, Y, X)."""
    grid = spec.grid
    depth = (np.arange(grid.shape[1], dtype=np.float32) + 0.5)[None, :, None] * np.float32(grid.y_um)
    return depth, depth - surfaces.skin[:, None], depth - surfaces.corneum[:, None], depth - surfaces.dej[:, None]


def blend(above: FloatArray, below: FloatArray, depth_um: FloatArray, edge_um: float) -> FloatArray:
    """Go from ``above`` to ``below`` where ``depth_um`` changes sign, over about ``edge_um`` on either side."""
    share = 0.5 * (1 + np.tanh(depth_um / np.float32(edge_um)))
    return np.asarray(above + (below - above) * share, np.float32)


def ducts(rng: np.random.Generator, spec: Spec, surfaces: Surfaces, depth: FloatArray) -> FloatArray:
    """Factor (Z, Y, X) of the sweat ducts, whose turns a B-scan cuts as a column of bright and dark bars."""
    turns = np.sin(2 * np.pi * depth / np.float32(rng.uniform(12, 30)) + np.float32(rng.uniform(0, 6.28)))
    return np.asarray(1 + spec.look.ducts * surfaces.duct[:, None] * turns, np.float32)


def attenuation(spec: Spec, under_skin: FloatArray, under_dej: FloatArray) -> FloatArray:
    """Two-way attenuation R(z) = exp(-2 mu z), with one coefficient above the DEJ and one below."""
    below = np.maximum(under_dej, 0)
    above = np.maximum(under_skin, 0) - below
    look = spec.look
    return np.asarray(np.exp(-2e-3 * (look.mu_epidermis_mm * above + look.mu_dermis_mm * below)), np.float32)


def noise(rng: np.random.Generator, spec: Spec, width_um: float, stretch_x: float = 1.0) -> FloatArray:
    """Draw standard noise (Z, Y, X) correlated over ``width_um``."""
    grid = spec.grid
    widths = (width_um / grid.z_um, width_um / grid.y_um, stretch_x * width_um / grid.x_um)
    return smooth_noise(rng, grid.shape, widths)


def stripes(rng: np.random.Generator, spec: Spec, surfaces: Surfaces) -> FloatArray:
    """Lamellae of the corneum (Z, Y, X): noise that varies with depth below the skin and little along it."""
    grid = spec.grid
    widths = (30 / grid.z_um, max(0.6, 1.2 / grid.y_um), 30 / grid.x_um)
    flat = smooth_noise(rng, grid.shape, widths)
    return follow(flat, surfaces.skin / np.float32(grid.y_um))


def follow(flat: FloatArray, top: FloatArray) -> FloatArray:
    """Bend a field (Z, Y, X) along a surface ``top`` (Z, X) in rows, cyclically."""
    slices, rows, columns = flat.shape
    y = (np.arange(rows)[None, :, None] - np.round(top).astype(np.intp)[:, None]) % rows
    return np.asarray(flat[np.arange(slices)[:, None, None], y, np.arange(columns)[None, None, :]])


def draw_epidermis(rng: np.random.Generator, spec: Spec, over_dej: FloatArray, under_corneum: FloatArray) -> FloatArray:
    """Cells with dark nuclei, flatter towards the surface; a basal layer; bright spots of dendritic cells.

    ``over_dej`` and ``under_corneum`` are distances in um, (Z, Y, X).
    """
    look = spec.look
    deep = nuclei(rng, spec, 0.8)
    flat = nuclei(rng, spec, 0.4)
    share = np.clip(over_dej / np.maximum(over_dej + under_corneum, 1.0), 0, 1)
    dark = look.nuclei * np.where(share > 0.6, flat, deep)
    body = (1 - dark) * (1 + 0.2 * noise(rng, spec, look.cell_pitch_um / 3))
    basal = 1 + (look.basal - 1) * np.exp(-((over_dej / look.basal_um) ** 2))
    spots = noise(rng, spec, 2.2)
    bright = look.spots * 1.5 * (spots > 3.1 - 0.5 * (over_dej < 15))
    return np.asarray(body.clip(0.05) * basal + bright, np.float32)


def nuclei(rng: np.random.Generator, spec: Spec, flatness: float) -> FloatArray:
    """Draw the nuclei (Z, Y, X) as ellipsoids, 1 within and 0 between, ``flatness`` times as high as wide.

    One cell sits near each point of a shifted lattice, closer together in depth where cells are flat.
    """
    grid, look = spec.grid, spec.look
    pitch = look.cell_pitch_um
    steps_um = np.array([pitch, max(flatness, 0.6) * pitch, pitch])
    voxel_um = np.array([grid.z_um, grid.y_um, grid.x_um])
    pad = int(np.ceil(pitch / grid.z_um))
    shape = np.array([grid.shape[0] + 2 * pad, grid.shape[1], grid.shape[2]])
    counts = np.maximum(np.ceil(shape * voxel_um / steps_um).astype(int), 1)
    points = np.stack(np.meshgrid(*[np.arange(n) for n in counts], indexing="ij"), -1).reshape(-1, 3).astype(float)
    points[:, 2] += 0.5 * (points[:, 1] % 2)
    points += rng.uniform(-0.4, 0.4, points.shape)
    points = points[rng.random(len(points)) < look.nuclei_seen]
    index = np.round(points * steps_um / voxel_um).astype(int) % shape
    radius = look.nucleus_um / 2 * np.array([1.0, flatness, 1.0]) / voxel_um
    seeds = np.zeros(tuple(shape), np.float32)
    seeds[tuple(index.T)] = rng.uniform(0.5, 1.5, len(index))
    widths = np.maximum(radius / 1.5, 0.4)
    field = blur(seeds, widths)[pad : pad + grid.shape[0]] * np.float32((2 * np.pi) ** 1.5 * np.prod(widths))
    return np.asarray(np.clip(1.6 * field, 0, 1), np.float32)


def draw_dermis(rng: np.random.Generator, spec: Spec, under_dej: FloatArray) -> FloatArray:
    """Collagen in bundles along x at changing angles, a papillary layer, dark vessels."""
    look, grid = spec.look, spec.grid
    shear = rng.uniform(-0.4, 0.4)
    bundles = noise(rng, spec, rng.uniform(1.2, 2.2), stretch_x=rng.uniform(2.0, 5.0))
    coarse = noise(rng, spec, 5.0, stretch_x=rng.uniform(2.0, 5.0))
    lean = np.broadcast_to(shear * np.arange(grid.shape[2], dtype=np.float32), (grid.shape[0], grid.shape[2]))
    fibers = follow(bundles + 0.5 * coarse, lean)
    body = np.exp(look.collagen * fibers)
    papillary = 1 + (look.papillary - 1) * np.exp(-((under_dej / look.papillary_um) ** 2))
    tubes = noise(rng, spec, 9.0, stretch_x=rng.uniform(1.0, 3.0))
    patches = np.exp(look.patches * noise(rng, spec, 45.0, stretch_x=rng.uniform(0.7, 2.0)))
    vessel = 1 - look.vessels * 0.75 * np.clip((tubes - 1.6) / 0.3, 0, 1)
    return np.asarray(look.dermis_step * body * papillary * patches * vessel, np.float32)


def draw_medium(rng: np.random.Generator, spec: Spec, depth: FloatArray, surfaces: Surfaces) -> FloatArray:
    """Glass with its bright surface and the coupling medium with debris: (Z, Y, X).

    The glass ends where its bright line has fallen to half: who traces it takes the whole line for glass.
    """
    look, grid, pane = spec.look, spec.grid, surfaces.pane[:, None]
    shape = grid.shape
    gel = np.full(shape, look.medium, np.float32)
    debris = blur((rng.random(shape, dtype=np.float32) < rng.uniform(0, 8e-5)).astype(np.float32), (0.7, 0.8, 0.9))
    gel += 25 * rng.uniform(0.3, 1.5) * debris.clip(0)
    above = look.medium * rng.uniform(0.2, 1.5) + 0.4 * look.glass * (rng.random() < 0.2)
    line_um = look.glass_edge * rng.uniform(0.5, 1.5) * max(grid.y_um, 0.9)
    under_line = depth - pane + np.float32(np.sqrt(np.log(2)) * line_um)
    beside = np.maximum(under_line, 0) + np.maximum(-under_line - look.glass_band_um, 0)
    line = look.glass * np.exp(-((beside / line_um) ** 2))
    return np.asarray(np.where(depth < pane, above, gel) + line, np.float32)
