"""Numbers of a height map: smoothing, tilt, length, area, spectrum and peaks, all blind to missing columns.

Height maps are float32 ``(Z, X)`` in micrometers, larger is higher up in the skin; a mask of the same shape
says which columns are known. Functions return None where the data do not decide.
"""

from __future__ import annotations

from array import array

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Map = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

MIN_COLUMNS = 32
"""A B-scan with fewer known columns has no shape worth a number."""
FLAT_UM = 0.05
"""A surface with less undulation than this (RMS) has no period."""
_NOBODY = -1
_FIT_POINTS = 200_000
_ZERO_PADDING = 8
_SPECTRAL_CONTRAST = 4.0
"""The dominant period must stand out of the median of the spectrum by this factor."""


def smooth(heights: Map, known: Mask, sigma_px: tuple[float, float]) -> Map:
    """Smooth with a Gaussian of ``sigma_px`` (z, x) over known columns only.

    Expects a map without tilt: at the border the average is one-sided.
    """
    weights = ndimage.gaussian_filter(known.astype(np.float32), sigma_px, mode="constant", truncate=4)
    sums = ndimage.gaussian_filter(np.where(known, heights, 0), sigma_px, mode="constant", truncate=4)
    return np.where(known, sums / np.maximum(weights, np.float32(1e-12)), 0)


def remove_lines(heights: Map, known: Mask, dx: float) -> tuple[Map, npt.NDArray[np.float64]]:
    """Return the map without the least-squares line of each slice, and the slopes of the lines (Z,)."""
    x = np.arange(heights.shape[1], dtype=np.float32) * np.float32(dx)
    n = np.maximum(known.sum(axis=1), 1)
    mean_x = (known * x).sum(axis=1, dtype=np.float64) / n
    mean_height = np.where(known, heights, 0).sum(axis=1, dtype=np.float64) / n
    centered = np.where(known, x - mean_x[:, None].astype(np.float32), 0)
    spread = (centered**2).sum(axis=1, dtype=np.float64)
    slope = (centered * heights).sum(axis=1, dtype=np.float64) / np.where(spread > 0, spread, 1.0)
    level = heights - mean_height[:, None].astype(np.float32) - centered * slope[:, None].astype(np.float32)
    return np.where(known, level, 0), slope


def remove_parabolas(heights: Map, known: Mask, dx: float, period: float | None) -> Map:
    """Return the map without the parabola of each slice.

    A wave of ``period`` is fitted along with it and left in: alone, a parabola takes up to 4 % of the height
    of four periods of undulation for trend.
    """
    x = np.linspace(-1, 1, heights.shape[1]) if heights.shape[1] > 1 else np.zeros(1)
    terms = [np.ones_like(x), x, x * x]
    if period is not None:
        phase = 2 * np.pi * np.arange(len(x)) * dx / period
        terms += [np.cos(phase), np.sin(phase)]
    design = np.stack(terms, axis=1)
    result = np.zeros_like(heights)
    for row, mask, residual in zip(heights, known, result, strict=True):
        if mask.any():
            factors = np.linalg.lstsq(design[mask], row[mask], rcond=None)[0]
            residual[mask] = (row - design[:, :3] @ factors[:3])[mask]
    return result


