"""The error in micrometers on tomograms that training never saw, measured the way the product works."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from skinoct.decode import OrderedDecoder, decode_pixel
from skinoct.decode_config import DecodeConfig
from skinoct.grid import slice_step
from skinoct.neighbors import stack_neighbors
from skinoct.segmentation import FloatArray, LabelArray, draw_layers
from skinoct_training.dataset import Volume
from skinoct_training.metrics import ColumnErrors, column_errors, join_errors

BATCH = 4


@dataclass(frozen=True)
class Window:
    """The slices of a held-out volume that are decoded after each epoch."""

    images: FloatArray
    """(n, Y, X), normalized."""
    labels: LabelArray
    """(n, Y, X)."""
    pixel_um: float
    """Height of a pixel."""
    step: int = 1
    """Slices from one neighbor to the next."""


def windows(volume: Volume, slices: int, slice_step_um: float | None = None, *, context: int = 1) -> list[Window]:
    """Choose ``slices`` annotated slices: consecutive ones or, in a sparse annotation, some spread over the volume.

    Each of the latter is a window of its own, with the neighbors that a network sees beside it, ``context`` on either
    side, so that it is measured as it is used.
    """
    count = min(slices, len(volume.annotated))
    densest = densest_window(volume, slices, slice_step_um)
    if densest.labels.any(axis=(1, 2)).sum() >= count:
        return [densest]
    chosen = volume.annotated[np.linspace(0, len(volume.annotated) - 1, count).round().astype(int)]
    return [_around(volume, int(z), max(1, context), densest.step) for z in chosen]


def _around(volume: Volume, z: int, context: int, step: int) -> Window:
    """Return one annotated slice between its neighbors, ``step`` apart and unlabeled; the ends repeat."""
    where = np.clip(z + step * np.arange(-context, context + 1), 0, volume.images.shape[0] - 1)
    images = np.divide(volume.images[where], 255, dtype=np.float32)
    labels = np.zeros(images.shape, np.uint8)
    labels[context] = volume.labels[z]
    return Window(images, labels, volume.pixel_um)


def densest_window(volume: Volume, slices: int, slice_step_um: float | None = None) -> Window:
    """Choose ``slices`` consecutive slices that hold the most annotated ones."""
    depth = volume.images.shape[0]
    count = min(slices, depth)
    flags = np.zeros(depth, np.int64)
    flags[volume.annotated] = 1
    sums = np.convolve(flags, np.ones(count, np.int64), "valid")
    best = np.flatnonzero(sums == sums.max())
    start = int(best[len(best) // 2])
    part = slice(start, start + count)
    images = np.divide(volume.images[part], 255, dtype=np.float32)
    return Window(images, np.asarray(volume.labels[part]), volume.pixel_um, slice_step(volume.z_um, slice_step_um))


@torch.inference_mode()
def predict_window(
    network: nn.Module, images: FloatArray, context: int, decode: DecodeConfig | None, step: int = 1
) -> LabelArray:
    """Segment consecutive normalized slices (n, Y, X) with every ``step``-th; argmax where ``decode`` is None."""
    device = next(network.parameters()).device
    decoder = OrderedDecoder(decode, images.shape) if decode else None
    labels = np.empty(images.shape, np.uint8)
    for start in range(0, len(images), BATCH):
        count = min(BATCH, len(images) - start)
        batch = torch.from_numpy(stack_neighbors(images, start, count, context, step)).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            logits = network(batch.contiguous(memory_format=torch.channels_last))
        probabilities = logits.float().softmax(dim=1).cpu().contiguous().numpy()
        if decoder:
            decoder.add(probabilities)
        else:
            labels[start : start + count] = decode_pixel(probabilities)
    if not decoder:
        return labels
    boundaries, _, _ = decoder.finish()
    return draw_layers(boundaries, images.shape[1])


def validate(
    network: nn.Module,
    windows: Sequence[Window],
    *,
    context: int,
    decode: DecodeConfig | None,
) -> ColumnErrors:
    """Measure the DEJ of all windows; ``decode`` is None for plain argmax."""
    network.eval()
    return join_errors(
        [
            column_errors(predict_window(network, w.images, context, decode, w.step), w.labels, w.pixel_um)
            for w in windows
        ]
    )
