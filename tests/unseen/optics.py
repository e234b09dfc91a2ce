"""Light in tissue: a beam that dims and widens on its way, and complex waves summed by the point-spread function."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from .recipe import Floats, Grid, Light, Rng
from .tissue import Tissue

_FWHM = 2.355


def illuminate(tissue: Tissue, grid: Grid, light: Light) -> Floats:
    """Return the mean power that comes back from each voxel, shape (Z, Y, X).

    From row to row the light is dimmed by the extinction of the row it crosses, on its way down and up, and a share
    of it moves sideways, so that shadows fill in with depth. Scattered light travels along as haze.
    """
    power = np.empty(grid.shape, np.float32)
    down = np.ones((grid.shape[0], grid.shape[2]), np.float32)
    haze = np.zeros_like(down)
    dimming = np.exp(-2 * tissue.extinction * np.float32(grid.pixel_um))
    fade = np.float32(np.exp(-grid.pixel_um / 90))
    gain = np.float32(light.haze * grid.pixel_um / 90)
    for row in range(grid.shape[1]):
        scattered = tissue.reflectivity[:, row] * down
        power[:, row] = scattered + haze
        down = _spread(down * dimming[:, row], light.spread)
        haze = _spread(haze * fade + gain * np.minimum(scattered, 2), 0.25)
    return power


def _spread(beam: Floats, share: float) -> Floats:
    """Move ``share`` of each column of ``beam``, shape (Z, X), to either neighbor."""
    padded = np.concatenate([beam[:, :1], beam, beam[:, -1:]], axis=1)
    moved = np.float32(1 - 2 * share) * beam + np.float32(share) * (padded[:, :-2] + padded[:, 2:])
    return np.asarray(moved, np.float32)


def interfere(rng: Rng, power: Floats, grid: Grid, light: Light) -> Floats:
    """Return the detected power, shape (Z, Y, X): scatterers of random phase summed over the point-spread function.

    Slices share part of their scatterers, the more the closer they lie.
    """
    sigma = [max(0.4, width_um / _FWHM / grid.pixel_um) for width_um in (light.axial_um, light.lateral_um)]
    unit = np.zeros((33, 33), np.float32)
    unit[16, 16] = 1
    gain = 1 / float(np.sqrt((gaussian_filter(unit, sigma, truncate=2.5) ** 2).sum()))
    slice_um = float(grid.z_um[1] - grid.z_um[0])
    shared = float(np.exp(-((slice_um / (1.5 * light.lateral_um)) ** 2)))
    amplitude = np.sqrt(power / 2) * np.float32(gain)
    detected = np.zeros_like(power)
    for _ in range(2 * light.looks):  # real and imaginary parts
        wave = rng.standard_normal(power.shape[1:], np.float32)
        for index in range(len(power)):
            fresh = rng.standard_normal(wave.shape, np.float32)
            wave = np.float32(shared) * wave + np.float32(np.sqrt(1 - shared**2)) * fresh
            detected[index] += gaussian_filter(amplitude[index] * wave, sigma, truncate=2.5) ** 2
    return np.asarray(detected / light.looks, np.float32)
