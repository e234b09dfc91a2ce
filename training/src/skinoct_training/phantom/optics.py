"""Image formation: speckle, noise, shadows, motion, and the camera."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.special import expit

from skinoct_training.phantom.fields import FloatArray, blur, smooth_noise
from skinoct_training.phantom.geometry import Surfaces
from skinoct_training.phantom.spec import Spec


def speckle(rng: np.random.Generator, spec: Spec) -> FloatArray:
    """Speckle amplitude (Z, Y, X) of mean 1.

    A random complex scatterer field blurred with the point-spread function; ``looks`` patterns are averaged. One
    pattern has the contrast 0.52 of fully developed speckle, more have less.
    """
    optics, grid = spec.optics, spec.grid
    along_z = min(2.0, 0.9 / grid.z_um)
    widths = (along_z, optics.grain_y_px, optics.grain_x_px)
    total = np.zeros(grid.shape, np.float32)
    patterns = min(optics.looks, 4)
    for _ in range(patterns):
        real, imaginary = (blur(rng.standard_normal(grid.shape, dtype=np.float32), widths) for _ in range(2))
        total += np.hypot(real, imaginary)
    total /= total.mean()
    return np.asarray(1 + (total - 1) * np.sqrt(patterns / optics.looks), np.float32)


def form_image(rng: np.random.Generator, spec: Spec, tissue: FloatArray, surfaces: Surfaces) -> FloatArray:
    """Return gray values (Z, Y, X) before quantization, about 0..1, from intensity relative to the epidermis."""
    optics = spec.optics
    sharp = ndimage.gaussian_filter(tissue, (0, 0.3 * optics.grain_y_px, 0.3 * optics.grain_x_px))
    amplitude = np.sqrt(np.maximum(sharp, 0)) * speckle(rng, spec)
    amplitude *= shadows(rng, spec, surfaces)
    dark = np.sqrt(optics.floor) * np.abs(1 + 0.35 * rng.standard_normal(tissue.shape, dtype=np.float32))
    signal = np.sqrt(amplitude**2 + (0.5 * dark) ** 2)
    signal *= gains(rng, spec)
    signal += stray_light(rng, spec, surfaces)
    signal += np.float32(optics.grains) * rng.standard_normal(tissue.shape, dtype=np.float32)
    return compress(signal * frame_of_view(rng, spec), spec)


def stray_light(rng: np.random.Generator, spec: Spec, surfaces: Surfaces) -> FloatArray:
    """Light that comes from no tissue: flares at the surface and ghosts of reflections; broadcasts to (Z, Y, X)."""
    optics, (slices, rows, width) = spec.optics, spec.grid.shape
    if not optics.flares and not optics.ghosts:
        return np.zeros((1, 1, 1), np.float32)
    light = np.zeros(spec.grid.shape, np.float32)
    x, y = np.arange(width, dtype=np.float32), np.arange(rows, dtype=np.float32)
    for _ in range(optics.flares):
        # Where the skin lies highest the light comes straight back.
        highest = surfaces.skin.argmin(1) if rng.random() < 0.5 else np.full(slices, rng.uniform(0, width))
        near = np.exp(-(((x - highest[:, None] - rng.uniform(-20, 20)) / rng.uniform(0.7, 6)) ** 2))
        fade = np.exp(-y / rows * rng.uniform(0, 3))
        light += np.float32(rng.uniform(0.3, 3)) * near[:, None] * fade[:, None]
    for _ in range(optics.ghosts):
        line = np.exp(-(((y - rng.uniform(0, rows)) / rng.uniform(0.6, 3)) ** 2))
        light += np.float32(rng.uniform(0.1, 1.0)) * line[:, None]
    return light


def frame_of_view(rng: np.random.Generator, spec: Spec) -> FloatArray:
    """Return 0 in the black margins of the view and 1 within, (1, 1, X)."""
    width = spec.grid.shape[2]
    inside = np.ones((1, 1, width), np.float32)
    margin = round(spec.optics.margin * width)
    side = int(rng.integers(3)) if margin else 0
    if margin and side != 1:
        inside[..., :margin] = 0
    if margin and side != 0:
        inside[..., width - margin :] = 0
    return inside


def compress(signal: FloatArray, spec: Spec) -> FloatArray:
    """Map amplitude to gray: linearly, by a root or by a logarithm, the epidermis at ``exposure``."""
    optics = spec.optics
    signal = np.maximum(signal, 0)
    if optics.compression == "linear":
        return np.asarray(optics.exposure * signal, np.float32)
    if optics.compression == "root":
        return np.asarray(optics.exposure * np.sqrt(signal), np.float32)
    low = np.log(0.05 + np.sqrt(optics.floor) * 0.3)
    return np.asarray(optics.exposure * (np.log(signal + 0.05) - low) / (np.log(1.05) - low), np.float32)


def gains(rng: np.random.Generator, spec: Spec) -> FloatArray:
    """Vignette, jitter of rows and frames, residual fringes: (Z, Y, X)."""
    optics, (slices, rows, width) = spec.optics, spec.grid.shape
    x = np.linspace(-1, 1, width, dtype=np.float32) - np.float32(rng.uniform(-0.4, 0.4))
    gain = (1 - optics.vignette * np.abs(x) ** rng.uniform(1.5, 3)).clip(0.15)[None, None, :]
    row = 1 + optics.row_jitter * smooth_noise(rng, (slices, rows), (0.5, rng.uniform(0.3, 6)))
    frame = 1 + optics.frame_jitter * rng.standard_normal(slices).astype(np.float32)
    y = np.arange(rows, dtype=np.float32)
    phase = rng.uniform(0, 6.28, (slices, 1)).astype(np.float32)
    fringe = 1 + optics.fringes * np.sin(2 * np.pi * y[None] / rng.uniform(6, 60) + phase)
    deeper = np.exp(np.float32(optics.depth_gain) * y / rows)
    return np.asarray(gain * (row * fringe * frame[:, None] * deeper).clip(0.1)[:, :, None], np.float32)


def shadows(rng: np.random.Generator, spec: Spec, surfaces: Surfaces) -> FloatArray:
    """Dark stripes below hairs and folds (Z, Y, X), from the skin downward, leaning and fading."""
    optics, grid = spec.optics, spec.grid
    shape = grid.shape
    result = np.ones(shape, np.float32)
    x = np.arange(shape[2], dtype=np.float32)
    depth = (np.arange(shape[1], dtype=np.float32) * grid.y_um)[None, :, None] - surfaces.skin[:, None]
    for index in range(optics.shadows + optics.hairs):
        hair = index >= optics.shadows
        width = rng.uniform(3, 10) if hair else rng.uniform(8, 45)
        drift = rng.uniform(-4, 4) * np.arange(shape[0], dtype=np.float32)[:, None, None] * grid.z_um / grid.x_um * 0.2
        center = rng.uniform(0, shape[2]) + drift + rng.uniform(-0.25, 0.25) * depth / grid.x_um
        strength = rng.uniform(0.4, 0.85) if hair else rng.uniform(0.15, 0.7)
        start = rng.uniform(0, 40) if hair or rng.random() < 0.5 else rng.uniform(40, 160)
        stripe = np.exp(-(((x[None, None] - center) / width) ** 2)) * expit((depth - start) / 6)
        result *= 1 - strength * stripe
    return result * furrow_shade(rng, spec, surfaces, depth)


def furrow_shade(rng: np.random.Generator, spec: Spec, surfaces: Surfaces, depth: FloatArray) -> FloatArray:
    """Light that a furrow's walls keep from what lies below it (Z, Y, X); ``depth`` is um below the skin."""
    blocked = np.clip(surfaces.furrow / 40.0, 0, 1) ** 0.7
    fade = np.exp(-np.maximum(depth, 0) / rng.uniform(60, 400)) * expit((depth - rng.uniform(0, 15)) / 4)
    return np.asarray(1 - spec.optics.furrow_shade * blocked[:, None] * fade, np.float32)


