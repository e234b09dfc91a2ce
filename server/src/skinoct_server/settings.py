"""Everything an operator can set, with its default and what it is for.

Each field is a command line option of ``skinoct-server serve`` and an environment variable
``SKINOCT_SERVER_<NAME>``. Nothing about a model is set here: a checkpoint describes itself.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

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
    """Address to listen on. Anything but loopback needs ``api_key_file`` or ``insecure``."""
    port: int = Field(default=8000, ge=0, le=65535)
    """Port to listen on; 0 takes a free one."""
    models: Path | None = None
    """Folder of checkpoint folders; None takes the ones shipped with skinoct."""
    model: str | None = None
    """Name of the default model; None takes the newest shipped one."""
    data_dir: Path | None = None
    """Where uploads, jobs and results live. None takes a temporary folder that goes with the server."""

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
    """CPU threads of the engine; None lets it choose."""
    batch: int | None = Field(default=None, ge=1)
    """Slices per batch; None lets the engine choose."""
    device: str | None = None
    """Engine to use (see skinoct.engines); None takes the best one of this machine."""

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
    """File of hashed API keys, written by ``skinoct-server key``."""
    insecure: bool = False
    """Serve an address that others can reach, without keys."""
    requests_per_minute: int = Field(default=600, ge=1)
    """Uploads that one key (or address) may start in a minute."""
    queue_share: float = Field(default=0.5, gt=0, le=1)
    """Part of ``max_pending_jobs`` and ``max_pending_bytes`` that one key may hold where keys are used."""
    cors_origins: tuple[str, ...] = ()
    """Origins of web pages that may call this server; none by default."""
    ssl_certfile: Path | None = None
    """Certificate chain (PEM) for HTTPS."""
    ssl_keyfile: Path | None = None
    """Private key (PEM) of ``ssl_certfile``."""
    log_json: bool = False
    """Log one JSON object a line instead of text."""


def field_help() -> dict[str, str]:
    """Return the sentence under each field of ``Settings``, for ``--help``."""
    return {name: field.description or "" for name, field in Settings.model_fields.items()}
