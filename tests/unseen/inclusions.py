"""What else lies in skin and on it: vessels, capillary loops, sebaceous glands, follicles, hairs, debris."""

from __future__ import annotations

import numpy as np

from .recipe import Floats, Grid, Mask, Rng, Skin, View
from .relief import Relief
from .scatter import disc_points, drift


def vessels(rng: Rng, grid: Grid, relief: Relief, skin: Skin) -> Floats:
    """Return how much of a voxel is blood, 0 to 1, shape (Z, Y, X): tubes in the dermis, loops in papillae."""
    out = np.zeros(grid.shape, np.float32)
    width_um = float(grid.x_um[-1])
    z_um = grid.z_um[:, None, None]
    for _ in range(rng.poisson(skin.vessels_per_mm * width_um / 1000)):
        x_um = rng.uniform(0, width_um)
        level = np.median(relief.dej_um) + rng.gamma(2.0, 45.0)
        half_um, radius_um = rng.uniform(12, 130), rng.uniform(5, 17)
        offset = (grid.x_um - x_um) / half_um
        here = radius_um * np.sqrt(np.clip(1 - offset**4, 0, None))[None, None]
        sag = (level + rng.normal(0, 0.25) * (grid.x_um - x_um))[None] + 6 * drift(rng, grid, 50.0)
        away = np.hypot(grid.y_um[:, None] - sag[:, None], 0.5 * (z_um - grid.z_um.mean()) + rng.normal(0, 4))
        out = np.maximum(out, np.clip((here - away) / 2 + 0.5, 0, 1) * (here > 2))
    for x_um, center_um, height_um in relief.papillae_um:
        if rng.random() < 0.6 and height_um > 15:
            out = np.maximum(out, _loop(rng, grid, relief, (x_um, center_um), height_um))
    return np.asarray(out, np.float32)


def _loop(rng: Rng, grid: Grid, relief: Relief, place: tuple[float, float], height_um: float) -> Floats:
    """Return a capillary loop in the papilla at ``place``, shape (Z, Y, X): two thin arms joined at the top."""
    if not 0 < place[0] < grid.x_um[-1] or not -8 < place[1] < grid.z_um[-1] + 8:
        return np.zeros((1, 1, 1), np.float32)
    column = int(place[0] / grid.pixel_um)
    top_um = float(relief.dej_um[:, column].mean()) + rng.uniform(8, 14)
    half_um, thick_um, long_um = rng.uniform(4, 8), rng.uniform(2.5, 4.5), height_um + rng.uniform(10, 40)
    dx = grid.x_um[None] - place[0] - rng.normal(0, 0.15) * (grid.y_um[:, None] - top_um)
    dy = grid.y_um[:, None] - top_um - half_um
    dx = dx + rng.uniform(1.5, 4) * np.sin(dy / rng.uniform(6, 14) + rng.uniform(0, 6)) * np.clip(dy / 10, 0, 1)
    fade = rng.uniform(0.3, 0.9) * np.clip((long_um - dy) / 20, 0, 1)
    arch = np.abs(np.hypot(dx, np.minimum(dy, 0)) - half_um * (1 - 0.4 * np.clip(dy / long_um, 0, 1)))
    dz = grid.z_um[:, None, None] - place[1]
    away = np.hypot(arch[None], dz)
    return np.asarray(np.clip((thick_um - away) / 1.5 + 0.5, 0, 1) * fade[None], np.float32)


def glands(rng: Rng, grid: Grid, relief: Relief) -> Floats:
    """Return the factor by which sebaceous lobules beside follicles change the dermis, shape (Z, Y, X)."""
    factor = np.ones(grid.shape, np.float32)
    for x_um, _, radius_um in relief.follicles_um:
        column = int(np.clip(x_um / grid.pixel_um, 0, len(grid.x_um) - 1))
        side = rng.choice([-1.0, 1.0])
        for _ in range(rng.integers(0, 7)):
            center_x = x_um + side * radius_um * rng.uniform(1.2, 3.2)
            center_y = float(relief.dej_um[:, column].mean()) - radius_um * rng.uniform(-1.5, 0.5)
            size_um = radius_um * rng.uniform(0.4, 1.0)
            away = np.hypot((grid.x_um - center_x)[None, :], 1.2 * (grid.y_um - center_y)[:, None]) / size_um
            lobule = np.exp(-(np.clip(away, 0, 3) ** 6))
            factor *= 1 - 0.45 * lobule + 0.8 * np.exp(-(((away - 1) / 0.12) ** 2))
    return factor


