"""The front's side of the engine process: jobs, progress, cancel, restart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from skinoct_server.channel import Child, Message
from skinoct_server.jobs import Job
from skinoct_server.problems import HttpProblem
from skinoct_server.registry import Registry
from skinoct_server.settings import Settings

_ENVIRONMENT = {"MALLOC_ARENA_MAX": "1"}
"""glibc lets each thread allocate from memory of its own, and what one frees no other can use: with large arrays that
pass from thread to thread the engine would grow by a tomogram or two."""


class EngineLost(Exception):  # noqa: N818 - what happened
    """The engine process ended while it worked on a job."""


def _arguments(settings: Settings, registry: Registry) -> list[str]:
    options = {
        "--models": settings.models,
        "--threads": settings.threads,
        "--batch": settings.batch,
        "--device": settings.device,
        "--model": settings.model,
        "--first": registry.default or registry.chosen,
    }
    return [str(part) for name, value in options.items() if value is not None for part in (name, value)]


class EngineClient:
    """Sends jobs to the engine process and watches over it."""

    def __init__(self, settings: Settings, registry: Registry) -> None:
        self.settings = settings
        self.registry = registry
        arguments = _arguments(settings, registry)
        self.child = Child("skinoct_server.engine", arguments, self._on_event, self._on_exit, _ENVIRONMENT)
        self.ready = asyncio.Event()
        self.device = ""
        self.on_runs: Callable[[int, int], None] = lambda _runs, _shared: None
        """Called with numbers of network runs, and of those with slices of several tomograms."""
        self._events: dict[str, asyncio.Queue[Message | None]] = {}
        self._scanned: asyncio.Event = asyncio.Event()

    async def segment(self, job: Job, folder: Path, on_progress: Callable[[int, int], None]) -> float:
        """Segment a job whose voxels have been read; returns the engine's seconds.

        Raises
        ------
        EngineLost
            When the process died, or was killed because it made no progress.
        HttpProblem
            When the job failed or was cancelled.
        """
        events = self._events[job.id] = asyncio.Queue()
        command = {
            "op": "segment",
            "job": job.id,
            "folder": str(folder),
            "model": job.model_sha256,
            "name": job.name,
            "tomogram": job.tomogram,
            "decode": job.decode,
            "pixel_size_um": job.pixel_size_um,
        }
        try:
            if not self.child.send(command):
                self.ready.clear()  # until its successor says so
                raise EngineLost("the engine is not running")
            return await self._follow(events, on_progress)
        finally:
            del self._events[job.id]

    async def _follow(self, events: asyncio.Queue[Message | None], on_progress: Callable[[int, int], None]) -> float:
        while True:
            try:
                async with asyncio.timeout(self.settings.stall_seconds):
                    event = await events.get()
            except TimeoutError:
                self.ready.clear()  # the next job waits for the next process
                self.child.kill()
                raise EngineLost(f"no progress for {self.settings.stall_seconds:g} s") from None
            if event is None:
                raise EngineLost("the engine ended")
            if event["event"] == "progress":
                on_progress(event["done"], event["total"])
            elif event["event"] == "done":
                return float(event["seconds"])
            elif event["event"] == "failed":
                raise HttpProblem(event["kind"], event["detail"])

    def cancel(self, job_id: str) -> None:
        """Stop a running job between two batches."""
        self.child.send({"op": "cancel", "job": job_id})

    async def scan(self) -> None:
        """Have the folder of checkpoints looked at, and wait for the report."""
        self._scanned.clear()
        if self.child.send({"op": "scan"}):
            await self._scanned.wait()

    def _on_event(self, event: Message) -> None:
        if event["event"] == "ready":
            self.device = event["device"]
            self.ready.set()
        elif event["event"] == "models":
            self.registry.update(event)
            self._scanned.set()
        elif event["event"] == "ran":
            self.on_runs(event["runs"], event["shared"])
        elif event.get("job") in self._events:
            self._events[event["job"]].put_nowait(event)

    def _on_exit(self, _reason: str) -> None:
        self.ready.clear()
        self.child.arguments = _arguments(self.settings, self.registry)  # the default model may be another one now
        self._scanned.set()
        for events in self._events.values():
            events.put_nowait(None)
