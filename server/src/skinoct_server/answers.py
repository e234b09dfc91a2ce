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

    def __init__(self, path: Path, form: Format, headers: dict[str, str], after: Callable[[], Awaitable[None]]):
        super().__init__(path, media_type=form.media_type, headers={**headers, "Accept-Ranges": "none"})
        self._after = after

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file, always as a whole: Starlette answers ranges that it cannot send without a problem."""
        scope = {**scope, "headers": [(name, value) for name, value in scope["headers"] if name != b"range"]}
        try:
            await super().__call__(scope, receive, send)
        finally:
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


def unknown(service: Service, job_id: str) -> HttpProblem:
    """Return the problem of a job that there is not, or no more."""
    hours = service.settings.result_seconds / 3600
    return HttpProblem(
        "unknown-job",
        f"There is no job {job_id[:64]!r}. Results go {hours:g} h after they are done; post the tomogram again.",
    )


async def answer(
    service: Service, job: Job, form: Format, *, after: Callable[[], Awaitable[None]] | None = None
) -> Answer:
    """Write a job's answer, unless it is there already, and return the response that sends it.

    Its files stay until they are sent, also when the job is removed meanwhile.

    Raises
    ------
    HttpProblem
        When the job has no result or is gone, or the answer cannot be written.
    """
    if job.state != "done":
        raise refuse(job)
    if not await service.queue.hold(job.id):
        raise unknown(service, job.id)

    async def sent() -> None:
        await service.queue.release(job.id)
        if after is not None:
            await after()

    try:
        path = service.store.path(job.id) / f"answer.{form.name}"
        return Answer(path, form, await _write(service, job, form, path), sent)
    except BaseException:
        await asyncio.shield(service.queue.release(job.id))
        raise


async def _write(service: Service, job: Job, form: Format, path: Path) -> dict[str, str]:
    """Write an answer, unless it is there already; returns its headers."""
    hash_path = path.with_name(f"{path.name}.sha256")
    started = time.perf_counter()
    if not hash_path.exists():
        digest = await service.codec.encode({"folder": str(path.parent), "form": form.name, "target": str(path)})
        hash_path.write_text(digest)
    seconds = time.perf_counter() - started
    service.metrics.stage("write", seconds)
    timings = {**job.timings, "write": seconds}
    return {
        "X-Skinoct-Model": job.model,
        "X-Skinoct-Model-Sha256": job.model_sha256,
        "X-Skinoct-Input-Sha256": job.input_sha256,
        "Repr-Digest": f"sha-256=:{base64.b64encode(bytes.fromhex(hash_path.read_text())).decode()}:",
        "Content-Disposition": f'attachment; filename="{form.file_name}"',
        "Server-Timing": ", ".join(f"{stage};dur={value * 1000:.1f}" for stage, value in timings.items()),
        "Vary": "Accept",
    }
