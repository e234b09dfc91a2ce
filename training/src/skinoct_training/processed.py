"""The family ``processed``: tomograms as a microscope's software hands them out.

Makers average, despeckle, even out, sharpen, stretch and compress their images before anybody sees them. What remains
looks like no generator's own image formation: grain turns into patches, halos run along bright lines, deep layers are
as bright as high ones. Any tomogram of the other families can be processed; the truth stays.

The guided filter is that of He, Sun, Tang, *Guided Image Filtering*, IEEE TPAMI 2013.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from skinoct.tomogram import PixelSize
from skinoct_training.synthetic import Synthetic

Gray = npt.NDArray[np.float32]
"""(Y, X), about 0..1."""


@dataclass(frozen=True)
class Software:
    """What is done to every slice, in this order; 0 leaves a step out."""

    fewer_columns: float
    """As many times fewer columns are recorded as the file holds; those between are interpolated."""
    average_columns: int
    """Neighboring columns averaged."""
    median_px: tuple[int, int]
    """Rows and columns of the median filter."""
    guided_px: int
    """Half the side of the windows of the guided filter, which smooths where little changes."""
    guided_contrast: float
    """Standard deviation within a window that is smoothed to a half."""
    even_px: float
    """Size of what is evened out."""
    even_power: float
    """0 leaves local brightness as it is, 1 makes it the same everywhere."""
    sharpen_px: float
    sharpen: float
    """How much is added of the difference from a blurred image."""
    black: float
    """Share of the gray values that become black."""
    white: float
    """Share that becomes white."""
    gamma: float
    jpeg_quality: int
    """Of lossy files; 0 for files without loss."""


@dataclass(frozen=True)
class Processed(Synthetic):
    """A synthetic tomogram after a maker's software."""

    recorded: Synthetic
    software: Software

    @property
    def pixel_size_um(self) -> PixelSize:
        """As the recorded tomogram states it."""
        return self.recorded.pixel_size_um

    @property
    def facts(self) -> dict[str, Any]:
        """What was recorded, and what was done to it."""
        return {"processed": asdict(self.software), **self.recorded.facts}


def process(rng: np.random.Generator, recorded: Synthetic) -> Processed:
    """Process a tomogram of any family by software drawn at random; uint8 whatever it was."""
    software = draw_software(rng)
    brightest = max(1.0, float(np.quantile(recorded.voxels, 0.9999)))
    slices = [apply(np.asarray(gray / brightest, np.float32), software) for gray in recorded.voxels]
    return Processed(np.stack(slices), recorded.boundaries, recorded, software)


def draw_software(rng: np.random.Generator) -> Software:
    """Draw which steps there are, and how strong."""

    def sometimes(share: float, low: float, high: float) -> float:
        return float(np.exp(rng.uniform(np.log(low), np.log(high)))) if rng.random() < share else 0.0

    median = (int(rng.choice([1, 3, 5])), int(rng.choice([3, 5, 7]))) if rng.random() < 0.35 else (1, 1)
    return Software(
        fewer_columns=sometimes(0.3, 1.2, 3.0),
        average_columns=int(sometimes(0.3, 2, 6)),
        median_px=median,
        guided_px=int(sometimes(0.35, 2, 7)),
        guided_contrast=float(np.exp(rng.uniform(np.log(0.03), np.log(0.2)))),
        even_px=sometimes(0.35, 12, 120),
        even_power=float(rng.uniform(0.2, 0.9)),
        sharpen_px=sometimes(0.45, 0.7, 6),
        sharpen=float(rng.uniform(0.3, 2.0)),
        black=float(np.exp(rng.uniform(np.log(0.001), np.log(0.3)))),
        white=float(np.exp(rng.uniform(np.log(0.0002), np.log(0.06)))),
        gamma=float(np.exp(rng.normal(0, 0.3))),
        jpeg_quality=int(sometimes(0.4, 25, 95)),
    )


def apply(gray: Gray, software: Software) -> npt.NDArray[np.uint8]:
    """Return a slice (Y, X) in 0..1 as the software shows it."""
    gray = resample(gray, software.fewer_columns)
    if software.average_columns > 1:
        gray = ndimage.uniform_filter1d(gray, software.average_columns, axis=1)
    if max(software.median_px) > 1:
        gray = ndimage.median_filter(gray, software.median_px)
    if software.guided_px:
        gray = guided(gray, software.guided_px, software.guided_contrast)
    if software.even_px:
        gray = even(gray, software.even_px, software.even_power)
    if software.sharpen_px:
        gray = gray + software.sharpen * (gray - ndimage.gaussian_filter(gray, software.sharpen_px))
    black, white = np.quantile(gray, (software.black, 1 - software.white))
    stretched = np.clip((gray - black) / max(float(white - black), 1e-6), 0, 1) ** software.gamma
    shown: npt.NDArray[np.uint8] = np.rint(255 * stretched).astype(np.uint8)
    if not software.jpeg_quality:
        return shown
    return np.asarray(imagecodecs.jpeg8_decode(imagecodecs.jpeg8_encode(shown, level=software.jpeg_quality)), np.uint8)


def resample(gray: Gray, fewer: float) -> Gray:
    """Keep one column of ``fewer`` and interpolate between them."""
    width = gray.shape[1]
    kept = round(width / fewer) if fewer else width
    if kept >= width or kept < 2:
        return gray
    narrow = gray[:, np.linspace(0, width - 1, kept).round().astype(np.intp)]
    return np.asarray(
        ndimage.map_coordinates(
            narrow, np.meshgrid(np.arange(gray.shape[0]), np.linspace(0, kept - 1, width), indexing="ij"), order=1
        ),
        np.float32,
    )


def guided(gray: Gray, half_px: int, contrast: float) -> Gray:
    """Smooth where an image changes by less than ``contrast``: the guided filter with the image as its own guide."""
    side = 2 * half_px + 1
    mean = ndimage.uniform_filter(gray, side)
    variance = np.maximum(ndimage.uniform_filter(gray * gray, side) - mean * mean, 0)
    slope = variance / (variance + np.float32(contrast**2))
    offset = mean * (1 - slope)
    return np.asarray(ndimage.uniform_filter(slope, side) * gray + ndimage.uniform_filter(offset, side), np.float32)


def even(gray: Gray, size_px: float, power: float) -> Gray:
    """Divide by the local brightness to a power, but for what is nearly black."""
    local = ndimage.gaussian_filter(gray, size_px) + np.float32(0.1 * gray.mean() + 1e-4)
    return np.asarray(gray * (local.mean() / local) ** power, np.float32)
