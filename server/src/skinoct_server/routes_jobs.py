"""Jobs: post a tomogram, follow it, fetch the answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from skinoct.wire import JobStatus
from skinoct_server.answers import answer, unknown
from skinoct_server.deps import CallerDep, ServiceDep, require_ready
from skinoct_server.describe import ANSWERS, UPLOAD_BODY, UPLOAD_PROBLEMS, responses
from skinoct_server.formats import wanted
from skinoct_server.intake import IdempotencyKey, accept
from skinoct_server.jobs import Job
from skinoct_server.keys import Caller
from skinoct_server.parameters import ParametersDep
from skinoct_server.service import Service

router = APIRouter(prefix="/jobs", tags=["jobs"])

JobId = Annotated[str, Path(description="From the answer of `POST /jobs`.", max_length=64)]


async def _find(service: Service, caller: Caller, job_id: str) -> Job:
    """Return a caller's job; another key's job is as unknown as one that never was."""
    job = await service.queue.find(job_id)
    if job is None or job.ephemeral or (caller.keyed and not caller.admin and job.owner != caller.owner):
        raise unknown(service, job_id)
    return job


@router.post(
    "",
    status_code=202,
    summary="Post a tomogram as a job",
    responses={
        202: {"headers": {"Location": {"description": "Address of the job.", "schema": {"type": "string"}}}},
        **responses(*UPLOAD_PROBLEMS, "idempotency-key-reused"),
    },
    openapi_extra=UPLOAD_BODY,
    dependencies=[Depends(require_ready)],
)
async def post(
    request: Request,
    response: Response,
    service: ServiceDep,
    caller: CallerDep,
    parameters: ParametersDep,
    idempotency_key: IdempotencyKey = None,
) -> JobStatus:
    """Send the tomogram as the body; the answer tells where to follow the job. Jobs survive a restart."""
    job = await accept(request, service, caller, parameters, idempotency_key=idempotency_key)
    response.headers["Location"] = f"/jobs/{job.id}"
    return service.queue.status(job)


@router.get("/{job_id}", summary="How a job stands", responses=responses("unauthorized", "unknown-job"))
async def get(job_id: JobId, service: ServiceDep, caller: CallerDep) -> JobStatus:
    """Tell state, position in the queue, slices done and an estimate of the time left."""
    return service.queue.status(await _find(service, caller, job_id))


async def _visible(job_id: JobId, service: ServiceDep, caller: CallerDep) -> Job:
    return await _find(service, caller, job_id)


@router.get(
    "/{job_id}/events",
    summary="Follow a job (server-sent events)",
    response_class=EventSourceResponse,
    responses=responses("unauthorized", "unknown-job"),
)
async def events(job: Annotated[Job, Depends(_visible)], service: ServiceDep) -> AsyncIterator[ServerSentEvent]:
    """Send the job's status at once and at every change; events are named after the state."""
    async for status in service.queue.follow(job.id):
        if status is None:
            yield ServerSentEvent(comment="still there")
        else:
            yield ServerSentEvent(event=status.state, raw_data=status.model_dump_json())


@router.get(
    "/{job_id}/result",
    summary="The answer of a finished job",
    response_class=Response,
    responses={
        200: ANSWERS,
        **responses(
            "unauthorized",
            "unknown-job",
            "not-acceptable",
            "not-done",
            "job-cancelled",
            "invalid-tomogram",
            "engine-failed",
            "encode-failed",
            "disk-full",
        ),
    },
)
async def result(job_id: JobId, request: Request, service: ServiceDep, caller: CallerDep) -> Response:
    """Send the answer in the format that `Accept` asks for, or the problem that the job ended with."""
    job = await _find(service, caller, job_id)
    return await answer(service, job, wanted(request.headers))


@router.delete(
    "/{job_id}",
    status_code=204,
    summary="Cancel a job",
    responses=responses("unauthorized", "forbidden", "unknown-job"),
)
async def delete(job_id: JobId, service: ServiceDep, caller: CallerDep) -> None:
    """Cancel a job that has not finished (the engine stops after its batch), or remove a finished one."""
    job = await _find(service, caller, job_id)
    if job.final:
        await service.queue.remove(job.id)
    else:
        await service.queue.cancel(job.id, "The job was cancelled.")
