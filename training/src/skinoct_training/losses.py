"""What a network is punished for: cross-entropy plus Dice, over the pixels that somebody labeled.

Cross-entropy alone serves large layers best; Dice gives the thin DEJ its share without class weights, which
would make it too thick (a weight ``w`` moves the decision to a probability of ``1 / (1 + w)``). Dice alone
is unstable on a thin class.
"""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional

from skinoct.labels import NUM_CLASSES, Label

_SMOOTH = 100.0
"""Pixels added to both sides of the Dice fraction, so that a class that is hardly there cannot dominate."""


class LossConfig(BaseModel):
    """Mixture of the losses."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    class_weights: tuple[float, ...] = Field(
        default=(1.0,) * NUM_CLASSES, min_length=NUM_CLASSES, max_length=NUM_CLASSES
    )
    """Weights of the classes in the cross-entropy, top to bottom; decoding divides them out again."""
    dice: float = Field(default=0.5, ge=0)
    """Weight of the Dice loss beside the cross-entropy, whose weight is 1."""
    surface: float = Field(default=0.0, ge=0)
    """Weight of a row of error of the skin surface or the DEJ, read off each column as a sum of probabilities; none,
    because the DEJ is found better without it (ADR 16)."""
    label_smoothing: float = Field(default=0.02, ge=0, lt=0.5)
    """Share of probability that annotations are not trusted with: borders are drawn by hand."""


def layer_loss(logits: Tensor, labels: Tensor, config: LossConfig) -> Tensor:
    """Return the loss of a batch.

    Parameters
    ----------
    logits : float32, shape (B, 5, H, W)
    labels : uint8, shape (B, H, W)
        1 to 5; 0 is ignored.
    config : LossConfig

    Returns
    -------
    Tensor, shape ()
        0 for a batch without a labeled pixel.
    """
    # One softmax and one truth serve all parts: at full resolution they cost as much as the network.
    logs = logits.log_softmax(dim=1)
    probabilities = logs.exp()
    known = (labels > 0)[:, None].to(logits.dtype)
    truth = one_hot(labels, logits.dtype)
    # Per pixel, not per weight: the paper's weights are meant to raise the loss where the DEJ is.
    loss = entropy_loss(logs, truth, known, config) / known.sum().clamp_min(1)
    if config.dice:
        loss = loss + config.dice * dice_loss(probabilities * known, truth)
    if config.surface:
        loss = loss + config.surface * surface_loss(probabilities, truth, labels)
    return loss


def one_hot(labels: Tensor, dtype: torch.dtype) -> Tensor:
    """Return 1 in the channel of each pixel's class, shape (B, 5, H, W); label 0 has no channel."""
    classes = torch.arange(1, NUM_CLASSES + 1, dtype=labels.dtype, device=labels.device)
    return (labels[:, None] == classes.view(1, -1, 1, 1)).to(dtype)


def entropy_loss(logs: Tensor, truth: Tensor, known: Tensor, config: LossConfig) -> Tensor:
    """Return the weighted cross-entropy with label smoothing, summed over all known pixels."""
    weights = torch.tensor(config.class_weights, device=logs.device, dtype=logs.dtype).view(1, -1, 1, 1)
    trusted = (1 - config.label_smoothing) * truth + config.label_smoothing / NUM_CLASSES * known
    return -(trusted * weights * logs).sum()


def surface_loss(probabilities: Tensor, truth: Tensor, labels: Tensor) -> Tensor:
    """Return the mean error in rows of skin surface and DEJ over the columns that are labeled throughout.

    A surface's depth is the number of rows below it, the sum of the probabilities of the layers below; half of the
    DEJ counts as below its center line. After He et al., *Fully Convolutional Boundary Regression for Retina OCT
    Segmentation*, MICCAI 2019.
    """
    whole = (labels > 0).all(dim=1).to(probabilities.dtype)
    rows_below = torch.zeros((2, NUM_CLASSES), dtype=probabilities.dtype, device=probabilities.device)
    rows_below[0, Label.EPIDERMIS - 1 :] = 1.0
    rows_below[1, Label.DEJ - 1 :] = torch.tensor([0.5, 1.0])
    error = torch.einsum("kc,bcw->bkw", rows_below, probabilities.sum(dim=2) - truth.sum(dim=2))
    distance = functional.smooth_l1_loss(error, torch.zeros_like(error), reduction="none").sum(dim=1)
    return (distance * whole).sum() / whole.sum().clamp_min(1)


def dice_loss(probabilities: Tensor, truth: Tensor) -> Tensor:
    """Return 1 minus the mean soft Dice of the classes that occur, over the known pixels of the whole batch."""
    overlap = (probabilities * truth).sum(dim=(0, 2, 3))
    size, present = probabilities.sum(dim=(0, 2, 3)), truth.sum(dim=(0, 2, 3))
    dice = (2 * overlap + _SMOOTH) / (size + present + _SMOOTH)
    occurs = (present > 0).to(dice.dtype)
    return 1 - (dice * occurs).sum() / occurs.sum().clamp_min(1)
