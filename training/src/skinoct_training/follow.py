"""TensorBoard logs of a training, where the extra ``skinoct-training[tensorboard]`` is installed.

Look at them with ``tensorboard --logdir runs``.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from skinoct.decode_config import DecodeConfig
from skinoct_training.figures import overlay
from skinoct_training.validation import Window, predict_window

log = logging.getLogger(__name__)
LEAST_FREE = 32 * 2**20
"""Bytes that logs leave on the disk for state and checkpoint, without which nothing could be resumed."""
Picture = Callable[[nn.Module], npt.NDArray[np.uint8]]


class Board:
    """Writes figures and pictures of every epoch; does nothing where TensorBoard is missing."""

    def __init__(self, folder: Path, *, writing: bool = True) -> None:
        self._writer: Any = None
        self._folder = folder
        if not writing:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        self._writer = SummaryWriter(str(folder / "tensorboard"))

    @property
    def active(self) -> bool:
        """Whether anything is written."""
        return self._writer is not None

    def write(self, epoch: int, figures: Mapping[str, float], picture: npt.NDArray[np.uint8] | None) -> None:
        """Add the figures of an epoch and a picture (Y, X, 3)."""
        if self._writer is None:
            return
        if shutil.disk_usage(self._folder).free < LEAST_FREE:
            log.warning("The disk is nearly full: TensorBoard's logs end with epoch %d.", epoch - 1)
            self._writer = None  # its own thread would die of the full disk
            return
        for name, value in figures.items():
            if name != "epoch" and np.isfinite(value):
                self._writer.add_scalar(name.replace("val_", "held out/"), value, epoch)
        if picture is not None:
            self._writer.add_image("held out/image, annotation, prediction", picture, epoch, dataformats="HWC")
        self._writer.flush()


def make_picture(window: Window, *, context: int, decode: DecodeConfig | None) -> Picture:
    """Return what draws the annotated slice nearest to the middle of a window: image, annotation and prediction."""
    annotated = np.flatnonzero(window.labels.any(axis=(1, 2)))
    middle = int(min(annotated, key=lambda z: abs(z - len(window.images) // 2), default=0))
    reach = context * window.step
    first = max(0, middle - reach)
    near = slice(first, middle + reach + 1)

    def picture(network: nn.Module) -> npt.NDArray[np.uint8]:
        predicted = predict_window(network, window.images[near], context, decode, window.step)[middle - first]
        image = window.images[middle]
        empty = np.zeros_like(predicted)
        return np.concatenate([overlay(image, x) for x in (empty, window.labels[middle], predicted)], axis=1)

    return picture
