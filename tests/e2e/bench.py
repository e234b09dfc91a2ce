"""Measure seconds per tomogram and peak memory; writes a section "One tomogram" of docs/benchmarks.md.

python tests/e2e/bench.py [--slices 439] [--repeat 3] [--models DIR]

Every row is measured in processes of its own (``bench_parts.py``), in the same run, on the same file and with the same
weights. Each kind of processor, by its instruction set, has a section of its own on the page. The opponents are plain
PyTorch and ONNX Runtime in float32, one class per pixel, and OpenVINO with nothing around it. All but the last leave a
label TIFF on disk.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
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

import httpx
import psutil
from bench_parts import DIFFERENT, write_file
from running import Failure, post, running_server, stop_in_order

from skinoct.engines.processor import instruction_set
from skinoct.errors import SkinoctError
from skinoct_training.run_folder import processor

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "benchmarks.md"
END = "<!-- end of one tomogram -->"
SLICES = 439
MOST = 5000
"""B-scans of the longest tomogram, 573 MB."""
LARGE = (512, 2048)
"""(Y, X) of the large image, about nine times the usual 224 x 512."""


@dataclass(frozen=True)
class Measured:
    """One row: medians over the runs, the highest memory."""

    seconds: list[float]
    peak_mib: float
    network_seconds: float | None = None
    """Spent inside the network alone."""
    idle_mib: float = 0.0
    """Memory of libraries and weights, before the first slice was read."""
    decode_share: float = 0.0
    """Of ordered decoding in the processor time."""
    gflop: float = 0.0
    """Operations of the network for a B-scan, in thousands of millions."""
    matrix_gflops: float = 0.0
    """Of large matrices in float32, a second."""

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Served:
    """What the server showed."""

    whole: Measured
    start_seconds: float
    """From the command to ready."""
    first_seconds: float
    """The first answer for the short tomogram."""
    second_seconds: float
    """The second."""
    by_slices: dict[int, float]
    """Seconds of shorter and longer tomograms."""
    peaks_mib: dict[int, float]
    """Memory of all server processes meanwhile."""
    large_ratio: float
    """Seconds of a large B-scan over those of a usual one, per pixel equal would be their ratio of pixels."""
    model: str
    device: str


def measure_part(name: str, path: Path, models: Path | None, repeat: int) -> Measured:
    """Run a part in fresh processes."""
    runs = []
    script = Path(__file__).with_name("bench_parts.py")
    for _ in range(repeat):
        command = [sys.executable, str(script), name, "--file", str(path)]
        done = subprocess.run(
            command + (["--models", str(models)] if models else []),
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "MALLOC_ARENA_MAX": "1"},  # as the server's engine has it
        )
        if done.returncode != 0:
            raise Failure(f"The part {name!r} failed: {(done.stderr.strip().splitlines() or ['no word'])[-1]}")
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    return Measured(
        [r["seconds"] for r in runs],
        max(r["peak_mib"] for r in runs),
        statistics.median(r["network_seconds"] for r in runs),
        statistics.median(r["idle_mib"] for r in runs),
        statistics.median(r["decode_share"] for r in runs),
        runs[0]["gflop"],
        max(r["matrix_gflops"] for r in runs),
    )


class Memory(threading.Thread):
    """Samples the memory of a process and its children: pages that they share count once.

    Counting all pages takes long enough to be seen in the time of who is watched, so what is timed is not watched, or
    rarely.
    """

    def __init__(self, pid: int, interval_s: float = 0.1) -> None:
        super().__init__(daemon=True)
        self.process = psutil.Process(pid)
        self.interval_s = interval_s
        self.peak = 0
        self.done = threading.Event()

    def __enter__(self) -> Memory:
        """Begin to sample."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.done.set()
        self.join()

    def run(self) -> None:
        """Sample until told to stop, and once at least."""
        while True:
            total = 0
            for process in [self.process, *self.process.children(recursive=True)]:
                try:
                    memory = process.memory_full_info()
                    total += getattr(memory, "pss", memory.rss)
                except psutil.Error:
                    continue
            self.peak = max(self.peak, total)
            if self.done.wait(self.interval_s):
                return


