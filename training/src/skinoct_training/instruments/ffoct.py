"""A full-field OCT: 0.9 um pixels, a glass above gel, saturated corneum, a DEJ that is a faint step.

One camera frame is one depth, so that frames differ from row to row; four phase-stepped frames give an amplitude
(Dubois et al., *Ultrahigh-resolution full-field optical coherence tomography*, Applied Optics 2004).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from skinoct_training.instruments.anatomy import draw_skin, fit_into
from skinoct_training.instruments.fields import Floats, Rng, blur_complex, scatterers
from skinoct_training.instruments.recording import Recording, draw_site, match_step
from skinoct_training.instruments.tissue import (
    Debris,
    Layers,
    Stack,
    bell,
    falling,
    fibers,
    nuclei,
    specks,
    transmission,
    under_debris,
    under_furrows,
    vessels,
)

PIXEL_UM = 0.9
ROWS, COLUMNS = 224, 512
THIN_GLASS_UM = 4.2
DEBRIS = Debris(mean_count=1.2, optical_depth=(0.15, 0.5), width_um=(5, 22), thickness_um=10)


@dataclass(frozen=True)
class Tissue(Layers):
    """Skin in gel."""

    dust: Floats
    """In the gel."""

    def power(self, stack: Stack, focus: Floats, reflectivity: float) -> Floats:
        """Return the power (Z, Y, X) for a reflectivity of the dermis."""
        fade = reflectivity * (1 + (self.step - 1) * falling(stack.below_dej_um, 25))
        gel = 0.0015 * (1 - stack.skin_mask)
        upper = gel + stack.corneum * self.corneum + stack.living * self.epidermis
        return (upper + stack.dermis * self.dermis * fade) * self.light * focus + self.dust


@dataclass(frozen=True)
class Camera:
    """Gray values that the camera gives for light."""

    vignette: Floats
    """(X,)."""
    flux: float
    black: float
    stray: float
    """Incoherent light, as amplitude."""

    def expected(self, power: Floats, depth_um: Floats) -> Floats:
        """Return the mean image (Z, Y, X): that of a Rayleigh amplitude with incoherent light under it."""
        fog = self.stray * np.exp(-depth_um / 250)
        return self.black + self.flux * self.vignette * np.sqrt(np.pi / 4 * power + fog**2)


def draw(rng: Rng, slices: int) -> Recording:
    """Draw a tomogram of ``slices`` B-scans."""
    stack, glass_um, usual_um = draw_stack(rng, slices)
    tissue = draw_tissue(rng, stack, glass_um)
    camera, focus = draw_camera(rng, stack)

    def shown(reflectivity: float) -> Floats:
        return camera.expected(tissue.power(stack, focus, reflectivity), stack.depth_um)

    reflectivity = match_step(stack, shown, rng.uniform(1.06, 1.42), between_um=(3, 16))
    amplitude = expose(rng, stack, tissue.power(stack, focus, reflectivity), camera.stray)
    image: Floats = camera.black + camera.flux * camera.vignette * amplitude
    image = saturate(rng, stack, image)
    image = show_glass(rng, stack, image, glass_um, usual_um)
    return Recording(stack, image + rng.normal(0, 1.0, stack.shape), glass_um)


def draw_stack(rng: Rng, slices: int) -> tuple[Stack, Floats, float]:
    """Draw skin under a glass; returns the depth of the glass (Z, X) and its usual depth, too."""
    slice_um = float(rng.choice([0.9, 1.8]))
    site = draw_site(rng)
    usual_um = rng.uniform(2, 4) if rng.random() < 0.7 else rng.uniform(5, 11)
    lean = np.tan(np.radians(rng.normal(0, 0.25)))
    line_um = usual_um + lean * (np.arange(COLUMNS) - COLUMNS / 2) * PIXEL_UM
    glass_um = line_um[None].repeat(slices, 0).clip(1, None)
    top_um = usual_um + rng.uniform(4, 42)
    furrow_in_um = int(rng.choice([0, 220, 160, 130], p=[0.15, 0.35, 0.3, 0.2]))
    skin = draw_skin(rng, COLUMNS * PIXEL_UM, top_um, site, furrow_in_um, highest_papilla_um=34)
    fit_into(skin, 140)
    shape = (slices, ROWS, COLUMNS)
    stack = Stack(skin, rng, shape, PIXEL_UM, slice_um, moves_px=0.5, lid_um=glass_um + 0.5)
    return stack, glass_um, usual_um


def draw_tissue(rng: Rng, stack: Stack, glass_um: Floats) -> Tissue:
    """Draw what each layer reflects and what takes light away."""
    pixel_um, slice_um = stack.pixel_um, stack.slice_um
    cloudy = 0.2 * stack.blobs(12 / slice_um, 10 / pixel_um, 14 / pixel_um)
    texture = np.exp(cloudy + 0.3 * stack.blobs(1.2 / slice_um, 1.3, 1.6))
    corneum = draw_corneum(rng, stack)
    epidermis = draw_epidermis(rng, stack, texture)
    tubes = vessels(stack, int(rng.integers(2, 8)), (5, 19), (18, 130), loops=0.5)
    deep = np.clip(stack.below_dej_um / 60, 0, 1)
    collagen = (1 - deep) * fibers(stack, 9, 1.9, 0.5, 0.33) + deep * fibers(stack, 26, 2.3, 0.22, 0.55)
    dermis = collagen * np.exp(0.28 * stack.blobs(30, 22, 40)) * (1 - 0.82 * tubes)
    light = transmission(stack, draw_attenuation(rng, stack, tubes), 6)
    step = np.exp(0.36 * stack.blobs(60, 120, 50))
    in_gel = (stack.below_surface_um < -4) & (stack.depth_um > glass_um[:, None] + 2)
    dust = specks(stack, int(rng.integers(3, 45)), in_gel, 1.6, 0.75) * (stack.below_surface_um < -2)
    return Tissue(corneum, epidermis, dermis, light, step, dust)


def draw_corneum(rng: Rng, stack: Stack) -> Floats:
    """Draw the corneum (Z, Y, X): brightest at the surface, in lamellae, in places with a dark gap."""
    below_um, thickness_um = stack.below_surface_um, stack.corneum_thickness_um
    phase = 2 * np.pi * below_um / rng.uniform(4, 7) + 2 * stack.blobs(20, 6, 40)
    lamellae = 1 + 0.5 * np.sin(phase) * np.clip(below_um / 3, 0, 1)
    fall = np.exp(-rng.uniform(0.6, 1.5) * np.clip(below_um / thickness_um, 0, 1.2))
    brightness = rng.uniform(6, 12)
    corneum = brightness * np.exp(0.45 * stack.blobs(40, 30, 40) + 0.35 * stack.blobs(9, 1.2, 14)) * lamellae * fall
    if rng.random() < 0.4:
        gap_um = 0.62 * (stack.corneum_end_um - stack.surface_um)[:, None]
        corneum *= 1 - 0.7 * bell(below_um - gap_um, 1.6) * (stack.blobs(40, 80, 70) > -0.2)
    return np.asarray(corneum)


def draw_epidermis(rng: Rng, stack: Stack, texture: Floats) -> Floats:
    """Draw the living epidermis (Z, Y, X): nuclei, brighter basal cells, granules, in places pigment."""
    cells = nuclei(stack, rng.uniform(0.85, 0.97), rng.uniform(0.6, 0.88), rim=0.35, size=1.1)
    basal = falling(-stack.below_dej_um, 7) * (stack.below_dej_um < 0)
    basal_gain = (rng.uniform(0.85, 1.8) - 1) * np.clip(0.6 + 0.8 * stack.blobs(30, 60, 45), 0, 2)
    granular = 1 + rng.uniform(0, 0.4) * falling(stack.below_corneum_um, 12)
    epidermis = texture * cells * granular * (1 + basal_gain * basal)
    pigmented = (stack.living > 0.9) & (stack.way_to_dej > 0.7)
    grains = specks(stack, int(stack.shape[0] * rng.integers(3, 25)), pigmented, 3, 1.6)
    epidermis = epidermis + grains * stack.living
    if rng.random() < 0.5:
        epidermis *= 1 + 1.3 * np.clip(stack.blobs(20, 16, 22) - 1.5, 0, 1.2) * (stack.way_to_dej > 0.5)
    return np.asarray(epidermis)


def draw_attenuation(rng: Rng, stack: Stack, tubes: Floats) -> Floats:
    """Draw the attenuation (Z, Y, X) in 1/um."""
    in_epidermis, in_dermis = rng.uniform(2, 5) * 1e-3, rng.uniform(1.5, 4.5) * 1e-3
    in_corneum = stack.corneum * 4e-3 * np.exp(0.3 * stack.blobs(50, 60, 30))
    attenuation = in_corneum + stack.living * in_epidermis + stack.dermis * (in_dermis + 0.012 * tubes)
    attenuation = under_furrows(stack, attenuation, 0.35 / 22, 9, 22)
    return under_debris(stack, attenuation, DEBRIS)


def draw_camera(rng: Rng, stack: Stack) -> tuple[Camera, Floats]:
    """Draw the camera, and how the power falls off away from the focus (1, Y, 1)."""
    fall, middle = rng.uniform(0.1, 0.45), COLUMNS * rng.uniform(0.4, 0.6)
    vignette = np.exp(-fall * ((np.arange(COLUMNS) - middle) / (COLUMNS / 2)) ** 2).astype(np.float32)
    focus = bell(stack.depth_um - rng.uniform(50, 90), rng.uniform(110, 200))
    flux, black, stray = rng.uniform(58, 100), rng.uniform(20, 42), rng.uniform(0.06, 0.18)
    return Camera(vignette, flux, black, stray), focus


def expose(rng: Rng, stack: Stack, power: Floats, stray: float) -> Floats:
    """Return the amplitude (Z, Y, X) of a few averaged exposures, each of four phase-stepped frames."""
    slices, rows, _ = stack.shape
    frames = stack.depth_um * 0 + 1 + 0.012 * rng.standard_normal((slices, rows, 1))
    for _ in range(rng.poisson(1)):
        dim = int(rng.integers(50, rows))
        frames[:, dim] *= rng.uniform(0.82, 0.94)
    looks = int(rng.integers(2, 5))
    sigma = (0.4 / stack.slice_um, rng.uniform(0.8, 1.1), rng.uniform(0.85, 1.25))
    amplitude = np.sqrt(power).astype(np.float32)
    total = np.zeros(stack.shape)
    for _ in range(looks):
        field = blur_complex(scatterers(rng, stack.shape) * amplitude, sigma) * frames
        steps = [
            np.real(field * phase) + 0.5 * stray * rng.standard_normal(stack.shape, dtype=np.float32)
            for phase in (1, -1j, -1, 1j)
        ]
        total = total + np.abs((steps[0] - steps[2]) / 2 + 1j * (steps[1] - steps[3]) / 2)
    sharp = ndimage.gaussian_filter(total / looks, (0, 0.35, 0.35))
    # A side lobe of the source's spectrum repeats the surface a few rows above it.
    lobe = np.roll(ndimage.gaussian_filter(sharp, (0, 1, 6)), -int(rng.integers(5, 9)), 1) * rng.uniform(0, 0.04)
    return np.asarray(sharp + lobe * (1 - stack.skin_mask))


def saturate(rng: Rng, stack: Stack, image: Floats) -> Floats:
    """Have 7 to 22 % of the corneum saturate (Z, Y, X), as doctors set the exposure; never more than that."""
    limit = np.percentile(image[stack.corneum > 0.6], 100 - rng.uniform(7, 22))
    if limit < 255:
        return image
    lowered = image + stack.corneum * (255 / limit - 1) * np.clip(image - 90, 0, None)
    return np.where((stack.below_surface_um >= -1) & (stack.corneum > 0), lowered, image)


def show_glass(rng: Rng, stack: Stack, image: Floats, glass_um: Floats, usual_um: float) -> Floats:
    """Lay the glass over the image (Z, Y, X): a bright pane, its lower edge brighter still."""
    depth_um, edge_um = stack.depth_um, glass_um[:, None]
    if rng.random() < 0.6:
        inside = 255 if usual_um < THIN_GLASS_UM else rng.uniform(90, 200)
        level = np.where(depth_um > edge_um - 2.7, 255, inside)
    else:
        level = np.where(depth_um < 2, 255, rng.uniform(110, 190))
    pane = depth_um < edge_um
    image = np.where(pane, level * (1 + 0.02 * rng.standard_normal(stack.shape)), image)
    glow = rng.uniform(0, 20) * ((depth_um > edge_um) & (depth_um < edge_um + rng.uniform(2, 7)))
    return image + (150 * falling(depth_um - edge_um, 1.1) * ~pane + glow)
