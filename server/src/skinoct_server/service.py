"""The parts of one running server, built from its settings and held by ``app.state``."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from skinoct.errors import OptionError
from skinoct_server.admission import Admission
from skinoct_server.codec_client import CodecClient
from skinoct_server.engine_client import EngineClient
from skinoct_server.jobs import JobStore
from skinoct_server.keys import Key, read_keys
from skinoct_server.metrics import Metrics
from skinoct_server.registry import Registry
from skinoct_server.settings import Settings
from skinoct_server.watch import watch_models
from skinoct_server.work import WorkQueue

log = logging.getLogger(__name__)


class Service:
    """Everything behind the routes."""

    def __init__(self, settings: Settings, folder: Path, metrics: Metrics) -> None:
        self.settings = settings
        self.folder = folder
        self.keys: list[Key] = read_keys(settings.api_key_file) if settings.api_key_file else []
        self.metrics = metrics
        self.store = JobStore(folder)
        self.registry = Registry(folder)
        self.admission = Admission(settings, folder, keyed=bool(self.keys))
        self.codec = CodecClient(settings)
        self.engine = EngineClient(settings, self.registry)
        self.engine.on_runs = metrics.ran
        self.queue = WorkQueue(settings, self.store, self.admission, self.codec, self.engine, self.metrics)
        self._watch_metrics()

    def _watch_metrics(self) -> None:
        watch = self.metrics.watch
        watch("skinoct_queued", "Tomograms that wait", lambda: self.queue.counts["queued"])
        watch("skinoct_running", "Tomograms being segmented", lambda: self.queue.counts["running"])
        watch("skinoct_pending_jobs", "Tomograms admitted", lambda: self.admission.jobs)
        watch("skinoct_pending_bytes", "Bytes of tomograms admitted", lambda: self.admission.size)
        watch("skinoct_codec_peak_bytes", "Most memory one upload or answer took", lambda: self.codec.peak_bytes)
        watch("skinoct_ready", "Whether requests are served", lambda: float(self.why_not_ready() is None))

    def why_not_ready(self) -> str | None:
        """Return why no request can be served now, or None."""
        if self.queue.draining:
            return "The server is stopping."
        if not (self.engine.ready.is_set() and self.codec.ready.is_set() and self.registry.known):
            return "The server is starting; its models are being loaded."
        if self.registry.default is None:
            reasons = " ".join(self.registry.problems.values())
            where = self.settings.models or "the folder of models"
            return f"There is no model that can be used in {where}. {reasons}"
        return None

    def _count_restart(self, module: str, reason: str) -> None:
        log.warning("%s; starting it again", reason)
        self.metrics.restarts.labels(module.rsplit(".", 1)[-1]).inc()

    async def start(self) -> None:
        """Start the child processes and take up old jobs."""
        for child in (self.codec.child, self.engine.child):
            child.on_restart = self._count_restart
        self.codec.child.start()
        self.engine.child.start()
        await self.queue.start()

    async def stop(self) -> None:
        """Stop everything; what has not finished stays in the data folder."""
        await self.queue.stop()
        await asyncio.gather(self.codec.child.stop(), self.engine.child.stop())


@contextlib.contextmanager
def data_folder(settings: Settings) -> Iterator[Path]:
    """Give a server its data folder, for itself alone; without one in the settings, one that goes with it.

    Two servers would each finish every job of the folder, and remove the other one's uploads.

    Raises
    ------
    OptionError
        When it cannot be written, or another server uses it.
    """
    if settings.data_dir is None:
        with tempfile.TemporaryDirectory(prefix="skinoct-", ignore_cleanup_errors=True) as name:
            yield Path(name)
        return
    folder = settings.data_dir
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            fcntl.flock(stack.enter_context((folder / "lock").open("w")), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OptionError(
                f"Another skinoct-server uses {folder}. Stop it, or choose another folder with --data-dir."
            ) from None
        except OSError as error:
            raise OptionError(
                f"{folder} cannot be used for data ({error.strerror}). Choose another folder with --data-dir."
            ) from None
        yield folder


@contextlib.asynccontextmanager
async def running(settings: Settings, metrics: Metrics) -> AsyncIterator[Service]:
    """Run a service in its data folder."""
    with data_folder(settings) as folder:
        service = Service(settings, folder, metrics)
        await service.start()
        watcher = asyncio.create_task(watch_models(service.engine, settings.models))
        try:
            yield service
        finally:
            watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watcher
            await service.stop()
