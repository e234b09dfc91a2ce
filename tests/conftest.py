"""Fixtures of several parts: a tiny checkpoint with random weights, and a real server on a free port."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest


@dataclass
class LiveServer:
    """A `skinoct-server serve` process."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path
    gate: Path
    """File that tells a gated engine when to stop; see ``gated``."""
    http: httpx.Client = field(init=False)
    _turn: int = 0

    def __post_init__(self) -> None:
        self.http = httpx.Client(base_url=self.url, timeout=120, trust_env=False)

    def wait_ready(self, seconds: float = 180) -> None:
        end = time.monotonic() + seconds
        while True:
            with contextlib.suppress(httpx.TransportError):
                if self.http.get("/readyz").status_code == 200:
                    return
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.05)

    def hold(self, batches: int | None = 0, seconds: float = 0.0) -> None:
        """Let the engine run so many more batches, at most one in so many seconds, and wait then."""
        self._turn += 1
        rule = {"turn": self._turn, "batches": batches, "seconds": seconds}
        partial = self.gate.with_suffix(".partial")
        partial.write_text(json.dumps(rule))
        partial.rename(self.gate)

    def release(self) -> None:
        """Let the engine run on."""
        self.gate.unlink(missing_ok=True)

    def step_until(self, condition: Callable[[], object], most: int = 20) -> None:
        """Let one batch at a time through until a condition holds, which must be after so many at most."""
        end = time.monotonic() + 60
        for _ in range(most):
            self.hold(1)
            while not self._passed():
                if condition():
                    return
                assert time.monotonic() < end, self.log.read_text()
                time.sleep(0.02)
        while not condition():
            assert time.monotonic() < end, f"not after {most} batches: {self.http.get('/metrics').text}"
            time.sleep(0.02)

    def _passed(self) -> bool:
        """Whether the one batch of ``hold(1)`` has begun."""
        told = self.gate.with_suffix(".passed")
        return told.exists() and told.read_text() == str(self._turn)

    def metric(self, name: str) -> float:
        """Value of a Prometheus metric."""
        found = re.search(rf"^{re.escape(name)} (\S+)", self.http.get("/metrics").text, re.M)
        assert found is not None, name
        return float(found[1])

    def wait_at_work(self, jobs: int, running: int = 1, seconds: float = 120) -> None:
        """Wait until that many tomograms were admitted and so many of them are being segmented."""
        end = time.monotonic() + seconds
        while (self.metric("skinoct_pending_jobs"), self.metric("skinoct_running")) != (jobs, running):
            assert time.monotonic() < end, self.http.get("/metrics").text + self.log.read_text()
            time.sleep(0.02)

    def kill(self, child: str, seconds: float = 60) -> float:
        """Kill -9 a child; returns when, as soon as another process is in its place."""
        victim = self.children()[child]
        os.kill(victim, signal.SIGKILL)
        killed = time.monotonic()
        while self.children().get(child, victim) == victim:
            assert time.monotonic() < killed + seconds, self.log.read_text()
            time.sleep(0.02)
        return killed

    def children(self) -> dict[str, int]:
        """Process ids of the front's children, by module."""
        found = {}
        listing = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True)
        for line in listing.stdout.splitlines()[1:]:
            pid, parent, *arguments = line.split()
            if int(parent) == self.process.pid and "-m" in arguments:
                found[arguments[arguments.index("-m") + 1].rsplit(".", 1)[-1]] = int(pid)
        return found

    def stop(self, how: int = signal.SIGTERM, seconds: float = 40) -> int:
        self.http.close()
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(seconds)


def launch(folder: Path, *arguments: str, ready: bool = True, gated: bool = False) -> LiveServer:
    """Start a server, with an engine that can be held if asked for, and wait until it takes tomograms."""
    log = folder / f"server-{time.monotonic_ns()}.log"
    gate = log.with_suffix(".gate")
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
    # What a killed server leaves behind goes with the folder of the test.
    extra = {"PYTHONWARNINGS": "error", "TMPDIR": str(folder)}
    if gated:
        extra |= {"PYTHONPATH": path, "SKINOCT_TEST_GATE": str(gate)}
    command = [
        sys.executable,
        "-m",
        "gated" if gated else "skinoct_server.cli",
        "serve",
        "--port",
        "0",
        "--threads",
        "1",
        *arguments,
    ]
    with log.open("wb") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, env={**os.environ, **extra})
    assert process.stdout is not None
    line = process.stdout.readline().decode()
    match = re.search(r"https?://\S+:\d+", line)
    process.stdout.close()
    if match is None:
        process.wait(10)
        raise AssertionError(line + log.read_text())
    server = LiveServer(process, match[0], log, gate)
    if ready:
        try:
            server.wait_ready()
        except BaseException:  # nobody else knows of it yet
            server.stop(signal.SIGKILL)
            raise
    return server


