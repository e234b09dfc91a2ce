"""Helpers of the server's tests."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest

from skinoct.wire import JobStatus


@pytest.fixture(scope="session")
def large_tiff(make_tomogram: Callable[..., np.ndarray]) -> bytes:
    """A tomogram of 40 slices that does not share the engine; hold a gated server to have it at work for certain."""
    from skinoct.tomogram import write_tomogram

    file = io.BytesIO()
    write_tomogram(file, np.tile(make_tomogram(4, 216, 256), (10, 1, 1)))
    return file.getvalue()


@pytest.fixture(scope="session")
def follow() -> Callable[..., JobStatus]:
    """Return a function that waits until a job satisfies a condition (default: has finished)."""

    def wait(
        http: httpx.Client,
        job: str,
        until: Callable[[JobStatus], bool] = lambda status: status.state in ("done", "failed", "cancelled"),
        seconds: float = 120,
    ) -> JobStatus:
        end = time.monotonic() + seconds
        while True:
            answer = http.get(f"/jobs/{job}")
            assert answer.status_code == 200, answer.text
            status = JobStatus.model_validate_json(answer.content)
            if until(status):
                return status
            assert time.monotonic() < end, status
            time.sleep(0.02)

    return wait


@pytest.fixture(scope="session")
def post_job() -> Callable[..., JobStatus]:
    """Return a function that posts a job."""

    def post(http: httpx.Client, body: bytes, query: str = "", **headers: Any) -> JobStatus:
        answer = http.post(f"/jobs{query}", content=body, headers={k.replace("_", "-"): v for k, v in headers.items()})
        assert answer.status_code == 202, answer.text
        status = JobStatus.model_validate_json(answer.content)
        assert answer.headers["location"] == f"/jobs/{status.id}"
        return status

    return post
