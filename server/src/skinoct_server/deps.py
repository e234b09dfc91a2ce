"""What routes ask for: the service, who calls, and that the server is ready."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from skinoct_server.keys import Caller, identify
from skinoct_server.problems import HttpProblem
from skinoct_server.service import Service


def get_service(request: Request) -> Service:
    """Return the running service."""
    service: Service = request.app.state.service
    return service


ServiceDep = Annotated[Service, Depends(get_service)]


def get_caller(request: Request, service: ServiceDep) -> Caller:
    """Return who asks; where keys are used, only who has one gets on.

    Raises
    ------
    HttpProblem
        ``unauthorized``.
    """
    if not service.keys:
        host = request.client.host if request.client else "local"
        return Caller(host, admin=True, keyed=False)
    caller = identify(service.keys, request.headers.get("authorization"))
    if caller is None:
        raise HttpProblem(
            "unauthorized",
            "This server needs an API key in the header `Authorization: Bearer KEY`. Ask whoever runs it for one.",
            {"WWW-Authenticate": "Bearer"},
        )
    return caller


CallerDep = Annotated[Caller, Depends(get_caller)]


def get_admin(caller: CallerDep) -> Caller:
    """Return the caller if it is an admin.

    Raises
    ------
    HttpProblem
        ``forbidden``.
    """
    if not caller.admin:
        raise HttpProblem("forbidden", f"The key {caller.owner} is not an admin key, which this call needs.")
    return caller


AdminDep = Annotated[Caller, Depends(get_admin)]


def require_ready(service: ServiceDep) -> None:
    """Let a request on only while the server takes tomograms.

    Raises
    ------
    HttpProblem
        ``shutting-down``. A server that still starts takes jobs and lets them wait.
    """
    if service.queue.draining:
        raise HttpProblem("shutting-down", "The server is stopping. Retry in a minute.", {"Retry-After": "60"})
    if service.registry.default is None:
        reason = service.why_not_ready() or "The server is starting."
        raise HttpProblem("not-ready", f"{reason} Retry in a few seconds.", {"Retry-After": "3"})
