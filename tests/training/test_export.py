"""Checkpoints for other programs give the checkpoint's own answer."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from skinoct.checkpoint import Architecture, Card, load_checkpoint
from skinoct.checkpoint_write import save_checkpoint
from skinoct.unet import UNet, UNetConfig
from skinoct_training.cli import main
from skinoct_training.export import ExportedNetwork, model_name

CONFIG = UNetConfig(in_slices=3, stem=(2, 2), widths=(4, 6))

# The exporter and bioimageio.core speak in deprecation warnings of their own.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    card = Card(
        name="tiny",
        created="2026-01-01T00:00:00+00:00",
        architecture=Architecture(config=CONFIG.model_dump()),
        pixel_size_um=0.9,
        band_thickness_um=5.0,
    )
    save_checkpoint(tmp_path / "tiny", card, UNet(CONFIG).state_dict())
    return tmp_path / "tiny"


def test_onnx_agrees_at_any_batch_and_size(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(checkpoint), "--format", "onnx"]) == 0
    assert "tiny.onnx" in capsys.readouterr().out
    session = onnxruntime.InferenceSession("tiny.onnx", providers=["CPUExecutionProvider"])
    network = ExportedNetwork(load_checkpoint(checkpoint)).eval()
    rng = np.random.default_rng(0)
    for shape in ((1, 3, 16, 32), (3, 3, 48, 20)):
        image = rng.random(shape, np.float32) * 1.4 - 0.2
        with torch.no_grad():
            expected = network(torch.from_numpy(image)).numpy()
        np.testing.assert_allclose(session.run(None, {"slices": image})[0], expected, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("phantom-v2", "skinoct phantom-v2"),
        ("Netz Müller, ß", "skinoct Netz Muller- ss"),
        ("net.v1/2", "skinoct net-v1-2"),
    ],
)
def test_a_name_is_one_that_bioimageio_allows(checkpoint: Path, name: str, allowed: str) -> None:
    card = load_checkpoint(checkpoint).card
    assert model_name(card.model_copy(update={"name": name})) == allowed
    assert len(model_name(card.model_copy(update={"name": 99 * name}))) <= 64


@pytest.mark.parametrize("name", ["tiny", "default"])
def test_the_bioimageio_package_passes_its_own_test(checkpoint: Path, name: str) -> None:
    """Of a tiny network and of the shipped one."""
    import bioimageio.core

    package = Path("package.zip")
    source = str(checkpoint) if name == "tiny" else name
    assert main(["export", source, "--format", "bioimageio", "--out", str(package)]) == 0
    names = zipfile.ZipFile(package).namelist()
    assert any(name.endswith(".onnx") for name in names)
    summary = bioimageio.core.test_model(package)
    assert summary.status != "failed"


def test_nothing_is_overwritten(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.onnx").write_text("x")
    assert main(["export", str(checkpoint), "--format", "onnx", "--out", "mine.onnx"]) == 1
    assert "never overwritten" in capsys.readouterr().err
