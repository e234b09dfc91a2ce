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
    _fold(folded, np.require(image, np.float32, ("C", "W")), (0,) * stem[0], (0,) * stem[1])


@compiled
def _fold(folded: FloatArray, image: FloatArray, rows: Steps, columns: Steps) -> None:
    """Do what ``fold_into`` says; the numbers of rows and columns are lengths of tuples, for the compiler to know."""
    channels, height, width = image.shape
    whole = min(width // len(columns), folded.shape[1])
    for y in range(folded.shape[0]):
        for channel in range(channels):
            for row in range(len(rows)):
                line = image[channel, min(y * len(rows) + row, height - 1)]
                first = (channel * len(rows) + row) * len(columns)
                for x in range(whole):
                    for column in range(len(columns)):
                        folded[y, x, first + column] = line[x * len(columns) + column]
                for x in range(whole, folded.shape[1]):
                    for column in range(len(columns)):
                        folded[y, x, first + column] = line[min(x * len(columns) + column, width - 1)]
