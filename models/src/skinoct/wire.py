"""Messages between server and clients; both sides import these and nothing else of each other."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

API_VERSION = 1
"""Raised when a client of the older number could misread an answer."""


class Message(BaseModel):
    """Base of all messages: closed and frozen."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Problem(Message):
    """RFC 9457 problem details."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    """What is wrong and what to do, for a researcher."""
    instance: str | None = None
    """Request id, to quote when asking for help."""


class ModelInfo(Message):
    """One model of a server."""

    name: str
    sha256: str
    default: bool
    description: str
    pixel_size_um: float
    """Pixel size the network was trained at."""
    classes: list[str] = Field(default_factory=list)
    intended_use: str = ""


class ServerInfo(Message):
    """Answer of ``GET /healthz``: enough for a client to know whom it speaks to."""

    service: str = "skinoct-server"
    version: str
    api_version: int = API_VERSION
    status: str = "ok"
