"""The parts that ``bench.py`` measures, each in a process of its own: ours, bare engines, plain PyTorch.

python tests/e2e/bench_parts.py PART --file TIFF [--models DIR]

prints seconds, seconds inside the network and memory as JSON. ``short.tif`` beside the file warms up.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from skinoct.errors import SkinoctError

BATCH = 8
"""Of plain PyTorch and ONNX Runtime."""
BARE_BATCH = 32
"""Of OpenVINO alone."""
DIFFERENT = 16
"""B-scans drawn; longer tomograms repeat them, forth and back, with new noise."""
Network = Callable[[npt.NDArray[np.float32]], Any]


def write_file(path: Path, slices: int, size: tuple[int, int] | None = None) -> None:
    """Write a phantom of ``slices`` B-scans; ``size`` (Y, X) repeats or cuts them to another size."""
    from skinoct.tomogram import write_tomogram
    from skinoct_training.phantom.make import make_phantom

    phantom = make_phantom((77, 0), min(slices, DIFFERENT), "ffoct")
    voxels = phantom.voxels
    if size:
        missing = [(0, max(0, new - old)) for new, old in zip(size, voxels.shape[1:], strict=True)]
        voxels = np.pad(voxels, [(0, 0), *missing], mode="symmetric")[:, : size[0], : size[1]]
    back_and_forth = np.concatenate([voxels, voxels[::-1]])
    rng = np.random.default_rng(0)
    top = int(np.iinfo(voxels.dtype).max)
    stack = np.empty((slices, *voxels.shape[1:]), voxels.dtype)
    for z in range(slices):
        clean = back_and_forth[z % len(back_and_forth)]
        stack[z] = (clean + rng.normal(0, 2, clean.shape)).clip(0, top)
    write_tomogram(path, stack, pixel_size_um=phantom.pixel_size_um)


class Clock:
    """Calls a function and adds up the time it takes: of the processor (``time.thread_time``), or on the wall.

    On the wall, time in which several threads are in the function counts once.
    """

    def __init__(self, function: Any, timer: Callable[[], float] = time.perf_counter) -> None:
        self.function = function
        self.timer = timer
        self.seconds = 0.0
        self._lock = threading.Lock()
        self._inside = 0
        self._since = 0.0

    def __call__(self, *arguments: Any) -> Any:
        """Call it."""
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._since = self.timer()
        try:
            return self.function(*arguments)
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0:
                    self.seconds += self.timer() - self._since


@dataclass(frozen=True)
class Result:
    """What a part measured."""

    seconds: float
    network_seconds: float
    idle_mib: float = 0.0
    """Memory of libraries and weights, after an image of the smallest size and before the first slice was read."""
    decode_share: float = 0.0
    """Of ordered decoding in the processor time."""
    gflop: float = 0.0
    """Operations of the network for a B-scan, in thousands of millions."""
    matrix_gflops: float = 0.0
    """Thousands of millions of operations a second in a product of large float32 matrices: what this machine can do."""


def part_predictor(path: Path, models: Path | None, out: Path) -> Result:
    """Run our engine without a server."""
    from skinoct.checkpoint import find_checkpoint, load_checkpoint
    from skinoct.decode import OrderedDecoder
    from skinoct.engines import network_config
    from skinoct.predictor import Predictor
    from skinoct.tomogram import read_tomogram, write_labels

    checkpoint = load_checkpoint(find_checkpoint(None, models))
    predictor = Predictor(checkpoint)
    config = network_config(checkpoint)
    # Engines load their kernels with the first image; the smallest needs next to no memory itself.
    predictor.engine.probabilities(np.zeros((1, config.in_slices, *config.multiple), np.float32))
    idle = memory_kib("VmRSS:") / 1024
    clock = Clock(predictor.engine.probabilities)
    predictor.engine.probabilities = clock  # type: ignore[method-assign, assignment]
    predictor.segment(read_tomogram(path.with_name("short.tif")))
    decoding = Clock(OrderedDecoder.add, time.thread_time)
    OrderedDecoder.add = lambda *arguments: decoding(*arguments)  # type: ignore[method-assign]
    clock.seconds = 0.0
    started, busy = time.perf_counter(), time.process_time()
    result = predictor.segment(read_tomogram(path))
    write_labels(out, result.blocks(), result.shape, pixel_size_um=result.pixel_size_um)
    share = decoding.seconds / (time.process_time() - busy)
    return Result(time.perf_counter() - started, clock.seconds, idle, decode_share=share)


def part_eager(path: Path, models: Path | None, out: Path) -> Result:
    """Run the same weights in plain PyTorch."""
    import torch

    from skinoct_training.network_cost import gflop

    network = _torch_network(models)
    with torch.inference_mode():
        result = _plain(path, out, lambda images: network(torch.from_numpy(images)).softmax(dim=1).numpy(), network)
    return replace(result, gflop=gflop(network), matrix_gflops=_matrix_gflops())


def _matrix_gflops(size: int = 1024) -> float:
    """Multiply matrices, on all cores."""
    import torch

    matrix = torch.ones(size, size)
    best = min(_seconds(lambda: matrix @ matrix) for _ in range(10))
    return 2 * size**3 / best / 1e9


def _seconds(function: Callable[[], Any]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def part_onnxruntime(path: Path, models: Path | None, out: Path) -> Result:
    """Run the same weights in ONNX Runtime, float32."""
    import onnxruntime
    import torch

    network = _torch_network(models)
    rows, columns = network.multiple
    file = out.with_name("network.onnx")
    example = torch.zeros(2, network.config.in_slices, 4 * rows, 4 * columns)
    # The sizes of this benchmark are multiples of the network's, so its padding may be traced away.
    axes = {"images": {0: "batch", 2: "rows", 3: "columns"}}
    torch.onnx.export(network, (example,), file, input_names=["images"], dynamic_axes=axes, dynamo=False)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return _plain(path, out, lambda images: session.run(None, {"images": images})[0], network)


def part_openvino(path: Path, models: Path | None, out: Path) -> Result:
    """Run the bare OpenVINO engine on slices that lie ready, so many at a time that its streams never wait for long."""
    import tifffile

    from skinoct.checkpoint import find_checkpoint, load_checkpoint
    from skinoct.engines import make_engine, network_config
    from skinoct.neighbors import stack_neighbors

    checkpoint = load_checkpoint(find_checkpoint(None, models))
    engine = make_engine(checkpoint, "openvino")
    stack = tifffile.imread(path)
    batch = min(BARE_BATCH, len(stack))
    slices = (stack[:batch] / np.iinfo(stack.dtype).max).astype(np.float32)
    images = stack_neighbors(slices, 0, batch, network_config(checkpoint).in_slices // 2)
    engine.probabilities(images)
    started = time.perf_counter()
    for start in range(0, len(stack), batch):
        engine.probabilities(images[: min(batch, len(stack) - start)])
    seconds = time.perf_counter() - started
    return Result(seconds, seconds)


def _torch_network(models: Path | None) -> Any:
    from skinoct.checkpoint import find_checkpoint, load_checkpoint
    from skinoct.engines.torch_engine import build_network

    return build_network(load_checkpoint(find_checkpoint(None, models)))


def _plain(path: Path, out: Path, run: Network, network: Any) -> Result:
    """Segment as a short script would: the whole stack in float32, one class per pixel."""
    import tifffile

    context = network.config.in_slices // 2
    clock = Clock(run)

    def segment(source: Path, target: Path) -> None:
        stack = tifffile.imread(source).astype(np.float32)
        low, high = np.percentile(stack[:: max(1, len(stack) // 16)], [0.5, 99.5]).tolist()
        stack = np.clip((stack - low) / (high - low), 0, 1) ** 0.5
        padded = np.pad(stack, ((context, context), (0, 0), (0, 0)), mode="edge")
        labels = np.empty(stack.shape, np.uint8)
        for start in range(0, len(stack), BATCH):
            stop = min(start + BATCH, len(stack))
            images = np.stack([padded[z : z + 2 * context + 1] for z in range(start, stop)])
            labels[start:stop] = clock(images).argmax(axis=1) + 1
        tifffile.imwrite(target, labels, imagej=True, compression="zlib", metadata={"axes": "ZYX"})

    segment(path.with_name("short.tif"), out.with_name("warm.tif"))
    clock.seconds = 0.0
    started = time.perf_counter()
    segment(path, out)
    return Result(time.perf_counter() - started, clock.seconds)


PARTS = {
    "predictor": part_predictor,
    "eager": part_eager,
    "onnxruntime": part_onnxruntime,
    "openvino": part_openvino,
}


def memory_kib(what: str = "VmHWM:") -> float:
    """Return the peak resident memory of this process, or what it has now (``VmRSS:``).

    Not ``ru_maxrss`` where Linux has better: that one inherits the peak of the process that started this one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith(what):
                return float(line.split()[1])
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def main() -> int:
    """Measure one part and print it; a failure is one sentence and status 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=tuple(PARTS))
    parser.add_argument("--file", type=Path, required=True, help="tomogram; short.tif lies beside it")
    parser.add_argument("--models", type=Path, help="folder of checkpoints (default: the shipped ones)")
    options = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="skinoct-bench-") as name:
            result = PARTS[options.part](options.file, options.models, Path(name) / "labels.tif")
    except SkinoctError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print(json.dumps({**asdict(result), "peak_mib": memory_kib() / 1024}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
