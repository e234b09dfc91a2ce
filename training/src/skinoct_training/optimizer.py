"""Steps of the training: Muon for convolutions, AdamW for the rest.

The gradient of a convolution is a matrix, output channels by all that each of them sees, and a few directions make up
most of it. Muon gives all directions steps of the same length: the update is the nearest matrix with orthonormal rows
or columns, after momentum. Source: Jordan et al., *Muon: An optimizer for hidden layers in neural networks*, 2024; of
its size, with which learning rate and decay mean what they mean to AdamW: Liu et al., *Muon is Scalable for LLM
Training*, 2025, section 2.2. ``torch.optim.Muon`` takes matrices only, no kernels, and computes in bfloat16, which
processors without instructions for it do ten times as slowly as float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

Optimization = Literal["muon", "adamw"]
"""Which rule makes a step of a gradient."""

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of Jordan's quintic iteration: five of them bring singular values from 0.002 to 1 between 0.7 and 1.2."""
_ITERATIONS = 5
_RMS = 0.2
"""Root mean square of AdamW's updates, which Muon's are given too (Liu et al.)."""


class Muon(Optimizer):
    """Momentum whose update is made orthonormal.

    Parameters
    ----------
    params : iterable of nn.Parameter
        Kernels of convolutions, shape (out, in, h, w).
    lr, weight_decay : float
        As for AdamW.
    momentum : float
        Memory of the gradient; the step looks ahead by it (Nesterov).
    """

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float, weight_decay: float = 0.0, momentum: float = 0.95
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient; ``closure`` is not supported."""
        assert closure is None
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                average = state["momentum"].lerp_(weight.grad, 1 - group["momentum"])
                matrix = weight.grad.lerp(average, group["momentum"]).reshape(len(weight), -1)
                length = group["lr"] * _RMS * max(matrix.shape) ** 0.5
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(orthonormal(matrix).reshape(weight.shape), alpha=-length)


def orthonormal(matrix: Tensor) -> Tensor:
    """Return nearly the orthonormal matrix that is nearest to one of shape (m, n).

    The iteration X' = (a + b X X^T + c (X X^T)^2) X of Jordan et al., done on the small square matrix X X^T alone, and
    so for half of the arithmetic or less: its factors commute with it, and X is multiplied by their product once.
    """
    if len(matrix) > matrix.shape[1]:
        return orthonormal(matrix.T).T
    a, b, c = _COEFFICIENTS
    matrix = matrix / matrix.norm().clamp_min(1e-7)
    square = matrix @ matrix.T
    one = torch.eye(len(square), dtype=square.dtype, device=square.device)
    product = one
    for _ in range(_ITERATIONS):
        factor = a * one + b * square + c * (square @ square)
        product = factor @ product
        square = factor @ square @ factor
    return product @ matrix


def optimizers(network: nn.Module, kind: Optimization, *, lr: float, weight_decay: float) -> list[Optimizer]:
    """Return what moves all parameters of a network together.

    Muon takes the kernels that see more than their own pixel; the last layer, biases and normalizations remain with
    AdamW, as its authors advise.
    """
    if kind == "adamw":
        return [AdamW(network.parameters(), lr=lr, weight_decay=weight_decay)]
    kernels = [p for p in network.parameters() if p.ndim == 4 and p.shape[2:].numel() > 1]
    chosen = {id(p) for p in kernels}
    rest = [p for p in network.parameters() if id(p) not in chosen]
    return [Muon(kernels, lr=lr, weight_decay=weight_decay), AdamW(rest, lr=lr, weight_decay=weight_decay)]
