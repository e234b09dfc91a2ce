"""Batches for training: random crops of annotated slices with their neighbors, cut on the device.

Volumes lie on the device as bytes. A crop keeps columns straight and never mirrors depth.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from skinoct.grid import slice_step
from skinoct_training.dataset import Volume

Generator = np.random.Generator


class Sampler:
    """Cuts batches out of volumes.

    Parameters
    ----------
    volumes : sequence of Volume
    in_slices : int
        Neighboring slices given as channels (odd).
    crop : (rows, columns)
        Size of a crop; smaller volumes are extended by their edge, unlabeled there.
    spacings : sequence of int
        Distances between neighbors to draw from; 0 repeats the slice, as a single B-scan does in use.
    slice_step_um : float, optional
        What a distance of 1 stands for, in volumes whose slices are nearer; a slice otherwise.
    device : torch.device
    """

    def __init__(
        self,
        volumes: Sequence[Volume],
        *,
        in_slices: int,
        crop: tuple[int, int],
        spacings: Sequence[int],
        slice_step_um: float | None = None,
        device: torch.device,
    ) -> None:
        self._crop = crop
        self._offsets = np.arange(in_slices) - in_slices // 2
        self._spacings = np.asarray(spacings)
        self._steps = [slice_step(v.z_um, slice_step_um) for v in volumes]
        self._images = [torch.from_numpy(_extend(v.images, crop, "edge")).to(device) for v in volumes]
        self._labels = [torch.from_numpy(_extend(v.labels, crop, "constant")).to(device) for v in volumes]
        self.slices = np.array([(i, z) for i, v in enumerate(volumes) for z in v.annotated], np.int64)
        """(n, 2): volume and slice of everything that can be trained on."""

    def __len__(self) -> int:
        return len(self.slices)

    def order(self, count: int, rng: Generator) -> npt.NDArray[np.int64]:
        """Choose ``count`` slices: each as often as any other, in random order."""
        rounds = [rng.permutation(len(self.slices)) for _ in range(-(-count // len(self.slices)))]
        return np.concatenate(rounds)[:count]

    def batches(self, count: int, batch: int, rng: Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches that together hold ``count`` crops.

        Yields
        ------
        images : uint8, shape (B, in_slices, h, w)
        labels : uint8, shape (B, h, w)
        """
        order = self.order(count, rng)
        for start in range(0, count, batch):
            crops = [self._cut(int(i), rng) for i in order[start : start + batch]]
            yield torch.stack([c[0] for c in crops]), torch.stack([c[1] for c in crops])

    def _cut(self, index: int, rng: Generator) -> tuple[Tensor, Tensor]:
        which, z = (int(n) for n in self.slices[index])
        images, labels = self._images[which], self._labels[which]
        apart = self._offsets * self._steps[which] * rng.choice(self._spacings)
        neighbors = np.clip(z + apart, 0, images.shape[0] - 1)
        y, x = (int(rng.integers(n - c + 1)) for n, c in zip(images.shape[1:], self._crop, strict=True))
        # Mostly from the top, without which the DEJ is often anybody's guess; but the dark depths of a tall image,
        # where a network sees nothing else, must be known as well.
        y *= int(rng.random() < 1 - self._crop[0] / images.shape[1])
        window = (slice(y, y + self._crop[0]), slice(x, x + self._crop[1]))
        return torch.stack([images[int(n)][window] for n in neighbors]), labels[z][window]


def _extend(volume: npt.NDArray[np.uint8], crop: tuple[int, int], mode: str) -> npt.NDArray[np.uint8]:
    """Extend (Z, Y, X) below and to the right to at least the size of a crop."""
    missing = [max(0, c - n) for c, n in zip(crop, volume.shape[1:], strict=True)]
    if not any(missing):
        return volume
    widths = ((0, 0), (0, missing[0]), (0, missing[1]))
    return np.pad(volume, widths, mode="edge") if mode == "edge" else np.pad(volume, widths)
