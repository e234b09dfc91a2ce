"""Honest opponents: what one gets without a network, so that a network's figures mean something."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from skinoct.decode import find_line
from skinoct.labels import Label
from skinoct.segmentation import FloatArray, LabelArray, draw_layers
from skinoct_training.metrics import dej_center

STEP_ROWS = 12
"""Rows above and below that are compared in search of the DEJ, about one cell layer."""
SURFACE_REACH = 4
"""Rows above and below that are compared in search of glass and skin surface."""
LEAST_EPIDERMIS_UM = 35.0
"""Corneum and living epidermis together are nowhere thinner (11 um and 23 um, measured in vivo)."""


def intensity_viterbi(images: FloatArray, band_px: float, least_px: float = 12.0) -> LabelArray:
    """Segment by brightness alone: the smoothest line along the strongest steps.

    The glass is where brightness falls most below the top edge, the skin surface where it rises most, the DEJ
    where it falls most below that.

    Parameters
    ----------
    images : float32, shape (Z, Y, X)
        Normalized.
    band_px : float
        Thickness of the annotators' DEJ band in rows.
    least_px : float
        Rows below the skin surface in which the DEJ is not looked for, so that the lower edge of the bright corneum
        is not taken for it.

    Returns
    -------
    uint8, shape (Z, Y, X)
    """
    rows = np.arange(images.shape[1])[None, :, None]
    surface = bright_surface(images)
    step = brightness_step(images, SURFACE_REACH)
    glass = find_line(np.where(rows <= surface[:, None, :], 6 * step, -1e3), 8.0)
    coarse = brightness_step(ndimage.gaussian_filter1d(images, 2, axis=2), STEP_ROWS)
    allowed = rows >= surface[:, None, :] + least_px
    dej = find_line(np.where(allowed, 12 * coarse, -1e3), 1.0)
    center = ndimage.gaussian_filter1d(dej, 3, axis=1)
    lines = np.stack([np.minimum(glass, surface), surface, center - band_px / 2, center + band_px / 2])
    lines = np.clip(np.maximum.accumulate(lines, axis=0), 0, images.shape[1])
    return draw_layers(lines.astype(np.float32), images.shape[1])


def bright_surface(images: FloatArray) -> FloatArray:
    """Return the row of the skin surface of normalized images (Z, Y, X) by brightness alone, shape (Z, X)."""
    rows = np.arange(images.shape[1])[None, :, None]
    return find_line(np.where(rows >= 3, 6 * -brightness_step(images, SURFACE_REACH), 0), 0.7)


def brightness_step(images: FloatArray, reach: float) -> FloatArray:
    """Return how much brighter it is above each row than below, over about ``reach`` rows, float32 (Z, Y, X).

    A Gaussian derivative rather than two boxes: its maximum lies in the middle of a blurred step.
    """
    sigma = reach / 2
    slope = ndimage.gaussian_filter1d(images, sigma, axis=1, order=1, mode="nearest")
    return np.asarray(-slope * sigma * np.sqrt(2 * np.pi), np.float32)


def constant_thickness(annotated: LabelArray, thickness_px: float, band_px: float) -> LabelArray:
    """Put the DEJ at one depth below the *true* skin surface: an oracle that has seen no DEJ.

    Everything above the surface is taken from the annotation as well.

    Parameters
    ----------
    annotated : uint8, shape (Z, Y, X)
    thickness_px : float
        Rows from the surface to the center of the DEJ.
    band_px : float
        Thickness of the band.
    """
    known = skin_surface(annotated)
    # Where the surface lies above the image, its usual depth is the best that can be said without a DEJ.
    usual = float(np.nanmedian(known)) if np.isfinite(known).any() else 0.0
    surface = np.nan_to_num(known, nan=usual)[:, None, :]
    rows = np.arange(annotated.shape[1])[None, :, None] + 0.5
    depth = rows - surface - thickness_px
    drawn = np.where(depth < -band_px / 2, Label.EPIDERMIS, np.where(depth < band_px / 2, Label.DEJ, Label.DERMIS))
    above = rows < surface
    outside = np.where(annotated == Label.GLASS, Label.GLASS, Label.GLYCEROL)
    return np.where(above, outside, drawn).astype(np.uint8)


def skin_surface(annotated: LabelArray) -> npt.NDArray[np.float64]:
    """Return the first tissue row of each column of (Z, Y, X), shape (Z, X); NaN where unknown."""
    tissue = annotated >= Label.EPIDERMIS
    known = tissue.any(axis=1) & (annotated[:, 0] > 0) & ~tissue[:, 0]
    return np.where(known, tissue.argmax(axis=1), np.nan).astype(np.float64)


def mean_thickness(annotated: LabelArray) -> float:
    """Return the mean rows from skin surface to DEJ center; NaN where either is never annotated."""
    distance = dej_center(annotated, whole=True) - skin_surface(annotated)
    return float(np.nanmean(distance)) if np.isfinite(distance).any() else float("nan")
