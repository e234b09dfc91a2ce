"""Random fields: the raw material of surfaces and textures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import fft

FloatArray = npt.NDArray[np.float32]


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], widths: Sequence[float]) -> FloatArray:
    """Gaussian noise of mean 0 and standard deviation 1, correlated over ``widths`` samples along each axis.

    Parameters
    ----------
    widths : numbers, one per axis
        Standard deviation in samples of the Gaussian that blurs white noise.
    """
    noise = rng.standard_normal(shape, dtype=np.float32)
    return standardize(blur(noise, widths))


def blur(field: FloatArray, widths: Sequence[float]) -> FloatArray:
    """Blur periodically by a Gaussian of ``widths`` samples along each axis, in the Fourier domain."""
    spectrum = fft.rfftn(field)
    for axis, (size, width) in enumerate(zip(field.shape, widths, strict=True)):
        last = axis == field.ndim - 1
        frequency = fft.rfftfreq(size) if last else fft.fftfreq(size)
        gain = np.exp(-2 * (np.pi * width * frequency) ** 2).astype(np.float32)
        spectrum *= gain.reshape([-1 if a == axis else 1 for a in range(field.ndim)])
    return np.asarray(fft.irfftn(spectrum, s=field.shape), np.float32)


def band_noise(
    rng: np.random.Generator, shape: tuple[int, ...], periods: Sequence[float], bandwidth: float = 0.35
) -> FloatArray:
    """Noise whose power sits at one period per axis: a quasi-regular pattern without a lattice.

    Parameters
    ----------
    periods : numbers, one per axis
        Dominant period in samples.
    bandwidth : float
        Relative width of the spectral ring.
    """
    spectrum = fft.rfftn(rng.standard_normal(shape, dtype=np.float32))
    radius = np.zeros(spectrum.shape, np.float32)
    for axis, (size, period) in enumerate(zip(shape, periods, strict=True)):
        frequency = fft.rfftfreq(size) if axis == len(shape) - 1 else fft.fftfreq(size)
        scaled = (frequency * period) ** 2
        radius = radius + scaled.astype(np.float32).reshape([-1 if a == axis else 1 for a in range(len(shape))])
    spectrum *= np.exp(-(((np.sqrt(radius) - 1.0) / bandwidth) ** 2))
    return standardize(np.asarray(fft.irfftn(spectrum, s=shape), np.float32))


def standardize(field: FloatArray) -> FloatArray:
    """Shift and scale to mean 0 and standard deviation 1; a constant field becomes 0."""
    spread = float(field.std())
    return np.asarray((field - field.mean()) / (spread if spread > 0 else 1.0), np.float32)
