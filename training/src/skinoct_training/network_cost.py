"""What a network costs: size, arithmetic, and time on the engine of this machine."""

from __future__ import annotations

import time

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from skinoct.engines import Engine
from skinoct.unet import UNet

SIZE = (224, 512)
"""(Y, X) of a B-scan."""


def parameters(network: UNet) -> int:
    """Count the numbers that training finds."""
    return sum(parameter.numel() for parameter in network.parameters())


def gflop(network: UNet) -> float:
    """Count the operations of one B-scan, in thousands of millions."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, network.config.in_slices, *SIZE))
    return float(counter.get_total_flops()) / 1e9


def milliseconds(engine: Engine, in_slices: int, repeat: int) -> list[float]:
    """Return milliseconds a B-scan of some runs over a full batch, after one to warm up."""
    images = np.random.default_rng(0).random((engine.preferred_batch, in_slices, *SIZE), np.float32)
    engine.probabilities(images)
    found = []
    for _ in range(repeat):
        started = time.perf_counter()
        engine.probabilities(images)
        found.append((time.perf_counter() - started) / len(images) * 1000)
    return found
