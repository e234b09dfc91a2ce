"""The demo through the shipped checkpoint: files, figures, and a server that is gone afterwards."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest

from skinoct.checkpoint import default_checkpoint
from skinoct.rois import rasterize, read_roi_set
from skinoct.tomogram import read_tomogram

DEMO = Path(__file__).parent / "demo.py"
SLICES = 8


def demo(out: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(DEMO), "--out", str(out), "--slices", str(SLICES)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=500, env={**os.environ, **environment}, check=False
    )


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Folder of the results, and what was printed."""
    out = tmp_path_factory.mktemp("run") / "demo"
    result = demo(out)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return out, result.stdout


def test_the_answer_is_close_to_the_truth_and_said_to_be_synthetic(done: tuple[Path, str]) -> None:
    out, said = done
    report = json.loads((out / "report.json").read_text())
    assert report["synthetic"] is True
    assert report["model"]["name"] == default_checkpoint()
    assert report["tomogram"]["shape"] == [SLICES, 224, 512]
    assert report["seconds"] > 0
    assert report["dej_error_um"] <= 10, "far from what the card promises: was the right checkpoint used?"
    assert set(report["dice"]) == {"glass", "glycerol", "epidermis", "dej", "dermis"}
    assert report["dice"]["epidermis"] > 0.8
    assert f"{report['dej_error_um']:.2f} um" in said
    assert "Synthetic" in said


def test_the_files_hold_the_same_layers(done: tuple[Path, str]) -> None:
    out, _ = done
    tomogram, labels = (read_tomogram(out / name) for name in ("tomogram.tif", "labels.tif"))
    stack = np.asarray(labels.voxels[:])
    assert tomogram.shape == labels.shape == (SLICES, 224, 512)
    assert tomogram.pixel_size_um == labels.pixel_size_um
    assert np.array_equal(rasterize(read_roi_set(out / "RoiSet.zip"), stack.shape), stack)
    assert (out / "overlay.png").read_bytes().startswith(b"\x89PNG")


def test_the_server_is_gone(done: tuple[Path, str]) -> None:
    match = re.search(r"(http://\S+)/segment", done[1])
    assert match is not None
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{match[1]}/healthz", trust_env=False)


def test_what_somebody_changed_is_not_replaced(done: tuple[Path, str]) -> None:
    out, _ = done
    mine = out / "RoiSet.zip"
    before = mine.read_bytes()
    mine.write_bytes(before + b"mine")
    result = demo(out)
    mine_now = mine.read_bytes()
    mine.write_bytes(before)
    assert result.returncode == 1
    assert mine_now == before + b"mine"
    assert result.stderr.count("\n") == 1
    assert "RoiSet.zip" in result.stderr


def test_without_a_checkpoint_one_sentence_says_so(tmp_path: Path) -> None:
    result = demo(tmp_path / "demo", SKINOCT_MODELS=str(tmp_path))
    assert result.returncode == 1
    assert "no checkpoint" in result.stderr or "no model" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "demo").exists()
