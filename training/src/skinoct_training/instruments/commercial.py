"""A commercial spectral-domain OCT: 3 to 5 um pixels, skin in air, no cells, a millimeter deep, some files of 16 bits.

The image is the Fourier transform of a fringe on the source's spectrum, with camera noise, dispersion that is not quite
compensated and sensitivity roll-off (Izatt and Choma, *Theory of Optical Coherence Tomography*, in Drexler and
Fujimoto, *Optical Coherence Tomography*, 2008).
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from skinoct_training.instruments.anatomy import draw_skin
from skinoct_training.instruments.fields import Complex, Floats, Rng, Waves, blur_complex, scatterers
from skinoct_training.instruments.recording import Recording, draw_pixel, draw_site
from skinoct_training.instruments.tissue import Stack, bell, falling, fibers, transmission, under_furrows, vessels

ROWS, COLUMNS = 400, 600


def draw(rng: Rng, slices: int) -> Recording:
    """Draw a tomogram of ``slices`` B-scans."""
    stack = draw_stack(rng, slices)
    power = draw_power(rng, stack)
    intensity = resolve(rng, stack, scan(rng, stack, power))
    return Recording(stack, digitize(rng, stack, intensity), None)


def draw_stack(rng: Rng, slices: int) -> Stack:
    """Draw a wide field of skin in air: larger mounds, wider furrows."""
    pixel_um = draw_pixel(rng, 3.0, 5.0)
    slice_um = float(np.round(rng.choice([1, 2]) * pixel_um, 2))
    site = draw_site(rng)
    top_um = rng.uniform(140, 420)
    furrow_in_um = int(rng.choice([700, 450, 330]))
    skin = draw_skin(rng, COLUMNS * pixel_um, top_um, site, furrow_in_um, highest_papilla_um=50)
    skin.mound_um = rng.uniform(8, 35)
    skin.mound = Waves(rng, 600, 2600)
    skin.tilt = float(np.tan(np.radians(rng.normal(0, 3))))
    skin.living_um = float(np.clip(skin.living_um * 1.15, 45, 100))
    skin.furrows.shoulder_um *= 1.3
    skin.furrows.width_um = skin.furrows.width_um * 1.4 + 5
    skin.furrows.depth_um *= 0.8
    return Stack(skin, rng, (slices, ROWS, COLUMNS), pixel_um, slice_um, moves_px=0.3)


def draw_power(rng: Rng, stack: Stack) -> Floats:
    """Draw the reflected power (Z, Y, X): no cell is resolved, the dermis is brighter than the epidermis."""
    pixel_um, slice_um = stack.pixel_um, stack.slice_um
    surface = draw_surface(rng, stack)
    corneum = rng.uniform(0.25, 1.0)
    epidermis = rng.uniform(0.15, 0.42) * np.exp(0.15 * stack.blobs(10 / slice_um, 4, 8))
    brighter = rng.uniform(2.6, 6)
    tubes = vessels(stack, int(rng.integers(10, 30)), (8, 45), (60, 600))
    rise = 1 + rng.uniform(0, 0.5) * np.clip(stack.below_dej_um / 90, 0, 1)
    dermis = epidermis.mean() * brighter * rise * fibers(stack, 60, 9, 0.25, 0.3)
    dermis = dermis * np.exp(0.22 * stack.blobs(40 / slice_um, 25 / pixel_um, 60 / pixel_um)) * (1 - 0.75 * tubes)
    dermis = dermis * np.exp(-0.15 * falling(stack.below_dej_um, 15))
    in_dermis = rng.uniform(1.4, 2.8) * 1e-3
    attenuation: Floats = stack.corneum * 2e-3 + stack.living * 1.3e-3 + stack.dermis * (in_dermis + 2.5e-3 * tubes)
    hairs, attenuation = draw_hairs(rng, stack, attenuation)
    attenuation = under_furrows(stack, attenuation, 0.005, 16, 40)
    layers = stack.corneum * corneum + stack.living * epidermis + stack.dermis * dermis
    power = layers * transmission(stack, attenuation, 4) + surface
    for hair in hairs:
        power = power + hair
    return np.asarray(power)


def draw_surface(rng: Rng, stack: Stack) -> Floats:
    """Draw the reflex of the surface (Z, Y, X), bright where it lies flat."""
    brightness = rng.uniform(25, 90) * np.exp(0.5 * Waves(rng, 80, 600)(stack.x_um, 0))
    facing = np.cos(np.arctan(np.gradient(stack.surface_um, stack.pixel_um, axis=1)))[:, None] ** 8
    return np.asarray(brightness * facing * bell(stack.below_surface_um, 0.6 * stack.pixel_um))


def draw_hairs(rng: Rng, stack: Stack, attenuation: Floats) -> tuple[list[Floats], Floats]:
    """Draw hairs across the B-scan: bright rings above the skin (Z, Y, X), and the attenuation with their shadows."""
    hairs: list[Floats] = []
    for _ in range(rng.poisson(1.6)):
        x_um, radius_um, above_um = rng.uniform(0, stack.x_um[-1]), rng.uniform(10, 28), rng.uniform(8, 70)
        center_um = stack.surface_um[:, int(x_um / stack.pixel_um)] - above_um
        below_um = stack.depth_um - center_um[:, None, None]
        away = np.sqrt(((stack.x_um - x_um)[None, None] / radius_um) ** 2 + (below_um / radius_um) ** 2)
        ring = rng.uniform(1, 6) * bell(away - 0.8, 0.22)
        hairs.append(ring * falling(below_um + 0.5 * radius_um, 0.4 * radius_um))
        in_shadow = (np.abs(stack.x_um - x_um) < radius_um) * stack.within(0, 30)
        attenuation = attenuation + rng.uniform(0.25, 0.8) / 30 * in_shadow
    return hairs, attenuation


def scan(rng: Rng, stack: Stack, power: Floats) -> Complex:
    """Return the field (Z, Y, X) that a beam collects: wider away from the focus, neighbors share scatterers."""
    pixel_um = stack.pixel_um
    waist_um, focus_um = rng.uniform(7, 13), stack.surface_um.mean() + rng.uniform(50, 400)
    field = scatterers(rng, stack.shape) * np.sqrt(power).astype(np.float32)
    near = blur_complex(field, (0.4 * waist_um / stack.slice_um * 0.5, 0, 0.42 * waist_um / pixel_um))
    far = blur_complex(field, (0, 0, 0.8 * waist_um / pixel_um))
    away = np.clip(np.abs(stack.depth_um - focus_um) / 800, 0, 1)
    return np.asarray((1 - away) * near + away * far)


def resolve(rng: Rng, stack: Stack, field: Complex) -> Floats:
    """Return the intensity (Z, Y, X) that the spectrometer resolves of a field (Z, Y, X)."""
    samples = 2 * ROWS
    roll_off = np.exp(-((np.arange(ROWS) / (ROWS * rng.uniform(0.9, 1.6))) ** 2))[None, :, None]
    bandwidth = rng.uniform(0.22, 0.36) * samples * (stack.pixel_um / 4.0) * 0.8
    wavenumber = np.arange(samples) - samples / 2
    source = np.exp(-0.5 * (wavenumber / bandwidth) ** 2)
    envelope = np.sqrt(source)[None, :, None]
    dispersion = np.exp(1j * rng.normal(0, 0.6) * (wavenumber / bandwidth) ** 2 * 0.3)[None, :, None]
    spectrum = np.fft.fftshift(np.fft.fft(field * roll_off, samples, axis=1), 1) * dispersion
    fringe = np.real(spectrum) * envelope
    noise = 10 ** rng.uniform(-2.6, -1.8)
    fringe = fringe + np.sqrt(noise * samples) * 0.6 * rng.standard_normal(fringe.shape, dtype=np.float32)
    resolved = np.fft.ifft(np.fft.ifftshift(fringe * envelope, 1), axis=1)[:, :ROWS]
    return np.asarray(np.abs(resolved) ** 2 / source.mean() * 4)


def digitize(rng: Rng, stack: Stack, intensity: Floats) -> Floats:
    """Return gray values (Z, Y, X): decibels, after averaging, with glare and the camera's fixed pattern."""
    slices, _, columns = stack.shape
    pixel_um = stack.pixel_um
    for _ in range(int(rng.integers(0, 3))):
        intensity = ndimage.convolve1d(intensity, [0.25, 0.5, 0.25], axis=2, mode="nearest")
    intensity = intensity * np.exp(0.05 * rng.standard_normal((slices, 1, columns)))
    reflex = np.max(intensity * (np.abs(stack.below_surface_um) < 2 * pixel_um), 1, keepdims=True)
    glare = np.clip(reflex / np.percentile(reflex, 99.3) - 0.8, 0, 0.5)
    intensity = intensity + glare * rng.uniform(0, 0.02) * rng.gamma(2.0, 0.5, stack.shape)
    if rng.random() < 0.4:
        fixed = int(rng.integers(5, 60))
        intensity[:, fixed] *= rng.uniform(2, 6)
    decibels = 10 * np.log10(intensity + 1e-7)
    air = np.median(decibels[:, :8])
    white = np.percentile(decibels[np.abs(stack.below_surface_um) < pixel_um], rng.uniform(70, 97))
    black = air + rng.uniform(-4, 3)
    image = 255 * np.clip((decibels - black) / (white - black), 0, 1.2) ** rng.uniform(0.85, 1.3)
    return np.asarray(ndimage.gaussian_filter(image, (0, 0.3, 0.3)))