@pytest.fixture(scope="session")
def make_checkpoint() -> Callable[..., Path]:
    """Return a function that writes a small checkpoint with random weights of a seed."""

    def make(folder: Path, seed: int = 0, **card: Any) -> Path:
        import torch

        from skinoct.checkpoint import Architecture, Card
        from skinoct.checkpoint_write import save_checkpoint
        from skinoct.unet import UNet, UNetConfig

        with torch.random.fork_rng():
            torch.manual_seed(seed)
            config = UNetConfig(widths=(8, 8, 8))
            network = UNet(config).eval()
        values: dict[str, Any] = {
            "name": folder.name,
            "created": "2026-01-01T00:00:00Z",
            "description": "Random weights, for tests.",
            "architecture": Architecture(config=config.model_dump(mode="json")),
            "pixel_size_um": 0.9,
            "band_thickness_um": 5.0,
        }
        save_checkpoint(folder, Card(**{**values, **card}), network.state_dict())
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory, make_checkpoint: Callable[..., Path]) -> Path:
    """Folder of one checkpoint, named `tiny`."""
    folder = tmp_path_factory.mktemp("models")
    make_checkpoint(folder / "tiny")
    return folder


@pytest.fixture(scope="session")
def make_tomogram() -> Callable[..., np.ndarray]:
    """Return a function that makes uint8 voxels (Z, Y, X): dark above a tilted line, bright below."""

    def make(z: int = 12, y: int = 64, x: int = 96, seed: int = 0) -> np.ndarray:
        rng = np.random.default_rng(seed)
        line = y / 3 + rng.uniform(-0.1, 0.1) * np.arange(x)
        depth = np.arange(y)[:, None] - line[None, :]
        mean = np.where(depth < 0, 20, 180 * np.exp(-np.maximum(depth, 0) / y))
        return rng.gamma(4, mean / 4, (z, y, x)).clip(0, 255).astype(np.uint8)

    return make


@pytest.fixture(scope="session")
def make_tiff(make_tomogram: Callable[..., np.ndarray]) -> Callable[..., bytes]:
    """Return a function that makes the bytes of an ImageJ TIFF of `make_tomogram`."""
    import io

    from skinoct.tomogram import PixelSize, write_tomogram

    def make(*shape: int, seed: int = 0, um: float | None = 0.9) -> bytes:
        file = io.BytesIO()
        size = None if um is None else PixelSize(um, um, um)
        write_tomogram(file, make_tomogram(*shape, seed=seed), pixel_size_um=size)
        return file.getvalue()

    return make


@pytest.fixture(scope="session")
def skin_tiff() -> bytes:
    """A phantom in which the shipped checkpoint finds a DEJ, unlike the random one of `tiny_models`."""
    import io

    from skinoct.tomogram import write_tomogram
    from skinoct_training.phantom.make import make_phantom

    phantom = make_phantom((404, 1), 4, "ffoct")
    file = io.BytesIO()
    write_tomogram(file, phantom.voxels, pixel_size_um=phantom.pixel_size_um)
    return file.getvalue()


@pytest.fixture(scope="session")
def shipped_models() -> Path:
    """Folder of the checkpoints that skinoct comes with."""
    return Path(__file__).parents[1] / "models" / "checkpoints"


@pytest.fixture
def start_server(tmp_path: Path, tiny_models: Path) -> Iterator[Callable[..., LiveServer]]:
    """Return a function that starts a server with options; all of them are stopped after the test.

    With ``gated=True`` the test can hold its engine between two batches: ``server.hold()``.
    """
    started: list[LiveServer] = []

    def start(*arguments: str, ready: bool = True, gated: bool = False) -> LiveServer:
        models = () if "--models" in arguments else ("--models", str(tiny_models))
        engine = () if "--device" in arguments else ("--device", "torch")  # the one that starts fastest
        started.append(launch(tmp_path, *models, *engine, *arguments, ready=ready, gated=gated))
        return started[-1]

    yield start
    for server in started:
        server.stop(signal.SIGKILL)


@pytest.fixture(scope="session")
def live_server(tmp_path_factory: pytest.TempPathFactory, tiny_models: Path) -> Iterator[LiveServer]:
    """One server for all tests that do not change it."""
    server = launch(tmp_path_factory.mktemp("server"), "--models", str(tiny_models))
    yield server
    assert server.stop() in (0, -signal.SIGTERM), server.log.read_text()
