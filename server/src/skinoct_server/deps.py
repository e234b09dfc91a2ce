"""What routes ask for: the service, who calls, and that the server is ready."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request

from skinoct_server.keys import Caller, identify, is_loopback
from skinoct_server.problems import HttpProblem
from skinoct_server.service import Service
from skinoct_server.settings import Settings


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
        ``unauthorized``, or ``forbidden`` for a web page from elsewhere.
    """
    if not service.keys:
        _refuse_foreign_page(request, service.settings)
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


def _refuse_foreign_page(request: Request, settings: Settings) -> None:
    """Keep web pages from using a server that only this machine reaches, and that asks for no key.

    A browser here lets any page that it shows post to this address, even if the page never sees the answer; and a page
    whose name its owner has turned into this address sees it, too.
    """
    origin = request.headers.get("origin")
    if origin is None or request.method == "GET" or origin in settings.cors_origins or not is_loopback(settings.host):
        return
    try:
        known = is_loopback(urlsplit(origin).hostname)
    except ValueError:
        known = False
    if not known:
        raise HttpProblem(
            "forbidden",
            f"The web page {origin[:100]!r} may not use this server. Name it with --cors-origins, or serve with keys.",
        )


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
