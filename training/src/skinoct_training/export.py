"""Checkpoints for other programs: an ONNX file, or a bioimage.io model package around one.

The exported graph takes slices whose two percentiles were scaled to 0 and 1; clipping, root and softmax are
inside, so that a program that knows nothing of skinoct gets class probabilities. Rows and columns must be
multiples of what the network halves them by (``UNet.multiple``). Ordered decoding is not part of it.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from skinoct.checkpoint import Card, Checkpoint
from skinoct.checkpoint_write import describe
from skinoct.engines.torch_engine import build_network
from skinoct.errors import CheckpointError, OptionError
from skinoct.labels import CLASSES, without_accents
from skinoct_training.files import complete_or_absent

if TYPE_CHECKING:
    from bioimageio.spec.model import v0_5

LONGEST_NAME = 64
"""Letters of a name on bioimage.io."""
EXTRA = "Install what exporting needs: pip install 'skinoct-training[export]'."


class ExportedNetwork(nn.Module):
    """Network with the end of the normalization before it and softmax behind it."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.network = build_network(checkpoint)
        self.power = checkpoint.card.intensity.power

    def forward(self, scaled: Tensor) -> Tensor:
        """Turn scaled slices (B, in_slices, H, W) into class probabilities (B, 5, H, W)."""
        logits: Tensor = self.network(scaled.clamp(0, 1) ** self.power)
        return logits.softmax(dim=1)


def example_input(network: ExportedNetwork, seed: int = 0) -> Tensor:
    """Return a small valid input that looks a little like skin: dark over bright over gray, with speckle."""
    rows, columns = (4 * m for m in network.network.multiple)
    generator = torch.Generator().manual_seed(seed)
    layers = torch.tensor([0.05, 0.8, 0.4]).repeat_interleave(-(-rows // 3))[:rows, None]
    speckle = 1 + 0.3 * torch.randn((1, network.network.config.in_slices, rows, columns), generator=generator)
    return (layers * speckle).float()


def export_onnx(checkpoint: Checkpoint, path: Path) -> Path:
    """Write an ONNX file with free batch, rows and columns, and check it against PyTorch.

    Raises
    ------
    OptionError
        When the file exists, or the packages are missing.
    CheckpointError
        When ONNX Runtime answers otherwise than PyTorch.
    """
    if path.exists():
        raise OptionError(f"{path} exists already and is never overwritten; choose another name.")
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError:
        raise OptionError(EXTRA) from None
    network = ExportedNetwork(checkpoint).eval()
    image = example_input(network)
    rows, columns = network.network.multiple
    free = {0: torch.export.Dim("batch"), 2: rows * torch.export.Dim("h"), 3: columns * torch.export.Dim("w")}
    quiet = contextlib.redirect_stdout(io.StringIO())
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns of packages that nothing here needs
    with complete_or_absent(path) as partial, warnings.catch_warnings(), quiet, torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.cat([image, image]),),
            str(partial),
            input_names=["slices"],
            output_names=["probabilities"],
            dynamic_shapes=(free,),
            dynamo=True,
            external_data=False,
        )
        session = onnxruntime.InferenceSession(str(partial), providers=["CPUExecutionProvider"])
        answer = np.asarray(session.run(None, {"slices": image.numpy()})[0])
        difference = float(np.abs(answer - network(image).numpy()).max())
        if difference > 1e-3:
            raise CheckpointError(
                f"The exported network differs from the checkpoint by {difference:.2g}; nothing was kept."
            )
    return path


def export_bioimageio(checkpoint: Checkpoint, path: Path) -> Path:
    """Write a bioimage.io package (zip) and run bioimageio.core's own model test on it.

    Raises
    ------
    OptionError
        When the file exists, or the packages are missing.
    CheckpointError
        When the package fails its test.
    """
    if path.exists():
        raise OptionError(f"{path} exists already and is never overwritten; choose another name.")
    try:
        import bioimageio.core
    except ImportError:
        raise OptionError(EXTRA) from None
    with tempfile.TemporaryDirectory(prefix="skinoct-export-") as work, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = describe_model(checkpoint, Path(work))
        summary = bioimageio.core.test_model(model)
        if summary.status == "failed":
            raise CheckpointError(f"The package fails its test: {summary.format()}")
        with complete_or_absent(path) as partial:
            bioimageio.core.save_bioimageio_package(model, output_path=partial)
    return path


