"""Folding pixels into channels on the way into an engine: what ``skinoct.unet`` does first, without a copy of its own.

An engine is given images in which neighboring slices overlap in memory. Each is padded, folded and turned to channels
last in one pass into the memory that the engine reads, so that nothing is ever copied for a neighbor.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from skinoct.line_search import compiled

FloatArray = npt.NDArray[np.float32]
Steps = tuple[int, ...]


def fold_into(folded: FloatArray, image: FloatArray, stem: tuple[int, int]) -> None:
    """Fold one image.

    Parameters
    ----------
    folded : float32, shape (h, w, C * rows * columns)
        Overwritten; where it is larger than the image, the last row and column are repeated, as
        ``unet.pad_to_multiple`` does.
    image : float32, shape (C, H, W)
    stem : (rows, columns)
        Pixels folded together.
    """
    slices, step = between(image)
    _fold(folded, slices, step, (0,) * stem[0], (0,) * stem[1])


def between(image: FloatArray) -> tuple[FloatArray, int]:
    """Return contiguous slices (n, H, W), of which every so many are those of ``image`` (C, H, W), and how many.

    Neighbors of an image may lie apart in memory, with slices of other images between them.
    """
    count, height, width = image.shape
    plane = height * width * image.itemsize
    step = image.strides[0] // plane if plane else 1
    apart = step > 1 and image.strides == (step * plane, width * image.itemsize, image.itemsize)
    if not apart or image.dtype != np.float32:
        return np.require(image, np.float32, ("C", "W")), 1
    return np.lib.stride_tricks.as_strided(
        image, ((count - 1) * step + 1, height, width), (plane, *image.strides[1:])
    ), step


@compiled
def _fold(folded: FloatArray, slices: FloatArray, step: int, rows: Steps, columns: Steps) -> None:
    """Do what ``fold_into`` says; the numbers of rows and columns are lengths of tuples, for the compiler to know."""
    count, height, width = slices.shape
    channels = (count - 1) // step + 1
    whole = min(width // len(columns), folded.shape[1])
    for y in range(folded.shape[0]):
        for channel in range(channels):
            for row in range(len(rows)):
                line = slices[channel * step, min(y * len(rows) + row, height - 1)]
                first = (channel * len(rows) + row) * len(columns)
                for x in range(whole):
                    for column in range(len(columns)):
                        folded[y, x, first + column] = line[x * len(columns) + column]
                for x in range(whole, folded.shape[1]):
                    for column in range(len(columns)):
                        folded[y, x, first + column] = line[min(x * len(columns) + column, width - 1)]
