"""Muon: steps of the same length in all directions, for kernels alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.optim import AdamW

from skinoct.unet import UNet, UNetConfig
from skinoct_training.optimizer import Muon, optimizers, orthonormal


def matrix(rows: int, columns: int, condition: float, seed: int = 0) -> Tensor:
    """Return a random matrix whose singular values fall from 1 to ``1 / condition``."""
    torch.manual_seed(seed)
    left, values, right = torch.linalg.svd(torch.randn(rows, columns), full_matrices=False)
    return left @ torch.diag(condition ** -torch.linspace(0, 1, len(values))) @ right


def iterated(x: Tensor) -> Tensor:
    """Return what Jordan's iteration makes of a wide matrix, as it is written down."""
    x = x / x.norm()
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x


@pytest.mark.parametrize("shape", [(24, 360), (64, 64), (128, 1728), (1, 9)])
@pytest.mark.parametrize("condition", [1.0, 30.0, 3000.0])
def test_the_short_way_is_the_iteration(shape: tuple[int, int], condition: float) -> None:
    wide = matrix(*shape, condition)
    expected = iterated(wide)
    assert float((orthonormal(wide) - expected).norm()) < 1e-3 * float(expected.norm())
    assert torch.allclose(orthonormal(wide.T), orthonormal(wide).T, atol=1e-3)


@pytest.mark.parametrize("shape", [(24, 360), (360, 24), (64, 64)])
def test_all_directions_become_about_one(shape: tuple[int, int]) -> None:
    values = torch.linalg.svdvals(orthonormal(matrix(*shape, 20.0)))
    assert values.min() > 0.6
    assert values.max() < 1.25


def test_a_step_has_the_size_of_the_learning_rate_whatever_the_gradient() -> None:
    moved = []
    for scale in (1e-6, 1.0, 1e6):
        kernel = nn.Parameter(torch.zeros(32, 16, 3, 3))
        kernel.grad = scale * matrix(32, 144, 5.0).reshape(32, 16, 3, 3)
        Muon([kernel], lr=0.01).step()
        moved.append(kernel.detach())
    assert float(moved[1].square().mean().sqrt()) == pytest.approx(0.2 * 0.01, rel=0.2)
    for other in (moved[0], moved[2]):
        assert torch.allclose(other, moved[1], rtol=1e-3, atol=1e-7)


def test_a_kernel_without_gradient_stays_and_one_of_zeros_only_decays() -> None:
    still, dead = (nn.Parameter(torch.ones(4, 2, 3, 3)) for _ in range(2))
    dead.grad = torch.zeros_like(dead)
    Muon([still, dead], lr=0.1, weight_decay=0.5).step()
    assert torch.equal(still, torch.ones_like(still))
    assert torch.allclose(dead, torch.full_like(dead, 0.95))


@pytest.mark.parametrize("filters", [None, 6])
def test_every_parameter_is_moved_by_one_rule(filters: int | None) -> None:
    network = UNet(UNetConfig(in_slices=3, widths=(4, 8), filters=filters))
    muon, adamw = optimizers(network, "muon", lr=0.1, weight_decay=0.01)
    assert isinstance(muon, Muon)
    assert isinstance(adamw, AdamW)
    moved = [[p for group in optimizer.param_groups for p in group["params"]] for optimizer in (muon, adamw)]
    assert sorted(id(p) for some in moved for p in some) == sorted(id(p) for p in network.parameters())
    names = {id(p): name for name, p in network.named_parameters()}
    assert all(names[id(p)].startswith(("encoder", "decoder")) for p in moved[0])
    assert {"head.weight", "head.bias"} <= {names[id(p)] for p in moved[1]}
    (alone,) = optimizers(network, "adamw", lr=0.1, weight_decay=0.01)
    assert isinstance(alone, AdamW)
    assert len(alone.param_groups[0]["params"]) == len(list(network.parameters()))
