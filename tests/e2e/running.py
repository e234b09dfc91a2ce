"""A `skinoct-server` on a free port for as long as a script needs it; used by the demo, the bench and the figures."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import IO

import httpx

READY_SECONDS = 300
STOP_SECONDS = 40


class Failure(Exception):  # noqa: N818 - what happened
    """Something that a person must mend; the text says what and how."""


@contextlib.contextmanager
def running_server(*options: str) -> Iterator[tuple[str, int]]:
    """Start a server, wait until it takes tomograms, yield its address and process id, stop it.

    Raises
    ------
    Failure
        When it does not start; with the server's own last line.
    """
    command = [sys.executable, "-m", "skinoct_server.cli", "serve", "--port", "0", *options]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            url = _address(process, log)
            _wait(url, process, log)
            yield url, process.pid
        finally:
            _stop(process)


def _said(log: IO[str]) -> str:
    """Return the last line of a log."""
    log.seek(0)
    lines = [line.strip() for line in log.read().splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def _address(process: subprocess.Popen[str], log: IO[str]) -> str:
    assert process.stdout is not None
    match = re.search(r"https?://\S+:\d+", process.stdout.readline())
    if match is None:
        process.wait(STOP_SECONDS)
        raise Failure(f"skinoct-server did not start: {_said(log)}")
    return match[0]


def _wait(url: str, process: subprocess.Popen[str], log: IO[str]) -> None:
    end = time.monotonic() + READY_SECONDS
    with httpx.Client(base_url=url, trust_env=False) as http:
        while True:
            with contextlib.suppress(httpx.TransportError):
                answer = http.get("/readyz", timeout=10)
                if answer.status_code == 200:
                    return
                if "no model" in (detail := answer.json().get("detail", "")):
                    raise Failure(f"skinoct-server has nothing to segment with. {detail}")
            if process.poll() is not None:
                raise Failure(f"skinoct-server stopped while it started: {_said(log)}")
            if time.monotonic() > end:
                raise Failure(f"skinoct-server was not ready after {READY_SECONDS} s: {_said(log)}")
            time.sleep(0.1)


def _stop(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout is not None:
        process.stdout.close()


def stop_in_order() -> None:
    """Make SIGTERM end this script the way Ctrl-C does, so that the server is stopped too."""

    def end(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)


def post(url: str, path: Path, accept: str, seconds: float = 1800) -> httpx.Response:
    """Post a tomogram to ``/segment`` and return the answer.

    Raises
    ------
    Failure
        With the server's own sentence when it refuses, or when it is gone.
    """
    headers = {"Accept": accept, "Content-Type": "image/tiff"}
    try:
        answer = httpx.post(
            f"{url}/segment", content=path.read_bytes(), headers=headers, timeout=seconds, trust_env=False
        )
    except httpx.HTTPError as error:
        raise Failure(f"skinoct-server did not answer ({error or type(error).__name__}); run it again.") from None
    if answer.status_code != 200:
        problem = "json" in answer.headers.get("Content-Type", "")
        detail = answer.json().get("detail") if problem else answer.text[:200]
        raise Failure(f"skinoct-server refused the tomogram ({answer.status_code}): {detail}")
    return answer