def move(rng: np.random.Generator, spec: Spec, gray: FloatArray, lines: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Shift frames by the motion of living skin, and the truth with them.

    Parameters
    ----------
    gray : float32, shape (Z, Y, X)
    lines : float32, shape (k, Z, X)
        Surfaces in rows; they move with the skin. The glass (index 0) does not move.
    """
    optics = spec.optics
    steps = np.cumsum(rng.normal(0, optics.motion_px, spec.grid.shape[0])) * 0.5
    steps += rng.normal(0, optics.motion_px * 0.4, spec.grid.shape[0])
    if optics.tears and len(steps) > 2:
        steps[int(rng.integers(1, len(steps))) :] += rng.uniform(3, 8) * rng.choice([-1, 1])
    steps -= np.median(steps)
    moved, moved_lines = gray.copy(), lines.copy()
    for z, step in enumerate(np.clip(steps, -12, 12)):
        # Skin stays where the glass stops it; what would come from above the pane stays as it was.
        safe = max(float(step), float((lines[0, z] - lines[1, z]).max()) if step < 0 else float(step))
        top = int(np.clip(np.ceil(lines[0, z].max()) + 4, 0, gray.shape[1] - 1))
        if (lines[1, z] < top).any():
            continue
        moved[z, top:] = ndimage.shift(gray[z, top:], (safe, 0), order=1, mode="nearest")
        moved_lines[1:, z] += np.float32(safe)
    return moved, moved_lines


def digitize(gray: FloatArray, spec: Spec) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
    """Clip and round to the camera's bits."""
    if spec.optics.bits == 8:
        return np.rint(np.clip(gray, 0, 1) * 255).astype(np.uint8)
    return np.rint(np.clip(gray, 0, 1) * 4095).astype(np.uint16)