def measure_http(folder: Path, models: Path | None, repeat: int, counts: list[int]) -> Served:
    """Post the files to a server."""
    options = ("--models", str(models)) if models else ()

    def seconds(name: str) -> float:
        started = time.perf_counter()
        post(url, folder / name, "image/tiff")
        return time.perf_counter() - started

    started = time.perf_counter()
    with running_server(*options) as (url, pid):
        start = time.perf_counter() - started
        first, second = seconds("short.tif"), seconds("short.tif")
        whole = [seconds("full.tif") for _ in range(repeat)]
        with Memory(pid) as memory:
            seconds("full.tif")
        peak = memory.peak / 2**20
        by_slices, peaks = {}, {}
        for n in counts:
            if n <= SLICES:
                by_slices[n] = statistics.median(seconds(f"{n}.tif") for _ in range(repeat))
            with Memory(pid, 0.1 if n <= SLICES else 2.0) as memory:
                watched = seconds(f"{n}.tif")
            by_slices.setdefault(n, watched)
            peaks[n] = memory.peak / 2**20
        seconds("large.tif")  # warm up for its size
        large = statistics.median(seconds("large.tif") for _ in range(repeat))
        # The first answers share the processor with what the server prepares once it is ready.
        short = statistics.median(seconds("short.tif") for _ in range(repeat))
        device = httpx.get(f"{url}/readyz", trust_env=False).json()["device"]
        default = httpx.get(f"{url}/models", trust_env=False).json()[0]
    model = f"{default['name']} ({default['weights_sha256'][:12]})"
    at_once = Measured(whole, peak)
    return Served(at_once, start, first, second, by_slices, peaks, large / short, model, device)


def row(name: str, measured: Measured, slices: int) -> str:
    """Return a row of the table."""
    network = "" if measured.network_seconds is None else f"{measured.network_seconds:.1f}"
    spread = f"{min(measured.seconds):.1f}-{max(measured.seconds):.1f}"
    return (
        f"| {name} | {measured.median:.1f} | {spread} | {slices / measured.median:.1f} | {network} | "
        f"{measured.peak_mib:.0f} |"
    )


def measure(options: argparse.Namespace) -> str:
    """Run everything and return the section."""
    counts = [n for n in (1, 44, MOST) if n <= max(options.slices, MOST * (options.slices == SLICES))]
    with tempfile.TemporaryDirectory(prefix="skinoct-bench-") as name:
        folder = Path(name)
        path = folder / "full.tif"
        write_file(path, options.slices)
        short = min(options.slices, DIFFERENT)
        write_file(folder / "short.tif", short)
        write_file(folder / "large.tif", short, LARGE)
        for count in counts:
            write_file(folder / f"{count}.tif", count)
        size = path.stat().st_size
        parts = ("eager", "onnxruntime", *(("openvino",) if _installed("openvino") else ()), "predictor")
        found = {p: measure_part(p, path, options.models, options.repeat) for p in parts}
        served = measure_http(folder, options.models, options.repeat, counts)
    heading = f"## One tomogram ({instruction_set()})"
    return "\n".join([begin(), heading, "", *report(options, size, found, served), END])


