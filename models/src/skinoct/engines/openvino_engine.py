"""OpenVINO: about twice as fast as PyTorch on a CPU; needs the extra ``skinoct[openvino]``.

Precision is earned: on a processor with bfloat16 units the decoder, two thirds of the arithmetic, runs in bfloat16 if
the network's answer for the golden slice (``skinoct.golden``) then puts the DEJ where PyTorch in float32 does. What is
rounded in the encoder moves the DEJ most, so it stays in float32.
The slice is always the same one, so that the same tomogram gets the same labels in every process.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np

from skinoct.checkpoint import Checkpoint
from skinoct.engines import LARGE_PIXELS, FloatArray, expected_golden, misfit, network_config
from skinoct.engines.fold import fold_into
from skinoct.engines.processor import instruction_set
from skinoct.errors import OptionError, OutOfMemoryError
from skinoct.golden import MAX_DEJ_UM, SHAPE, dej_difference_um, golden_slice, layer_tops
from skinoct.labels import NUM_CLASSES
from skinoct.weights import as_arrays

Precision = Literal["f32", "mixed", "bf16"]
"""All float32, the decoder in bfloat16, all in bfloat16. The last is only there to be measured: where it passes on one
slice, it still moves almost half of all tomograms further than is allowed (docs/precision.md)."""
Run = Callable[[FloatArray], FloatArray]

WORDS = {"f32": "float32", "mixed": "with the decoder in bfloat16", "bf16": "in bfloat16"}
MOST_STREAMS = 4
"""Images computed side by side. Each has its cores for itself: threads that share an image wait for each other after
every layer, and all wait for the one whose core a decoder is using meanwhile."""


class OpenVinoEngine:
    """Runs a checkpoint with OpenVINO on the CPU.

    Parameters
    ----------
    checkpoint : Checkpoint
    threads : int, optional
        CPU threads; all when None.
    precision : {"f32", "mixed", "bf16"}, optional
        To measure one; the fastest that the golden slice allows when None.

    Raises
    ------
    OptionError
        When OpenVINO is not installed.
    CheckpointError
        When the weights do not fit the architecture of the card.
    """

    def __init__(
        self, checkpoint: Checkpoint, *, threads: int | None = None, precision: Precision | None = None
    ) -> None:
        # OpenVINO reports its use over the network, from processes that outlive this one, unless the package
        # for that is missing. Nothing about a hospital's computers leaves them.
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        try:
            import openvino
        except ImportError:
            raise OptionError(
                "The engine openvino is not installed; run pip install 'skinoct[openvino]' or choose torch."
            ) from None
        self._openvino: Any = openvino
        self._core = openvino.Core()
        self._config = network_config(checkpoint)
        self._weights = as_arrays(checkpoint.weights)
        self._threads = threads
        self._streams = min(MOST_STREAMS, threads or os.cpu_count() or 1)
        self._workers = ThreadPoolExecutor(self._streams, "openvino")
        self._lock = threading.Lock()
        self._compiled: dict[tuple[int | str, ...], Run] = {}
        try:
            self._graph(self._config.multiple, "f32")
        except ValueError as error:
            raise misfit(checkpoint, error) from None
        self._moved: float | None = None
        self._precision: Precision = precision or self._choose_precision(checkpoint)

    @property
    def name(self) -> str:
        """``openvino-f32``, or ``openvino-mixed`` with the decoder in bfloat16; ``openvino-bf16`` to measure it."""
        return f"openvino-{self._precision}"

    @property
    def why(self) -> str:
        """Why it computes in this precision, for ``skinoct-server doctor``."""
        if self._moved is None and self._precision != "f32":
            return f"{WORDS[self._precision]}, as asked"
        if self._moved is None:
            return f"float32, because the processor has no bfloat16 ({instruction_set()})"
        return (
            f"{WORDS[self._precision]}, because the DEJ of the golden slice moves by {self._moved:.2g} um "
            f"{WORDS['mixed']}, and {MAX_DEJ_UM:g} um are allowed ({instruction_set()})"
        )

    @property
    def preferred_batch(self) -> int:
        """Few, because answers need memory; with the next call there are always more images than streams."""
        return max(1, 3 * self._streams // 2)

    @property
    def calls_at_once(self) -> int:
        """Two: while the last images of one call are computed, streams that are done begin with the next."""
        return 2

    def probabilities(self, images: FloatArray) -> FloatArray:
        """Run the network; see ``Engine.probabilities``."""
        height, width = images.shape[2:]
        with self._lock:
            run = self._runner(self._padded_size(height, width), self._precision)
        try:
            answer = run(images)
        except MemoryError:
            raise OutOfMemoryError(
                f"A batch of {len(images)} images of {height} x {width} pixels does not fit into memory; use smaller "
                "images or a machine with more memory."
            ) from None
        return np.ascontiguousarray(answer[:, :, :height, :width])

    def _padded_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the next multiples of what the network halves; its graph has no padding."""
        rows, columns = self._config.multiple
        return height + -height % rows, width + -width % columns

    def _graph(self, size: tuple[int, ...], precision: Precision) -> Any:
        from skinoct.engines.openvino_graph import build_graph

        return build_graph(self._config, self._weights, (size[0], size[1]), low_decoder=precision == "mixed")

    def _runner(self, size: tuple[int, ...], precision: Precision) -> Run:
        """Compile for images of one size (H, W); kept, because it takes a while."""
        key = (*size, precision)
        if key not in self._compiled:
            streams = self._streams if size[0] * size[1] <= LARGE_PIXELS else 1
            settings: dict[str, Any] = {
                "NUM_STREAMS": streams,
                "ENABLE_CPU_PINNING": False,  # decoding and other programs use the same cores
                "INFERENCE_PRECISION_HINT": "bf16"
                if precision == "bf16"
                else "f32",  # else of what the graph leaves open
            }
            if self._threads is not None:
                settings["INFERENCE_NUM_THREADS"] = self._threads
            compiled = self._core.compile_model(self._graph(size, precision), "CPU", settings)
            idle: queue.SimpleQueue[Any] = queue.SimpleQueue()
            for _ in range(streams):
                idle.put(compiled.create_infer_request())
            self._compiled[key] = lambda images: self._run(images, size, idle)
        return self._compiled[key]

    def _run(self, images: FloatArray, size: tuple[int, ...], idle: queue.SimpleQueue[Any]) -> FloatArray:
        """Compute each image by itself, so that no answer depends on what is beside it."""
        answer = np.empty((len(images), NUM_CLASSES, *size), np.float32)

        def compute(at: int) -> None:
            request = idle.get()
            try:
                fold_into(request.get_input_tensor().data[0], images[at], self._config.stem)
                request.set_output_tensor(self._openvino.Tensor(answer[at : at + 1], shared_memory=True))
                request.infer(share_outputs=True)
            finally:
                idle.put(request)

        for _ in self._workers.map(compute, range(len(images))):
            pass
        return answer

    def _choose_precision(self, checkpoint: Checkpoint) -> Precision:
        if "BF16" not in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            return "f32"
        expected, pixel = expected_golden(checkpoint), checkpoint.card.pixel_size_um
        image = golden_slice(self._config.in_slices)
        answer = self._runner(self._padded_size(*SHAPE), "mixed")(image)[:, :, : SHAPE[0], : SHAPE[1]]
        self._moved = dej_difference_um(layer_tops(answer), expected, pixel)
        self._compiled.clear()  # its memory is needed for what will be used
        return "mixed" if self._moved <= MAX_DEJ_UM else "f32"  # the latter also for NaN
