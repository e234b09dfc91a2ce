"""Measure seconds per tomogram and peak memory; writes the section "One tomogram" of docs/benchmarks.md.

python tests/e2e/bench.py [--slices 439] [--repeat 3] [--models DIR]

Every row is measured in processes of its own, in the same run, on the same file and with the same weights. The
opponent is plain PyTorch: float32, eager, channels first, one class per pixel. Both leave a label TIFF on disk.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from running import Failure, post, running_server, stop_in_order

from skinoct.errors import SkinoctError

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- one tomogram: written by make bench -->", "<!-- end of one tomogram -->"
SLICES = 439
BATCH = 8
"""Of plain PyTorch."""
DIFFERENT = 16
"""B-scans drawn; longer tomograms repeat them, forth and back, with new noise."""


@dataclass(frozen=True)
class Measured:
    """One row."""

    seconds: float
    peak_mib: float
    network_seconds: float | None = None
    """Spent inside the network alone."""


def write_file(path: Path, slices: int) -> None:
    """Write a phantom of ``slices`` B-scans."""
    from skinoct.tomogram import write_tomogram
    from skinoct_training.phantom.make import make_phantom

    phantom = make_phantom((77, 0), min(slices, DIFFERENT), "ffoct")
    voxels = phantom.voxels
    back_and_forth = np.concatenate([voxels, voxels[::-1]])
    rng = np.random.default_rng(0)
    top = int(np.iinfo(voxels.dtype).max)
    stack = np.empty((slices, *voxels.shape[1:]), voxels.dtype)
    for z in range(slices):
        clean = back_and_forth[z % len(back_and_forth)]
        stack[z] = (clean + rng.normal(0, 2, clean.shape)).clip(0, top)
    write_tomogram(path, stack, pixel_size_um=phantom.pixel_size_um)


def part_predictor(path: Path, models: Path | None, out: Path) -> tuple[float, float]:
    """Run our engine without a server; returns seconds in all and inside the network."""
    from skinoct.checkpoint import find_checkpoint, load_checkpoint
    from skinoct.predictor import Predictor
    from skinoct.tomogram import read_tomogram, write_labels

    predictor = Predictor(load_checkpoint(find_checkpoint(None, models)))
    clock = Clock(predictor.engine.probabilities)
    predictor.engine.probabilities = clock  # type: ignore[method-assign]
    predictor.segment(read_tomogram(path.with_name("short.tif")))
    clock.seconds = 0.0
    started = time.perf_counter()
    result = predictor.segment(read_tomogram(path))
    write_labels(out, result.blocks(), result.shape, pixel_size_um=result.pixel_size_um)
    return time.perf_counter() - started, clock.seconds


class Clock:
    """Calls a function and adds up the time it takes."""

    def __init__(self, function: Any) -> None:
        self.function = function
        self.seconds = 0.0

    def __call__(self, *arguments: Any) -> Any:
        """Call it."""
        started = time.perf_counter()
        try:
            return self.function(*arguments)
        finally:
            self.seconds += time.perf_counter() - started


def part_eager(path: Path, models: Path | None, out: Path) -> tuple[float, float]:
    """Run the same weights in plain PyTorch; returns seconds in all and inside the network."""
    import tifffile
    import torch

    from skinoct.checkpoint import find_checkpoint, load_checkpoint
    from skinoct.engines.torch_engine import build_network

    network = build_network(load_checkpoint(find_checkpoint(None, models)))
    context = network.config.in_slices // 2
    clock = Clock(network)

    @torch.inference_mode()
    def segment(source: Path, target: Path) -> None:
        stack = tifffile.imread(source).astype(np.float32)
        low, high = np.percentile(stack[:: max(1, len(stack) // 16)], [0.5, 99.5]).tolist()
        stack = np.clip((stack - low) / (high - low), 0, 1) ** 0.5
        padded = torch.from_numpy(np.pad(stack, ((context, context), (0, 0), (0, 0)), mode="edge"))
        labels = np.empty(stack.shape, np.uint8)
        for start in range(0, len(stack), BATCH):
            stop = min(start + BATCH, len(stack))
            images = torch.stack([padded[z : z + 2 * context + 1] for z in range(start, stop)])
            labels[start:stop] = clock(images).softmax(dim=1).argmax(dim=1).numpy() + 1
        tifffile.imwrite(target, labels, imagej=True, compression="zlib", metadata={"axes": "ZYX"})

    segment(path.with_name("short.tif"), out.with_name("warm.tif"))
    clock.seconds = 0.0
    started = time.perf_counter()
    segment(path, out)
    return time.perf_counter() - started, clock.seconds


def measure_part(name: str, path: Path, models: Path | None, repeat: int) -> Measured:
    """Run a part in fresh processes and take medians."""
    runs = []
    for _ in range(repeat):
        command = [sys.executable, __file__, "--part", name, "--file", str(path)]
        done = subprocess.run(
            command + (["--models", str(models)] if models else []), capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise Failure(f"The part {name!r} failed: {(done.stderr.strip().splitlines() or ['no word'])[-1]}")
        runs.append(Measured(**json.loads(done.stdout.splitlines()[-1])))
    return Measured(
        statistics.median(r.seconds for r in runs),
        max(r.peak_mib for r in runs),
        statistics.median(r.network_seconds or 0.0 for r in runs),
    )


class Memory(threading.Thread):
    """Samples the memory of a process and its children: pages that they share count once."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.process = psutil.Process(pid)
        self.peak = 0
        self.done = threading.Event()

    def run(self) -> None:
        """Sample until told to stop."""
        while not self.done.wait(0.1):
            total = 0
            for process in [self.process, *self.process.children(recursive=True)]:
                try:
                    memory = process.memory_full_info()
                    total += getattr(memory, "pss", memory.rss)
                except psutil.Error:
                    continue
            self.peak = max(self.peak, total)


