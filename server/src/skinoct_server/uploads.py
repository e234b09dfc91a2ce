"""Request bodies to files: counted, hashed, with deadlines, and never whole in memory."""

from __future__ import annotations

import asyncio
import errno
import hashlib
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from fastapi import Request

from skinoct_server.admission import Admission, Ticket
from skinoct_server.codec_client import disk_full
from skinoct_server.forms import FormFile
from skinoct_server.problems import HttpProblem

_CHUNK = 512 * 1024
_NAME_LIMIT = 100
UPLOADED = "the uploaded tomogram"


@dataclass(frozen=True)
class Upload:
    """A body on disk."""

    name: str
    """What errors call it. Never used in a path."""
    size: int
    sha256: str
    fields: Mapping[str, str]
    """Text fields of its form."""


def declared_length(request: Request) -> int | None:
    """Return ``Content-Length``, or None for a chunked body.

    Raises
    ------
    HttpProblem
        ``unsupported-encoding`` when the body is compressed as a whole.
    """
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding not in ("", "identity"):
        raise HttpProblem(
            "unsupported-encoding",
            f"The upload is compressed ({encoding[:40]}), which this server does not take. Send the file "
            "as it is; "
            "compression inside a TIFF is fine.",
        )
    length = request.headers.get("content-length")
    return int(length) if length is not None and length.isdigit() else None


class Receiver:
    """Takes one request's body into a file."""

    def __init__(
        self, request: Request, admission: Admission, ticket: Ticket, closed: Callable[[], bool] = lambda: False
    ) -> None:
        self.request = request
        self.closed = closed
        self.admission = admission
        self.ticket = ticket
        self.settings = admission.settings

    async def receive(self, path: Path) -> Upload:
        """Write the tomogram of the body to ``path``.

        Raises
        ------
        HttpProblem
            When the body is empty, too large, too slow, not what a form should be, the disk is full, or the server
            stops.
        starlette.requests.ClientDisconnect
            When the client goes away.
        """
        try:
            content_type = self.request.headers.get("content-type", "")
            if not content_type.lower().startswith("multipart/form-data"):
                return _upload(UPLOADED, *await self._store(self._chunks(), path), {})
            form = FormFile(content_type)
            size, digest = await self._store(form.pieces(self._chunks()), path)
            return _upload(_safe_name(form.file_name), size, digest, form.fields)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise disk_full() from None

    async def _chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the body, counting it against the budget."""
        count = 0
        stream = self.request.stream()
        loop = asyncio.get_running_loop()
        end = loop.time() + self.settings.body_seconds
        while True:
            try:
                async with asyncio.timeout_at(min(end, loop.time() + self.settings.body_idle_seconds)):
                    chunk = await anext(stream, None)
            except TimeoutError:
                raise HttpProblem(
                    "upload-timeout",
                    f"The upload stalled for {self.settings.body_idle_seconds:g} s (setting body_idle_seconds) or took "
                    f"more than {self.settings.body_seconds:g} s (setting body_seconds). Send it again.",
                    {"Connection": "close"},
                ) from None
            if chunk is None:
                return
            if self.closed():
                raise HttpProblem("shutting-down", "The server is stopping. Retry in a minute.", {"Retry-After": "60"})
            count += len(chunk)
            self.admission.grow(self.ticket, count)
            yield chunk

    async def _store(self, pieces: AsyncGenerator[bytes, None], path: Path) -> tuple[int, str]:
        """Write pieces to a file in larger ones, on a thread; returns size and sha256."""
        digest, size, buffer = hashlib.sha256(), 0, bytearray()
        with path.open("wb") as file:
            async for piece in pieces:
                buffer += piece
                if len(buffer) >= _CHUNK:
                    size += len(buffer)
                    await asyncio.to_thread(_put, file, digest, buffer)
                    buffer = bytearray()
            size += len(buffer)
            await asyncio.to_thread(_put, file, digest, buffer)
        return size, digest.hexdigest()


def _put(file: BinaryIO, digest: hashlib._Hash, data: bytearray) -> None:
    file.write(data)
    digest.update(data)


def _upload(name: str, size: int, sha256: str, fields: Mapping[str, str]) -> Upload:
    if size == 0:
        raise HttpProblem(
            "empty",
            "The upload is empty. Send the tomogram as the body (curl --data-binary @tomogram.tif) or as "
            "the form "
            "field `image` (curl -F image=@tomogram.tif).",
        )
    return Upload(name, size, sha256, fields)


def _safe_name(name: str | None) -> str:
    """Return a client's file name for use in texts: no folders, no control characters, not long."""
    last = (name or "").replace("\\", "/").rsplit("/", 1)[-1]
    clean = "".join(c for c in last if c.isprintable())[:_NAME_LIMIT].strip()
    return clean or UPLOADED
