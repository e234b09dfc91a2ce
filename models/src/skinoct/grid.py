"""Pixels of an image and pixels of the network: how large an image is shown, and the way back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skinoct.errors import TomogramError
from skinoct.segmentation import FloatArray
from skinoct.tomogram import PixelSize

PLAUSIBLE_UM = (0.1, 10.0)
"""Pixel sizes of optical skin tomograms; a file that says otherwise was calibrated for something else."""
RESCALE_TOLERANCE = 0.04
"""Smaller relative differences of pixel size are left to the network: resampling would blur more than it
cures."""
MAX_ENLARGEMENT = 2.0
"""Coarser images are not enlarged any further: it would only blur them, at the price of its square. The network meets
skin of every scale in training."""
LARGEST_STEP = 8
"""Slices from one neighbor to the next at most, whatever distance the file states."""


@dataclass(frozen=True)
class Grid:
    """How an image maps to the network's own pixels."""

    image: tuple[int, int]
    """(Y, X) of the tomogram."""
    network: tuple[int, int]
    """(H, W) that the network sees."""
    network_um: float
    """Depth of one network pixel in micrometers."""
    slice_step: int = 1
    """Slices from one neighbor that the network sees to the next."""

    @property
    def same(self) -> bool:
        """Whether no resampling is needed."""
        return self.image == self.network


def plan_grid(image: tuple[int, int], size: PixelSize | None, model_um: float, name: str) -> Grid:
    """Decide at which resolution the network sees an image (Y, X).

    Raises
    ------
    TomogramError
        When the pixel size is not one of an optical tomogram.
    """
    if size is None:
        return Grid(image, image, model_um)
    for value in (size.y, size.x):
        if not PLAUSIBLE_UM[0] <= value <= PLAUSIBLE_UM[1]:
            raise TomogramError(
                f"{name} says that a pixel is {value:g} um wide, but optical skin tomograms have "
                f"{PLAUSIBLE_UM[0]:g} to {PLAUSIBLE_UM[1]:g} um; give the true pixel size "
                "(pixel_size_um=0.9, say).",
                kind="implausible-pixel-size",
            )
    rows, columns = network_size(image, (size.y, size.x), model_um)
    return Grid(image, (rows, columns), size.y * image[0] / rows)


def network_size(image: tuple[int, int], size_um: tuple[float, float], network_um: float) -> tuple[int, int]:
    """Return the size (H, W) at which a network sees an image (Y, X), in use and in training.

    Parameters
    ----------
    image : (int, int)
        Rows and columns.
    size_um : (float, float)
        Height and width of a pixel of the image.
    network_um : float
        Pixel size of the network.
    """
    ratios = (size_um[0] / network_um, size_um[1] / network_um)
    rows, columns = (
        pixels if abs(ratio - 1) <= RESCALE_TOLERANCE else max(1, round(pixels * min(ratio, MAX_ENLARGEMENT)))
        for pixels, ratio in zip(image, ratios, strict=True)
    )
    return rows, columns


def slice_step(z_um: float | None, step_um: float | None) -> int:
    """Return how many slices, ``z_um`` apart, come closest to the distance that a network was trained with.

    Neighbors that are nearer show the same speckle and the same cells, and tell little. 1 where either is not known.
    """
    if not z_um or not step_um:
        return 1
    return int(np.clip(round(step_um / z_um), 1, LARGEST_STEP))


def resize(images: FloatArray, size: tuple[int, int]) -> FloatArray:
    """Resample the last two axes of float32 (n, H, W) or (n, C, H, W), averaging where pixels get larger."""
    if images.shape[-2:] == size:
        return images
    import torch  # takes longer to load than all else, and most tomograms have the pixels of the network
    from torch.nn import functional

    tensor = torch.from_numpy(images)
    batch = tensor[:, None] if images.ndim == 3 else tensor
    out = functional.interpolate(batch, size=size, mode="bilinear", antialias=True, align_corners=False)
    result: FloatArray = (out[:, 0] if images.ndim == 3 else out).numpy()
    return result


def source_columns(network: int, width: int) -> npt.NDArray[np.float64]:
    """Return where the centers of ``width`` columns lie among ``network`` columns."""
    return (np.arange(width) + 0.5) * network / width - 0.5


def stretch_columns(values: FloatArray, width: int) -> FloatArray:
    """Interpolate the last axis linearly to ``width`` columns; order along other axes is kept."""
    source = np.clip(source_columns(values.shape[-1], width), 0, values.shape[-1] - 1)
    left = np.floor(source).astype(int)
    right = np.minimum(left + 1, values.shape[-1] - 1)
    weight = (source - left).astype(np.float32)
    return np.asarray(values[..., left] * (1 - weight) + values[..., right] * weight, np.float32)