def measure_http(path: Path, models: Path | None, repeat: int) -> tuple[Measured, str, str]:
    """Post the file to a server; returns the row, the model and the device."""
    import httpx

    options = ("--models", str(models)) if models else ()
    with running_server(*options) as (url, pid):
        post(url, path.with_name("short.tif"), "image/tiff")
        memory = Memory(pid)
        memory.start()
        seconds = []
        for _ in range(repeat):
            started = time.perf_counter()
            answer = post(url, path, "image/tiff")
            seconds.append(time.perf_counter() - started)
        memory.done.set()
        memory.join()
        device = httpx.get(f"{url}/readyz", trust_env=False).json()["device"]
    model = f"{answer.headers['X-Skinoct-Model']} ({answer.headers['X-Skinoct-Model-Sha256'][:12]})"
    return Measured(statistics.median(seconds), memory.peak / 2**20), model, device


def processor() -> str:
    """Return the name of the CPU."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def row(name: str, measured: Measured, slices: int) -> str:
    """Return a row of the table."""
    network = "" if measured.network_seconds is None else f"{measured.network_seconds:.1f}"
    return (
        f"| {name} | {measured.seconds:.1f} | {slices / measured.seconds:.1f} | {network} | {measured.peak_mib:.0f} |"
    )


def measure(options: argparse.Namespace) -> str:
    """Run everything and return the section."""
    with tempfile.TemporaryDirectory(prefix="skinoct-bench-") as name:
        path = Path(name) / "full.tif"
        write_file(path, options.slices)
        write_file(path.with_name("short.tif"), min(options.slices, DIFFERENT))
        size = path.stat().st_size / 1e6
        eager = measure_part("eager", path, options.models, options.repeat)
        alone = measure_part("predictor", path, options.models, options.repeat)
        http, model, device = measure_http(path, options.models, options.repeat)
    packages = ("skinoct", "torch", "numpy", *_installed("openvino"))
    versions = ", ".join(f"{p} {metadata.version(p)}" for p in packages)
    words = [
        f"A synthetic tomogram of {options.slices} x 224 x 512 voxels ({size:.0f} MB) with {model}; "
        f"median of {options.repeat} runs, the first slices run once before to warm up.",
        "",
        "| what | s | B-scans/s | of this in the network, s | peak memory, MiB |",
        "|---|---|---|---|---|",
        row("end to end over HTTP: TIFF up, label TIFF down", http, options.slices),
        row(f"engine alone ({device}): TIFF read, ordered decoding, label TIFF written", alone, options.slices),
        row("plain eager float32 PyTorch, same weights: TIFF read, argmax, label TIFF written", eager, options.slices),
        "",
        f"End to end takes {http.seconds / eager.seconds:.2f} times as long as plain PyTorch, the engine alone "
        f"{alone.seconds / eager.seconds:.2f} times.",
        "",
        f"{processor()}, {os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB, {platform.system()}; "
        f"Python {platform.python_version()}, {versions}; {datetime.now(UTC):%Y-%m-%d}. "
        "Memory end to end is that of all server processes together. Command: `make bench`"
        + ("." if options.slices == SLICES else f" with `--slices {options.slices}`."),
    ]
    return "\n".join([BEGIN, "## One tomogram", "", *words, END])


def _installed(package: str) -> tuple[str, ...]:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return ()
    return (package,)


def write_section(section: str, page: Path) -> None:
    """Put the section before all others of the page, in place of an older one."""
    text = page.read_text(encoding="utf-8") if page.exists() else "# Benchmarks\n"
    if BEGIN in text:
        text = text[: text.index(BEGIN)] + text[text.index(END) + len(END) :]
    first = text.index("<!--") if "<!--" in text else len(text)
    parts = [text[:first].strip(), section, text[first:].strip()]
    page.write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")


def run_part(options: argparse.Namespace) -> None:
    """Measure one part in this process and print it."""
    part = {"predictor": part_predictor, "eager": part_eager}[options.part]
    with tempfile.TemporaryDirectory(prefix="skinoct-bench-") as name:
        seconds, network = part(options.file, options.models, Path(name) / "labels.tif")
    print(json.dumps({"seconds": seconds, "peak_mib": peak_kib() / 1024, "network_seconds": network}))


def peak_kib() -> float:
    """Return the peak resident memory of this process.

    Not ``ru_maxrss`` where Linux has better: that one inherits the peak of the process that started this one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return float(line.split()[1])
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def main() -> int:
    """Measure and write the page; a failure is one sentence and status 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=SLICES, help=f"B-scans of the tomogram (default: {SLICES})")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each part (default: 3)")
    parser.add_argument("--models", type=Path, help="folder of checkpoints (default: the shipped ones)")
    parser.add_argument("--page", type=Path, default=PAGE, help="page to write (default: docs/benchmarks.md)")
    parser.add_argument("--part", choices=("predictor", "eager"), help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.slices < 1 or options.repeat < 1:
        parser.error("--slices and --repeat must be 1 or more")
    stop_in_order()
    try:
        if options.part:
            run_part(options)
        else:
            section = measure(options)
            write_section(section, options.page)
            print(section)
    except (Failure, SkinoctError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
