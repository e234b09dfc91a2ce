"""Everything that decides what comes out of a training, as closed, frozen types."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from skinoct.decode_config import DecodeConfig
from skinoct.intensity import IntensityConfig
from skinoct.unet import UNetConfig
from skinoct_training.augment import AugmentConfig
from skinoct_training.losses import LossConfig
from skinoct_training.optimizer import Optimization


class TrainConfig(BaseModel):
    """A training, apart from its data and duration; kept in the run folder and in the checkpoint's card."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    network: UNetConfig = UNetConfig()
    """The network."""
    intensity: IntensityConfig = IntensityConfig()
    """Normalization of gray values."""
    augment: AugmentConfig = AugmentConfig()
    """Random changes of every crop."""
    loss: LossConfig = LossConfig()
    """What the network is punished for."""
    decode: DecodeConfig = DecodeConfig()
    """Ordered decoding; the band's thickness is replaced by that of the annotators."""
    crop: tuple[PositiveInt, PositiveInt] = (224, 256)
    """Rows and columns of a training crop."""
    spacings: tuple[int, ...] = (1, 1, 1, 1, 0, 2)
    """Distances in slices between the neighbors of a crop, drawn with equal chance; 0 repeats the slice."""
    slice_step_um: float | None = Field(default=2.0, gt=0)
    """Distance between neighbors that a spacing of 1 stands for, where slices are nearer and that is known; None
    for a slice."""
    batch: int = Field(default=8, ge=1)
    """Crops per step."""
    epoch_images: int | None = Field(default=1024, ge=1)
    """Crops per epoch; None for as many as there are annotated slices."""
    optimizer: Optimization = "muon"
    """What makes a step of a gradient; from nothing, Muon learns in less than half the steps of AdamW (ADR 15)."""
    learning_rate: float = Field(default=8e-3, gt=0)
    """Peak of the schedule: a short rise, then a cosine fall to zero."""
    warmup: float = Field(default=0.03, ge=0, lt=1)
    """Share of the training in which the learning rate rises."""
    weight_decay: float = Field(default=1e-2, ge=0)
    """Decoupled weight decay."""
    clip_norm: float = Field(default=1.0, gt=0)
    """Gradients longer than this are shortened."""
    ema_decay: float = Field(default=0.998, ge=0, lt=1)
    """Memory of the running average of the weights, which is what is validated and saved."""
    decode_validation: Literal["ordered", "pixel"] = "ordered"
    """Decoding of held-out tomograms after an epoch; ``pixel`` is plain argmax, as in the paper."""
    val_slices: int = Field(default=16, ge=1)
    """Annotated slices of each held-out tomogram that are measured after an epoch; consecutive ones where possible."""
    bfloat16: bool | None = None
    """Convolve in bfloat16, which halves the time where there are instructions for it: None for on GPUs and on such
    processors (AVX-512 with bfloat16, AMX)."""
    compile: bool = False
    """Compile the network with torch.compile; pays off in long trainings on a GPU."""
    rehearsal: float = Field(default=0.5, ge=0, lt=1)
    """Share of the crops of a fine-tune that show phantoms, lest the network forget what it knew; 0 for none. Other
    trainings have none, nor has a fine-tune of a checkpoint that never saw a phantom."""
    seed: int = Field(default=0, ge=0)
    """Of everything random."""


def schedule(progress: float, config: TrainConfig) -> float:
    """Return the learning rate at ``progress`` (0 to 1) of the training."""
    if progress < config.warmup:
        return config.learning_rate * max(progress, 1e-3) / config.warmup
    fall = min(1.0, (progress - config.warmup) / (1 - config.warmup))
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * fall))
