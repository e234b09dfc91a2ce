"""Settings of decoding, chosen on tomograms that were kept for it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from skinoct.checkpoint import load_checkpoint
from skinoct.engines import make_engine
from skinoct_training.cli import main
from skinoct_training.dataset import LabelOptions, find_cases
from skinoct_training.tune import SLICES, gather

from .conftest import MakeData, skin, write_stack


def test_a_sparse_annotation_is_heard_as_far_as_it_goes(trained: Path, tmp_path: Path) -> None:
    """Every tenth slice, as the guide says is enough: all that are looked at count, not one or two that lie near."""
    image, labels = skin(30, (70, 48, 64))
    labels[[z for z in range(70) if z % 10]] = 0
    write_stack(tmp_path / "sparse" / "t0" / "tomogram.tif", image)
    write_stack(tmp_path / "sparse" / "t0" / "labels.tif", labels)
    checkpoint = load_checkpoint(trained / "net")
    cases = find_cases(tmp_path / "sparse")
    (found,) = gather(checkpoint, make_engine(checkpoint, threads=1), cases, LabelOptions())
    annotated = [int(z) for item in found for z in item.labels.any(axis=(1, 2)).nonzero()[0]]
    assert len(annotated) == min(SLICES, 7)
    assert all(item.probabilities.shape[0] == item.labels.shape[0] for item in found)


def test_tuning_never_makes_decoding_worse(
    trained: Path, make_data: MakeData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "net"
    shutil.copytree(trained / "net", own)
    data = make_data("tuning", 2, first_seed=20)
    assert main(["tune", str(own), str(data), "--write", "--threads", "1"]) == 0
    said = capsys.readouterr().out
    errors = [float(line.rsplit(" ", 2)[1]) for line in said.splitlines() if line.endswith(" um")]
    assert len(errors) > 15
    before, after = load_checkpoint(trained / "net"), load_checkpoint(own)
    assert after.card.weights_sha256 == before.card.weights_sha256
    start = errors[0]
    apart = {line.split(":")[0]: float(line.rsplit(" ", 1)[1]) for line in said.splitlines() if "confidence" in line}
    chosen = after.card.decode.temperature
    assert apart[f"temperature = {chosen:g}"] == min(apart.values())
    assert main(["tune", str(own), str(data), "--threads", "1"]) == 0
    assert float(capsys.readouterr().out.splitlines()[0].rsplit(" ", 2)[1]) <= start