def describe_model(checkpoint: Checkpoint, work: Path) -> v0_5.ModelDescr:
    """Describe a checkpoint as a bioimage.io model; its files are written to ``work``."""
    from bioimageio.spec.model import v0_5

    card = checkpoint.card
    network = ExportedNetwork(checkpoint).eval()
    image = example_input(network)
    onnx_file = export_onnx(checkpoint, work / "weights.onnx")
    np.save(work / "test_input.npy", image.numpy())
    scaled = scale(image.numpy(), card)
    with torch.no_grad():
        np.save(work / "test_output.npy", network(torch.from_numpy(scaled)).numpy())
    (work / "README.md").write_text(describe(card), encoding="utf-8")
    author = v0_5.Author(name="skinoct")
    weights = v0_5.OnnxWeightsDescr(source=onnx_file, opset_version=opset(onnx_file))
    return v0_5.ModelDescr(
        name=model_name(card),
        description=card.description or "Layers of skin in full-field OCT tomograms",
        authors=[author],
        cite=[v0_5.CiteEntry(text="skinoct", url=v0_5.HttpUrl("https://bioimage.io"))],
        license=v0_5.LicenseId("BSD-3-Clause"),
        documentation=v0_5.FileDescr(source=work / "README.md"),
        tags=["skin", "oct", "segmentation", "unet", "2d"],
        inputs=[input_tensor(work / "test_input.npy", network, card)],
        outputs=[output_tensor(work / "test_output.npy", card)],
        weights=v0_5.WeightsDescr(onnx=weights),
    )


def model_name(card: Card) -> str:
    """Return a checkpoint's name in the letters that bioimage.io allows, and no longer than it wants names to be."""
    plain = without_accents(f"skinoct {card.name}".replace("ß", "ss"))
    return re.sub(r"[^A-Za-z0-9_+() -]+", "-", plain)[:LONGEST_NAME]


def scale(image: np.ndarray[Any, np.dtype[np.float32]], card: Card) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Scale percentiles to 0 and 1 as bioimage.io's ``scale_range`` does."""
    config = card.intensity
    low, high = np.percentile(image, [config.low_percentile, config.high_percentile])
    return np.asarray((image - low) / (high - low + 1e-6), np.float32)


def opset(path: Path) -> int:
    """Return the opset of an ONNX file."""
    import onnx

    return int(onnx.load(str(path)).opset_import[0].version)


def space(card: Card) -> dict[str, Any]:
    """Return scale and unit of a space axis."""
    return {"scale": card.pixel_size_um, "unit": "micrometer"}


def input_tensor(sample: Path, network: ExportedNetwork, card: Card) -> v0_5.InputTensorDescr:
    """Describe the input: neighboring slices as channels."""
    from bioimageio.spec.model import v0_5

    rows, columns = network.network.multiple
    middle = network.network.config.in_slices // 2
    count = network.network.config.in_slices
    names = [f"slice_{'minus' if z < middle else 'plus'}_{abs(z - middle)}" for z in range(count)]
    intensity = card.intensity
    percentiles = v0_5.ScaleRangeKwargs(
        axes=[v0_5.AxisId(a) for a in ("channel", "y", "x")],
        min_percentile=intensity.low_percentile,
        max_percentile=intensity.high_percentile,
    )
    return v0_5.InputTensorDescr(
        id=v0_5.TensorId("slices"),
        description="A B-scan and its neighbors.",
        axes=[
            v0_5.BatchAxis(),
            v0_5.ChannelAxis(channel_names=names),
            v0_5.SpaceInputAxis(id=v0_5.AxisId("y"), size=v0_5.ParameterizedSize(min=rows, step=rows), **space(card)),
            v0_5.SpaceInputAxis(
                id=v0_5.AxisId("x"), size=v0_5.ParameterizedSize(min=columns, step=columns), **space(card)
            ),
        ],
        data=v0_5.IntervalOrRatioDataDescr(type="float32"),
        test_tensor=v0_5.FileDescr(source=sample),
        preprocessing=[v0_5.ScaleRangeDescr(kwargs=percentiles)],
    )


def output_tensor(sample: Path, card: Card) -> v0_5.OutputTensorDescr:
    """Describe the output: probabilities of the classes."""
    from bioimageio.spec.model import v0_5

    def same(axis: str) -> v0_5.SizeReference:
        return v0_5.SizeReference(tensor_id=v0_5.TensorId("slices"), axis_id=v0_5.AxisId(axis))

    return v0_5.OutputTensorDescr(
        id=v0_5.TensorId("probabilities"),
        description="Probabilities of the five classes, top to bottom.",
        axes=[
            v0_5.BatchAxis(),
            v0_5.ChannelAxis(channel_names=[c.name for c in CLASSES]),
            v0_5.SpaceOutputAxis(id=v0_5.AxisId("y"), size=same("y"), **space(card)),
            v0_5.SpaceOutputAxis(id=v0_5.AxisId("x"), size=same("x"), **space(card)),
        ],
        data=v0_5.IntervalOrRatioDataDescr(type="float32", range=(0.0, 1.0)),
        test_tensor=v0_5.FileDescr(source=sample),
    )
