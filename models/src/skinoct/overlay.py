"""Pictures of a B-scan with its layers over it, as arrays and as PNG bytes."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
import numpy.typing as npt

from skinoct.errors import OptionError
from skinoct.labels import CLASSES, Label, color_table
from skinoct.output_file import open_output

RgbImage = npt.NDArray[np.uint8]
"""(Y, X, 3)."""

_ALL = tuple(item.label for item in CLASSES)
_GAP = 4


def to_gray(image: npt.NDArray[Any], *, saturated: float = 0.35) -> npt.NDArray[np.uint8]:
    """Stretch the contrast of a B-scan (Y, X) of any type to 8 bits.

    ``saturated`` is the percentage of pixels that become black or white, ImageJ's default of
    *Enhance Contrast*.
    """
    low, high = np.percentile(image, [saturated / 2, 100 - saturated / 2]).tolist()
    scale = 255 / (high - low) if high > low else 0.0
    stretched = np.clip((image.astype(np.float64) - low) * scale + 0.5, 0, 255)
    return np.asarray(stretched, np.uint8)


def overlay(
    image: npt.NDArray[Any],
    labels: npt.NDArray[np.uint8],
    *,
    opacity: float = 0.4,
    show: Collection[Label] = _ALL,
) -> RgbImage:
    """Lay translucent layers over a B-scan.

    Parameters
    ----------
    image : any real type, shape (Y, X)
    labels : uint8, shape (Y, X)
    opacity : float
        0 shows the image alone, 1 the layers alone.
    show : collection of Label
        Layers wanted; ``[Label.DEJ]`` gives the picture that Fiji shows.

    Returns
    -------
    uint8, shape (Y, X, 3)

    Raises
    ------
    OptionError
        When shapes differ or the opacity is not within 0 to 1.
    """
    if image.shape != labels.shape or image.ndim != 2:
        raise OptionError(f"Image {image.shape} and labels {labels.shape} must have one shape (Y, X).")
    if not 0 <= opacity <= 1:
        raise OptionError(f"The opacity is {opacity}; give a number from 0 to 1.")
    gray = np.repeat(to_gray(image)[..., np.newaxis], 3, axis=2).astype(np.float64)
    alpha = np.where(np.isin(labels, list(show)), opacity, 0.0)[..., np.newaxis]
    return np.asarray(gray * (1 - alpha) + color_table(overlay=True)[labels] * alpha + 0.5, np.uint8)


def triptych(image: npt.NDArray[Any], labels: npt.NDArray[np.uint8]) -> RgbImage:
    """Return B-scan, DEJ over the B-scan and layers side by side, (Y, 3 X + gaps, 3)."""
    nothing = overlay(image, labels, show=())
    gap = np.full((image.shape[0], _GAP, 3), 255, np.uint8)
    dej = overlay(image, labels, opacity=0.7, show=(Label.DEJ,))
    return np.concatenate([nothing, gap, dej, gap, color_table()[labels]], axis=1)


def write_png(target: str | Path | BinaryIO, picture: RgbImage, *, overwrite: bool = False) -> None:
    """Write a picture (Y, X, 3) or (Y, X), uint8, as PNG.

    Raises
    ------
    OptionError
        When the file exists and ``overwrite`` is False.
    """
    with open_output(target, overwrite=overwrite) as file:
        file.write(bytes(imagecodecs.png_encode(np.ascontiguousarray(picture))))
