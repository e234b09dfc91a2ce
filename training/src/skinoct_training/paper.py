"""The recipe of the paper, as the baseline to compare with; faithful, symptoms included.

Calderon-Delgado, Tjiu, Lin, Huang, *High Resolution Human Skin Image Segmentation by means of Fully
Convolutional Neural Networks*: a U-Net on single B-scans of 224 x 512 whose last layer has six filters,
categorical cross-entropy weighted DEJ 20, glass and glycerol 10, epidermis and dermis 1, and the likeliest
class of each pixel. The paper names no augmentation, optimizer schedule or averaging, so there are none;
widths are those of an ordinary U-Net of the size that a CPU can train.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from skinoct_training.augment import AugmentConfig

PAPER_CLASS_WEIGHTS = (10.0, 10.0, 1.0, 20.0, 1.0)
"""Loss weights of glass, glycerol, epidermis, DEJ, dermis."""

UNCHANGED: dict[str, Any] = {name: type(field.default)(0) for name, field in AugmentConfig.model_fields.items()}
"""Every augmentation switched off, also those that are added one day."""

PAPER_SETTINGS: dict[str, Any] = {
    "network": {"in_slices": 1, "stem": (1, 1), "widths": (16, 32, 64, 128), "filters": 6},
    "intensity": {"low_percentile": 0.0, "high_percentile": 100.0, "power": 1.0},
    "augment": UNCHANGED,
    "loss": {"class_weights": PAPER_CLASS_WEIGHTS, "dice": 0.0, "surface": 0.0, "label_smoothing": 0.0},
    "crop": (224, 512),
    "spacings": (1,),
    "optimizer": "adamw",
    "learning_rate": 2e-3,
    "ema_decay": 0.0,
    "decode_validation": "pixel",
}
"""Settings that differ from ``TrainConfig``'s defaults."""


def is_papers(class_weights: Sequence[float]) -> bool:
    """Tell by its loss weights whether a checkpoint was trained with the paper's recipe."""
    return tuple(class_weights) == PAPER_CLASS_WEIGHTS
