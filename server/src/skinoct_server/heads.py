"""``HEAD``: what GET would answer, without its body (RFC 9110, section 9.3.2)."""

from __future__ import annotations

import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_WORK = re.compile(r"/jobs/[^/]+/(result|events)")


def answers_head(path: str) -> bool:
    """Whether HEAD is answered where GET is: not where an answer would be written, or a job followed, for nobody."""
    return _WORK.fullmatch(path) is None


class Heads:
    """Answer HEAD as the routes answer GET."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or scope["method"] != "HEAD" or not answers_head(scope["path"]):
            await self.app(scope, receive, send)
            return
        inner = {**scope, "method": "GET"}  # a copy: uvicorn looks at its own to know that no body may follow

        async def send_head(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        try:
            await self.app(inner, receive, send_head)
        finally:
            scope.update({**inner, "method": "HEAD"})  # the route, for log and metrics
