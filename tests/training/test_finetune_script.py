"""The fine-tune benchmark measures another skin of the same look, and says what it did."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "e2e" / "finetune.py"


@pytest.mark.slow
def test_a_short_fine_tune_is_measured_before_and_after(tmp_path: Path) -> None:
    (tmp_path / "small.json").write_text(json.dumps({"crop": [64, 64], "epoch_images": 4, "batch": 2}))
    sizes = ["--slices", "2", "--held-out", "1", "--held-out-slices", "1"]
    words = ["--minutes", "0.02", *sizes, "--config", str(tmp_path / "small.json"), "--dry"]
    done = subprocess.run([sys.executable, str(SCRIPT), *words], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr  # seconds of training need not help
    assert "Traceback" not in done.stderr
    assert "Synthetic tomograms only" in done.stdout
    assert "| DEJ error, um" in done.stdout
    assert "not trained on" in done.stdout
    assert "| before | after, 2 slices side by side | after, 2 slices 10 apart |" in done.stdout
