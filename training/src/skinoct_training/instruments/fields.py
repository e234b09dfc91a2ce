"""Random functions and random volumes of which skin and speckle are made."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Rng = np.random.Generator
Floats = npt.NDArray[np.floating]
Complex = npt.NDArray[np.complex64]
Shape = tuple[int, int, int]
"""(Z, Y, X)."""
Sigma = tuple[float, float, float]
"""Standard deviations of a Gaussian in samples along (Z, Y, X)."""

_LATTICE = 1.5
"""Samples of a coarse lattice for one standard deviation: fewer would show the lattice."""


class Waves:
    """A smooth random function of width and slice position: mean 0, variance 1.

    A sum of cosines with random directions and phases (spectral method of Shinozuka and Deodatis, *Simulation of
    Stochastic Processes by Spectral Representation*, Applied Mechanics Reviews 1991), so that it can be asked anywhere.

    Parameters
    ----------
    shortest_um, longest_um : float
        Wavelengths, uniform in their logarithm.
    """

    def __init__(self, rng: Rng, shortest_um: float, longest_um: float, count: int = 24) -> None:
        wavelength_um = np.exp(rng.uniform(np.log(shortest_um), np.log(longest_um), count))
        direction = rng.uniform(0, 2 * np.pi, count)
        self.kx = 2 * np.pi / wavelength_um * np.cos(direction)
        self.kz = 2 * np.pi / wavelength_um * np.sin(direction)
        self.phase = rng.uniform(0, 2 * np.pi, count)
        self.amplitude = np.sqrt(2 / count)

    def __call__(self, x_um: Floats, z_um: float) -> Floats:
        """Return the values (X,) at widths ``x_um`` (X,) of the slice at ``z_um``."""
        return np.asarray(
            self.amplitude * np.cos(np.multiply.outer(x_um, self.kx) + z_um * self.kz + self.phase).sum(-1)
        )


def unit(values: Floats) -> Floats:
    """Return values of any shape with mean 0 and variance 1."""
    return np.asarray((values - values.mean()) / (values.std() + 1e-9))


def blobs(rng: Rng, shape: Shape, sigma: Sigma) -> Floats:
    """Return smooth noise (Z, Y, X) of mean 0 and variance 1, with structures of the size ``sigma`` in samples.

    Large structures are drawn on a coarse lattice and enlarged: blurring fine noise so far would take seconds.
    """
    steps = [max(1, int(value / _LATTICE)) for value in sigma]
    lattice = [int(np.ceil(size / step)) + 4 for size, step in zip(shape, steps, strict=True)]
    noise = rng.standard_normal(lattice).astype(np.float32)
    reduced = [value / step for value, step in zip(sigma, steps, strict=True)]
    smooth = ndimage.gaussian_filter(noise, reduced, mode="wrap")
    for axis, (size, step, coarse) in enumerate(zip(shape, steps, lattice, strict=True)):
        smooth = between(smooth, axis, np.arange(size) * ((coarse - 2) / (size + 2 * step) if step > 1 else 1.0))
    return unit(smooth)


def between(values: Floats, axis: int, places: Floats) -> Floats:
    """Interpolate ``values`` linearly along an axis at ``places`` in samples, all below its last one."""
    low = places.astype(int)
    share = (places - low).astype(np.float32).reshape([-1 if n == axis else 1 for n in range(values.ndim)])
    return np.asarray(values.take(low, axis) * (1 - share) + values.take(low + 1, axis) * share)


def scatterers(rng: Rng, shape: Shape) -> Complex:
    """Return circular complex Gaussian noise (Z, Y, X) of power 1: unresolved scatterers before any optics.

    Goodman, *Speckle Phenomena in Optics*, chapter 3: their blurred sum has exponentially distributed intensity.
    """
    real = rng.standard_normal(shape, dtype=np.float32)
    imaginary = rng.standard_normal(shape, dtype=np.float32)
    return np.asarray((real + 1j * imaginary) * np.float32(np.sqrt(0.5)), np.complex64)


def blur_complex(field: Complex, sigma: Sigma) -> Complex:
    """Blur a complex field (Z, Y, X) by a Gaussian; white noise of power 1 keeps its power."""
    blurred = ndimage.gaussian_filter(field.real, sigma) + 1j * ndimage.gaussian_filter(field.imag, sigma)
    kept = 1.0
    for value in sigma:
        if value > 0:
            kernel = np.exp(-0.5 * (np.arange(-12, 13) / value) ** 2)
            kernel /= kernel.sum()
            kept *= (kernel**2).sum()
    return np.asarray((blurred / np.sqrt(kept)).astype(np.complex64))
