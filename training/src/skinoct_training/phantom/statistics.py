"""Statistics of B-scans by which phantoms are held to what was measured on real FF-OCT skin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from skinoct_training.phantom.fields import FloatArray

WINDOW_PX = 11
NEAR_PX, FAR_PX = 3, 18


@dataclass(frozen=True)
class Statistics:
    """Of one B-scan; contrasts are standard deviation over mean in windows of 11 x 11 pixels."""

    above_below: float
    """Mean gray 3 to 18 px above the DEJ over that 3 to 18 px below."""
    faint_share: float
    """Share of columns (of those 11 px averages) whose step at the DEJ is below 5 %."""
    contrast_epidermis: float
    contrast_dermis: float
    grain_px: float
    """Full width at half maximum of the autocorrelation along depth in the epidermis."""
    saturated_corneum: float
    """Share of saturated pixels in the outermost ten rows of the skin."""
    slope: float
    """99th percentile of the absolute slope of the DEJ."""
    length_ratio: float
    """Length of the DEJ over that of its straight line, after smoothing over 5 px."""


def measure_statistics(
    image: npt.NDArray[np.number], boundaries: FloatArray, rows_of_skin: int = 10
) -> Statistics | None:
    """Measure one B-scan.

    Parameters
    ----------
    image : shape (Y, X)
    boundaries : float32, shape (4, X)
        Rows, as in ``Segmentation``.
    rows_of_skin : int
        Rows below the skin surface that count as corneum.

    Returns
    -------
    Statistics or None
        None where fewer than 100 columns show 20 px on both sides of the DEJ.
    """
    gray = np.asarray(image, np.float32)
    rows, columns = gray.shape
    center = (boundaries[2] + boundaries[3]) / 2
    skin = boundaries[1]
    usable = (center > FAR_PX + 1) & (center < rows - FAR_PX - 1) & (center - skin > 25)
    if usable.sum() < 100:
        return None
    y = np.arange(rows)[:, None] + 0.5
    offset = y - center[None]
    above = mean_over((offset < -NEAR_PX) & (offset > -FAR_PX), gray)[usable]
    below = mean_over((offset > NEAR_PX) & (offset < FAR_PX), gray)[usable]
    ratio = ndimage.uniform_filter1d(above, WINDOW_PX) / np.maximum(ndimage.uniform_filter1d(below, WINDOW_PX), 1e-3)
    contrast = local_contrast(gray)
    epidermis = (y > skin + 15) & (offset < -5)
    dermis = (offset > 8) & (offset < 60) & np.ones_like(epidermis)
    corneum = (y > skin) & (y < skin + rows_of_skin)
    line = ndimage.uniform_filter1d(center, 5)
    slope = np.diff(line)
    return Statistics(
        above_below=float(above.mean() / below.mean()),
        faint_share=float((np.abs(ratio - 1) < 0.05).mean() + (ratio < 0.95).mean()),
        contrast_epidermis=float(np.median(contrast[epidermis])),
        contrast_dermis=float(np.median(contrast[dermis])),
        grain_px=grain_width(gray, epidermis),
        saturated_corneum=float((gray[corneum] >= gray.max()).mean()),
        slope=float(np.percentile(np.abs(slope), 99)),
        length_ratio=float(np.hypot(1, slope).sum() / np.hypot(columns - 1, line[-1] - line[0])),
    )


def mean_over(mask: npt.NDArray[np.bool_], gray: FloatArray) -> FloatArray:
    """Average each column (Y, X) over a mask: (X,)."""
    return np.asarray((gray * mask).sum(axis=0) / np.maximum(mask.sum(axis=0), 1))


def local_contrast(gray: FloatArray) -> FloatArray:
    """Divide standard deviation by mean in windows of 11 x 11 pixels, (Y, X)."""
    mean = ndimage.uniform_filter(gray, WINDOW_PX)
    square = ndimage.uniform_filter(gray**2, WINDOW_PX)
    return np.asarray(np.sqrt(np.maximum(square - mean**2, 0)) / np.maximum(mean, 1e-3))


def grain_width(gray: FloatArray, mask: npt.NDArray[np.bool_]) -> float:
    """Full width at half maximum of the autocorrelation along depth inside a mask (Y, X), in pixels."""
    residual = np.where(mask, gray - ndimage.uniform_filter(gray, 25), 0)
    curve = np.array([(residual[: len(gray) - k] * residual[k:]).sum() for k in range(12)])
    curve = curve / max(float(curve[0]), 1e-9)
    first = int(np.argmax(curve < 0.5)) or 11
    fraction = (curve[first - 1] - 0.5) / max(float(curve[first - 1] - curve[first]), 1e-6)
    return float(2 * (first - 1 + fraction))
