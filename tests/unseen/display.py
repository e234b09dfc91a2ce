"""From detected power to gray values: detector, scale, the maker's filters, compression, stretch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.fft import dctn, idctn
from scipy.ndimage import gaussian_filter, median_filter

from .recipe import Floats, Light, Rng, Screen

Voxels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


def develop(rng: Rng, detected: Floats, light: Light, screen: Screen) -> Voxels:
    """Return the tomogram a user sees, uint8 or uint16 (Z, Y, X)."""
    image = _scaled(_with_noise(rng, detected, light.floor), screen, light.floor)
    image = image * _field(rng, image.shape, screen)
    if screen.stretch > 1:
        image = _columns_apart(image, screen.stretch)
    black, white = np.percentile(image, [screen.black_percentile, screen.white_percentile])
    image = np.clip((image - black) / max(1e-6, float(white - black)), 0, 1.3) ** screen.gamma
    if screen.glare:
        image = image * (1 + _glare(rng, image.shape, screen.glare))
    if screen.median:
        image = median_filter(image, (1, 3, 3))
    if screen.sharpen > 0:
        image = image + screen.sharpen * (image - gaussian_filter(image, (0, 1.5, 1.5)))
    if screen.quantization > 0:
        image = np.stack([_compressed(one, screen.quantization) for one in image])
    top = 255 if screen.bits == 8 else int(rng.choice([4095, 16383, 65535]))
    gray = np.clip(np.rint(image * top), 0, top)
    return gray.astype(np.uint8) if screen.bits == 8 else gray.astype(np.uint16)


def _with_noise(rng: Rng, detected: Floats, floor: float) -> Floats:
    """Add the incoherent light and shot noise of the detector, shape (Z, Y, X)."""
    noise = rng.standard_normal(detected.shape, np.float32)
    hiss = rng.standard_normal(detected.shape, np.float32)
    return np.asarray((np.sqrt(detected) + np.float32(0.6 * np.sqrt(floor)) * noise) ** 2 + floor * hiss**2 / 2)


def _scaled(power: Floats, screen: Screen, floor: float) -> Floats:
    """Return ``power`` on the scale of the screen, from 0 up."""
    if screen.scale == "decibel":
        return np.asarray(10 * np.log10(power / floor + 0.15) + 9, np.float32)
    return np.asarray(np.sqrt(power) if screen.scale == "amplitude" else power**0.33, np.float32)


def _field(rng: Rng, shape: tuple[int, ...], screen: Screen) -> Floats:
    """Return the gain of slices, rows and the field of view, shape (Z, Y, X)."""
    slices, rows, columns = shape
    across = np.linspace(-1, 1, columns) - rng.uniform(-0.4, 0.4)
    along = np.linspace(-1, 1, rows)[:, None]
    shade = 1 - screen.vignette * (across**2 + 0.3 * along**2) / 1.3
    row_gain = 1 + screen.row_jitter * rng.standard_normal((slices, rows, 1))
    return np.asarray(np.clip(shade, 0.3, 2) * row_gain * (1 + 0.02 * rng.standard_normal((slices, 1, 1))), np.float32)


def _columns_apart(image: Floats, stretch: int) -> Floats:
    """Return ``image`` as recorded with A-scans ``stretch`` columns apart and interpolated to square pixels."""
    columns = np.arange(image.shape[2]) / stretch
    left = columns.astype(np.intp)
    share = (columns - left).astype(np.float32)
    scans = image[..., ::stretch]
    right = np.minimum(left + 1, scans.shape[2] - 1)
    return np.asarray(scans[..., left] * (1 - share) + scans[..., right] * share)


def _glare(rng: Rng, shape: tuple[int, ...], patches: int) -> Floats:
    """Return the added gain of saturated patches, shape (1, Y, X)."""
    _, rows, columns = shape
    out = np.zeros((rows, columns), np.float32)
    for _ in range(patches):
        dy = (np.arange(rows)[:, None] - rng.uniform(0, 0.4) * rows) / (rng.uniform(0.03, 0.12) * rows)
        dx = (np.arange(columns)[None] - rng.uniform(0, 1) * columns) / (rng.uniform(0.02, 0.1) * columns)
        out += rng.uniform(0.4, 1.4) * np.exp(-np.minimum(dx**2 + dy**2, 40))
    return out[None]


def _compressed(image: Floats, step: float) -> Floats:
    """Return ``image``, shape (Y, X), after quantization of its 8 x 8 cosine transforms, coarser for fine detail."""
    rows, columns = image.shape
    padded = np.pad(image, ((0, -rows % 8), (0, -columns % 8)), mode="edge")
    blocks = padded.reshape(padded.shape[0] // 8, 8, padded.shape[1] // 8, 8).transpose(0, 2, 1, 3)
    frequency = np.add.outer(np.arange(8), np.arange(8))
    steps = (step * (1 + 0.6 * frequency)).astype(np.float32)
    rounded = np.rint(dctn(blocks, axes=(2, 3), norm="ortho") / steps) * steps
    plain = idctn(rounded, axes=(2, 3), norm="ortho").transpose(0, 2, 1, 3).reshape(padded.shape)
    return np.asarray(plain[:rows, :columns], np.float32)
