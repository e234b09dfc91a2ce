"""Messages between server and clients; both sides import these and nothing else of each other."""

from __future__ import annotations

from typing import Literal

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
    """Of all that decides an answer: the weights, and the card's settings for using them."""
    weights_sha256: str = ""
    """Of the weights alone, ``model.safetensors``."""
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


JobState = Literal["queued", "running", "done", "failed", "cancelled"]
FINAL_STATES: frozenset[JobState] = frozenset({"done", "failed", "cancelled"})
"""A job in one of these never changes again."""


class JobStatus(Message):
    """Answer of ``GET /jobs/{id}`` and data of every event of ``GET /jobs/{id}/events``."""

    id: str
    state: JobState
    position: int | None = None
    """Jobs that go first; None unless queued."""
    slices_done: int = 0
    slices_total: int | None = None
    """None until the tomogram has been read."""
    seconds_left: float | None = None
    """Estimate from the speed of the last jobs; None when there is nothing to estimate from."""
    detail: str
    """Where the job stands, in a sentence."""
    problem: Problem | None = None
    """Why a job failed or was cancelled."""
    model: str
    model_sha256: str
    input_sha256: str
    """Of the bytes that were uploaded."""
    created: float
    """Unix time, seconds."""
    expires: float | None = None
    """Unix time after which job and result are gone; None until it has finished."""


class DefaultModel(Message):
    """Body of ``PUT /models/default``."""

    name: str


class Readiness(Message):
    """Answer of ``GET /readyz`` when requests are served."""

    status: Literal["ready"] = "ready"
    model: str
    device: str
    """Engine and hardware that segment."""
    jobs: int
    """Tomograms that are uploading, waiting or being segmented."""
