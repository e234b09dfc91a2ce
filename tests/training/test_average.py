"""The mean of a network before and after further training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from skinoct.checkpoint import Architecture, Card, Checkpoint, load_checkpoint
from skinoct.checkpoint_write import save_checkpoint
from skinoct.errors import CheckpointError
from skinoct.unet import UNet, UNetConfig
from skinoct_training.average import average
from skinoct_training.cli import main

CONFIG = UNetConfig(in_slices=1, stem=(2, 2), widths=(4, 6))


def saved(folder: Path, seed: int, start: Checkpoint | None = None, config: UNetConfig = CONFIG) -> Checkpoint:
    torch.manual_seed(seed)
    card = Card(
        name=folder.name,
        created="2026-01-01T00:00:00+00:00",
        architecture=Architecture(config=config.model_dump()),
        pixel_size_um=0.9,
        band_thickness_um=5.0,
        weights_sha256="0" * 64,
        recipe={"start": {"weights_sha256": start.card.weights_sha256}} if start else {},
        metrics={"held_out_dej": {"score_um": 1.0}},
    )
    return save_checkpoint(folder, card, UNet(config).state_dict())


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_mean_lies_between_both(tmp_path: Path, share: float) -> None:
    start = saved(tmp_path / "start", 1)
    trained = saved(tmp_path / "trained", 2, start)
    mean = average(start, trained, share)
    for name, weight in mean.weights.items():
        if weight.is_floating_point():
            expected = (1 - share) * start.weights[name] + share * trained.weights[name]
            torch.testing.assert_close(weight, expected)
    assert mean.card.recipe["average"] == {"weights_sha256": trained.card.weights_sha256, "share": share}
    assert not mean.card.metrics, "they are of other weights"


def test_the_command_writes_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved(tmp_path / "trained", 2, saved(tmp_path / "start", 1))
    words = ["average", str(tmp_path / "start"), str(tmp_path / "trained"), "--out", str(tmp_path / "mean")]
    assert main(words) == 0
    assert "skinoct-train evaluate" in capsys.readouterr().out
    mean, start = load_checkpoint(tmp_path / "mean"), load_checkpoint(tmp_path / "start")
    assert mean.card.weights_sha256 != start.card.weights_sha256
    assert main(words) == 1, "nothing is overwritten"
    assert main([*words[:-1], str(tmp_path / "other"), "--share", "2"]) == 1
    assert "from 0 to 1" in capsys.readouterr().err


def test_networks_without_a_common_past_are_refused(tmp_path: Path) -> None:
    start = saved(tmp_path / "start", 1)
    with pytest.raises(CheckpointError, match="was not trained from start"):
        average(start, saved(tmp_path / "stranger", 2), 0.5)
    wider = saved(tmp_path / "wider", 3, start, UNetConfig(in_slices=1, stem=(2, 2), widths=(4, 8)))
    with pytest.raises(CheckpointError, match="different shapes"):
        average(start, wider, 0.5)
