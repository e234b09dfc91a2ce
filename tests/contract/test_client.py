"""The Python client against a real server: paths, arrays, progress, cancelling, waiting for room."""

from __future__ import annotations

import io
import subprocess
import sys
import threading

import numpy as np
import pytest

from skinoct.errors import Cancelled
from skinoct_fiji.client import BusyError, Progress, RefusedError, Request, ServerClient, Watcher, WrongKeyError


@pytest.fixture
def client(live_server):
    with ServerClient(live_server.url) as client:
        yield client


def test_path_bytes_and_array_agree(client, make_tomogram, make_tiff, tmp_path):
    (tmp_path / "a.tif").write_bytes(make_tiff())
    ask = Request(accept="application/x-npy", pixel_size_um=0.9)
    inputs = (str(tmp_path / "a.tif"), tmp_path / "a.tif", make_tiff(), make_tomogram())
    answers = [client.segment(image, ask) for image in inputs]
    assert len({answer.content for answer in answers}) == 1
    labels = np.load(io.BytesIO(answers[0].content))
    assert labels.shape == make_tomogram().shape
    assert answers[0].model == "tiny"
    assert len(answers[0].model_sha256) == 64


def test_progress_ends_with_the_download(client, make_tiff):
    seen: list[Progress] = []
    client.segment(make_tiff(), watch=Watcher(progress=seen.append))
    assert seen[0].stage == "upload"
    assert seen[-1].stage == "download"
    assert all(0 <= progress.fraction <= 1 for progress in seen)


def test_cancel_reaches_the_engine(start_server, make_tiff, make_tomogram):
    server = start_server("--batch", "1", gated=True)
    server.hold(3)
    asked = threading.Event()

    def progress(step: Progress) -> None:
        if step.stage == "slices" and step.done > 0:
            asked.set()

    with ServerClient(server.url) as client, pytest.raises(Cancelled):
        client.segment(np.tile(make_tomogram(4, 216, 256), (10, 1, 1)), watch=Watcher(progress, asked.is_set))
    server.step_until(lambda: server.metric("skinoct_pending_jobs") == 0, most=3)
    server.release()
    with ServerClient(server.url) as client:
        assert client.segment(make_tiff(1, 32, 32)).model == "tiny"
    assert server.http.get("/readyz").json()["jobs"] == 0


def test_refusal_is_the_server_s_sentence(client):
    with pytest.raises(RefusedError, match="neither a TIFF nor"):
        client.segment(b"hello")


def test_waits_as_long_as_the_server_asks(start_server, make_tiff, make_tomogram):
    server = start_server("--max-pending-jobs", "1", gated=True)
    server.hold()
    long = np.tile(make_tomogram(4, 216, 256), (10, 1, 1))
    seen: list[str] = []

    def progress(step: Progress) -> None:
        seen.append(step.stage)
        if step.stage == "wait":
            server.release()

    with ServerClient(server.url, patience=60) as client, ServerClient(server.url, patience=0) as hasty:
        job = client.submit(long)
        with pytest.raises(BusyError):
            hasty.segment(make_tiff(1, 32, 32))
        answer = client.segment(make_tiff(1, 32, 32), watch=Watcher(progress))
    assert answer.model == "tiny"
    assert "wait" in seen
    assert job.id


def test_wrong_key(start_server, tmp_path):
    from skinoct_server.keys import add_key

    key = add_key(tmp_path / "keys", "anna", "user")
    server = start_server("--api-key-file", str(tmp_path / "keys"))
    with ServerClient(server.url, "wrong") as client, pytest.raises(WrongKeyError):
        client.check()
    with ServerClient(server.url, key) as client:
        assert client.check().api_version == 1


def test_the_client_needs_neither_torch_nor_java():
    code = "import sys, skinoct_fiji.client; print(sorted({'torch', 'jpype', 'scyjava', 'imagej'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
