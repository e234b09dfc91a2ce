"""One tomogram, one answer: over HTTP, as a job, from the command line, beside others, and after a restart."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

import httpx
import pytest

from skinoct_server.app import create_app
from skinoct_server.settings import Settings

FILES = {
    "labels.tif": "image/tiff",
    "RoiSet.zip": "application/zip",
    "measurements.csv": "text/csv",
    "measurements.json": "application/json",
}
"""What ``skinoct-fiji segment`` writes, and how HTTP is asked for it."""


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
def test_the_same_bytes_come_out(start_server, make_tiff, tmp_path, device):
    (tmp_path / "in").mkdir()
    body = make_tiff(7, 60, 90, seed=3)
    (tmp_path / "in" / "tomogram.tif").write_bytes(body)
    data = ("--device", device, "--data-dir", str(tmp_path / "data"))

    server = start_server(*data)
    expected = over_http(server, body)
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
