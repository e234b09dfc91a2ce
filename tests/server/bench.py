"""Measure the server: real uvicorn, real files. Writes the section "Server" of docs/benchmarks.md.

python tests/server/bench.py [--models DIR] [--clients 1 8 64] [--short]

It tells on stderr what it is at. ``--short`` measures next to nothing and leaves the page alone: to see that it works.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import psutil
from footer import footer, weights

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- server: written by make bench-server -->", "<!-- end of server -->"
FULL, SMALL = (439, 224, 512), (16, 224, 512)
READY_SECONDS = 180
START = time.monotonic()


def say(text: str) -> None:
    """Tell whoever waits what goes on."""
    print(f"{time.monotonic() - START:6.0f} s  {text}", file=sys.stderr, flush=True)


def url_of(child: subprocess.Popen[str], log: Path) -> str:
    """Return the address that a server says, once it is ready; a server that does not get ready is killed."""
    assert child.stdout is not None
    match = re.search(r"http://\S+:\d+", child.stdout.readline())
    end = time.monotonic() + READY_SECONDS
    while match is None or httpx.get(f"{match[0]}/readyz", trust_env=False, timeout=60).status_code != 200:
        if match is None or time.monotonic() > end:
            child.kill()
            raise SystemExit(f"The server did not get ready in {READY_SECONDS} s:\n{log.read_text()}")
        time.sleep(0.1)
    return match[0]


def write_tomogram(path: Path, shape: tuple[int, int, int]) -> bytes:
    """Write speckle below a tilted surface; every slice differs."""
    from skinoct.tomogram import PixelSize
    from skinoct.tomogram import write_tomogram as write

    rng = np.random.default_rng(0)
    depth = np.arange(shape[1])[:, None] - 60 - 0.05 * np.arange(shape[2])
    mean = np.where(depth < 0, 8, 200 * np.exp(-np.maximum(depth, 0) / 60))
    voxels = np.stack([rng.exponential(mean).clip(0, 255).astype(np.uint8) for _ in range(shape[0])])
    write(path, voxels, pixel_size_um=PixelSize(0.9, 0.9, 0.9))
    return path.read_bytes()


@dataclass
class Bench:
    """A running server and what is measured of it."""

    url: str
    process: psutil.Process
    peak: dict[str, int]
    health: list[float]
    stop: threading.Event

    def watch(self) -> None:
        """Sample memory and `/healthz` until stopped."""
        with httpx.Client(base_url=self.url, timeout=60, trust_env=False) as http:
            while not self.stop.is_set():
                started = time.perf_counter()
                http.get("/healthz")
                self.health.append(time.perf_counter() - started)
                for process in [self.process, *self.process.children(recursive=True)]:
                    try:
                        line = process.cmdline()
                        name = line[line.index("-m") + 1].rsplit(".", 1)[-1]
                        self.peak[name] = max(self.peak.get(name, 0), process.memory_info().rss)
                    except (psutil.NoSuchProcess, ValueError, IndexError):
                        continue
                time.sleep(0.05)

    def post(self, body: bytes) -> tuple[int, float]:
        """Post a tomogram; returns status and seconds."""
        with httpx.Client(base_url=self.url, timeout=1800, trust_env=False) as http:
            started = time.perf_counter()
            answer = http.post("/segment", content=body)
            return answer.status_code, time.perf_counter() - started


def predictor_alone(path: Path, models: Path | None) -> float:
    """Return seconds to read and segment without a server, in a process of its own, after one run to warm up."""
    code = (
        "import sys, time; from pathlib import Path\n"
        "from skinoct.checkpoint import find_checkpoint, load_checkpoint\n"
        "from skinoct.predictor import Predictor; from skinoct.tomogram import read_tomogram\n"
        "models = Path(sys.argv[2]) if len(sys.argv) > 2 else None\n"
        "predictor = Predictor(load_checkpoint(find_checkpoint(None, models)))\n"
        "predictor.segment(read_tomogram(sys.argv[1].replace('full', 'small')))\n"
        "started = time.perf_counter(); predictor.segment(read_tomogram(sys.argv[1]))\n"
        "print(time.perf_counter() - started)"
    )
    command = [sys.executable, "-c", code, str(path), *([str(models)] if models else [])]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def start(folder: Path, models: Path | None) -> Bench:
    """Start a server and wait until it is ready."""
    command = [sys.executable, "-m", "skinoct_server.cli", "serve", "--port", "0", "--data-dir", str(folder / "data")]
    if models:
        command += ["--models", str(models)]
    log = folder / "log"
    with log.open("wb") as stderr:
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True)
    return Bench(url_of(child, log), psutil.Process(child.pid), {}, [], threading.Event())


def clients_row(bench: Bench, body: bytes, clients: int, slices: int) -> str:
    """Post small tomograms from some clients at once; returns a row of the table."""
    rounds = max(2, 16 // clients)
    say(f"{clients * rounds} tomograms of {slices} slices from {clients} clients")
    started = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        answers = list(pool.map(lambda _: bench.post(body), range(clients * rounds)))
    wall = time.perf_counter() - started
    good = sorted(seconds for status, seconds in answers if status == 200)
    p50, p95, p99 = (float(np.percentile(good, q)) for q in (50, 95, 99))
    speed = len(good) * slices / wall
    return f"| {clients} | {len(good)} of {len(answers)} | {speed:.0f} | {p50:.2f} | {p95:.2f} | {p99:.2f} |"


def measure(options: argparse.Namespace) -> str:
    """Run everything and return the section."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        full_shape, small_shape = ((8, *FULL[1:]), (2, *SMALL[1:])) if options.short else (FULL, SMALL)
        full, small = write_tomogram(folder / "full.tif", full_shape), write_tomogram(folder / "small.tif", small_shape)
        say(f"the predictor alone on {full_shape[0]} slices, {options.repeat} times")
        alone = statistics.median(predictor_alone(folder / "full.tif", options.models) for _ in range(options.repeat))
        bench = start(folder, options.models)
        watcher = threading.Thread(target=bench.watch)
        try:
            bench.post(small)
            say(f"the same through the server, {options.repeat + 1} times")
            through = statistics.median(bench.post(full)[1] for _ in range(options.repeat))
            watcher.start()
            bench.post(full)
            rows = [clients_row(bench, small, clients, small_shape[0]) for clients in options.clients]
            bench.stop.set()
            watcher.join()
            model = weights(bench.url)[0]
            device = httpx.get(f"{bench.url}/readyz", trust_env=False).json()["device"]
        finally:
            bench.stop.set()
            bench.process.send_signal(signal.SIGTERM)
            bench.process.wait(60)
    memory = ", ".join(f"{who} {peak >> 20} MiB" for who, peak in sorted(bench.peak.items()))
    health = np.percentile(bench.health, [50, 99]) * 1000
    return "\n".join(
        [
            BEGIN,
            "## Server",
            "",
            f"One tomogram of {' x '.join(map(str, full_shape))} ({len(full) / 1e6:.0f} MB), engine {device}: "
            f"predictor alone (read, segment) {alone:.2f} s, through the server (upload, read, segment, write, "
            f"download) {through:.2f} s: **{through / alone:.2f} times** the predictor alone. Medians of "
            f"{options.repeat}.",
            "",
            f"Tomograms of {small_shape[0]} slices ({len(small) / 1e6:.1f} MB):",
            "",
            "| clients | answered | slices/s | p50 s | p95 s | p99 s |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
            f"Meanwhile `/healthz`: p50 {health[0]:.1f} ms, p99 {health[1]:.1f} ms. Peak resident memory: {memory} "
            "(front = cli).",
            "",
            footer("bench-server", sys.argv[1:], [model]),
            END,
        ]
    )


def write_section(begin: str, end: str, section: str) -> None:
    """Put a section into the page, in the place of the one that an earlier run wrote."""
    text = PAGE.read_text() if PAGE.exists() else "# Benchmarks\n"
    if begin in text:
        before, after = text[: text.index(begin)], text[text.index(end) + len(end) :]
        text = before.rstrip() + "\n\n" + section + "\n" + ("\n" + after.lstrip() if after.strip() else "")
    else:
        text = text.rstrip() + "\n\n" + section + "\n"
    PAGE.write_text(text)


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--short", action="store_true", help="one repetition of very little; the page stays as it is")
    options = parser.parse_args()
    if options.short:
        options.clients, options.repeat = [1, 2], 1
    section = measure(options)
    if not options.short:
        write_section(BEGIN, END, section)
    print(section)


if __name__ == "__main__":
    main()
