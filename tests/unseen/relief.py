"""Height maps of the skin: furrows, papillae between rete ridges, follicles; every one is placed by itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .recipe import Floats, Grid, Recipe, Rng, Skin
from .scatter import disc_points, drift


@dataclass(frozen=True)
class Relief:
    """Heights below the top of the image in micrometers, float32 (Z, X) each."""

    glass_um: Floats
    """Lower face of the glass; 0 or less where there is none in view."""
    surface_um: Floats
    corneum_um: Floats
    """Lower face of the corneum."""
    dej_um: Floats
    papillae_um: Floats
    """Centers (x, z) and heights of the papillae, shape (N, 3)."""
    follicles_um: Floats
    """Centers (x, z) and radii of the follicles, shape (N, 3)."""


def build_relief(rng: Rng, grid: Grid, recipe: Recipe) -> Relief:
    """Return the height maps of one tomogram."""
    skin, view = recipe.skin, recipe.view
    width_um = float(grid.x_um[-1])
    across = grid.x_um[None] / width_um - 0.5 + 0 * grid.z_um[:, None]
    glass = view.glass_um + rng.uniform(-0.01, 0.01) * width_um * across * (view.glass_um > 0)
    bow = view.tilt * width_um * across + view.dome_um * (4 * (across - rng.uniform(-0.3, 0.3)) ** 2)
    body = glass + view.gap_um + bow - bow.min() + skin.roughness_um * drift(rng, grid, rng.uniform(60, 160))
    narrow, wide = _furrows(rng, grid, skin)
    follicles = _follicle_places(rng, grid, skin)
    funnel, sleeve = _follicle_depths(rng, grid, follicles)
    surface = body + narrow + funnel + 0.15 * skin.roughness_um * drift(rng, grid, 9.0)
    if view.glass_um > 0:  # glass presses the skin flat
        surface = glass + 1 + _soft_max(surface - glass - 1, np.zeros_like(surface), 2.0)
    corneum_um = skin.corneum_um * np.exp(0.25 * drift(rng, grid, 70.0))
    papillae = _papilla_places(rng, grid, skin)
    bumps = _papilla_heights(rng, grid, papillae, skin)
    level = body + skin.corneum_um + skin.epidermis_um + 0.05 * skin.epidermis_um * drift(rng, grid, 120.0)
    dej = level + skin.follow * wide - bumps + sleeve
    dej = _soft_max(dej, surface + corneum_um + 14, 4.0)
    heights = (glass, surface, surface + corneum_um, dej, papillae, follicles)
    return Relief(*(np.asarray(height, np.float32) for height in heights))


def _soft_max(first: Floats, second: Floats, width_um: float) -> Floats:
    """Return the larger of both, rounded where they cross."""
    return np.asarray((first + second + np.sqrt((first - second) ** 2 + width_um**2)) / 2, np.float32)


def _furrows(rng: Rng, grid: Grid, skin: Skin) -> tuple[Floats, Floats]:
    """Return how far furrows reduce the surface and, wider, the tissue below; (Z, X) both."""
    width_um = float(grid.x_um[-1])
    narrow = np.zeros((len(grid.z_um), len(grid.x_um)), np.float32)
    wide = narrow.copy()
    for _ in range(rng.poisson(skin.furrows_per_mm * width_um / 1000)):
        center = rng.uniform(0, width_um) + rng.uniform(-1, 1) * grid.z_um[:, None]
        depth_um = skin.furrow_um * rng.lognormal(0, 0.5)
        side_um = max(5.0, depth_um * rng.uniform(0.15, 0.5))
        away = np.abs(grid.x_um[None] - center) / side_um
        sharp = np.exp(-(away ** rng.uniform(1.1, 2.2)))
        narrow += (depth_um * (0.7 * sharp + 0.3 * np.exp(-away / 4))) ** 3
        wide += (depth_um * (0.4 * np.exp(-((away / 2.5) ** 2)) + 0.3 * np.exp(-away / 4))) ** 3
    return np.cbrt(narrow), np.cbrt(wide)  # where furrows meet, little more than the deepest


def _papilla_places(rng: Rng, grid: Grid, skin: Skin) -> Floats:
    """Return centers (x, z) and heights of the papillae around the slices, shape (N, 3)."""
    margin_um = skin.pitch_um * 1.5
    far = (float(grid.x_um[-1]) + margin_um, float(grid.z_um[-1]) + margin_um)
    places = disc_points(rng, (-margin_um, -margin_um), far, skin.pitch_um * 0.85)
    heights = skin.papilla_um * rng.lognormal(0, 0.3, len(places))
    return np.column_stack([places, np.minimum(heights, 0.42 * skin.pitch_um)]).astype(np.float32)


def _papilla_heights(rng: Rng, grid: Grid, papillae: Floats, skin: Skin) -> Floats:
    """Return how far papillae lift the DEJ, shape (Z, X): each a rounded cone or a ridge of its own."""
    angle = rng.uniform(0, np.pi)
    total = np.zeros((len(grid.z_um), len(grid.x_um)), np.float32)
    for x_um, z_um, height_um in papillae:
        turn = angle + rng.normal(0, 0.3)
        dx, dz = grid.x_um[None] - x_um, grid.z_um[:, None] - z_um
        along = (dx * np.cos(turn) + dz * np.sin(turn)) / skin.elongation
        across = dz * np.cos(turn) - dx * np.sin(turn)
        radius_um = skin.pitch_um * rng.uniform(0.5, 0.75)
        near = np.clip(1 - (along**2 + across**2) / radius_um**2, 0, None)
        total += (height_um * near ** rng.uniform(1.2, 2.5)) ** 4
    return np.asarray(total**0.25, np.float32)


def _follicle_places(rng: Rng, grid: Grid, skin: Skin) -> Floats:
    """Return centers (x, z) and radii of the follicles, shape (N, 3)."""
    count = skin.follicles
    x_um = rng.uniform(0.08, 0.92, count) * grid.x_um[-1]
    z_um = rng.uniform(-10, 10, count) + grid.z_um.mean()
    return np.column_stack([x_um, z_um, rng.uniform(14, 32, count)]).astype(np.float32)


def _follicle_depths(rng: Rng, grid: Grid, follicles: Floats) -> tuple[Floats, Floats]:
    """Return how far follicles lower the surface and the DEJ, shape (Z, X) both."""
    funnel = np.zeros((len(grid.z_um), len(grid.x_um)), np.float32)
    sleeve = funnel.copy()
    for x_um, z_um, radius_um in follicles:
        away = np.hypot(grid.x_um[None] - x_um, grid.z_um[:, None] - z_um) / radius_um
        depth_um = radius_um * rng.uniform(2.0, 4.0)
        funnel += 0.6 * depth_um * np.exp(-((away / 0.55) ** 1.6))
        sleeve += depth_um * np.exp(-((away / 1.25) ** 3))
    return funnel, sleeve
