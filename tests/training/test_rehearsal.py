"""A fine-tune that forgets nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from skinoct.checkpoint import load_checkpoint
from skinoct.intensity import IntensityConfig
from skinoct_training.cli import main
from skinoct_training.dataset import Volume
from skinoct_training.rehearsal import MixedSampler, draw_rehearsal
from skinoct_training.sampling import Sampler

from .conftest import MakeData


def sampler(value: int, slices: int) -> Sampler:
    """Return a sampler whose images all have one value."""
    images = np.full((slices, 16, 16), value, np.uint8)
    volume = Volume("v", images, np.ones_like(images), np.arange(slices), band_um=5.0, pixel_um=0.9)
    return Sampler([volume], in_slices=1, crop=(8, 8), spacings=(1,), device=torch.device("cpu"))


@pytest.mark.parametrize(("share", "own"), [(0.5, 4), (0.25, 6), (0.99, 1), (0.0, 8)])
def test_each_batch_holds_the_share(share: float, own: int) -> None:
    mixed = MixedSampler(sampler(1, 3), sampler(2, 50), share)
    batches = list(mixed.batches(20, 8, np.random.default_rng(0)))
    assert len(batches) == 3
    for images, labels in batches:
        assert (images[:, 0, 0, 0] == 1).sum() == own
        assert len(images) == len(labels) == 8


def test_an_epoch_shows_every_own_slice_once() -> None:
    mixed = MixedSampler(sampler(1, 10), sampler(2, 50), 0.5)
    assert len(mixed) == 20


def test_phantoms_have_the_pixel_size_and_repeat() -> None:
    one, other = (draw_rehearsal(3, 1.8, IntensityConfig()) for _ in range(2))
    assert one[0].images.shape == (2, 112, 256)  # ffoct: 0.9 um to 1.8 um
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a.images, b.images)
    assert not np.array_equal(draw_rehearsal(4, 1.8, IntensityConfig())[0].images, one[0].images)


def test_a_fine_tune_keeps_its_starts_decoding_and_rehearses(
    make_data: MakeData, tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    drawn = []

    def draw(seed: int, pixel_um: float, intensity: IntensityConfig) -> list[Volume]:
        drawn.append((seed, pixel_um))
        images = np.full((2, 64, 64), 100, np.uint8)
        return [Volume("r", images, np.full_like(images, 3), np.arange(2), band_um=5.0, pixel_um=0.9)]

    monkeypatch.setattr("skinoct_training.fit.draw_rehearsal", draw)
    data = make_data(count=2)
    learned = make_data("phantoms", count=2)
    for folder in list(learned.iterdir()):
        folder.rename(learned / f"phantom-{folder.name}")
    settings = json.loads(tiny_config.read_text())
    Path("own.json").write_text(json.dumps({**settings, "decode": {"dej_step_price": 17, "enlarge_unknown": True}}))
    words = ["fit", str(data), "--epochs", "1", "--threads", "1", "--config"]
    assert main([words[0], str(learned), *words[2:], "own.json", "--out", "start"]) == 0
    assert not drawn
    assert main([*words, str(tiny_config), "--from", "start", "--out", "tuned"]) == 0
    card = load_checkpoint("tuned").card
    assert card.decode == load_checkpoint("start").card.decode
    assert drawn == [(0, card.pixel_size_um)]
    Path("none.json").write_text(json.dumps({**settings, "rehearsal": 0}))
    assert main([*words, "none.json", "--from", "start", "--out", "apart"]) == 0
    assert len(drawn) == 1
    assert main([*words, str(tiny_config), "--from", "tuned", "--out", "again"]) == 0
    assert len(drawn) == 2, "what a start rehearsed it knows"
    assert main([*words, str(tiny_config), "--out", "nothing"]) == 0
    assert main([*words, str(tiny_config), "--from", "nothing", "--out", "other"]) == 0
    assert len(drawn) == 2, "nothing to rehearse for a network that never saw a phantom"