def report(options: argparse.Namespace, size: int, found: dict[str, Measured], served: Served) -> list[str]:
    """Put everything into words."""
    slices, whole, alone, eager = options.slices, served.whole, found["predictor"], found["eager"]
    rows = [
        row("end to end over HTTP: TIFF up, label TIFF down", whole, slices),
        row(f"engine alone ({served.device}): TIFF read, ordered decoding, label TIFF written", alone, slices),
        row("ONNX Runtime float32: TIFF read, argmax, label TIFF written", found["onnxruntime"], slices),
        row("plain eager float32 PyTorch: TIFF read, argmax, label TIFF written", eager, slices),
    ]
    if "openvino" in found:
        rows.insert(2, row("bare OpenVINO: the network alone on slices that lie ready", found["openvino"], slices))
    bare = found.get("openvino", alone)
    pixels = LARGE[0] * LARGE[1] / (224 * 512)
    versions = ", ".join(f"{p} {metadata.version(p)}" for p in VERSIONS if _installed(p))
    by_slices = ", ".join(
        f"{n}: {s:.2f} s ({n / s:.1f}/s, {served.peaks_mib[n]:.0f} MiB)" for n, s in served.by_slices.items()
    )
    return [
        f"A synthetic tomogram of {slices} x 224 x 512 voxels ({size / 1e6:.0f} MB) with {served.model}, the same "
        f"weights in every row; median and range of {options.repeat} runs, after the first slices once to warm up.",
        "",
        "| what | s | range | B-scans/s | of this in the network, s | peak memory, MiB |",
        "|---|---|---|---|---|---|",
        *rows,
        "",
        f"- End to end takes {whole.median / (bare.median):.2f} times the bare engine (target 1.15), plain PyTorch "
        f"{eager.median / whole.median:.1f} times end to end (target 8, with AMX), ONNX Runtime "
        f"{found['onnxruntime'].median / whole.median:.1f} times (target 1.5).",
        what_bounds(alone, eager, slices),
        f"- Peak memory of the engine alone is {alone.peak_mib / (size / 2**20):.1f} times the raw tomogram; "
        f"{alone.idle_mib:.0f} MiB of it are libraries and weights, the rest "
        f"{(alone.peak_mib - alone.idle_mib) / (size / 2**20):.1f} times the tomogram (target 3).",
        f"- End to end by number of B-scans, with the memory of all server processes: {by_slices}.",
        f"- B-scans of {LARGE[0]} x {LARGE[1]}, {pixels:.1f} times the pixels, take {served.large_ratio:.1f} times as "
        "long.",
        f"- Ready {served.start_seconds:.1f} s after the command; first answer for {min(slices, DIFFERENT)} B-scans "
        f"{served.first_seconds:.2f} s, second {served.second_seconds:.2f} s.",
        "",
        f"{processor()}, {psutil.virtual_memory().total / 2**30:.0f} GiB, {platform.system()}; "
        f"Python {platform.python_version()}, {versions}; {datetime.now(UTC):%Y-%m-%d}. "
        "Memory end to end is that of all server processes together. Command: `make bench`"
        + ("." if slices == SLICES else f" with `--slices {slices}`."),
    ]


def what_bounds(alone: Measured, eager: Measured, slices: int) -> str:
    """Say in one line what keeps the engine from being faster."""
    network = alone.network_seconds or 0.0
    rate = eager.gflop * slices / network
    bound = "FLOPs, the arithmetic of the convolutions" if network > 0.5 * alone.median else "decoding and files"
    return (
        f"- What bounds it: {bound}. {network / alone.median:.0%} of the engine's time the network is computing, at "
        f"{rate:.0f} GFLOP/s ({eager.gflop:.2f} GFLOP a B-scan), {rate / eager.matrix_gflops:.0%} of what products of "
        f"large float32 matrices reach here ({eager.matrix_gflops:.0f}). Ordered decoding, beside it, takes "
        f"{alone.decode_share:.0%} of the processor time (target: 10 % of the network's)."
    )


VERSIONS = ("skinoct", "torch", "numpy", "numba", "openvino", "onnxruntime")


def _installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def begin() -> str:
    """Return how the section of this kind of processor begins."""
    return f"<!-- one tomogram, {instruction_set()}: written by make bench -->"


def write_section(section: str, page: Path) -> None:
    """Put the section before all others of the page, in place of an older one of this kind of processor."""
    text = page.read_text(encoding="utf-8") if page.exists() else "# Benchmarks\n"
    if begin() in text:
        start = text.index(begin())
        text = text[:start] + text[text.index(END, start) + len(END) :]
    first = text.index("<!--") if "<!--" in text else len(text)
    parts = [text[:first].strip(), section, text[first:].strip()]
    page.write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")


def main() -> int:
    """Measure and write the page; a failure is one sentence and status 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=SLICES, help=f"B-scans of the tomogram (default: {SLICES})")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each part (default: 3)")
    parser.add_argument("--models", type=Path, help="folder of checkpoints (default: the shipped ones)")
    parser.add_argument("--page", type=Path, default=PAGE, help="page to write (default: docs/benchmarks.md)")
    options = parser.parse_args()
    if options.slices < 1 or options.repeat < 1:
        parser.error("--slices and --repeat must be 1 or more")
    stop_in_order()
    try:
        section = measure(options)
    except (Failure, SkinoctError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    write_section(section, options.page)
    print(section)
    return 0


if __name__ == "__main__":
    sys.exit(main())
