"""The training loop. Read ``Trainer.run`` at the end first; everything above is what it calls.

Each epoch draws its random numbers from (seed, epoch) alone, so that a resumed training continues exactly
as an uninterrupted one would have.
"""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from skinoct.engines.processor import has_bfloat16
from skinoct.errors import OptionError, OutOfMemoryError
from skinoct.unet import UNet
from skinoct_training.augment import augment
from skinoct_training.config import TrainConfig, schedule
from skinoct_training.distributed import (
    agreed,
    announce,
    average_gradients,
    gather,
    rank,
    share,
    share_batch_statistics,
    world,
)
from skinoct_training.follow import Board, Picture
from skinoct_training.losses import layer_loss
from skinoct_training.metrics import ColumnErrors
from skinoct_training.optimizer import optimizers
from skinoct_training.rehearsal import MixedSampler
from skinoct_training.run_folder import RunFolder
from skinoct_training.sampling import Sampler

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Duration:
    """How long to train: exactly one of the two."""

    epochs: int | None = None
    minutes: float | None = None


@dataclass
class Standing:
    """Where a training stands."""

    epoch: int = 0
    """Epochs done."""
    step: int = 0
    """Optimizer steps done."""
    seconds: float = 0.0
    """Time trained, over all resumptions."""
    batch: int = 1
    """Crops per step; halved when the GPU's memory runs out."""
    best_um: float = float("inf")
    """Lowest validation error so far."""
    best_epoch: int = 0
    extra: dict[str, float] = field(default_factory=dict)
    """Figures of the best epoch."""
    interrupted: bool = False
    """Whether the user stopped it before the time was over."""


def suits_bfloat16(device: torch.device) -> bool:
    """Return whether convolutions in bfloat16 are faster there."""
    return device.type == "cuda" or (device.type == "cpu" and has_bfloat16())


class WeightAverage:
    """Running average of weights and buffers, which wanders less than the weights themselves."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.values = {name: value.detach().clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move a little towards the network; faster at first, when there is nothing to remember yet."""
        self.steps += 1
        keep = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                self.values[name].lerp_(value, 1 - keep)
            else:
                self.values[name].copy_(value)


