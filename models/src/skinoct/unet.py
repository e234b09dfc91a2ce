"""The network: a 2.5-D U-Net with a space-to-depth stem.

The DEJ is a smooth line that must be found to a fraction of a pixel in depth, while the image is wide. The stem
folds ``stem`` pixels (rows, columns) into channels, so that every convolution works on an eighth of the pixels, and
the head unfolds them again, so that logits come out at full resolution.

Source of the idea of a U-Net: Ronneberger, Fischer, Brox, *U-Net: Convolutional Networks for Biomedical Image
Segmentation*, MICCAI 2015; of the folding: Shi et al., *Real-Time Single Image and Video Super-Resolution Using an
Efficient Sub-Pixel Convolutional Neural Network*, CVPR 2016.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from skinoct.labels import NUM_CLASSES
from skinoct.unet_config import UNetConfig

__all__ = ["ConvBlock", "UNet", "UNetConfig", "fold", "pad_to_multiple", "unfold"]


class ConvBlock(nn.Sequential):
    """Two 3 x 3 convolutions, each with batch normalization and ReLU; (B, C, H, W) keeps H and W."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(
            nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(inplace=True),
        )


class UNet(nn.Module):
    """Class scores for the middle slice of a stack of neighbors."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        rows, columns = config.stem
        widths = config.widths
        folded = config.in_slices * rows * columns
        self.encoder = nn.ModuleList(
            ConvBlock(c_in, c_out) for c_in, c_out in zip((folded, *widths[:-1]), widths, strict=True)
        )
        self.decoder = nn.ModuleList(ConvBlock(coarse + fine, fine) for fine, coarse in pairwise(widths))
        self.dropout = nn.Dropout2d(config.dropout)
        self.filters = nn.Conv2d(widths[0], config.filters, 1) if config.filters else None
        self.head = nn.Conv2d(config.filters or widths[0], NUM_CLASSES * rows * columns, 1)

    @property
    def multiple(self) -> tuple[int, int]:
        """Rows and columns are padded to multiples of these."""
        return self.config.multiple

    def forward(self, x: Tensor) -> Tensor:
        """Score the classes of every pixel.

        Parameters
        ----------
        x : float32, shape (B, in_slices, H, W)
            Normalized slices (``skinoct.intensity``); any H and W.

        Returns
        -------
        float32, shape (B, 5, H, W)
            Logits of ``labels.CLASSES``.
        """
        _, _, height, width = x.shape
        x = fold(pad_to_multiple(x, self.multiple), self.config.stem)
        skips: list[Tensor] = []
        for level, block in enumerate(self.encoder):
            x = block(x if level == 0 else functional.max_pool2d(x, 2))
            skips.append(x)
        x = self.dropout(skips.pop())
        for block, skip in zip(reversed(self.decoder), reversed(skips), strict=True):
            x = block(torch.cat([functional.interpolate(x, scale_factor=2.0, mode="nearest"), skip], dim=1))
        if self.filters is not None:
            x = functional.relu(self.filters(x))
        logits = unfold(self.head(x), self.config.stem)
        return logits[:, :, :height, :width]


def pad_to_multiple(x: Tensor, multiple: tuple[int, int]) -> Tensor:
    """Repeat the last row and column of (B, C, H, W) until H and W are multiples.

    Repeating, unlike zeros, adds no dark edge that looks like the end of the tissue.
    """
    _, _, height, width = x.shape
    bottom, right = -height % multiple[0], -width % multiple[1]
    return functional.pad(x, (0, right, 0, bottom), mode="replicate") if bottom or right else x


def fold(x: Tensor, stem: tuple[int, int]) -> Tensor:
    """Move ``stem`` rows and columns into channels: (B, C, H, W) to (B, C*r*c, H/r, W/c)."""
    batch, channels, height, width = x.shape
    rows, columns = stem
    x = x.reshape(batch, channels, height // rows, rows, width // columns, columns)
    x = x.permute(0, 1, 3, 5, 2, 4)
    return x.reshape(batch, channels * rows * columns, height // rows, width // columns)


def unfold(x: Tensor, stem: tuple[int, int]) -> Tensor:
    """Undo ``fold``: (B, C*r*c, h, w) to (B, C, h*r, w*c)."""
    batch, folded, height, width = x.shape
    rows, columns = stem
    channels = folded // (rows * columns)
    x = x.reshape(batch, channels, rows, columns, height, width).permute(0, 1, 4, 2, 5, 3)
    return x.reshape(batch, channels, height * rows, width * columns)
