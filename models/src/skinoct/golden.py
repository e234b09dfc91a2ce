"""The golden slice: one fixed image whose answer tells whether weights and machine still compute what they did.

When a checkpoint is saved, the network's answer for this image, computed by PyTorch in float32, is stored beside
the card. Whoever loads the checkpoint asks the engine for the same image and compares the two in micrometers.

The image is a B-scan with its neighbors and shows all five layers: an image that looks like nothing the network knows
would tell how rounding is amplified there, not how it moves a DEJ in use (ADR 8). It is synthetic, a phantom that no
network is trained on, so that no checkpoint carries anybody's skin: the normalized slices 1, 3, 5, 7 and 9 of
``skinoct-train phantom OUT --tomograms 1 --slices 9 --seed 2026 --family ffoct``, left half, as they were drawn
once; the file is never drawn again.

An answer is reduced to four curves, one for the top of each class but the first: the sum over a column of the
probabilities of all classes above is the row in which that class is expected to begin. These curves depend on
nothing but the network, unlike decoded surfaces, which would change with every improvement of the decoder.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import numpy as np
import numpy.typing as npt

from skinoct.errors import CheckpointError
from skinoct.segmentation import DEJ_TOP

FloatArray = npt.NDArray[np.float32]

MAX_DEJ_UM = 0.02
"""Mean distance in micrometers that another machine, engine or precision may move the DEJ of the golden slice."""
SHAPE = (224, 256)
"""(H, W) of the golden slice."""


def golden_slice(channels: int) -> FloatArray:
    """Return the image, normalized, with its neighbors as channels; beyond five the outermost are repeated.

    Returns
    -------
    float32, shape (1, channels, 224, 256)
    """
    slices = _stored_slices()
    which = np.clip(np.arange(channels) - channels // 2 + len(slices) // 2, 0, len(slices) - 1)
    image: FloatArray = np.divide(slices[which], 255, dtype=np.float32)[None]
    return image


@cache
def _stored_slices() -> npt.NDArray[np.uint8]:
    """Return the file's slices (5, 224, 256); kept, because an engine in trouble is asked when files may not open."""
    with files("skinoct").joinpath("golden.npy").open("rb") as file:
        slices: npt.NDArray[np.uint8] = np.load(file, allow_pickle=False)
    slices.flags.writeable = False
    return slices


def layer_tops(probabilities: FloatArray) -> FloatArray:
    """Return the row in which each class but the first is expected to begin.

    Parameters
    ----------
    probabilities : float32, shape (1, 5, H, W)

    Returns
    -------
    float32, shape (4, W)
    """
    above = np.cumsum(probabilities[0, :-1], axis=0, dtype=np.float64)
    tops: FloatArray = above.sum(axis=1).astype(np.float32)
    return tops


def dej_difference_um(one: FloatArray, other: FloatArray, pixel_size_um: float) -> float:
    """Return how far apart two answers (4, W) put the DEJ: the mean over columns of its worse edge."""
    edges = np.abs(one[DEJ_TOP:] - other[DEJ_TOP:]).mean(axis=1)
    return float(edges.max()) * pixel_size_um


def check_answer(name: str, probabilities: FloatArray, expected: FloatArray, pixel_size_um: float) -> None:
    """Compare an engine's answer for the golden slice with the expected one.

    Parameters
    ----------
    name : str
        Of the model, for the sentence.
    probabilities : float32, shape (1, 5, H, W)
    expected : float32, shape (4, W)
        From ``layer_tops``.

    Raises
    ------
    CheckpointError
        When it is no probability, or moves the DEJ by more than ``MAX_DEJ_UM``.
    """
    if not np.isfinite(probabilities).all() or not np.allclose(probabilities.sum(axis=1), 1, atol=0.02):
        raise CheckpointError(
            f"The model {name} answers the golden slice with numbers that are no probabilities; its weights are "
            "unusable. Train it again, or copy its folder again."
        )
    difference = dej_difference_um(layer_tops(probabilities), expected, pixel_size_um)
    if difference > MAX_DEJ_UM:
        raise CheckpointError(
            f"The model {name} puts the DEJ of the golden slice {difference:.2g} um away from where it was when the "
            f"model was saved ({MAX_DEJ_UM:g} um are allowed), so its answers could be wrong. Copy its folder again; "
            "if that does not help, this machine computes differently: choose another engine (--device torch)."
        )
