"""A coarse instrument: 1.6 to 2 um pixels, several exposures averaged, dark image edges, some files of 16 bits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from skinoct_training.instruments.anatomy import draw_skin, fit_into
from skinoct_training.instruments.fields import Floats, Rng, blur_complex, scatterers
from skinoct_training.instruments.recording import Recording, draw_pixel, draw_site, draw_slice_distance, match_step
from skinoct_training.instruments.tissue import (
    Debris,
    Layers,
    Stack,
    falling,
    fibers,
    nuclei,
    specks,
    transmission,
    under_debris,
    under_furrows,
    vessels,
)

SIZES = ((128, 256), (256, 512))
"""(Y, X), the usual one first."""
NO_GLASS_UM = -9.0
DEBRIS = Debris(mean_count=1.5, optical_depth=(0.1, 0.5), width_um=(6, 30), thickness_um=12)


class Tissue(Layers):
    """Skin as this instrument sees it."""

    def power(self, stack: Stack, reflectivity: float) -> Floats:
        """Return the power (Z, Y, X) for a reflectivity of the dermis."""
        upper = 0.001 + stack.corneum * self.corneum + stack.living * self.epidermis
        fade = 1 + (self.step - 1) * falling(stack.below_dej_um, 30)
        above = np.where(stack.below_surface_um > -stack.pixel_um, 1, 0.3)
        return (upper + stack.dermis * self.dermis * reflectivity * fade) * above * self.light


@dataclass(frozen=True)
class Display:
    """How intensity becomes brightness."""

    edge: Floats
    """(X,) falls off to the sides."""
    floor: float
    gamma: float

    def show(self, intensity: Floats) -> Floats:
        """Return the mean brightness (Z, Y, X)."""
        return (self.lit(intensity) + self.floor) ** self.gamma

    def lit(self, intensity: Floats) -> Floats:
        """Return the intensity (Z, Y, X) with dark edges."""
        return intensity * (0.12 + 0.88 * self.edge)


def draw(rng: Rng, slices: int) -> Recording:
    """Draw a tomogram of ``slices`` B-scans."""
    stack, glass_um, in_view = draw_stack(rng, slices)
    tissue = draw_tissue(rng, stack)
    display = draw_display(rng, stack.shape[2])

    def shown(reflectivity: float) -> Floats:
        return display.show(tissue.power(stack, reflectivity))

    reflectivity = match_step(stack, shown, rng.uniform(1.07, 1.5), between_um=(4, 20))
    power = tissue.power(stack, reflectivity)
    power = power + specks(stack, int(rng.integers(0, 25)), stack.below_surface_um < -5, 1.5, 1.0)
    image = digitize(rng, stack, expose(rng, stack, power), display)
    if not in_view:
        return Recording(stack, image, None)
    edge_um = float(glass_um[0, 0])
    level = rng.uniform(190, 255) + 0 * image
    below = image + 120 * falling(stack.depth_um - edge_um, 2)
    return Recording(stack, np.where(stack.depth_um < edge_um, level, below), glass_um)


def draw_stack(rng: Rng, slices: int) -> tuple[Stack, Floats, bool]:
    """Draw skin; returns the depth of the glass (Z, X) and whether it is in view, too."""
    pixel_um = draw_pixel(rng, 1.6, 2.0)
    slice_um = draw_slice_distance(rng, pixel_um)
    rows, columns = SIZES[int(rng.random() < 0.3)]
    low = rows == SIZES[0][0]
    site = draw_site(rng)
    usual_um = rng.uniform(3, 7)
    in_view = rng.random() < 0.8
    glass_um = np.full((slices, columns), usual_um if in_view else NO_GLASS_UM)
    top_um = usual_um + rng.uniform(8, 45 if low else 110)
    furrow_in_um = int(rng.choice([0, 260, 170], p=[0.15, 0.45, 0.4]))
    skin = draw_skin(rng, columns * pixel_um, top_um, site, furrow_in_um, highest_papilla_um=45)
    if low:
        fit_into(skin, 150)
    stack = Stack(skin, rng, (slices, rows, columns), pixel_um, slice_um, moves_px=0.35, lid_um=glass_um + 1)
    return stack, glass_um, in_view


def draw_tissue(rng: Rng, stack: Stack) -> Tissue:
    """Draw what each layer reflects and what takes light away."""
    cells = nuclei(stack, rng.uniform(0.7, 0.95), rng.uniform(0.6, 0.9), rim=0.15, size=1.15)
    below_um = stack.below_surface_um
    corneum = rng.uniform(3.5, 9) * np.exp(0.4 * stack.blobs(30, 10, 25))
    corneum = corneum * (1.3 - 0.8 * np.clip(below_um / stack.corneum_thickness_um, 0, 1))
    corneum = corneum * (1 + 0.3 * np.cos(below_um / rng.uniform(0.9, 1.4)))
    epidermis = cells * np.exp(0.18 * stack.blobs(6, 7, 8)) * (1 + rng.uniform(-0.3, 0.3) * (stack.way_to_dej - 0.5))
    basal = rng.uniform(0, 0.7) * falling(-stack.below_dej_um, 8)
    epidermis *= 1 + basal * np.clip(0.7 + 0.7 * stack.blobs(20, 40, 30), 0, 2)
    count = int(rng.integers(3, 9) * stack.shape[2] * stack.pixel_um / 500)
    tubes = vessels(stack, count, (6, 24), (20, 170), loops=0.55)
    deep = np.clip(stack.below_dej_um / 70, 0, 1)
    collagen = (1 - deep) * fibers(stack, 10, 3, 0.5, 0.4) + deep * fibers(stack, 35, 3.6, 0.25, 0.65)
    dermis = collagen * np.exp(0.3 * stack.blobs(20, 14, 25)) * (1 - 0.85 * tubes)
    light = transmission(stack, draw_attenuation(rng, stack, tubes), 8)
    return Tissue(corneum, epidermis, dermis, light, step=np.exp(0.28 * stack.blobs(30, 60, 28)))


def draw_attenuation(rng: Rng, stack: Stack, tubes: Floats) -> Floats:
    """Draw the attenuation (Z, Y, X) in 1/um."""
    upper = stack.corneum * 3e-3 + stack.living * rng.uniform(1.5, 5) * 1e-3
    attenuation: Floats = upper + stack.dermis * (rng.uniform(1.5, 4.5) * 1e-3 + 0.01 * tubes)
    attenuation = under_debris(stack, attenuation, DEBRIS)
    return under_furrows(stack, attenuation, 0.012, 11, 22)


def draw_display(rng: Rng, columns: int) -> Display:
    """Draw how the image is shown."""
    aside = (np.arange(columns) - columns * rng.uniform(0.42, 0.58)) / (columns / 2)
    edge = 1 / (1 + (np.abs(aside) / rng.uniform(0.7, 1.05)) ** rng.uniform(3, 7))
    return Display(edge, floor=rng.uniform(0.003, 0.03), gamma=rng.uniform(0.32, 0.62))


def expose(rng: Rng, stack: Stack, power: Floats) -> Floats:
    """Return the mean intensity (Z, Y, X) of several exposures, less sharp away from the focus."""
    looks = int(rng.integers(3, 7))
    focus_um = rng.uniform(30, 130)
    blur = rng.uniform(0.55, 0.8)
    intensity: Floats = np.zeros(stack.shape, np.float32)
    for _ in range(looks):
        field = blur_complex(scatterers(rng, stack.shape) * np.sqrt(power), (0.3, blur, blur * 1.2))
        intensity = intensity + np.abs(field) ** 2
    intensity = intensity / looks
    soft = ndimage.gaussian_filter(intensity, (0, 0.8, 1.6))
    away = np.clip(np.abs(stack.depth_um - focus_um) / rng.uniform(120, 260), 0, 1)
    return np.asarray((1 - away) * intensity + away * soft)


def digitize(rng: Rng, stack: Stack, intensity: Floats, display: Display) -> Floats:
    """Return gray values (Z, Y, X) in which the brightest corneum is white."""
    slices, rows, _ = stack.shape
    noise = display.floor * (1 + 0.35 * rng.standard_normal(stack.shape))
    shown = np.clip(display.lit(intensity) + noise, 0, None) ** display.gamma
    shown = shown * (1 + 0.01 * rng.standard_normal((slices, rows, 1)))
    white = np.percentile(shown[stack.corneum > 0.8], rng.uniform(72, 96))
    black = 0.9 * np.percentile(shown[:, -8:], 3)
    return rng.uniform(2, 25) + 235 * (shown - black) / (white - black)
