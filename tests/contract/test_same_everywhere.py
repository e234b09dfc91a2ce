"""One tomogram, one answer: over HTTP, as a job, from the command line, beside others, and after a restart."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import psutil
import pytest
import tifffile

from skinoct.labels import Label
from skinoct_server.app import create_app
from skinoct_server.settings import Settings

FILES = {
    "labels.tif": "image/tiff",
    "RoiSet.zip": "application/zip",
    "measurements.csv": "text/csv",
    "measurements.json": "application/json",
}
"""What ``skinoct-fiji segment`` writes, and how HTTP is asked for it."""
ROOT = Path(__file__).parents[2]
RAY_PYTHON = ROOT / ".venv-ray" / "bin" / "python"
"""Has Ray over everything of ours; ``make test-elsewhere`` makes it."""


def has_dej(answers) -> bool:
    """Whether the same bytes say something: labels of one class alone would prove little."""
    return bool((tifffile.imread(io.BytesIO(answers["labels.tif"])) == Label.DEJ).any())


def over_http(server, body) -> dict[str, bytes]:
    answers = {}
    for name, accept in FILES.items():
        answer = server.http.post("/segment", content=body, headers={"Accept": accept})
        assert answer.status_code == 200, answer.text
        answers[name] = answer.content
    return answers


def post(server, body) -> str:
    answer = server.http.post("/jobs", content=body)
    assert answer.status_code == 202, answer.text
    return str(answer.headers["location"])


def as_job(server, job) -> dict[str, bytes]:
    end = time.monotonic() + 120
    while (state := server.http.get(job).json()["state"]) != "done":
        assert state in ("queued", "running"), state
        assert time.monotonic() < end
        time.sleep(0.02)
    url = f"{job}/result"
    return {name: server.http.get(url, headers={"Accept": accept}).content for name, accept in FILES.items()}


def from_command_line(server, folder, out) -> dict[str, bytes]:
    command = [sys.executable, "-m", "skinoct_fiji.cli", "segment", str(folder), "--out", str(out)]
    done = subprocess.run([*command, "--server", server.url], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (result,) = (path for path in out.iterdir() if path.is_dir())
    return {name: (result / name).read_bytes() for name in FILES}


@pytest.mark.parametrize("device", ["torch", "openvino"])
def test_the_same_bytes_come_out(start_server, shipped_models, skin_tiff, make_tiff, tmp_path, device):
    (tmp_path / "in").mkdir()
    body = skin_tiff
    (tmp_path / "in" / "tomogram.tif").write_bytes(body)
    data = ("--device", device, "--models", str(shipped_models), "--data-dir", str(tmp_path / "data"))

    server = start_server(*data)
    expected = over_http(server, body)
    assert has_dej(expected)
    job = post(server, body)
    assert as_job(server, job) == expected
    assert from_command_line(server, tmp_path / "in", tmp_path / "out") == expected
    beside = [post(server, other) for other in (make_tiff(2, 60, 90), body, make_tiff(1, 40, 90), body)]
    assert as_job(server, beside[1]) == as_job(server, beside[3]) == expected
    server.stop()

    server = start_server(*data, "--batch", "3")
    assert over_http(server, body) == expected, "after a restart, with batches of another size"
    assert as_job(server, job) == expected, "kept over the restart"


def test_the_application_answers_alike_wherever_it_runs(live_server, tiny_models, make_tiff):
    """It is a plain ASGI application, which other servers, such as Ray Serve, run in the place of ours."""
    body = make_tiff(3, 60, 90, seed=3)
    app = create_app(Settings(models=tiny_models, threads=1))

    async def ask() -> dict[str, bytes]:
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://test", timeout=120) as http,
        ):
            async with asyncio.timeout(120):
                while (await http.get("/readyz")).status_code != 200:
                    await asyncio.sleep(0.05)
            return {
                name: (await http.post("/segment", content=body, headers={"Accept": accept})).content
                for name, accept in FILES.items()
            }

    assert asyncio.run(ask()) == over_http(live_server, body)


def ray_example(port: int) -> str:
    """The example of docs/server.md as it stands, but for the port."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "server.md").read_text(), re.S)
    (code,) = (block for block in blocks if "serve.run" in block)
    assert code.count("8000") == 1
    return code.replace("8000", str(port))


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def wait_ready(http: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 240
    while True:
        with contextlib.suppress(httpx.TransportError):
            if http.get("/readyz").status_code == 200:
                return
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.2)


def processes_of(folder: Path) -> list[psutil.Process]:
    """What was started with this folder as Ray's, whoever its parent is by now; not Ray's agents, which hide it."""
    everything = psutil.process_iter(["environ"])
    return [process for process in everything if (process.info["environ"] or {}).get("RAY_TMPDIR") == str(folder)]


def stop(process: subprocess.Popen[bytes], folder: Path, log: Path) -> None:
    """End it as a system does, and see that nothing stays: Ray starts a dozen processes, ours two."""
    everything = {*psutil.Process(process.pid).children(recursive=True), *processes_of(folder)}
    process.terminate()
    assert process.wait(90) == 0, log.read_text()
    _, left = psutil.wait_procs(everything, timeout=30)
    assert left == [], log.read_text()


@pytest.fixture
def under_ray(tmp_path_factory, shipped_models) -> Iterator[SimpleNamespace]:
    """The example of docs/server.md in a Ray of its own, which takes and leaves nothing outside its folder."""
    if not RAY_PYTHON.exists():
        pytest.fail("Ray is not installed: run make test-elsewhere")
    folder = tmp_path_factory.mktemp("r")  # a short name, since the sockets that Ray makes below it allow no long one
    port = free_port()
    (folder / "example.py").write_text(ray_example(port))
    log = folder / "log"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "SKINOCT_"))}
    environment |= {"RAY_TMPDIR": str(folder), "HOME": str(folder), "RAY_USAGE_STATS_ENABLED": "0"}
    environment |= {"SKINOCT_SERVER_MODELS": str(shipped_models), "SKINOCT_SERVER_THREADS": "1"}
    with log.open("wb") as out:
        process = subprocess.Popen([RAY_PYTHON, "example.py"], cwd=folder, env=environment, stdout=out, stderr=out)
    url = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client(base_url=url, timeout=120, trust_env=False) as http:
            wait_ready(http, process, log)
            yield SimpleNamespace(url=url, http=http)
        stop(process, folder, log)
    finally:
        for left in processes_of(folder):  # none, unless something went wrong
            with contextlib.suppress(psutil.NoSuchProcess):
                left.kill()
        process.wait()


@pytest.mark.elsewhere
def test_ray_serve_answers_alike(start_server, shipped_models, under_ray, skin_tiff, tmp_path):
    server = start_server("--models", str(shipped_models), "--device", "auto")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "tomogram.tif").write_bytes(skin_tiff)

    expected = over_http(server, skin_tiff)
    assert has_dej(expected)
    assert from_command_line(server, tmp_path / "in", tmp_path / "ours") == expected
    assert over_http(under_ray, skin_tiff) == expected
    assert as_job(under_ray, post(under_ray, skin_tiff)) == expected
    assert from_command_line(under_ray, tmp_path / "in", tmp_path / "ray") == expected
