"""``POST /segment``, models, health: everything but jobs."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Depends, Request, Response

from skinoct import __version__
from skinoct.wire import DefaultModel, ModelInfo, Readiness, ServerInfo
from skinoct_server.answers import Answer, answer
from skinoct_server.deps import AdminDep, CallerDep, ServiceDep, require_ready
from skinoct_server.describe import ANSWERS, UPLOAD_BODY, UPLOAD_PROBLEMS, responses
from skinoct_server.formats import wanted
from skinoct_server.intake import accept
from skinoct_server.middleware import CLIENT_GONE
from skinoct_server.parameters import ParametersDep
from skinoct_server.problems import HttpProblem

router = APIRouter()


@router.post(
    "/segment",
    summary="Segment a tomogram and wait for the answer",
    response_class=Response,
    responses={
        200: ANSWERS,
        **responses(*UPLOAD_PROBLEMS, "not-acceptable", "encode-failed", "engine-failed"),
    },
    openapi_extra=UPLOAD_BODY,
    dependencies=[Depends(require_ready)],
    tags=["segment"],
)
async def segment(request: Request, service: ServiceDep, caller: CallerDep, parameters: ParametersDep) -> Response:
    """Send the tomogram as the body; `Accept` picks the answer. Closing the connection cancels it."""
    form = wanted(request.headers)
    job = await accept(request, service, caller, parameters, ephemeral=True)
    sent: Answer | None = None

    async def forget() -> None:
        await service.queue.cancel(job.id, "The client went away.")
        await service.queue.wait(job.id)
        await service.queue.remove(job.id)

    try:
        if not await _finished(request, service, job.id):
            return Response(status_code=CLIENT_GONE)  # nobody is there to read it
        sent = await answer(service, job, form, after=forget)
        return sent
    finally:
        if sent is None:
            await asyncio.shield(forget())


async def _finished(request: Request, service: ServiceDep, job_id: str) -> bool:
    """Wait until the job has finished; False when the client goes away first."""
    done = asyncio.create_task(service.queue.wait(job_id))
    gone = asyncio.create_task(_disconnect(request))
    try:
        await asyncio.wait({done, gone}, return_when=asyncio.FIRST_COMPLETED)
        return done.done()
    finally:
        done.cancel()
        gone.cancel()


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


@router.get("/models", summary="Models of this server", tags=["models"], responses=responses("unauthorized"))
async def models(service: ServiceDep, _caller: CallerDep) -> list[ModelInfo]:
    """List the models that can be used, the default one first."""
    return service.registry.list()


@router.get(
    "/models/{name}",
    summary="One model",
    tags=["models"],
    responses=responses("unauthorized", "unknown-model", "invalid-checkpoint"),
)
async def model(name: str, service: ServiceDep, _caller: CallerDep) -> ModelInfo:
    """Describe a model, or say why it cannot be used."""
    return service.registry.find(name)


@router.put(
    "/models/default",
    summary="Choose the default model (admin)",
    tags=["models"],
    responses=responses(
        *("bad-request", "unauthorized", "forbidden", "unknown-model", "upload-timeout", "too-large"),
        *("invalid-request", "invalid-checkpoint", "disk-full"),
    ),
)
async def set_default(body: DefaultModel, service: ServiceDep, _admin: AdminDep) -> ModelInfo:
    """Switch the model of requests that name none; requests that wait keep the one they came for."""
    return service.registry.choose(body.name)


@router.get("/healthz", summary="Is the server alive?", tags=["health"])
async def healthz() -> ServerInfo:
    """Answer at once, also while a tomogram is segmented."""
    return ServerInfo(version=__version__)


@router.get("/readyz", summary="Does the server take tomograms?", tags=["health"], responses=responses("not-ready"))
async def readyz(service: ServiceDep) -> Readiness:
    """Answer 200 when a request would be served now."""
    reason = service.why_not_ready()
    if reason is not None:
        kind = "shutting-down" if service.queue.draining else "not-ready"
        raise HttpProblem(kind, reason, {"Retry-After": "3"})
    return Readiness(model=service.registry.default or "", device=service.engine.device, jobs=service.admission.jobs)


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    tags=["health"],
    response_class=Response,
    responses=responses("unauthorized"),
)
async def metrics(service: ServiceDep, _caller: CallerDep) -> Response:
    """Queue, waiting, time of each stage, bytes, cancellations, failures by kind."""
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
