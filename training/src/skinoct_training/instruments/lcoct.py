"""A line-field confocal OCT: 1.1 to 1.3 um pixels, decibels, a dermis brighter than the epidermis.

Dubois et al., *Line-field confocal optical coherence tomography for high-resolution noninvasive imaging of skin
tumors*, Journal of Biomedical Optics 2018.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from skinoct_training.instruments.anatomy import draw_skin
from skinoct_training.instruments.fields import Floats, Rng, Waves, blur_complex, scatterers
from skinoct_training.instruments.recording import Recording, draw_pixel, draw_site, draw_slice_distance
from skinoct_training.instruments.tissue import (
    Debris,
    Stack,
    bell,
    falling,
    fibers,
    nuclei,
    specks,
    transmission,
    under_debris,
    vessels,
)

ROWS, COLUMNS = 288, 512
NO_GLASS_UM = -9.0
DEBRIS = Debris(mean_count=0.8, optical_depth=(0.2, 0.8), width_um=(8, 25), thickness_um=12)


def draw(rng: Rng, slices: int) -> Recording:
    """Draw a tomogram of ``slices`` B-scans."""
    stack, glass_um, usual_um, in_view = draw_stack(rng, slices)
    power = draw_power(rng, stack)
    if in_view:
        level = rng.uniform(4, 20) * bell(stack.depth_um - glass_um[:, None] + usual_um * 0.45, usual_um * 0.28)
        power = power + level * (1 + 0.4 * np.sin(stack.depth_um / rng.uniform(0.8, 1.6)))
    intensity, noise = expose(rng, stack, power)
    image = digitize(rng, stack, intensity, noise)
    return Recording(stack, image, glass_um if in_view else None)


def draw_stack(rng: Rng, slices: int) -> tuple[Stack, Floats, float, bool]:
    """Draw skin; returns the depth of the glass (Z, X), its usual depth, and whether it is in view, too."""
    pixel_um = draw_pixel(rng, 1.1, 1.3)
    slice_um = draw_slice_distance(rng, pixel_um)
    site = draw_site(rng, (0.35, 0.35, 0.3))
    in_view = rng.random() < 0.5
    usual_um = rng.uniform(12, 26) if in_view else NO_GLASS_UM
    lean = np.tan(np.radians(rng.normal(0, 0.4))) if in_view else 0
    glass_um = np.full((slices, COLUMNS), usual_um) + lean * (np.arange(COLUMNS) - COLUMNS / 2) * pixel_um
    top_um = usual_um + rng.uniform(10, 40) if in_view else rng.uniform(30, 60)
    furrow_in_um = int(rng.choice([0, 300, 200], p=[0.25, 0.4, 0.35]))
    skin = draw_skin(rng, COLUMNS * pixel_um, top_um, site, furrow_in_um, highest_papilla_um=50)
    shape = (slices, ROWS, COLUMNS)
    stack = Stack(skin, rng, shape, pixel_um, slice_um, moves_px=0.4, lid_um=glass_um + 1)
    return stack, glass_um, usual_um, in_view


def draw_power(rng: Rng, stack: Stack) -> Floats:
    """Draw the reflected power (Z, Y, X)."""
    cells = nuclei(stack, rng.uniform(0.9, 0.97), rng.uniform(0.6, 0.9), rim=0.5, size=1.15)
    entrance = 7 * bell(stack.below_surface_um, 2.0)
    end = 1.6 * bell(stack.below_surface_um - stack.corneum_thickness_um, 2.5)
    corneum = rng.uniform(0.8, 2.6) * np.exp(0.5 * stack.blobs(30, 1.6, 22)) + entrance + end
    epidermis = draw_epidermis(rng, stack, cells)
    tubes = vessels(stack, int(rng.integers(3, 9)), (4, 14), (20, 140), loops=0.7)
    dermis = draw_dermis(rng, stack, tubes)
    upper = stack.corneum * 3e-3 + stack.living * rng.uniform(2, 4) * 1e-3
    attenuation: Floats = upper + stack.dermis * (rng.uniform(5, 10) * 1e-3 + 0.012 * tubes)
    attenuation = under_debris(stack, attenuation, DEBRIS)
    layers = 2e-4 + stack.corneum * corneum + stack.living * epidermis + stack.dermis * dermis
    return np.asarray((layers + entrance * 0.5 * (stack.below_surface_um < 0)) * transmission(stack, attenuation, 5))


def draw_epidermis(rng: Rng, stack: Stack, cells: Floats) -> Floats:
    """Draw the living epidermis (Z, Y, X): its basal cells are a dark slit or a bright, pigmented rim."""
    epidermis = rng.uniform(0.4, 0.75) * cells * np.exp(0.25 * stack.blobs(5, 5, 6))
    epidermis = epidermis * (1 + 0.6 * falling(stack.below_corneum_um, 14))
    basal = rng.uniform(-0.35, 0.45)
    epidermis = epidermis * (1 + basal * bell(stack.below_dej_um + 5, 4))
    pigmented = (stack.living > 0.9) & (stack.way_to_dej > 0.85)
    grains = specks(stack, int(stack.shape[0] * rng.integers(0, 30)), pigmented, 2.5, 2.2)
    return np.asarray(epidermis + grains * stack.living)


def draw_dermis(rng: Rng, stack: Stack, tubes: Floats) -> Floats:
    """Draw the dermis (Z, Y, X): fine fibers, brightest in the papillae's tops, bundles below."""
    smooth_um = ndimage.gaussian_filter1d(stack.dej_um, 90 / stack.pixel_um, axis=1)
    height = -(stack.dej_um - smooth_um)[:, None] / 15
    deep = np.clip((stack.below_dej_um - 25) / 70, 0, 1)
    fine = fibers(stack, 8, 2.2, 0.7, 0.65)
    bundles = fibers(stack, 30, 3.0, 0.3, 0.95)
    brightness = rng.uniform(1.3, 3.0)
    collagen = (1 - deep) * fine * np.exp(0.35 * np.clip(height, -1.5, 1.5)) + deep * bundles * 0.8
    return np.asarray(brightness * collagen * np.exp(0.35 * stack.blobs(20, 14, 22)) * (1 - 0.9 * tubes))