def remove_plane(heights: Map, known: Mask) -> Map:
    """Return the map without its tilt.

    Columns weigh less towards the border (Hann window), so that a few periods of undulation do not count as
    tilt.
    """
    if not known.any():
        return np.zeros_like(heights)
    z, x = (np.linspace(-1, 1, n) for n in heights.shape)
    points = np.flatnonzero(known)
    points = points[:: max(1, len(points) // _FIT_POINTS)]
    row, column = np.divmod(points, heights.shape[1])
    weight = np.sqrt(_hann(heights.shape[0])[row] * _hann(heights.shape[1])[column])
    design = np.stack([weight, weight * z[row], weight * x[column]], axis=1)
    offset, along_z, along_x = np.linalg.lstsq(design, heights.ravel()[points] * weight, rcond=None)[0]
    plane = (offset + along_z * z)[:, None].astype(np.float32) + (along_x * x).astype(np.float32)
    return np.where(known, heights - plane, 0)


def _hann(n: int) -> npt.NDArray[np.float64]:
    """Return a Hann window of ``n`` weights without zeros."""
    return np.hanning(n + 2)[1:-1]


def path_lengths(heights: Map, known: Mask, dx: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the length along the surface and the horizontal extent of each slice, each (Z,).

    Only steps between two known columns count, so gaps add nothing to either.
    """
    both = known[:, 1:] & known[:, :-1]
    steps = np.hypot(np.diff(heights, axis=1), np.float32(dx))
    return np.where(both, steps, 0).sum(axis=1, dtype=np.float64), both.sum(axis=1) * dx


def area_ratio(heights: Map, known: Mask, dz: float, dx: float) -> float | None:
    """Return surface area over projected area, None for fewer than 100 known cells.

    A cell lies between four neighboring columns; its area is that of the two planes through it, averaged:
    sqrt(1 + hx^2 + hz^2) with the mean slopes of opposite sides.
    """
    cells = known[1:, 1:] & known[1:, :-1] & known[:-1, 1:] & known[:-1, :-1]
    if cells.sum() < 100:
        return None
    along_x = np.diff(heights, axis=1) / np.float32(dx)
    along_z = np.diff(heights, axis=0) / np.float32(dz)
    hx = (along_x[1:] + along_x[:-1]) / 2
    hz = (along_z[:, 1:] + along_z[:, :-1]) / 2
    return float(np.sqrt(1 + hx**2 + hz**2)[cells].mean(dtype=np.float64))


def dominant_period(heights: Map, known: Mask, dx: float) -> float | None:
    """Return the period along x with the most power, averaged over slices.

    Slices with more than a tenth of their columns missing are left out, smaller gaps are bridged. None when
    no period stands out, or when less than two periods fit into the image.
    """
    usable = (known.mean(axis=1) > 0.9) & (known.sum(axis=1) >= MIN_COLUMNS)
    if not usable.any():
        return None
    width = heights.shape[1]
    power, variance = np.zeros(width * _ZERO_PADDING // 2 + 1), 0.0
    for row, mask in zip(heights[usable], known[usable], strict=True):
        bridged = _bridge(row, mask)
        bridged = bridged - bridged.mean()
        variance += float(bridged.var())
        power += np.abs(np.fft.rfft(bridged * np.hanning(width), width * _ZERO_PADDING)) ** 2
    if variance < FLAT_UM**2 * usable.sum():
        return None
    first = 2 * _ZERO_PADDING  # two periods in the image
    peak = first + int(np.argmax(power[first:]))
    if peak == first or peak + 1 >= len(power) or power[peak] < _SPECTRAL_CONTRAST * np.median(power[first:]):
        return None
    left, middle, right = np.log(np.maximum(power[peak - 1 : peak + 2], 1e-300))
    curvature = left - 2 * middle + right
    shift = 0.5 * (left - right) / curvature if curvature < 0 else 0.0
    return float(width * _ZERO_PADDING * dx / (peak + shift))


def _bridge(row: Map, known: npt.NDArray[np.bool_]) -> Map:
    if known.all():
        return row
    x = np.arange(len(row))
    return np.interp(x, x[known], row[known]).astype(np.float32)


def count_peaks(heights: Map, known: Mask, prominence: float) -> int:
    """Count maxima that stand out by ``prominence`` and do not lie at the border of what is known.

    The prominence of a peak is its height over the highest saddle that leads to a higher one. The map is
    flooded from above: columns join in order of height, basins that meet merge, and the lower of their two
    peaks ends there (union-find). A peak at the border is left out, since its top may be outside; so every
    top within the image counts once and the number per area is unbiased.
    """
    width = heights.shape[1] + 2
    padded = np.pad(np.where(known, heights, -np.inf), 1, constant_values=-np.inf).astype(np.float32).ravel()
    inner = np.pad(ndimage.binary_erosion(known, np.ones((3, 3))), 1).ravel()
    # Arrays of the standard library: as small as numpy's, and faster to look up one by one.
    order = array("q", np.argsort(-padded, kind="stable")[: int(known.sum())].tobytes())
    values, is_inner = array("f", padded.tobytes()), inner.tobytes()
    parent = array("q", [_NOBODY]) * len(padded)
    neighbors = (-width - 1, -width, -width + 1, -1, 1, width - 1, width, width + 1)
    count = 0
    for point in order:
        basins = {_find(parent, point + step) for step in neighbors if parent[point + step] != _NOBODY}
        if not basins:
            parent[point] = point  # a new peak is the root of its basin
            continue
        highest = max(basins, key=values.__getitem__)
        parent[point] = highest
        for peak in basins - {highest}:
            parent[peak] = highest
            count += is_inner[peak] and values[peak] - values[point] >= prominence
    if order:
        top = order[0]
        count += is_inner[top] and values[top] - values[order[-1]] >= prominence
    return count


def _find(parent: array[int], point: int) -> int:
    root = point
    while parent[root] != root:
        root = parent[root]
    while parent[point] != root:
        parent[point], point = root, parent[point]
    return root
