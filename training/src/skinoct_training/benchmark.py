"""How fast a training runs: images per second, and how much of the GPU's arithmetic that uses."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from skinoct.unet import UNet
from skinoct_training.config import TrainConfig
from skinoct_training.dataset import Volume
from skinoct_training.loop import Duration, Trainer
from skinoct_training.run_folder import RunFolder
from skinoct_training.sampling import Sampler

PAPER_IMAGES_PER_SECOND = 26.0
"""900 epochs x 3073 images in about 30 h on one V100."""
PAPER_IMAGES = 900 * 3073
PEAK_BF16_TFLOPS = {"H200": 989.0, "H100": 989.0, "A100": 312.0, "L40S": 362.0, "L4": 121.0}
"""Dense bfloat16 peak by the makers' data sheets, for names that contain the key."""


@dataclass(frozen=True)
class Speed:
    """Result of a benchmark."""

    device: str
    images_per_second: float
    tflops: float
    """Arithmetic of the network forward and backward, without augmentation."""
    peak_tflops: float | None
    """None where the device's peak is not known."""

    def lines(self) -> Iterator[str]:
        """Yield lines for people."""
        yield f"{self.device}: {self.images_per_second:.0f} images/s (the paper: {PAPER_IMAGES_PER_SECOND:.0f})"
        minutes = PAPER_IMAGES / self.images_per_second / 60
        yield f"900 epochs x 3073 images would take {minutes:.1f} minutes (the paper: 30 hours)"
        share = f", {self.tflops / self.peak_tflops:.1%} of the bf16 peak" if self.peak_tflops else ""
        yield f"{self.tflops:.2f} TFLOP/s{share}"


def measure_speed(config: TrainConfig, *, seconds: float = 20.0, shape: tuple[int, int, int] = (64, 224, 512)) -> Speed:
    """Train on noise for a while, after a warm-up, with augmentation and all else of a real training."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, shape, dtype=np.uint8)
    rows = np.linspace(1, 5.99, shape[1]).astype(np.uint8)[None, :, None]
    labels = np.ascontiguousarray(np.broadcast_to(rows, shape))
    volume = Volume("noise", images, labels, np.arange(shape[0]), band_um=5.0, pixel_um=0.9)
    network = UNet(config.network).to(device)
    sampler = Sampler(
        [volume],
        in_slices=config.network.in_slices,
        crop=config.crop,
        spacings=config.spacings,
        device=device,
    )
    per_image = flops_per_image(network, config, device)
    with TemporaryDirectory(prefix="skinoct-benchmark-") as folder:
        run = RunFolder(Path(folder), resume=False, writing=False)
        trainer = Trainer(network, sampler, config, Duration(epochs=10**6), run, None, lambda *_: None)
        rate = _rate(trainer, seconds)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    peak = next((value for key, value in PEAK_BF16_TFLOPS.items() if key in name), None)
    return Speed(name, rate, rate * per_image / 1e12, peak)


def flops_per_image(network: UNet, config: TrainConfig, device: torch.device) -> float:
    """Count the operations of one crop, forward and backward."""
    image = torch.zeros(1, config.network.in_slices, *config.crop, device=device)
    with FlopCounterMode(display=False) as counter:
        network(image).sum().backward()
    network.zero_grad(set_to_none=True)
    return float(counter.get_total_flops())


def _rate(trainer: Trainer, seconds: float) -> float:
    rng = np.random.default_rng(0)
    generator = torch.Generator(trainer.device).manual_seed(0)
    trainer.network.train()
    done, start, warm_up = 0, time.monotonic(), 3
    batch = trainer.config.batch
    batches = chain.from_iterable(trainer.sampler.batches(64 * batch, batch, rng) for _ in count())
    for step, (images, labels) in enumerate(batches):
        trainer.step(images, labels, generator, 0.5)
        if step == warm_up:
            done, start = 0, time.monotonic()
        elif step > warm_up:
            done += len(images)
            if time.monotonic() - start > seconds:
                break
    return done / (time.monotonic() - start)