def expose(rng: Rng, stack: Stack, power: Floats) -> tuple[Floats, float]:
    """Return the intensity (Z, Y, X) through a confocal slit over multiply scattered light, and the noise's mean."""
    blur = rng.uniform(0.6, 0.8)
    looks = int(rng.integers(2, 5))
    sigma = (0.6 / stack.slice_um, blur, blur * 1.1)
    amplitude = np.sqrt(power).astype(np.float32)
    intensity = np.zeros(stack.shape, np.float32)
    for _ in range(looks):
        intensity = intensity + np.abs(blur_complex(scatterers(rng, stack.shape) * amplitude, sigma)) ** 2
    intensity = intensity / looks + ndimage.gaussian_filter(power, (0, 10, 10)) * 0.03
    if rng.random() < 0.5:
        intensity = ndimage.gaussian_filter(intensity, (0, 0.5, 0.5))
    noise = 10 ** rng.uniform(-2.4, -1.6)
    grain = ndimage.gaussian_filter(rng.gamma(3.0, 1 / 3.0, stack.shape), (0, 0.4, 0.4))
    return intensity + noise * grain, noise


def digitize(rng: Rng, stack: Stack, intensity: Floats, noise: float) -> Floats:
    """Return gray values (Z, Y, X): decibels, after a gain that grows with depth and differs from column to column."""
    x_um = stack.x_um
    gain = np.exp(np.clip(stack.depth_um - stack.skin.top_um, 0, None) * rng.uniform(1, 7) * 1e-3)
    uneven = 0.03 * rng.standard_normal(COLUMNS) + 0.18 * Waves(rng, 200, 900)(x_um, 0)
    columns = np.exp(uneven - rng.uniform(0.1, 0.9) * ((x_um / x_um[-1] - 0.5) * 2) ** 2)
    decibels = 10 * np.log10(intensity * gain * columns + 1e-5)
    white = np.percentile(decibels[stack.below_surface_um > 0], rng.uniform(99.2, 99.9))
    black = 10 * np.log10(noise) + rng.uniform(-3.5, 1)
    return np.asarray(255 * np.clip((decibels - black) / (white - black), 0, 1.2) ** rng.uniform(1.0, 1.5))
