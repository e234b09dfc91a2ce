"""From a finished job to the answer that ``Accept`` asks for."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.responses import FileResponse
from starlette.types import Receive, Scope, Send

from skinoct_server.formats import Format
from skinoct_server.jobs import Job
from skinoct_server.problems import KINDS, HttpProblem
from skinoct_server.service import Service


class Answer(FileResponse):
    """A file, and something to do when it has been sent or the client is gone."""

    def __init__(self, path: Path, form: Format, headers: dict[str, str], after: Callable[[], Awaitable[None]] | None):
        super().__init__(path, media_type=form.media_type, headers={**headers, "Accept-Ranges": "none"})
        self._after = after

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file, always as a whole: Starlette answers ranges that it cannot send without a problem."""
        scope = {**scope, "headers": [(name, value) for name, value in scope["headers"] if name != b"range"]}
        try:
            await super().__call__(scope, receive, send)
        finally:
            if self._after is not None:
                await asyncio.shield(self._after())


def refuse(job: Job) -> HttpProblem:
    """Return why a job has no result."""
    if job.final:
        kind = job.problem_kind if job.problem_kind in KINDS else "internal"
        headers = {"Retry-After": "5"} if KINDS[kind].status == 503 else {}
        return HttpProblem(kind, job.problem_detail or "The job failed.", headers)
    return HttpProblem(
        "not-done",
        f"The job is {job.state}. Ask again later, or follow GET /jobs/{job.id}/events.",
        {"Retry-After": "2"},
    )


async def answer(
    service: Service, job: Job, form: Format, *, after: Callable[[], Awaitable[None]] | None = None
) -> Answer:
    """Write a job's answer, unless it is there already, and return the response that sends it.

    Raises
    ------
    HttpProblem
        When the job has no result, or it cannot be written.
    """
    if job.state != "done":
        raise refuse(job)
    folder = service.store.path(job.id)
    path, hash_path = folder / f"answer.{form.name}", folder / f"answer.{form.name}.sha256"
    started = time.perf_counter()
    if not hash_path.exists():
        digest = await service.codec.encode({"folder": str(folder), "form": form.name, "target": str(path)})
        hash_path.write_text(digest)
    seconds = time.perf_counter() - started
    service.metrics.stage("write", seconds)
    timings = {**job.timings, "write": seconds}
    headers = {
        "X-Skinoct-Model": job.model,
        "X-Skinoct-Model-Sha256": job.model_sha256,
        "X-Skinoct-Input-Sha256": job.input_sha256,
        "Repr-Digest": f"sha-256=:{base64.b64encode(bytes.fromhex(hash_path.read_text())).decode()}:",
        "Content-Disposition": f'attachment; filename="{form.file_name}"',
        "Server-Timing": ", ".join(f"{stage};dur={value * 1000:.1f}" for stage, value in timings.items()),
        "Vary": "Accept",
    }
    return Answer(path, form, headers, after)
