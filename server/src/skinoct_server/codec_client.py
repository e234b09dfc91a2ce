"""The front's side of the codec process: tasks as awaitables."""

from __future__ import annotations

import asyncio
import errno
import itertools
from typing import Any

from skinoct_server.channel import Child, Message
from skinoct_server.problems import HttpProblem
from skinoct_server.settings import Settings


class TaskFailure(Exception):  # noqa: N818 - it becomes a problem, with words that suit the task
    """A task ended without a result; ``kind`` says how."""

    def __init__(self, kind: str, detail: str, number: int | None = None) -> None:
        super().__init__(detail or kind)
        self.kind = kind
        self.detail = detail
        self.errno = number


class CodecClient:
    """Runs tasks in the codec process, a few at a time."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.child = Child("skinoct_server.codec", [], self._on_event, self._on_exit, {"OPENBLAS_NUM_THREADS": "1"})
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Message]] = {}
        self._slots = asyncio.Semaphore(settings.codec_workers)
        self.ready = asyncio.Event()
        self.peak_bytes = 0
        """Most memory that one task took so far."""

    async def decode(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Read an upload.

        Raises
        ------
        HttpProblem
            When the upload cannot be used.
        """
        limits = self.settings
        arguments = {**arguments, "max_bytes": limits.max_decoded_bytes}
        size = limits.max_decoded_bytes + (1 << 20)
        try:
            return await self._retry("decode", arguments, size)
        except TaskFailure as failure:
            raise _decode_problem(failure, str(arguments["name"]), limits) from failure

    async def encode(self, arguments: dict[str, Any]) -> str:
        """Write an answer; returns its sha256.

        Raises
        ------
        HttpProblem
            When it cannot be written.
        """
        try:
            return str((await self._retry("encode", arguments, None))["sha256"])
        except TaskFailure as failure:
            if failure.errno == errno.ENOSPC:
                raise disk_full() from failure
            raise HttpProblem(
                "encode-failed",
                f"The answer could not be written as {arguments['form']} ({failure.kind}). "
                "Ask for image/tiff instead, or for fewer slices, and report this.",
            ) from failure

    async def _retry(self, task: str, arguments: dict[str, Any], file_size: int | None) -> dict[str, Any]:
        """Run a task once more when the whole codec process was lost: that says nothing about the file."""
        for last in (False, False, True):
            try:
                return await self._run(task, arguments, file_size)
            except TaskFailure as failure:
                if failure.kind != "lost" or last:
                    raise
        raise AssertionError

    async def _run(self, task: str, arguments: dict[str, Any], file_size: int | None) -> dict[str, Any]:
        async with self._slots:
            try:
                async with asyncio.timeout(30):
                    await self.ready.wait()
            except TimeoutError:
                raise TaskFailure("lost", "") from None
            number = next(self._numbers)
            future = asyncio.get_running_loop().create_future()
            self._waiting[number] = future
            command = {
                "id": number,
                "task": task,
                "arguments": arguments,
                "memory": self.settings.decode_memory_bytes,
                "seconds": self.settings.decode_seconds,
                "file_size": file_size,
            }
            try:
                if not self.child.send(command):
                    # Dead but not yet reported so: wait for its successor instead of failing at once, thrice.
                    self.ready.clear()
                    raise TaskFailure("lost", "")
                event = await future
            except asyncio.CancelledError:
                self.child.send({"kill": number})
                raise
            finally:
                self._waiting.pop(number, None)
        if "result" not in event:
            raise TaskFailure(event["kind"], event["detail"], event.get("errno"))
        result: dict[str, Any] = event["result"]
        return result

    def _on_event(self, event: Message) -> None:
        if event.get("event") == "ready":
            self.ready.set()
            return
        if event.get("event") == "ended":
            self.peak_bytes = max(self.peak_bytes, int(event["peak_bytes"]))
            return
        future = self._waiting.get(event["id"])
        if future is not None and not future.done():
            future.set_result(event)

    def _on_exit(self, _reason: str) -> None:
        self.ready.clear()
        for future in self._waiting.values():
            if not future.done():
                future.set_result({"kind": "lost", "detail": ""})


def disk_full() -> HttpProblem:
    """Return the problem of a full data folder."""
    return HttpProblem(
        "disk-full",
        "The server's data folder is full. Ask whoever runs the server to free space, then retry.",
        {"Retry-After": "60"},
    )


def _decode_problem(failure: TaskFailure, name: str, limits: Settings) -> HttpProblem:
    """Say why an upload cannot be read."""
    again = "Save it anew as an uncompressed TIFF stack (ImageJ: File > Save As > Tiff...) and retry."
    if failure.kind == "lost":
        return HttpProblem("engine-failed", "The server lost its reader of uploads. Retry.", {"Retry-After": "2"})
    if failure.kind == "timeout":
        text = f"{name} was not read within {limits.decode_seconds:g} s (setting decode_seconds). {again}"
        return HttpProblem("decode-timeout", text)
    if failure.kind == "memory":
        text = (
            f"{name} needs more than {limits.decode_memory_bytes >> 20} MiB of memory to be read "
            f"(setting decode_memory_bytes). {again}"
        )
        return HttpProblem("decode-memory", text)
    if failure.kind == "os" and failure.errno == errno.ENOSPC:
        return disk_full()
    if failure.kind in ("crash", "os"):
        return HttpProblem("decode-crashed", f"{name} cannot be read: it is damaged or of an unusual kind. {again}")
    return HttpProblem(failure.kind, failure.detail)
