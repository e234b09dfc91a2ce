"""Pure ASGI around everything: request ids, last-resort errors, logs and metrics of requests.

Not ``@app.middleware("http")``, behind which a client's going away is never seen.
"""

from __future__ import annotations

import logging
import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from skinoct_server.metrics import Metrics
from skinoct_server.problems import problem_of, response_of

log = logging.getLogger("skinoct_server.requests")
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


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
        except Exception:
            log.exception("request failed", extra={"request_id": request_id})
            if status:
                raise
            text = "The server failed on this request. Please report it with the request id in `instance`."
            await response_of(problem_of("internal", text, request_id))(scope, receive, send_with_id)
        finally:
            self._note(scope, request_id, status, time.perf_counter() - started)

    def _note(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        route = scope.get("route")
        path = getattr(route, "path", "other")  # never the raw path: it is unbounded and a client's own words
        self.metrics.request(scope["method"], path, status, seconds)
        level = logging.DEBUG if path in ("/healthz", "/readyz", "/metrics") else logging.INFO
        fields = {"request_id": request_id, "method": scope["method"], "path": path, "status": status}
        log.log(level, "request", extra={**fields, "seconds": round(seconds, 4)})
