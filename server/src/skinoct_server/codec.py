"""The codec process: reads uploads and writes answers in short-lived children with limits.

Started by the front as ``python -m skinoct_server.codec``; forks one child for each task, after everything
has been imported, so that a child costs milliseconds. A child has a memory limit and a deadline, does one
task and ends: a codec that crashes, hangs or eats memory on a hostile file takes only its own task with it.

Commands on stdin, JSON lines: ``{"task": name, "id": n, "memory": bytes, "seconds": s, "file_size": bytes,
"arguments": {...}}`` and ``{"kill": n}``. Events on stdout: ``{"id": n, "result": ...}`` or
``{"id": n, "kind": ..., "detail": ...}``.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import selectors
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from skinoct import errors
from skinoct_server.channel import Channel, Message
from skinoct_server.problems import kind_of
from skinoct_server.tasks import TASKS

_DETAIL_LIMIT = 2000
"""Characters of an error text: an event must stay below the 4096 bytes that a pipe takes in one piece."""


@dataclass
class Running:
    """One forked child."""

    task: int
    deadline: float
    reason: str | None = None
    """Kind to report when it was killed on purpose."""


def _data_bytes() -> int:
    """Return the private writable memory of this process, which RLIMIT_DATA counts on Linux."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmData:"):
                return int(line.split()[1]) * 1024
    return 0


def _limit(command: Message) -> None:
    """Apply a task's limits to this process. File maps do not count: they cost no memory."""
    memory = _data_bytes() + int(command["memory"])
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    seconds = int(command["seconds"]) + 5
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    if command.get("file_size"):
        size = int(command["file_size"])
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing more is an OSError then
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _perform(command: Message) -> Message:
    """Run a task and return its event."""
    try:
        return {"result": TASKS[command["task"]](**command["arguments"])}
    except errors.SkinoctError as error:
        return {"kind": kind_of(error), "detail": str(error)[:_DETAIL_LIMIT]}
    except MemoryError:
        return {"kind": "memory", "detail": ""}
    except OSError as error:
        traceback.print_exc()
        return {
            "kind": "os",
            "detail": os.strerror(error.errno) if error.errno else str(error)[:200],
            "errno": error.errno,
        }
    except Exception as error:
        traceback.print_exc()
        return {"kind": "crash", "detail": type(error).__name__}


class Codec:
    """The parent of the children."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self._running: dict[int, Running] = {}

    def run(self) -> None:
        """Serve until the front goes away, then end with all children."""
        wake_in, wake_out = os.pipe()
        os.set_blocking(wake_in, False)
        os.set_blocking(wake_out, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake_out, warn_on_full_buffer=False)
        selector = selectors.DefaultSelector()
        selector.register(0, selectors.EVENT_READ)
        selector.register(wake_in, selectors.EVENT_READ)
        self.channel.send({"event": "ready"})
        pending = b""
        while True:
            ready = {key.fd for key, _ in selector.select(self._next_deadline())}
            if wake_in in ready:
                os.read(wake_in, 4096)
            self._reap()
            self._expire()
            if 0 in ready:
                data = os.read(0, 1 << 16)
                if not data:
                    break
                *lines, pending = (pending + data).split(b"\n")
                for line in lines:
                    self._obey(json.loads(line))
        for pid in self._running:
            _kill(pid)

    def _obey(self, command: Message) -> None:
        if "kill" in command:
            for pid, child in self._running.items():
                if child.task == command["kill"]:
                    child.reason = "cancelled"
                    _kill(pid)
            return
        pid = os.fork()
        if pid == 0:
            self._be_child(command)
        self._running[pid] = Running(command["id"], time.monotonic() + float(command["seconds"]))

    def _be_child(self, command: Message) -> None:
        """Do one task and never return."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _limit(command)
            self.channel.send({"id": command["id"], **_perform(command)})
            code = 0
        finally:
            sys.stderr.flush()
            os._exit(code)

    def _reap(self) -> None:
        for pid, status, peak in _ended():
            child = self._running.pop(pid, None)
            if child is None:
                continue
            self.channel.send({"event": "ended", "peak_bytes": peak})
            if status == 0:
                continue
            how = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "an error"
            self.channel.send({"id": child.task, "kind": child.reason or "crash", "detail": how})

    def _expire(self) -> None:
        now = time.monotonic()
        for pid, child in self._running.items():
            if child.deadline < now and child.reason is None:
                child.reason = "timeout"
                _kill(pid)

    def _next_deadline(self) -> float | None:
        waiting = [c.deadline for c in self._running.values() if c.reason is None]
        return max(0.0, min(waiting) - time.monotonic()) if waiting else None


def _ended() -> Iterator[tuple[int, int, int]]:
    """Yield process id, status and peak memory in bytes of children that ended."""
    while True:
        try:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, status, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def main() -> int:
    """Run the codec process."""
    Codec(Channel()).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
