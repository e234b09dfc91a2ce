"""Every engine gives the answer of PyTorch in float32, within what its precision was allowed to cost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from skinoct.checkpoint import Architecture, Card, Checkpoint
from skinoct.checkpoint_write import save_checkpoint
from skinoct.engines import make_engine, why
from skinoct.engines.fold import fold_into
from skinoct.engines.openvino_engine import OpenVinoEngine
from skinoct.engines.openvino_graph import nearest_bfloat16
from skinoct.engines.processor import has_bfloat16, instruction_set
from skinoct.errors import CheckpointError, OptionError
from skinoct.golden import SHAPE, golden_slice
from skinoct.predictor import Predictor
from skinoct.tomogram import Tomogram
from skinoct.unet import UNet, UNetConfig, fold, pad_to_multiple

CONFIG = UNetConfig(in_slices=3, stem=(2, 2), widths=(4, 6, 8))


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    torch.manual_seed(3)
    card = Card(
        name="tiny",
        created="2026-01-01T00:00:00+00:00",
        architecture=Architecture(config=CONFIG.model_dump()),
        pixel_size_um=0.9,
        band_thickness_um=5.0,
    )
    return Checkpoint(card, UNet(CONFIG).state_dict())


@pytest.mark.parametrize("size", [(16, 16), (1, 1), (30, 45), (64, 8), (33, 17)])
def test_openvino_agrees_with_torch(checkpoint: Checkpoint, size: tuple[int, int]) -> None:
    images = np.random.default_rng(0).random((3, 3, *size), np.float32)
    torch_engine, openvino = make_engine(checkpoint, "torch"), make_engine(checkpoint, "openvino", threads=1)
    expected = torch_engine.probabilities(images)
    answer = openvino.probabilities(images)
    assert answer.shape == expected.shape == (3, 5, *size)
    np.testing.assert_allclose(answer.sum(axis=1), 1, atol=0.02)
    np.testing.assert_allclose(answer, expected, atol=1e-4 if openvino.name.endswith("f32") else 0.02)


def test_one_engine_takes_images_of_changing_shape(checkpoint: Checkpoint) -> None:
    engine = OpenVinoEngine(checkpoint)
    rng = np.random.default_rng(0)
    first = rng.random((2, 3, 20, 20), np.float32)
    before = engine.probabilities(first)
    engine.probabilities(rng.random((1, 3, 40, 12), np.float32))
    np.testing.assert_array_equal(engine.probabilities(first), before)


@pytest.mark.parametrize(("shift", "precision"), [(0.0, "mixed"), (0.001, "mixed"), (0.1, "f32")])
def test_a_low_precision_that_moves_the_dej_is_not_used(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, shift: float, precision: str
) -> None:
    engine = OpenVinoEngine(checkpoint)
    exact = engine.probabilities(golden_slice(3))
    shifted = exact + np.float32(shift / SHAPE[0]) * np.array([1, 0, 0, 0, -1], np.float32)[:, None, None]
    monkeypatch.setattr(engine, "_core", _ClaimsBfloat16(engine._core))
    monkeypatch.setattr(engine, "_runner", lambda shape, precision: lambda images: shifted)
    assert engine._choose_precision(checkpoint) == precision


def test_a_low_decoder_rounds_and_no_more(checkpoint: Checkpoint) -> None:
    """bfloat16 is worth having only if all that differs is rounding: no answer is off on the average."""
    engine = OpenVinoEngine(checkpoint, threads=1)
    images = np.random.default_rng(0).random((4, 3, 64, 80), np.float32)
    exact, low = (engine._runner((64, 80), precision)(images) for precision in ("f32", "mixed"))
    assert 0 < np.abs(low - exact).mean() < 1e-3
    assert np.abs((low - exact).mean(axis=(0, 2, 3))).max() < 2e-4


def test_bfloat16_is_the_nearest() -> None:
    values = np.random.default_rng(0).normal(size=10_000).astype(np.float32)
    values[:4] = 0, -0.0, 1 + 2**-8, 1 + 3 * 2**-8  # halfway between two neighbors: to the even one
    np.testing.assert_array_equal(nearest_bfloat16(values), torch.from_numpy(values).to(torch.bfloat16).float().numpy())


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("size", [(16, 16), (1, 1), (5, 13), (17, 3)])
def test_folding_is_that_of_the_network(channels: int, size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).random((channels, *size), np.float32)
    padded = pad_to_multiple(torch.from_numpy(image)[None], (4, 8))
    expected = fold(padded, (2, 4))[0].permute(1, 2, 0).numpy()
    folded = np.full(expected.shape, np.nan, np.float32)
    fold_into(folded, image, (2, 4))
    np.testing.assert_array_equal(folded, expected)


@pytest.mark.parametrize("name", ["torch", "openvino"])
def test_bits_do_not_depend_on_the_batch(checkpoint: Checkpoint, name: str) -> None:
    """Slices of several tomograms can share a batch only if that changes nothing at all."""
    engine = make_engine(checkpoint, name, threads=1)
    images = np.random.default_rng(0).random((7, 3, 33, 40), np.float32)
    alone = np.concatenate([engine.probabilities(image[None]) for image in images])
    for size in (2, 3, 7):
        np.testing.assert_array_equal(engine.probabilities(images[-size:]), alone[-size:])


@pytest.mark.parametrize("config", [CONFIG, UNetConfig(in_slices=1, stem=(1, 4), widths=(4, 6), filters=3)])
def test_the_graph_is_the_network(config: UNetConfig) -> None:
    torch.manual_seed(4)
    network = UNet(config)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # moments of fresh networks are 0 and 1
            torch.nn.init.uniform_(module.running_mean, -0.5, 0.5)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
    card = Card(
        name="moments",
        created="2026-01-01T00:00:00+00:00",
        architecture=Architecture(config=config.model_dump()),
        pixel_size_um=0.9,
        band_thickness_um=5.0,
    )
    made = Checkpoint(card, network.state_dict())
    images = np.random.default_rng(0).random((2, config.in_slices, 40, 50), np.float32)
    openvino = make_engine(made, "openvino", threads=1)
    expected = make_engine(made, "torch").probabilities(images)
    np.testing.assert_allclose(
        openvino.probabilities(images), expected, atol=1e-4 if openvino.name.endswith("f32") else 0.02
    )


def test_openvino_runs_a_stored_checkpoint_without_pytorch(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """Loading PyTorch takes longer than all else of a start."""
    save_checkpoint(tmp_path / "tiny", checkpoint.card, checkpoint.weights)
    script = (
        "import sys\n"
        "import numpy as np\n"
        "from skinoct.checkpoint import load_checkpoint\n"
        "from skinoct.engines import make_engine\n"
        "from skinoct.predictor import Predictor\n"
        "from skinoct.tomogram import Tomogram\n"
        "checkpoint = load_checkpoint(sys.argv[1])\n"
        "predictor = Predictor(checkpoint, engine=make_engine(checkpoint, 'openvino', threads=1))\n"
        "predictor.segment(Tomogram(np.zeros((1, 16, 16), np.uint8), 't'))\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "tiny")], check=True)


class _ClaimsBfloat16:
    def __init__(self, core: object) -> None:
        self.core = core

    def get_property(self, _device: str, _name: str) -> list[str]:
        return ["FP32", "BF16"]


def test_labels_do_not_depend_on_the_engine(checkpoint: Checkpoint) -> None:
    voxels = np.random.default_rng(0).integers(0, 255, (3, 33, 40)).astype(np.uint8)
    answers = [
        Predictor(checkpoint, engine=make_engine(checkpoint, name)).segment(Tomogram(voxels, "t")).labels()
        for name in ("torch", "openvino")
    ]
    assert (answers[0] == answers[1]).mean() > 0.999


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("sse2 avx2 avx512f avx512_bf16 amx_bf16", "AMX with bfloat16"),
        ("sse2 avx2 avx512f avx512_bf16", "AVX-512 with bfloat16"),
        ("sse2 avx2 avx512f", "AVX-512 without bfloat16"),
        ("sse2 avx2", "AVX2"),
        ("sse2 sse4_2", "no AVX2, so that segmenting is slow; use a newer processor"),
    ],
)
def test_the_instruction_set_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, words: str) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
    monkeypatch.setattr("skinoct.engines.processor.CPUINFO", info)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert instruction_set().startswith(words)
    assert has_bfloat16() == ("bf16" in flags)


def test_an_engine_says_why_it_computes_as_it_does(checkpoint: Checkpoint) -> None:
    for name in ("torch", "openvino"):
        engine = make_engine(checkpoint, name, threads=1)
        reason = why(engine)
        assert instruction_set() in reason or "golden slice" in reason
        if name == "openvino":
            words = {"f32": "float32", "mixed": "with the decoder", "bf16": "in bfloat16"}
            assert reason.startswith(words[engine.name.rsplit("-", 1)[1]])


def test_a_missing_package_is_said(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(OptionError, match=r"skinoct\[openvino\]"):
        OpenVinoEngine(checkpoint)


def test_wrong_weights_are_refused_by_every_engine(checkpoint: Checkpoint) -> None:
    odd = Checkpoint(checkpoint.card, {"w": torch.zeros(1)})
    for name in ("torch", "openvino"):
        with pytest.raises(CheckpointError, match="do not fit"):
            make_engine(odd, name)
