"""From a request to an accepted job: admission, upload, idempotency. Shared by /segment and /jobs."""

from __future__ import annotations

import asyncio
import shutil
import time
import uuid
from typing import Annotated

from fastapi import Header, Request

from skinoct_server.admission import Ticket
from skinoct_server.jobs import UPLOAD, Job
from skinoct_server.keys import Caller
from skinoct_server.parameters import Parameters, with_fields
from skinoct_server.service import Service
from skinoct_server.uploads import Receiver, Upload, declared_length

IdempotencyKey = Annotated[
    str | None,
    Header(
        description="Any text that is new for each tomogram: a repeated request gets the same job, unless that was "
        "cancelled or failed with a 5xx.",
        min_length=1,
        max_length=200,
    ),
]


async def accept(
    request: Request,
    service: Service,
    caller: Caller,
    parameters: Parameters,
    *,
    idempotency_key: str | None = None,
    ephemeral: bool = False,
) -> Job:
    """Admit, receive and queue the tomogram of a request; returns its job, or the older one of a repetition.

    Raises
    ------
    HttpProblem, RequestValidationError
        When it is not admitted or cannot be received, or a form asks for what there is not.
    starlette.requests.ClientDisconnect
        When the client goes away.
    """
    model = service.registry.find(parameters.model)
    ticket = service.admission.admit(caller.owner, declared_length(request))
    job_id = uuid.uuid4().hex
    kept = False
    try:
        started = time.perf_counter()
        upload = await _receive(request, service, ticket, job_id)
        chosen = with_fields(parameters, upload.fields, request.query_params)
        if chosen.model != parameters.model:
            model = service.registry.find(chosen.model)
        job = Job(
            id=job_id,
            owner=caller.owner,
            model=model.name,
            model_sha256=model.sha256,
            decode=chosen.decode,
            pixel_size_um=chosen.pixel_size_um,
            name=upload.name,
            size=upload.size,
            input_sha256=upload.sha256,
            ephemeral=ephemeral,
            idempotency_key=idempotency_key,
            fingerprint=f"{upload.sha256} {chosen.model} {chosen.pixel_size_um} {chosen.decode}",
            timings={"upload": time.perf_counter() - started},
        )
        service.metrics.bytes_in.inc(upload.size)
        accepted = await service.queue.submit(job, ticket)
        kept = accepted is job
        return accepted
    finally:
        if not kept:
            service.admission.release(ticket)
            await asyncio.to_thread(shutil.rmtree, service.store.path(job_id), True)


async def _receive(request: Request, service: Service, ticket: Ticket, job_id: str) -> Upload:
    folder = service.store.path(job_id)
    folder.mkdir()
    receiver = Receiver(request, service.admission, ticket, closed=lambda: service.queue.closed)
    return await receiver.receive(folder / UPLOAD)
