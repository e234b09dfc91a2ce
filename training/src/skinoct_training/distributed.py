"""Several GPUs or machines under ``torchrun``, with the result of one.

Every process draws the same batch from the same random numbers and works on its share of it. Three things tie
the shares together, so that two processes compute what one would: batch statistics over all shares, a loss
over all logits, and averaged gradients. A batch that does not divide evenly is filled up with crops that count for
nothing: collectives need parts of one size, and convolutions at least one crop.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as differentiable
from torch import Tensor, nn


def world() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process, from 0; also after the group was left."""
    return dist.get_rank() if dist.is_initialized() else int(os.environ.get("RANK", "0"))


@contextmanager
def process_group() -> Iterator[torch.device]:
    """Join the processes that ``torchrun`` started, or stay alone, and yield this one's device."""
    cuda = torch.cuda.is_available()
    if "WORLD_SIZE" not in os.environ or int(os.environ["WORLD_SIZE"]) < 2:
        yield torch.device("cuda" if cuda else "cpu")
        return
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield device
    finally:
        dist.destroy_process_group()


def share(batch: Tensor) -> Tensor:
    """Return this process's part of a batch: rows rank, rank + world, ...; all of it when alone.

    Parts are equal: the last rows of some repeat the batch's last row, and ``gather`` leaves them out again.
    """
    missing = -len(batch) % world()
    filled = torch.cat([batch, batch[-1:].expand(missing, *batch.shape[1:])]) if missing else batch
    return filled[rank() :: world()]


def gather(part: Tensor, count: int) -> Tensor:
    """Put the parts of all processes together again in their order; gradients flow back to each.

    Parameters
    ----------
    part : Tensor, shape (b, ...)
    count : int
        Rows of the batch that was shared.

    Returns
    -------
    Tensor, shape (count, ...)
    """
    if world() == 1:
        return part
    parts: Any = differentiable.all_gather(part.contiguous())  # type: ignore[no-untyped-call]
    return torch.stack(tuple(parts), dim=1).flatten(0, 1)[:count]


def agreed(value: float) -> float:
    """Return the value of process 0 everywhere; clocks differ, and all must stop together."""
    if world() == 1:
        return value
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    message = torch.tensor([value], dtype=torch.float64, device=device)
    dist.broadcast(message, src=0)
    return float(message.item())


def average_gradients(network: nn.Module) -> None:
    """Average gradients over all processes.

    Average, not sum: each process computed the loss of the whole batch, so ``gather`` has summed already.
    """
    if world() == 1:
        return
    gradients: list[Tensor] = [p.grad for p in network.parameters() if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    flat /= world()
    for gradient, values in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
        gradient.copy_(values.view_as(gradient))


class SharedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalization over the parts of all processes, also on CPUs, unlike torch's own."""

    crops: int = 0
    """Crops of the batch, all parts together and without repetitions; see ``announce``."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalize (B, C, H, W)."""
        if not self.training:
            return super().forward(x)
        assert self.running_mean is not None
        assert self.running_var is not None
        count = self.crops * x.shape[2] * x.shape[3]
        values = x.float()
        real = values[: len(range(rank(), self.crops, world()))]
        sums = torch.stack([real.sum(dim=(0, 2, 3)), real.square().sum(dim=(0, 2, 3))])
        total, squares = differentiable.all_reduce(sums).unbind(0)  # type: ignore[no-untyped-call]
        mean = total / count
        variance = (squares / count - mean.square()).clamp_min(0)
        momentum = self.momentum if self.momentum is not None else 0.1
        with torch.no_grad():
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(variance * count / max(count - 1, 1), momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked += 1
        shape = (1, -1, 1, 1)
        scaled = (values - mean.view(shape)) * torch.rsqrt(variance + self.eps).view(shape)
        normalized: Tensor = (scaled * self.weight.view(shape) + self.bias.view(shape)).to(x.dtype)
        return normalized


def share_batch_statistics(network: nn.Module) -> nn.Module:
    """Replace batch normalization by one over all processes; parameters and their names stay."""
    if world() == 1:
        return network
    for module in network.modules():
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm2d:
                shared = SharedBatchNorm2d(child.num_features, child.eps, child.momentum)
                shared.load_state_dict(child.state_dict())
                setattr(module, name, shared.to(next(child.parameters()).device))
    return network


def announce(network: nn.Module, crops: int) -> None:
    """Tell batch normalizations how many crops the batch holds that ``share`` is about to divide."""
    for module in network.modules():
        if isinstance(module, SharedBatchNorm2d):
            module.crops = crops
