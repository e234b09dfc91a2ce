"""Everything an operator can set, with its default and what it is for.

Each field is a command line option of ``skinoct-server serve`` and an environment variable
``SKINOCT_SERVER_<NAME>``. Nothing about a model is set here: a checkpoint describes itself.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

MIB = 1 << 20
GIB = 1 << 30


class Settings(BaseSettings):
    """Settings of one server; closed and frozen."""

    model_config = SettingsConfigDict(
        env_prefix="SKINOCT_SERVER_",
        frozen=True,
        extra="forbid",
        env_parse_none_str="",
        use_attribute_docstrings=True,
    )

    host: str = "127.0.0.1"
    """Address to listen on. Anything but loopback needs --api-key-file or --insecure."""
    port: int = Field(default=8000, ge=0, le=65535)
    """Port to listen on; 0 takes a free one."""
    models: Path | None = None
    """Folder of checkpoint folders. Left out: the ones shipped with skinoct."""
    model: str | None = None
    """Name of the default model. Left out: the newest phantom-vN, else the first by name."""
    data_dir: Path | None = None
    """Where uploads, jobs and results live. Left out: a temporary folder that goes with the server."""

    max_upload_bytes: int = Field(default=2 * GIB, ge=1)
    """Largest request body, by declared and by counted length."""
    max_decoded_bytes: int = Field(default=8 * GIB, ge=1)
    """Largest tomogram once decompressed."""
    max_pending_bytes: int = Field(default=4 * GIB, ge=1)
    """Bytes of all tomograms that are uploading, waiting or being segmented."""
    max_pending_jobs: int = Field(default=256, ge=1)
    """Number of tomograms that are uploading, waiting or being segmented."""
    min_free_disk_bytes: int = Field(default=512 * MIB, ge=0)
    """Uploads are refused while the data folder's disk would be left with less than this."""

    decode_memory_bytes: int = Field(default=GIB, ge=64 * MIB)
    """Memory that reading one upload or writing one answer may take."""
    decode_seconds: float = Field(default=120.0, gt=0)
    """Time that reading one upload or writing one answer may take."""
    codec_workers: int = Field(default=2, ge=1, le=64)
    """Uploads read and answers written at the same time."""
    stall_seconds: float = Field(default=180.0, gt=0)
    """The engine is restarted after this long without progress."""
    max_attempts: int = Field(default=2, ge=1)
    """How often a tomogram is tried when the engine dies on it."""
    threads: int | None = Field(default=None, ge=1)
    """CPU threads of the engine. Left out: it chooses."""
    batch: int | None = Field(default=None, ge=1)
    """Slices per batch. Left out: the engine chooses."""
    device: str | None = None
    """Engine to use, torch or openvino. Left out: the best one of this machine."""

    result_seconds: float = Field(default=24 * 3600.0, gt=0)
    """How long a finished job and its result stay."""
    drain_seconds: float = Field(default=30.0, ge=0)
    """How long running requests may go on after SIGTERM."""
    header_seconds: float = Field(default=15.0, gt=0)
    """Time for a connection to send the headers of its request."""
    body_idle_seconds: float = Field(default=30.0, gt=0)
    """Longest pause within an upload."""
    body_seconds: float = Field(default=1800.0, gt=0)
    """Time for a whole upload."""
    max_connections: int = Field(default=1024, ge=1)
    """Connections open at the same time."""

    api_key_file: Path | None = None
    """File of hashed API keys, written by "skinoct-server key"."""
    insecure: bool = False
    """Serve an address that others can reach, without keys."""
    requests_per_minute: int = Field(default=600, ge=1)
    """Uploads that one key (or address) may start in a minute."""
    queue_share: float = Field(default=0.5, gt=0, le=1)
    """Part of --max-pending-jobs and --max-pending-bytes that one key may hold where keys are used."""
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Origins of web pages that may call this server, as https://lab.example; in the environment
    variable with commas between them. Left out: none."""
    ssl_certfile: Path | None = None
    """Certificate chain (PEM) for HTTPS."""
    ssl_keyfile: Path | None = None
    """Private key (PEM) of --ssl-certfile."""
    log_json: bool = False
    """Log one JSON object a line instead of text."""

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _at_commas(cls, value: object) -> object:
        """Take apart what an environment variable holds."""
        if value is None:
            return ()
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """Refuse what no browser would ever send as an origin: it would let nobody in, and not say why."""
        for origin in value:
            if not re.fullmatch(r"\*|null|[a-z][a-z0-9+.-]*://[^/\s\"',]+", origin):
                raise ValueError(f"{origin!r} is no origin: give scheme, name and port alone, as https://lab.example")
        return value


def field_help() -> dict[str, str]:
    """Return the sentence under each field of ``Settings``, for ``--help``."""
    return {name: field.description or "" for name, field in Settings.model_fields.items()}
