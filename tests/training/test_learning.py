"""Losses, augmentation, sampling, sharing among processes, and following a training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from skinoct.unet import UNet, UNetConfig
from skinoct_training import paper
from skinoct_training.augment import AugmentConfig, augment
from skinoct_training.benchmark import measure_speed
from skinoct_training.config import TrainConfig
from skinoct_training.dataset import Volume
from skinoct_training.distributed import gather, share, share_batch_statistics
from skinoct_training.grow import can_grow, grow
from skinoct_training.losses import LossConfig, layer_loss
from skinoct_training.sampling import Sampler
from skinoct_training.validation import densest_window, windows


def labels_of(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.uint8)[None, :, None].expand(2, -1, 6).contiguous()


class TestLoss:
    def test_right_is_cheaper_than_wrong(self) -> None:
        labels = labels_of(1, 2, 3, 4, 5)
        right = nn.functional.one_hot(labels.long() - 1, 5).movedim(-1, 1).float() * 10
        assert layer_loss(right, labels, LossConfig()) < 0.5 < layer_loss(-right, labels, LossConfig())

    def test_unlabeled_pixels_teach_nothing(self) -> None:
        logits = torch.randn(2, 5, 5, 6, requires_grad=True)
        labels = labels_of(1, 0, 3, 0, 5)
        layer_loss(logits, labels, LossConfig()).backward()
        assert logits.grad is not None
        assert logits.grad[:, :, [1, 3]].abs().max() == 0
        assert logits.grad[:, :, [0, 2, 4]].abs().min() > 0

    def test_nothing_labeled_costs_nothing(self) -> None:
        logits = torch.randn(2, 5, 3, 6, requires_grad=True)
        loss = layer_loss(logits, labels_of(0, 0, 0), LossConfig(dice=0))
        loss.backward()
        assert float(loss.detach()) == 0

    def test_the_papers_weights_raise_the_price_of_a_missed_dej(self) -> None:
        weighted = LossConfig(**paper.PAPER_SETTINGS["loss"])
        logits = torch.zeros(1, 5, 1, 1)
        price = {
            k: float(layer_loss(logits, torch.full((1, 1, 1), k, dtype=torch.uint8), weighted)) for k in range(1, 6)
        }
        assert price[4] == pytest.approx(20 * price[5])
        assert price[1] == price[2] == pytest.approx(10 * price[3])


class TestAugment:
    def batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.tensor([1, 2, 3, 4, 5], dtype=torch.uint8).repeat_interleave(8)
        labels = labels[None, :, None].expand(8, 40, 32).contiguous()
        images = (labels * 40)[:, None].expand(8, 3, 40, 32).contiguous()
        return images, labels

    def test_the_generator_decides_everything(self) -> None:
        images, labels = self.batch()
        one, other, third = (
            augment(images, labels, torch.Generator().manual_seed(seed), AugmentConfig()) for seed in (1, 1, 2)
        )
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])
        assert not torch.equal(one[0], third[0])

    def test_shapes_types_and_ranges(self) -> None:
        images, labels = self.batch()
        out, known = augment(images, labels, torch.Generator().manual_seed(0), AugmentConfig())
        assert out.shape == images.shape
        assert out.dtype == torch.float32
        assert float(out.min()) >= 0
        assert float(out.max()) <= 1
        assert known.shape == labels.shape
        assert known.dtype == torch.uint8
        assert set(known.unique().tolist()) <= {0, 1, 2, 3, 4, 5}

    def test_depth_is_never_mirrored(self) -> None:
        images, labels = self.batch()
        for seed in range(10):
            _, known = augment(images, labels, torch.Generator().manual_seed(seed), AugmentConfig())
            steps = known.int().diff(dim=1)[(known[:, 1:] > 0) & (known[:, :-1] > 0)]
            assert int(steps.min()) >= 0

    def test_nothing_changes_when_all_is_off(self) -> None:
        images, labels = self.batch()
        off = AugmentConfig(**paper.UNCHANGED)
        out, known = augment(images, labels, torch.Generator().manual_seed(0), off)
        torch.testing.assert_close(out, images.float() / 255, atol=1e-3, rtol=0)
        assert torch.equal(known, labels)

    def test_layers_are_painted_anew_where_they_are_known(self) -> None:
        images, labels = self.batch()
        labels[:, :, 20:] = 0
        only = AugmentConfig(**{**paper.UNCHANGED, "repaint": 1.0})
        out, known = augment(images, labels, torch.Generator().manual_seed(0), only)
        assert torch.equal(known, labels)
        torch.testing.assert_close(out[..., 20:], images[..., 20:].float() / 255, atol=1e-3, rtol=0)
        epidermis, dermis = (out[:, :, rows, :20].mean((1, 2, 3)) for rows in (slice(16, 24), slice(32, 40)))
        ratios = (epidermis / dermis).tolist()
        assert min(ratios) < 1 < max(ratios)  # in some the epidermis is the darker one
        assert float((out[..., :20] - images[..., :20].float() / 255).abs().mean()) > 0.1

    def test_sharpening_makes_edges_steeper(self) -> None:
        images, labels = self.batch()
        only = AugmentConfig(**{**paper.UNCHANGED, "sharpen": 1.0})
        out, _ = augment(images, labels, torch.Generator().manual_seed(0), only)
        before = (images.float() / 255).diff(dim=2).amax()
        assert float(out.diff(dim=2).amax()) > float(before)
        assert float(out.min()) >= 0
        assert float(out.max()) <= 1

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32])
    def test_types(self, dtype: torch.dtype) -> None:
        images, labels = self.batch()
        scale = {torch.uint8: 1, torch.uint16: 257, torch.float32: 1 / 255}[dtype]
        given = (images.float() * scale).to(dtype)
        off = AugmentConfig(**paper.UNCHANGED)
        out, _ = augment(given, labels, torch.Generator().manual_seed(0), off)
        torch.testing.assert_close(out, images.float() / 255, atol=1e-3, rtol=0)


def volume(slices: int = 9, rows: int = 20, columns: int = 30, annotated: Sequence[int] = (2, 5, 8)) -> Volume:
    images = np.broadcast_to(np.arange(slices).astype(np.uint8)[:, None, None], (slices, rows, columns)).copy()
    labels = np.zeros_like(images)
    labels[list(annotated)] = 3
    return Volume("v", images, labels, np.array(annotated), band_um=5.0, pixel_um=0.9)


class TestSampling:
    def sampler(self, crop: tuple[int, int] = (16, 24), spacings: tuple[int, ...] = (1,)) -> Sampler:
        return Sampler([volume()], in_slices=3, crop=crop, spacings=spacings, device=torch.device("cpu"))

    def test_every_annotated_slice_comes_equally_often_and_no_other(self) -> None:
        sampler = self.sampler()
        rng = np.random.default_rng(0)
        middles = [int(z) for images, _ in sampler.batches(12, 5, rng) for z in images[:, 1, 0, 0]]
        assert sorted(middles) == sorted([2, 5, 8] * 4)

    def test_neighbors_are_channels_and_ends_repeat(self) -> None:
        for images, _ in self.sampler().batches(30, 4, np.random.default_rng(0)):
            for crop in images:
                z = int(crop[1, 0, 0])
                assert crop[:, 0, 0].tolist() == [z - 1, z, min(z + 1, 8)]

    def test_spacing_zero_is_a_single_slice(self) -> None:
        for images, _ in self.sampler(spacings=(0,)).batches(6, 4, np.random.default_rng(0)):
            assert (images == images[:, 1:2]).all()

    def test_small_volumes_are_extended_but_not_labeled(self) -> None:
        images, labels = next(self.sampler(crop=(32, 40)).batches(4, 4, np.random.default_rng(0)))
        assert images.shape == (4, 3, 32, 40)
        assert int(labels[:, 20:].max()) == int(labels[:, :, 30:].max()) == 0
        assert int(labels[:, :20, :30].min()) == 3

    def test_the_window_that_is_validated_holds_most_annotation(self) -> None:
        window = densest_window(volume(annotated=(5, 6, 8)), 4)
        assert (window.labels.any(axis=(1, 2))).sum() == 3
        assert window.images.shape == (4, 20, 30)

    @pytest.mark.parametrize(("slices", "chosen"), [(16, 16), (3, 3), (60, 20)])
    def test_sparse_annotation_is_validated_on_as_many_slices(self, slices: int, chosen: int) -> None:
        sparse = replace(volume(annotated=range(0, 200, 10), slices=200), z_um=1.0)
        found = windows(sparse, slices, 2.0, context=2)
        assert len(found) == chosen
        for window in found[1:-1]:
            z = round(255 * float(window.images[2, 0, 0]))
            assert z in sparse.annotated
            near = np.round(255 * window.images[:, 0, 0]).astype(int)  # all that the network sees beside it
            assert near.tolist() == [z - 4, z - 2, z, z + 2, z + 4]
            assert window.step == 1
            assert window.labels.any(axis=(1, 2)).tolist() == [False, False, True, False, False]
        assert found[0].images[:3].max() == 0  # the first slice is its own neighbor

    @pytest.mark.parametrize("slices", [1, 4, 16])
    def test_dense_annotation_is_validated_on_consecutive_slices(self, slices: int) -> None:
        dense = volume(annotated=range(2, 30), slices=32)
        (window,) = windows(dense, slices)
        np.testing.assert_array_equal(window.images, densest_window(dense, slices).images)


class TestGrow:
    """A larger network begins as the one that it grew from."""

    @pytest.mark.parametrize("filters", [None, 6])
    @pytest.mark.parametrize(
        "larger", [{}, {"in_slices": 7}, {"widths": (4, 6, 12)}, {"in_slices": 5, "widths": (7, 8, 9)}]
    )
    def test_it_answers_as_before_and_can_learn(self, larger: dict[str, Any], filters: int | None) -> None:
        torch.manual_seed(0)
        known = UNet(UNetConfig(in_slices=3, stem=(2, 4), widths=(4, 6, 8), filters=filters))
        known(torch.rand(4, 3, 24, 32))  # so that there are batch statistics
        config = known.config.model_copy(update=larger)
        large = grow(known, config).eval()
        assert large.config == config
        images = torch.rand(2, config.in_slices, 24, 32)
        middle = slice(config.in_slices // 2 - 1, config.in_slices // 2 + 2)
        torch.testing.assert_close(large(images), known.eval()(images[:, middle]))
        large(images).square().mean().backward()
        assert all((w.grad.flatten(1).abs().sum(1) > 0).any() for w in large.parameters() if w.ndim == 4)  # type: ignore[union-attr]

    @pytest.mark.parametrize(
        "other", [{"in_slices": 1}, {"widths": (4, 5, 8)}, {"widths": (4, 6, 8, 8)}, {"stem": (4, 4)}, {"filters": 6}]
    )
    def test_it_cannot_become_another(self, other: dict[str, Any]) -> None:
        small = UNetConfig(in_slices=3, stem=(2, 4), widths=(4, 6, 8))
        assert not can_grow(small, small.model_copy(update=other))


@pytest.mark.parametrize("weights", [(1.0,) * 5, paper.PAPER_CLASS_WEIGHTS])
def test_the_entropy_is_that_of_torch(weights: tuple[float, ...]) -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 5, 7, 6)
    labels = torch.randint(0, 6, (2, 7, 6), dtype=torch.uint8)
    config = LossConfig(class_weights=weights, label_smoothing=0.1, dice=0, surface=0)
    expected = nn.functional.cross_entropy(
        logits, labels.long() - 1, torch.tensor(weights), ignore_index=-1, reduction="sum", label_smoothing=0.1
    )
    torch.testing.assert_close(layer_loss(logits, labels, config), expected / (labels > 0).sum())


def test_alone_nothing_is_shared() -> None:
    batch = torch.arange(6.0)
    assert torch.equal(share(batch), batch)
    assert torch.equal(gather(batch, len(batch)), batch)
    network = nn.Sequential(nn.BatchNorm2d(2))
    assert type(share_batch_statistics(network)[0]) is nn.BatchNorm2d  # type: ignore[index]


def test_the_benchmark_counts_images_and_operations() -> None:
    config = TrainConfig(network={"widths": (4, 6), "stem": (2, 2)}, crop=(32, 32), batch=2)  # type: ignore[arg-type]
    speed = measure_speed(config, seconds=0.5, shape=(4, 40, 40))
    assert speed.images_per_second > 1
    assert speed.tflops > 0
    assert "the paper: 26" in "\n".join(speed.lines())


def test_tensorboard_holds_figures_and_pictures(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from skinoct_training.follow import Board

    board = Board(tmp_path)
    for epoch in (1, 2):
        board.write(epoch, {"loss": 1 / epoch, "val_mae_um": float("nan")}, np.zeros((4, 6, 3), np.uint8))
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [e.value for e in events.Scalars("loss")] == [1.0, 0.5]
    assert events.Tags()["scalars"] == ["loss"]
    assert len(events.Images("held out/image, annotation, prediction")) == 2
    assert not Board(tmp_path / "other", writing=False).active
