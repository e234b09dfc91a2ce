"""uvicorn's HTTP/1.1 with what it lacks: deadlines, a cap on connections, problems for bad requests."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from skinoct_server.problems import MEDIA_TYPE, problem_of
from skinoct_server.settings import Settings

_DISCARD_SECONDS = 60.0
"""How long the rest of a refused upload is read and dropped, so that its client gets to see the answer."""


class GuardedProtocol(H11Protocol):
    """One connection."""

    settings: Settings

    _deadline: asyncio.TimerHandle | None = None
    _write_deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock for the first request, or refuse the connection."""
        super().connection_made(transport)
        if len(self.connections) > self.settings.max_connections:
            most = self.settings.max_connections
            self._answer(
                "too-many-connections",
                f"{most} connections are open, all that this server takes (setting max_connections). Retry in 5 s.",
                {"Retry-After": "5"},
            )
            return
        self._arm(self.settings.header_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks."""
        self._disarm()
        self._disarm_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Keep the clock running until a request's headers are complete, and again after its answer."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._disarm()
        elif self._deadline is None:
            self._arm(self.settings.header_seconds if self.conn.their_state is h11.IDLE else _DISCARD_SECONDS)

    def on_response_complete(self) -> None:
        """Give the rest of an upload that nobody reads, and the next request, a deadline of their own."""
        super().on_response_complete()
        if self.conn.their_state is not h11.IDLE and not self.transport.is_closing():
            self._arm(_DISCARD_SECONDS)

    def pause_writing(self) -> None:
        """Give a client that does not take its answer a deadline."""
        super().pause_writing()
        self._disarm_writing()
        self._write_deadline = self.loop.call_later(self.settings.body_idle_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop that clock: the client took some of its answer."""
        self._disarm_writing()
        super().resume_writing()

    def _disarm_writing(self) -> None:
        if self._write_deadline is not None:
            self._write_deadline.cancel()
            self._write_deadline = None

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP with a problem, like everything else."""
        self._answer("bad-request", f"{msg} Send a well-formed HTTP/1.1 request.", {})

    def _answer(self, kind: str, detail: str, extra: dict[str, str]) -> None:
        """Answer with a problem before there is a request, and close."""
        problem = problem_of(kind, detail)
        body = problem.model_dump_json(exclude_none=True).encode()
        headers = {"Content-Type": MEDIA_TYPE, "Content-Length": str(len(body)), "Connection": "close", **extra}
        try:
            for event in (
                h11.Response(status_code=problem.status, headers=list(headers.items())),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        except h11.LocalProtocolError:  # an answer is on its way already
            pass
        self.transport.close()

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._deadline = self.loop.call_later(seconds, self._expire)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expire(self) -> None:
        self._deadline = None
        self.transport.abort()


def guarded_protocol(settings: Settings) -> type[asyncio.Protocol]:
    """Return the protocol class for these settings, as ``uvicorn.Config(http=...)`` takes it."""
    attributes: dict[str, Any] = {"settings": settings}
    return type("GuardedProtocol", (GuardedProtocol,), attributes)
