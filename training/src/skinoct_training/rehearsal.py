"""Phantoms that a fine-tune sees beside its own tomograms, so that the network forgets nothing.

A few annotated tomograms are learned by heart within minutes, and with them the thickness of one person's epidermis.
Showing what was learned before together with what is new is the oldest cure: Robins, *Catastrophic Forgetting,
Rehearsal and Pseudorehearsal*, Connection Science 1995.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from torch import Tensor, cat
from tqdm import tqdm

from skinoct.intensity import IntensityConfig
from skinoct_training.dataset import Volume, make_volume
from skinoct_training.families import FAMILIES, make_synthetic
from skinoct_training.sampling import Sampler

TOMOGRAMS = 32
"""Enough that none of them is learned by heart in minutes; drawing them takes a core 10 to 30 seconds."""
SLICES = 6


def draw_rehearsal(seed: int, pixel_um: float, intensity: IntensityConfig) -> list[Volume]:
    """Draw the phantoms, at the pixel size of the training."""
    volumes = []
    for number in tqdm(range(TOMOGRAMS), desc="phantoms", unit="tomogram", file=sys.stderr, leave=False):
        phantom = make_synthetic((seed, number, TOMOGRAMS), SLICES, FAMILIES[number % len(FAMILIES)])
        size = phantom.pixel_size_um
        name = f"rehearsal-{seed}-{number:02d}"
        volume = make_volume(name, phantom.voxels, phantom.labels, (size.y, size.x), pixel_um, intensity)
        volumes.append(replace(volume, z_um=size.z))
    return volumes


class MixedSampler:
    """Batches of which a share comes from another sampler.

    Parameters
    ----------
    own : Sampler
        Of the tomograms to learn.
    other : Sampler
        Of those to rehearse.
    share : float
        Of each batch that is rehearsed, 0 to 1.
    """

    def __init__(self, own: Sampler, other: Sampler, share: float) -> None:
        self.own, self.other, self.share = own, other, share

    def __len__(self) -> int:
        return round(len(self.own) / (1 - self.share))

    def batches(self, count: int, batch: int, rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield what ``Sampler.batches`` yields; at least one crop of each batch is of the own tomograms."""
        rehearsed = min(round(batch * self.share), batch - 1)
        steps = -(-count // batch)
        own = self.own.batches(steps * (batch - rehearsed), batch - rehearsed, rng)
        if not rehearsed:
            yield from own
            return
        other = self.other.batches(steps * rehearsed, rehearsed, rng)
        for (images, labels), (more, theirs) in zip(own, other, strict=True):
            yield cat([images, more]), cat([labels, theirs])