def hair_bodies(rng: Rng, grid: Grid, relief: Relief, skin: Skin, outside: Mask) -> tuple[Floats, Floats]:
    """Return rim and shaft of hairs, 0 to 1, shape (Z, Y, X) both: those of follicles and those that lie on skin."""
    rim = np.zeros(grid.shape, np.float32)
    shaft = rim.copy()
    for x_um, _, radius_um in relief.follicles_um:
        if rng.random() < 0.7:
            column = int(np.clip(x_um / grid.pixel_um, 0, len(grid.x_um) - 1))
            _draw_leaning(rng, grid, (x_um, float(relief.surface_um[0, column])), radius_um * 0.3, (rim, shaft))
    for _ in range(skin.hairs):
        _draw_lying(rng, grid, relief, (rim, shaft))
    return np.clip(rim, 0, 1.5), np.clip(shaft, 0, 1)


def _draw_lying(rng: Rng, grid: Grid, relief: Relief, bodies: tuple[Floats, Floats]) -> None:
    """Draw a hair that lies on the skin into ``bodies``, cut across or nearly along its length."""
    x_um, radius_um = rng.uniform(0, grid.x_um[-1]), rng.uniform(5, 19)
    column = int(x_um / grid.pixel_um)
    y_um = float(relief.surface_um[0, column]) - radius_um * rng.uniform(0.5, 1.5)
    oblong = rng.uniform(1, 2.2) if rng.random() < 0.7 else rng.uniform(3, 9)
    dx = grid.x_um[None] - x_um + rng.uniform(-1, 1) * (grid.z_um - grid.z_um.mean())[:, None]
    dy = grid.y_um[None, :, None] - y_um - (rng.normal(0, 0.15) * dx)[:, None]
    away = np.hypot(dx[:, None] / oblong, dy)
    shine = np.exp(0.5 * drift(rng, grid, 12.0))[:, None] / (1 + np.exp(np.clip(dy / (0.3 * radius_um), -30, 30)))
    rim, shaft = bodies
    rim += np.exp(-(((away - radius_um) / max(1.3, 0.8 * grid.pixel_um)) ** 2)) * shine
    shaft += np.clip((radius_um - away) / (0.5 * radius_um), 0, 1)


def _draw_leaning(
    rng: Rng, grid: Grid, root: tuple[float, float], radius_um: float, bodies: tuple[Floats, Floats]
) -> None:
    """Draw a hair that leaves its follicle at a slant into ``bodies``, rim and shaft."""
    lean = rng.normal(0, 0.7)
    up_um = root[1] - grid.y_um[:, None]
    across = (grid.x_um[None] - root[0] - lean * up_um) / np.hypot(1, lean)
    long = (up_um < rng.uniform(20, 90)) & (up_um > -3 * radius_um)
    rim, shaft = bodies
    rim += np.exp(-(((np.abs(across) - radius_um) / 1.6) ** 2)) * long * rng.uniform(0.3, 1)
    shaft += (np.abs(across) < radius_um) * long


def debris(rng: Rng, grid: Grid, view: View, outside: Mask) -> Floats:
    """Return the reflectivity of what floats in the medium, shape (Z, Y, X): specks, flakes of corneum."""
    out = np.zeros(grid.shape, np.float32)
    far = (float(grid.x_um[-1]), max(1.0, float(grid.y_um[-1]) * 0.5))
    places = disc_points(rng, (0.0, 0.0), far, float(np.sqrt(far[0] * far[1] / (1.5 * view.debris + 1))))
    for x_um, y_um in places[: view.debris]:
        long_um, thick_um = rng.uniform(0.8, 6) * grid.pixel_um, rng.uniform(0.6, 1.2) * grid.pixel_um
        dx, dy = (grid.x_um - x_um)[None, :], (grid.y_um - y_um)[:, None]
        dy = dy - rng.normal(0, 0.2) * dx
        out += rng.lognormal(0, 0.7) * np.exp(-np.minimum((dx / long_um) ** 2 + (dy / thick_um) ** 2, 40))
    return out * outside