class Trainer:
    """One training of one network.

    Parameters
    ----------
    network : UNet
        On its device; trained in place.
    sampler : Sampler or MixedSampler
    config : TrainConfig
    duration : Duration
    run : RunFolder
    measure : callable
        Measures a network on held-out tomograms; None without any.
    keep : callable
        Called with averaged weights and the standing whenever they are the best so far.
    picture : callable, optional
        Draws what a network sees on a held-out slice, for TensorBoard.
    """

    def __init__(
        self,
        network: UNet,
        sampler: Sampler | MixedSampler,
        config: TrainConfig,
        duration: Duration,
        run: RunFolder,
        measure: Callable[[nn.Module], ColumnErrors] | None,
        keep: Callable[[dict[str, Tensor], Standing], None],
        picture: Picture | None = None,
    ) -> None:
        share_batch_statistics(network)
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.forward = torch.compile(network) if config.compile else network
        self.device = next(network.parameters()).device
        self.bfloat16 = suits_bfloat16(self.device) if config.bfloat16 is None else config.bfloat16
        self.sampler, self.config, self.duration = sampler, config, duration
        self.run_folder, self.measure, self.keep, self.picture = run, measure, keep, picture
        self.board = Board(run.folder, writing=run.writing)
        self.optimizers = optimizers(
            network, config.optimizer, lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.average = WeightAverage(network, config.ema_decay)
        self.averaged = UNet(network.config).to(self.device)
        self.standing = Standing(batch=config.batch)
        self.images_per_epoch = config.epoch_images or len(sampler)
        if run.resuming:
            self._restore()

    # -- one step ---------------------------------------------------------------------------------

    def progress(self, done_in_epoch: float) -> float:
        """Return how much of the training is done, 0 to 1; ``done_in_epoch`` is the share of this epoch."""
        if self.duration.epochs is not None:
            return min(1.0, (self.standing.epoch + done_in_epoch) / self.duration.epochs)
        assert self.duration.minutes is not None
        return agreed(min(1.0, self.standing.seconds / (60 * self.duration.minutes)))

    def step(self, images: Tensor, labels: Tensor, generator: torch.Generator, progress: float) -> float:
        """Learn from one batch; return its loss."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = schedule(progress, self.config)
        inputs, targets = augment(images, labels, generator, self.config.augment)
        announce(self.network, len(inputs))
        inputs = share(inputs).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            logits = self.forward(inputs)
        logits = gather(logits.float(), len(targets))
        loss = layer_loss(logits, targets, self.config.loss)
        self.network.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        average_gradients(self.network)
        nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip_norm)
        for optimizer in self.optimizers:
            optimizer.step()
        self.average.update(self.network)
        self.standing.step += 1
        value = float(loss.detach())
        if not math.isfinite(value):
            raise OptionError(self._diverged_text())
        return value

    def _diverged_text(self) -> str:
        kept = "the best checkpoint so far is kept" if self.standing.best_epoch else "no checkpoint was saved"
        return (
            f"The training diverged: its loss is no finite number in epoch {self.standing.epoch + 1}, step "
            f"{self.standing.step}; {kept}. Begin a new run with a lower learning_rate in --config (it is "
            f"{self.config.learning_rate:g})."
        )

    # -- one epoch --------------------------------------------------------------------------------

    def epoch(self, bar: tqdm[Any]) -> float:
        """Learn from every crop of an epoch; return the mean loss."""
        seed = self.config.seed * 1_000_003 + self.standing.epoch
        rng = np.random.default_rng(seed)
        generator = torch.Generator(self.device).manual_seed(seed)
        torch.manual_seed(seed)
        self.network.train()
        losses: list[float] = []
        done, last = 0, time.monotonic()
        for images, labels in self.sampler.batches(self.images_per_epoch, self.standing.batch, rng):
            losses.append(self.step(images, labels, generator, self.progress(done / self.images_per_epoch)))
            done += len(images)
            now = time.monotonic()
            self.standing.seconds += now - last
            last = now
            bar.update(len(images))
            bar.set_postfix_str(f"loss {np.mean(losses[-50:]):.3f}, {self._best_text()}")
            if self.duration.minutes is not None and self.progress(0) >= 1:
                break
        return float(np.mean(losses))

    def _best_text(self) -> str:
        if not np.isfinite(self.standing.best_um):
            return "no error measured yet"
        return f"DEJ error {self.standing.best_um:.2f} um"

    def epoch_with_halving(self, bar: tqdm[Any]) -> float:
        """Run an epoch; when the GPU's memory runs out, halve the batch, say so and start the epoch again."""
        while True:
            try:
                return self.epoch(bar)
            except torch.cuda.OutOfMemoryError:
                if world() > 1:  # the others wait for this one in the middle of a step
                    raise OutOfMemoryError(
                        f"The memory of a GPU ran out at {self.standing.batch} crops; with several GPUs the batch is "
                        "not halved by itself. Give a smaller --batch, or --crop with a smaller size."
                    ) from None
                if self.standing.batch == 1:
                    raise OutOfMemoryError(
                        "The GPU's memory does not hold a single crop; give --crop with a smaller size, or train on "
                        "the CPU (CUDA_VISIBLE_DEVICES= )."
                    ) from None
                self.standing.batch //= 2
                self.network.zero_grad(set_to_none=True)
                torch.cuda.empty_cache()
                log.warning("GPU memory ran out: going on with batches of %d crops.", self.standing.batch)

    def assess(self, loss: float) -> None:
        """Validate the averaged weights, record the epoch and keep the weights if they are the best."""
        self.averaged.load_state_dict(self.average.values)
        standing = self.standing
        errors = self.measure(self.averaged.eval()) if self.measure else None
        row = {
            "epoch": standing.epoch,
            "step": standing.step,
            "seconds": round(standing.seconds, 1),
            "batch": standing.batch,
            "learning_rate": self.optimizers[0].param_groups[0]["lr"],
            "loss": loss,
            "val_score_um": errors.score_um if errors else float("nan"),
            "val_mae_um": errors.mae_um if errors else float("nan"),
            "val_bias_um": errors.bias_um if errors else float("nan"),
            "val_p95_um": errors.p95_um if errors else float("nan"),
            "val_gap_fraction": errors.gap_fraction if errors else float("nan"),
        }
        self.run_folder.append_metrics(row)
        drawn = self.picture(self.averaged) if self.picture and self.board.active else None
        self.board.write(standing.epoch, row, drawn)
        score = errors.score_um if errors and np.isfinite(errors.score_um) else float("inf")
        if errors is None or score <= standing.best_um:
            if errors is not None:
                standing.best_um = score
                standing.extra = {k[4:]: v for k, v in row.items() if k.startswith("val_")}
            standing.best_epoch = standing.epoch
            self.keep(self.average.values, standing)

    # -- saving and going on ----------------------------------------------------------------------

    def save(self) -> None:
        """Save everything that ``_restore`` needs."""
        tensors = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.values.items()}
        for number, optimizer in enumerate(self.optimizers):
            for index, state in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{number}.{index}.{k}": torch.as_tensor(v) for k, v in state.items()}
        values = {**self.standing.__dict__, "average_steps": self.average.steps}
        self.run_folder.save_state(tensors, values)

    def _restore(self) -> None:
        tensors, values = self.run_folder.load_state()
        parts: dict[str, dict[str, Tensor]] = {"network": {}, "average": {}, "optimizer": {}}
        for name, tensor in tensors.items():
            part, key = name.split(".", 1)
            parts[part][key] = tensor
        self.network.load_state_dict(parts["network"])
        for key, tensor in parts["average"].items():
            self.average.values[key].copy_(tensor)
        self.average.steps = values.pop("average_steps")
        self._restore_optimizers(parts["optimizer"])
        self.standing = Standing(**values)
        self.run_folder.forget_metrics_after(self.standing.epoch)

    def _restore_optimizers(self, tensors: dict[str, Tensor]) -> None:
        states: list[dict[int, dict[str, Tensor]]] = [{} for _ in self.optimizers]
        try:
            for name, tensor in tensors.items():
                number, index, key = name.split(".", 2)
                states[int(number)].setdefault(int(index), {})[key] = tensor
        except (ValueError, IndexError):
            raise OptionError(
                f"The run in {self.run_folder.folder} was begun by an earlier version, which made its steps otherwise, "
                "and cannot be resumed; begin a new run with --from and the checkpoint so far."
            ) from None
        for optimizer, state in zip(self.optimizers, states, strict=True):
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": state, "param_groups": groups})

    def run(self) -> Standing:
        """Train until the time is over or the user presses Ctrl-C; the best weights were kept on the way."""
        total = None if self.duration.epochs is None else self.duration.epochs * self.images_per_epoch
        start = self.standing.epoch * self.images_per_epoch
        with tqdm(
            total=total, initial=start, unit="img", file=sys.stderr, dynamic_ncols=True, disable=rank() > 0
        ) as bar:
            try:
                while self.progress(0) < 1:
                    loss = self.epoch_with_halving(bar)
                    self.standing.epoch += 1
                    bar.set_postfix_str("measuring the error")
                    measured = time.monotonic()
                    if rank() == 0:
                        self.assess(loss)
                    self.standing.seconds += time.monotonic() - measured
                    bar.set_postfix_str(self._best_text())
                    if rank() == 0:
                        self.save()
            except KeyboardInterrupt:
                self.standing.interrupted = True
                bar.write("Stopped, as asked; the best checkpoint so far is kept.", file=sys.stderr)
        return self.standing
