"""The queue: takes jobs in fair order through reading and segmenting, and tells how they stand.

All of it runs on the event loop and only waits: the codec process reads, the engine process segments, SQLite
has a thread of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TypeVar

from skinoct.wire import JobStatus
from skinoct_server.admission import Admission, Ticket
from skinoct_server.codec_client import CodecClient, disk_full
from skinoct_server.engine_client import EngineClient, EngineLost
from skinoct_server.estimate import Estimate
from skinoct_server.jobs import RESULT, UPLOAD, VOXELS, Job, JobStore
from skinoct_server.lanes import may_begin
from skinoct_server.metrics import Metrics
from skinoct_server.problems import HttpProblem, problem_of
from skinoct_server.settings import Settings
from skinoct_server.turns import forever, in_turn

log = logging.getLogger(__name__)
T = TypeVar("T")

_READ_AHEAD = 4
"""So many of the next in turn lie decompressed on disk, waiting for the engine, beside those being read."""


@dataclass
class Entry:
    """A job that has not finished, with what need not survive a restart."""

    job: Job
    ticket: Ticket
    done: int = 0
    reading: bool = False
    cancel: bool = False
    task: asyncio.Task[None] | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    accepted: float = field(default_factory=time.perf_counter)

    def notify(self) -> None:
        """Wake everybody who waits for news of this job."""
        self.changed.set()
        self.changed = asyncio.Event()


class WorkQueue:
    """Owns all jobs from acceptance to removal."""

    def __init__(
        self,
        settings: Settings,
        store: JobStore,
        admission: Admission,
        codec: CodecClient,
        engine: EngineClient,
        metrics: Metrics,
    ) -> None:
        self.settings = settings
        self.store = store
        self.admission = admission
        self.codec = codec
        self.engine = engine
        self.metrics = metrics
        self.estimate = Estimate()
        self.draining = False
        self.closed = False
        """Whether the time to finish is over: uploads that are still under way are refused."""
        self._entries: dict[str, Entry] = {}
        self._served: dict[str, int] = {}
        self._turn = 0
        self._news = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "jobs")
        self._held = Counter[str]()
        """Answers that are being written or sent, by job."""
        self._put_off = set[str]()
        """Jobs that were removed meanwhile."""
        self._tasks: list[asyncio.Task[None]] = []
        self._running: dict[str, asyncio.Task[None]] = {}

    # life

    async def start(self) -> None:
        """Take up the jobs of an earlier life and begin to work."""
        for job in await self.db(self.store.all):
            await self._take_up(job)
        await self.db(self.store.remove_orphans)
        loops = (self._read_loop, self._engine_loop, self._sweep_loop)
        self._tasks = [asyncio.create_task(forever(loop)) for loop in loops]

    async def stop(self) -> None:
        """Stop working; jobs that have not finished stay on disk."""
        reading = [entry.task for entry in self._entries.values() if entry.task]
        for task in [*self._tasks, *self._running.values(), *reading]:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self.db(self.store.close)
        self._thread.shutdown()

    async def drain(self, seconds: float) -> None:
        """Take nothing new; finish what can be finished within ``seconds``.

        Jobs that wait stay in the data folder for the next life; requests that wait, and uploads that are still under
        way, are answered with ``shutting-down`` when time is up.
        """
        self.draining = True
        self._wake()
        deadline = time.monotonic() + seconds
        while self._open() and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        self.closed = True
        for entry in list(self._entries.values()):
            if entry.job.ephemeral:
                await self._fail(entry, "shutting-down", "The server is stopping. Retry in a minute.")

    def _open(self) -> bool:
        """Whether a request waits for its answer, the engine is at work, or an upload is under way."""
        uploading = self.admission.jobs > len(self._entries)
        return uploading or any(e.job.ephemeral or e.job.state == "running" for e in self._entries.values())

    async def _take_up(self, job: Job) -> None:
        if job.ephemeral:
            await self.db(self.store.delete, job.id)
        if job.ephemeral or job.final:
            return
        entry = Entry(job, self.admission.readmit(job.owner, job.size))
        self._entries[job.id] = entry
        if (self.store.path(job.id) / RESULT).exists():
            await self._finish(entry, "done")
        elif job.state == "running":
            job.state, job.attempts = "queued", job.attempts - 1  # it was not the job's fault
            await self.db(self.store.update, job)

    async def db(self, function: Callable[..., T], *arguments: object) -> T:
        """Run a function of the store on its thread.

        Raises
        ------
        HttpProblem
            ``disk-full``.
        """
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
                raise
            raise disk_full() from error

    def _wake(self) -> None:
        """Have the loops look for work."""
        self._news.set()
        self._news = asyncio.Event()

    # jobs from outside

    async def submit(self, job: Job, ticket: Ticket) -> Job:
        """Accept a job whose upload lies in its folder; returns the older job of a repeated request.

        Raises
        ------
        HttpProblem
            ``idempotency-key-reused``.
        """
        older = await self.db(self.store.insert, job)
        if older is not None:
            if older.fingerprint != job.fingerprint:
                raise HttpProblem(
                    "idempotency-key-reused",
                    "This Idempotency-Key was used for another tomogram or other parameters. Use a new key.",
                )
            return older
        self._entries[job.id] = Entry(job, ticket)
        self._wake()
        return job

    async def find(self, job_id: str) -> Job | None:
        """Return a job, or None."""
        entry = self._entries.get(job_id)
        return entry.job if entry else await self.db(self.store.get, job_id)

    async def wait(self, job_id: str) -> None:
        """Return when the job has finished or is gone."""
        while entry := self._entries.get(job_id):
            await entry.changed.wait()

    async def follow(self, job_id: str) -> AsyncIterator[JobStatus | None]:
        """Yield the status at once and at each change, the final one last; None every 10 s without news."""
        while entry := self._entries.get(job_id):
            changed = entry.changed
            yield self.status(entry.job)
            try:
                async with asyncio.timeout(10):
                    await changed.wait()
            except TimeoutError:
                yield None
        job = await self.find(job_id)
        if job is not None:
            yield self.status(job)

    async def cancel(self, job_id: str, detail: str) -> None:
        """Stop a job that has not finished; its engine is free after the batch at hand."""
        entry = self._entries.get(job_id)
        if entry is None or entry.cancel:
            return
        entry.cancel = True
        if entry.task is not None:
            entry.task.cancel()
        if entry.job.state == "running":
            self.engine.cancel(job_id)
            entry.job.idempotency_key = None  # from now on, not only once the batch at hand is done
            with contextlib.suppress(HttpProblem):
                await self.db(self.store.update, entry.job)
        else:
            await self._fail(entry, "job-cancelled", detail)

    async def remove(self, job_id: str) -> None:
        """Forget a finished job at once, and its files as soon as no answer needs them."""
        await self.db(self.store.forget, job_id)
        if job_id in self._held:
            self._put_off.add(job_id)
        else:
            await self.db(self.store.remove_files, job_id)

    async def hold(self, job_id: str) -> bool:
        """Keep a job's files until ``release``, whoever removes it meanwhile; False when it is gone already."""
        self._held[job_id] += 1
        if await self.db(self.store.get, job_id) is not None:
            return True
        await self.release(job_id)
        return False

    async def release(self, job_id: str) -> None:
        """Let go of what ``hold`` kept, and remove it where that was put off."""
        self._held[job_id] -= 1
        if self._held[job_id] > 0:
            return
        del self._held[job_id]
        if job_id in self._put_off:
            self._put_off.remove(job_id)
            await self.db(self.store.remove_files, job_id)

    def status(self, job: Job) -> JobStatus:
        """Return how a job stands."""
        entry = self._entries.get(job.id)
        ahead = self._ahead(entry) if entry else []
        left = self.estimate.seconds_left(job, entry.done if entry else 0, [(e.job, e.done) for e in ahead])
        position = len(ahead) if job.state == "queued" else None
        problem = None
        if job.problem_kind:
            problem = problem_of(job.problem_kind, job.problem_detail or "", job.id)
        return JobStatus(
            id=job.id,
            state=job.state,
            position=position,
            slices_done=(job.slices or 0) if job.state == "done" else (entry.done if entry else 0),
            slices_total=job.slices,
            seconds_left=left,
            detail=_detail(job, position),
            problem=problem,
            model=job.model,
            model_sha256=job.model_sha256,
            input_sha256=job.input_sha256,
            created=job.created,
            expires=job.finished + self.settings.result_seconds if job.finished else None,
        )

    @property
    def counts(self) -> dict[str, int]:
        """Return numbers of jobs that have not finished, by state."""
        counts = {"queued": 0, "running": 0}
        for entry in self._entries.values():
            counts[entry.job.state] = counts.get(entry.job.state, 0) + 1
        return counts

    # order

    def _queued(self) -> list[Entry]:
        """Return waiting jobs in the order of service."""
        waiting = [e for e in self._entries.values() if e.job.state == "queued" and not e.cancel]
        return in_turn(waiting, lambda entry: entry.job.owner, self._served)

    def _ahead(self, entry: Entry) -> list[Entry]:
        if entry.job.state != "queued":
            return []
        queued = self._queued()
        running = [e for e in self._entries.values() if e.job.state == "running"]
        return running + queued[: queued.index(entry)] if entry in queued else running

    # work

    async def _read_loop(self) -> None:
        """Keep a few tomograms read, so that the engine never waits for one."""
        while True:
            news = self._news
            queued = self._queued()
            workers = self.settings.codec_workers
            # Counted from the head of the queue: what one owner had read must not keep another one's turn from coming.
            for entry in queued[: _READ_AHEAD + workers]:
                if sum(e.task is not None for e in queued) >= workers:
                    break
                if entry.job.tomogram is None and entry.task is None and not self._holding():
                    entry.task = asyncio.create_task(self._read(entry))
            await news.wait()

    def _holding(self) -> bool:
        """Whether a stopping server starts nothing new: only requests that wait for their answer go on."""
        return self.draining and not any(e.job.ephemeral for e in self._entries.values())

    async def _read(self, entry: Entry) -> None:
        job = entry.job
        folder = self.store.path(job.id)
        started = time.perf_counter()
        try:
            paths = {"upload": str(folder / UPLOAD), "target": str(folder / VOXELS)}
            job.tomogram = await self.codec.decode({**paths, "name": job.name})
            job.timings["read"] = time.perf_counter() - started
            await self.db(self.store.update, job)
            await self.db((folder / UPLOAD).unlink, True)
        except HttpProblem as problem:
            await self._fail(entry, problem.kind, problem.detail)
        except Exception:
            log.exception("reading job %s", job.id)
            await self._fail(entry, "internal", "The server failed to read the tomogram; please report it.")
        finally:
            entry.task = None
            entry.notify()
            self._wake()

    async def _engine_loop(self) -> None:
        """Feed the engine in the order of service: a large tomogram alone, small ones together."""
        while True:
            await self.engine.ready.wait()
            news = self._news
            entry = next((e for e in self._queued() if e.job.tomogram is not None and e.task is None), None)
            running = [self._entries[job_id].job for job_id in self._running if job_id in self._entries]
            held = entry is not None and self.draining and not entry.job.ephemeral
            if entry is None or held or len(running) < len(self._running) or not may_begin(entry.job, running):
                await news.wait()
                continue
            self._turn += 1
            self._served[entry.job.owner] = self._turn
            entry.job.state, entry.job.attempts = "running", entry.job.attempts + 1
            self._running[entry.job.id] = asyncio.create_task(self._work(entry))

    async def _work(self, entry: Entry) -> None:
        try:
            await self._segment(entry)
        except Exception:
            log.exception("segmenting job %s", entry.job.id)
            await self._fail(entry, "internal", "The server failed on this tomogram; please report it.")
        finally:
            del self._running[entry.job.id]
            self._wake()

    async def _segment(self, entry: Entry) -> None:
        job = entry.job
        job.timings["queue"] = time.perf_counter() - entry.accepted
        entry.notify()

        def on_progress(done: int, _total: int) -> None:
            self.metrics.slices.inc(max(0, done - entry.done))
            entry.done = done
            entry.notify()

        try:
            await self.db(self.store.update, job)
            if entry.cancel:
                raise HttpProblem("job-cancelled", "The job was cancelled.")
            seconds = await self.engine.segment(job, self.store.path(job.id), on_progress)
        except EngineLost as lost:
            job.state, entry.done = "queued", 0
            await self._try_again(entry, str(lost))
        except HttpProblem as problem:
            kind = "job-cancelled" if entry.cancel or problem.kind == "cancelled" else problem.kind
            await self._fail(entry, kind, problem.detail)
        else:
            job.timings["segment"] = seconds
            self.estimate.learn(job, seconds / len(self._running))  # those beside it were served as well
            await self._finish(entry, "done")

    async def _try_again(self, entry: Entry, reason: str) -> None:
        """Give a job whose engine died another chance, but not for ever."""
        job = entry.job
        log.warning("job %s lost its engine (%s), attempt %d", job.id, reason, job.attempts)
        if entry.cancel:
            await self._fail(entry, "job-cancelled", "The job was cancelled.")
        elif job.attempts >= self.settings.max_attempts:
            tried = f"The engine stopped {job.attempts} times on this tomogram ({reason})."
            detail = f"{tried} Send fewer slices at a time."
            await self._fail(entry, "engine-failed", detail)
        else:
            await self.db(self.store.update, job)
            entry.notify()

    async def _fail(self, entry: Entry, kind: str, detail: str) -> None:
        entry.job.problem_kind, entry.job.problem_detail = kind, detail
        if kind == "job-cancelled" or problem_of(kind, detail).status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            entry.job.idempotency_key = None  # posted again, the same tomogram may well be segmented
        await self._finish(entry, "cancelled" if kind == "job-cancelled" else "failed")

    async def _finish(self, entry: Entry, state: str) -> None:
        job = entry.job
        if job.final:
            return
        job.state = "done" if state == "done" else "cancelled" if state == "cancelled" else "failed"
        job.finished = time.time()
        try:
            await self._write_end(job)
        except (HttpProblem, OSError, sqlite3.Error):  # a full disk must not keep the client waiting
            log.exception("the end of job %s could not be written", job.id)
        self._entries.pop(job.id, None)
        self.admission.release(entry.ticket)
        self.admission.retry_after = self.estimate.seconds_per_job
        self.metrics.job(job)
        entry.notify()
        for other in self._entries.values():
            other.notify()  # their positions changed
        self._wake()

    async def _write_end(self, job: Job) -> None:
        """Write how a job ended, then remove its files; the other way round where the disk is full of them."""
        try:
            await self.db(self.store.update, job)
        except (HttpProblem, sqlite3.Error):
            await self.db(self._remove_files, job)
            await self.db(self.store.update, job)
        await self.db(self._remove_files, job)

    def _remove_files(self, job: Job) -> None:
        """Remove what a finished job needs no more."""
        folder = self.store.path(job.id)
        for name in (UPLOAD, VOXELS):
            (folder / name).unlink(missing_ok=True)
        if job.state != "done":
            shutil.rmtree(folder, ignore_errors=True)

    async def _sweep_loop(self) -> None:
        """Remove results whose time is over."""
        while True:
            old = time.time() - self.settings.result_seconds
            for job in await self.db(self.store.all):
                if job.finished is not None and job.finished < old:
                    await self.remove(job.id)
            await asyncio.sleep(min(60.0, self.settings.result_seconds / 4 + 0.05))


def _detail(job: Job, position: int | None) -> str:
    if job.state == "queued":
        return "Next in the queue." if position == 0 else f"Waiting for {position} other tomograms."
    if job.state == "running":
        return "Segmenting."
    if job.state == "done":
        return f"Done. GET /jobs/{job.id}/result has the answer."
    return job.problem_detail or "Failed."
