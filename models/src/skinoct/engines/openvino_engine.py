"""OpenVINO: about twice as fast as PyTorch on a CPU; needs the extra ``skinoct[openvino]``.

Precision is earned: on a processor with bfloat16 units the network runs in bfloat16 only if its
answer for the golden slice (``skinoct.golden``) puts the DEJ where PyTorch in float32 does, else it runs in
float32. The slice is always the same one, so that the same tomogram gets the same labels in every process.
"""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from skinoct.checkpoint import Checkpoint
from skinoct.engines import FloatArray
from skinoct.engines.torch_engine import build_network, expected_golden
from skinoct.errors import OptionError, OutOfMemoryError
from skinoct.golden import MAX_DEJ_UM, SHAPE, dej_difference_um, golden_slice, layer_tops
from skinoct.unet import UNet

Precision = Literal["f32", "bf16"]
Run = Callable[[FloatArray], FloatArray]


class _WithSoftmax(nn.Module):
    """The network as it is converted: probabilities instead of logits."""

    def __init__(self, network: UNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        probabilities: Tensor = self.network(x).softmax(dim=1)
        return probabilities


class OpenVinoEngine:
    """Runs a checkpoint with OpenVINO on the CPU.

    Raises
    ------
    OptionError
        When OpenVINO is not installed.
    CheckpointError
        When the weights do not fit the architecture of the card.
    """

    def __init__(self, checkpoint: Checkpoint, *, threads: int | None = None) -> None:
        # OpenVINO reports its use over the network, from processes that outlive this one, unless the package
        # for that is missing. Nothing about a hospital's computers leaves them.
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        try:
            import openvino
        except ImportError:
            raise OptionError(
                "The engine openvino is not installed; run pip install 'skinoct[openvino]' or choose torch."
            ) from None
        self._core = openvino.Core()
        self._network = _WithSoftmax(build_network(checkpoint)).eval()
        self._multiple = self._network.network.multiple
        self._channels = self._network.network.config.in_slices
        self._model = self._convert(openvino)
        self._threads = threads
        self._lock = threading.Lock()
        self._compiled: dict[tuple[int, ...], Run] = {}
        self._precision: Precision = self._choose_precision(checkpoint)

    @property
    def name(self) -> str:
        """``openvino-f32`` or ``openvino-bf16``."""
        return f"openvino-{self._precision}"

    @property
    def preferred_batch(self) -> int:
        """Small, because caches count."""
        return 4

    def probabilities(self, images: FloatArray) -> FloatArray:
        """Run the network; see ``Engine.probabilities``."""
        height, width = images.shape[2:]
        padded = self._pad(images)
        with self._lock:
            try:
                answer = self._runner(padded.shape[1:], self._precision)(padded)
            except MemoryError:
                raise OutOfMemoryError(
                    f"A batch of {len(images)} images of {height} x {width} pixels does not fit into "
                    "memory; use "
                    "smaller images or a machine with more memory."
                ) from None
        return np.ascontiguousarray(answer[:, :, :height, :width])

    def _pad(self, images: FloatArray) -> FloatArray:
        """Repeat the last row and column as the network itself would; its graph is traced without padding."""
        bottom, right = (-n % m for n, m in zip(images.shape[2:], self._multiple, strict=True))
        if not bottom and not right:
            return np.ascontiguousarray(images)
        return np.pad(images, ((0, 0), (0, 0), (0, bottom), (0, right)), mode="edge")

    def _convert(self, openvino: Any) -> Any:
        rows, columns = self._multiple
        example = torch.zeros(1, self._channels, 2 * rows, 2 * columns)
        with warnings.catch_warnings(), torch.no_grad():
            # Tracing warns that padding is fixed; what reaches the graph is padded already.
            warnings.simplefilter("ignore")
            # Traced here, because OpenVINO would trace three times to be sure.
            traced = torch.jit.trace(self._network, example, check_trace=False)  # type: ignore[no-untyped-call]
            return openvino.convert_model(traced, example_input=example)

    def _runner(self, shape: tuple[int, ...], precision: Precision) -> Run:
        """Compile for images of one shape (C, H, W) and any batch; kept, because it takes a while."""
        key = (*shape, 16 if precision == "bf16" else 32)
        if key not in self._compiled:
            settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
            if self._threads is not None:
                settings["INFERENCE_NUM_THREADS"] = self._threads
            self._model.reshape([-1, *shape])
            compiled = self._core.compile_model(self._model, "CPU", settings)
            self._compiled[key] = lambda images: np.array(compiled(images)[0], np.float32)
        return self._compiled[key]

    def _choose_precision(self, checkpoint: Checkpoint) -> Precision:
        if "BF16" not in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            return "f32"
        padded = self._pad(golden_slice(self._channels))
        answer = self._runner(padded.shape[1:], "bf16")(padded)[:, :, : SHAPE[0], : SHAPE[1]]
        moved = dej_difference_um(layer_tops(answer), expected_golden(checkpoint), checkpoint.card.pixel_size_um)
        return "bf16" if moved <= MAX_DEJ_UM else "f32"
