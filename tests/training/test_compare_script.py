"""Checkpoints beside each other: the same crops for all, one line each."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from skinoct_training.cli import main

from .conftest import MakeData

SCRIPT = Path(__file__).parents[1] / "e2e" / "compare.py"


def test_the_same_weights_get_the_same_figures_and_better_ones_better(
    trained: Path,
    make_data: MakeData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["fit", str(trained / "data"), "--out", "early", "--epochs", "1", "--config", str(trained / "tiny.json")]
    assert main([*words, "--threads", "1"]) == 0
    capsys.readouterr()
    net, data = str(trained / "net"), make_data("unseen", 2, first_seed=10)
    runpy.run_path(str(SCRIPT))["main"]([net, "./early", net, "--data", str(data)])
    lines = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines()[2:]]
    assert len(lines) == 3
    assert lines[0] == lines[2]
    for column in (2, 3):
        assert float(lines[0][column]) < float(lines[1][column])
