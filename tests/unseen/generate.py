"""Tomograms with labels, numbered: the same seed, instrument and number give the same voxels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from skinoct.labels import Label
from skinoct.tomogram import PixelSize, write_labels, write_tomogram

from . import coarse, commercial, ffoct, lcoct
from .fields import Rng
from .recording import Recording

Kind = Literal["ffoct", "coarse", "lcoct", "commercial"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SIXTEEN_BITS: tuple[Kind, ...] = ("coarse", "commercial")
"""Instruments of which every second tomogram has 16 bits."""
BAND_UM = 5.0
"""Vertical thickness of the DEJ in the labels."""
INSTRUMENTS: dict[Kind, Callable[[Rng], Recording]] = {
    "ffoct": ffoct.draw,
    "coarse": coarse.draw,
    "lcoct": lcoct.draw,
    "commercial": commercial.draw,
}


@dataclass(frozen=True)
class Sample:
    """A tomogram and the truth."""

    voxels: npt.NDArray[Any]
    """(Z, Y, X), uint8 or uint16."""
    labels: npt.NDArray[np.uint8]
    """(Z, Y, X)."""
    pixel_size_um: PixelSize


def make_sample(seed: int, kind: Kind, number: int) -> Sample:
    """Draw a tomogram."""
    rng = np.random.default_rng([seed, KINDS.index(kind), number])
    recording = INSTRUMENTS[kind](rng)
    image = np.clip(recording.image, 0, 255)
    if kind in SIXTEEN_BITS and number % 2:
        voxels: npt.NDArray[Any] = np.round(image * rng.choice([16, 257])).astype(np.uint16)
    else:
        voxels = np.round(image).astype(np.uint8)
    stack = recording.stack
    return Sample(voxels, draw_labels(recording), PixelSize(stack.pixel_um, stack.pixel_um, stack.slice_um))


def draw_labels(recording: Recording) -> npt.NDArray[np.uint8]:
    """Return the label stack (Z, Y, X): layers where the lines are, the DEJ a band of 5 um."""
    stack = recording.stack
    row = np.arange(stack.shape[1])[None, :, None]
    surface = stack.surface_um[:, None] / stack.pixel_um
    dej = stack.dej_um[:, None] / stack.pixel_um
    half = BAND_UM / 2 / stack.pixel_um
    labels = np.full(stack.shape, Label.GLYCEROL, np.uint8)
    labels[row >= surface] = Label.EPIDERMIS
    labels[row >= dej - half] = Label.DEJ
    labels[row >= dej + half] = Label.DERMIS
    if recording.glass_um is not None:
        behind_glass = row < recording.glass_um[:, None] / stack.pixel_um
        labels[behind_glass & (labels == Label.GLYCEROL)] = Label.GLASS
    return labels


def write_samples(out: Path, per_kind: int, seed: int, kinds: Sequence[Kind] = KINDS) -> Iterator[tuple[Kind, Path]]:
    """Write ``other-<kind>-<number>/tomogram.tif`` and ``labels.tif``; yields each instrument and folder when written.

    Instruments take turns, so that what is there after an interruption is balanced.
    """
    for number in range(per_kind):
        for kind in kinds:
            sample = make_sample(seed, kind, number)
            folder = out / f"other-{kind}-{number}"
            folder.mkdir(parents=True, exist_ok=True)
            size, shape = sample.pixel_size_um, sample.labels.shape
            write_tomogram(folder / "tomogram.tif", sample.voxels, pixel_size_um=size, overwrite=True)
            write_labels(folder / "labels.tif", [sample.labels], shape, pixel_size_um=size, overwrite=True)
            yield kind, folder
