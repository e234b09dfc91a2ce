"""The engine process: owns the models and the CPU engine or GPU.

Each job that the front sends is segmented at once, by a thread of its own; the front sends several only when they
are small, and their slices share batches (``sharing``).

Started by the front as ``python -m skinoct_server.engine``. Commands come as JSON lines on stdin::

    {"op": "segment", "job": id, "folder": path, "model": sha256, "name": ..., "tomogram": {...}, ...}
    {"op": "cancel", "job": id}
    {"op": "scan"}                        look for new checkpoints

and events leave on stdout: ``ready``, ``models``, ``started``, ``progress``, ``ran``, ``done``,
``failed``.
The process ends with the front.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import queue
import signal
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from skinoct import errors
from skinoct.tomogram import Tomogram
from skinoct_server.channel import Channel, Message
from skinoct_server.jobs import RESULT, VOXELS
from skinoct_server.lanes import MOST_TOGETHER
from skinoct_server.library import Library
from skinoct_server.results import pixel_size_from_json, save_segmentation

_PROGRESS_SECONDS = 0.1


class Progress:
    """Send progress events, but not more often than a person can see."""

    def __init__(self, channel: Channel, job: str) -> None:
        self._channel = channel
        self._job = job
        self._last = 0.0

    def __call__(self, done: int, total: int) -> None:
        """Tell that ``done`` of ``total`` slices are segmented."""
        now = time.monotonic()
        if done < total and now - self._last < _PROGRESS_SECONDS:
            return
        self._last = now
        self._channel.send({"event": "progress", "job": self._job, "done": done, "total": total})


class Runs:
    """Count runs of the network, and tell of them now and then."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._lock = threading.Lock()
        self._runs = self._shared = 0
        self._last = 0.0

    def __call__(self, tomograms: int, _images: int) -> None:
        """Count a run with slices of so many tomograms."""
        with self._lock:
            self._runs += 1
            self._shared += tomograms > 1
        if time.monotonic() - self._last >= _PROGRESS_SECONDS:
            self.tell()

    def tell(self) -> None:
        """Send what was counted since the last time."""
        with self._lock:
            runs, shared = self._runs, self._shared
            self._runs = self._shared = 0
            self._last = time.monotonic()
        if runs:
            self._channel.send({"event": "ran", "runs": runs, "shared": shared})


class Engine:
    """Segment what the front asks for."""

    def __init__(self, channel: Channel, library: Library, runs: Runs) -> None:
        self.channel = channel
        self.library = library
        self.runs = runs
        self._jobs = ThreadPoolExecutor(MOST_TOGETHER, "job")
        self._commands: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._cancelled: set[str] = set()

    def run(self) -> None:
        """Serve until the front goes away."""
        threading.Thread(target=self._listen, daemon=True).start()
        self._start()
        while True:
            self._commands.get()  # nothing but "scan" waits here: it takes seconds, and jobs go on meanwhile
            self.library.scan()
            self._tell_models()

    def _start(self) -> None:
        """Be ready once the default model is there, so that an engine that was started again is so soon.

        A front that knows the models already goes on then; a new one waits for the list of them.
        """
        begun = threading.Event()

        def begin() -> None:
            if not begun.is_set():
                begun.set()
                self.library.warm_up(calibrated=True)
                self.channel.send({"event": "ready", "device": self.library.device})

        self.library.scan(begin)
        begin()  # without any model, too: one may appear
        self._tell_models()
        with contextlib.suppress(errors.SkinoctError):  # which is told to whoever asks for the model
            self.library.warm_up(calibrated=False)  # ready without it: few files lack a pixel size

    def _tell_models(self) -> None:
        self.channel.send({"event": "models", **self.library.report()})

    def segment(self, command: Message) -> None:
        """Segment one job's ``voxels.npy`` into its ``result.npz``."""
        job = command["job"]
        try:
            self._segment(command)
        except errors.SkinoctError as error:
            self.channel.send({"event": "failed", "job": job, **describe(error)})
        except MemoryError:
            detail = "The engine ran out of memory on this tomogram. Send fewer slices, or crop them."
            self.channel.send({"event": "failed", "job": job, "kind": "out-of-memory", "detail": detail})
        except OSError as error:
            traceback.print_exc()
            kind = "disk-full" if error.errno == errno.ENOSPC else "internal"
            detail = f"The result could not be written ({os.strerror(error.errno or 0)}). Ask whoever runs the server."
            self.channel.send({"event": "failed", "job": job, "kind": kind, "detail": detail})
        except Exception:
            traceback.print_exc()
            self._end_if_poisoned(command["model"])
            detail = "The engine failed on this tomogram; the server's log has the details. Please report it."
            self.channel.send({"event": "failed", "job": job, "kind": "internal", "detail": detail})
        finally:
            self._cancelled.discard(job)

    def _end_if_poisoned(self, model: str) -> None:
        """End this process when its engine is broken for good, as after a CUDA error.

        The front starts another one and tries the job again there.
        """
        try:
            self.library.model(model).check_golden_slice()
        except Exception:
            traceback.print_exc()
            sys.stderr.flush()
            os.killpg(0, signal.SIGKILL)

    def _segment(self, command: Message) -> None:
        job, folder = command["job"], Path(command["folder"])
        started = time.perf_counter()
        model = self.library.model(command["model"])
        self.channel.send({"event": "started", "job": job})
        voxels = np.load(folder / VOXELS, mmap_mode="r", allow_pickle=False)
        meta = command["tomogram"]
        size = pixel_size_from_json(meta["pixel_size_um"])
        with model.shared.member(len(voxels)) as member:
            segmentation = self.library.predictor(model, member).segment(
                Tomogram(voxels, command["name"], size, meta["axis"]),
                decode=command["decode"],
                pixel_size_um=command["pixel_size_um"],
                progress=Progress(self.channel, job),
                cancelled=lambda: job in self._cancelled,
            )
        save_segmentation(folder / RESULT, segmentation, meta["axis"])
        self.runs.tell()
        self.channel.send({"event": "done", "job": job, "seconds": time.perf_counter() - started})

    def _listen(self) -> None:
        """Take commands at once, so that a cancel overtakes the work; end with the front."""
        for command in self.channel.commands():
            match command["op"]:
                case "cancel":
                    self._cancelled.add(command["job"])
                case "segment":
                    self._jobs.submit(self.segment, command)
                case _:
                    self._commands.put(command)
        os.killpg(0, signal.SIGKILL)  # with everything that a library started


def describe(error: errors.SkinoctError) -> dict[str, Any]:
    """Return an error as the front shall tell it."""
    from skinoct_server.problems import kind_of

    return {"kind": kind_of(error), "detail": str(error)}


def main(arguments: list[str] | None = None) -> int:
    """Run the engine process."""
    parser = argparse.ArgumentParser(prog="python -m skinoct_server.engine")
    parser.add_argument("--models", type=Path)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--device")
    parser.add_argument("--model")
    parser.add_argument("--first")
    options = parser.parse_args(arguments)
    channel = Channel()
    runs = Runs(channel)
    library = Library(
        options.models,
        engine=options.device,
        batch=options.batch,
        threads=options.threads,
        warm=options.model,
        first=options.first,
        report=runs,
    )
    Engine(channel, library, runs).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
