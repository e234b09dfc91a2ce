"""Pure ASGI around everything: request ids, last-resort errors, logs and metrics of requests, small bodies.

Not ``@app.middleware("http")``, behind which a client's going away is never seen.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from skinoct_server.admission import size_text
from skinoct_server.metrics import Metrics
from skinoct_server.problems import problem_of, response_of
from skinoct_server.settings import Settings

log = logging.getLogger("skinoct_server.requests")
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
CLIENT_GONE = 499
"""Status, in logs and metrics, of a request whose client went away before its answer."""
UPLOADS = frozenset({("POST", "/segment"), ("POST", "/jobs")})
SMALL_BODY_BYTES = 64 * 1024
"""Largest body of every call that takes no tomogram."""


class RequestContext:
    """Give each request an id, answer crashes with a problem, log what happened."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _ID.fullmatch(given) else uuid.uuid4().hex
        scope["skinoct.request_id"] = request_id
        started, status = time.perf_counter(), 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except ClientDisconnect:
            status = CLIENT_GONE  # in the middle of its upload; nobody is there to read an answer
        except Exception:
            log.exception("request failed", extra={"request_id": request_id})
            if status:
                raise
            scope["skinoct.problem"] = "internal"
            text = "The server failed on this request. Please report it with the request id in `instance`."
            await response_of(problem_of("internal", text, request_id))(scope, receive, send_with_id)
        finally:
            self._note(scope, request_id, status, time.perf_counter() - started)

    def _note(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        route = scope.get("route")
        path = getattr(route, "path", "other")  # never the raw path: it is unbounded and a client's own words
        self.metrics.request(scope["method"], path, status, seconds)
        problem = {"problem": scope["skinoct.problem"]} if "skinoct.problem" in scope else {}
        if problem:
            self.metrics.problems.labels(problem["problem"]).inc()
        level = logging.DEBUG if path in ("/healthz", "/readyz", "/metrics") else logging.INFO
        fields = {"request_id": request_id, "method": scope["method"], "path": path, "status": status}
        log.log(level, "request", extra={**fields, **problem, "seconds": round(seconds, 4)})


class SmallBodies:
    """Bound in size and time every body that is no tomogram.

    The framework reads such a body into memory before it asks for a key, so that without this anybody could fill it.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or (scope["method"], scope["path"]) in UPLOADS:
            await self.app(scope, receive, send)
            return
        count, end = 0, time.monotonic() + self.settings.body_idle_seconds

        async def receive_small() -> Message:
            nonlocal count
            if count < 0:  # the whole body is here: what comes next is that the client goes away
                return await receive()
            try:
                async with asyncio.timeout(max(0.0, end - time.monotonic())):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, self._too_slow(), {"Connection": "close"}) from None
            count += len(message.get("body", b""))
            if count > SMALL_BODY_BYTES:
                raise HTTPException(413, _TOO_LARGE)
            if not message.get("more_body", False):
                count = -1
            return message

        await self.app(scope, receive_small, send)

    def _too_slow(self) -> str:
        return f"The body did not come within {self.settings.body_idle_seconds:g} s (setting body_idle_seconds)"


_TOO_LARGE = (
    f"Only POST /segment and POST /jobs take tomograms; the body of any other call has at most "
    f"{size_text(SMALL_BODY_BYTES)}"
)
