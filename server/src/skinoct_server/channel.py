"""JSON lines between the front and its child processes, and the front's side of such a child."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import IO, Any

Message = dict[str, Any]
_LINE_LIMIT = 1 << 20
_LOOK_SECONDS = 0.5

log = logging.getLogger(__name__)


class Channel:
    """The child's side: commands from stdin, events to stdout.

    The real stdout is kept for events; whatever a library prints goes to stderr and cannot break a line.
    """

    def __init__(self) -> None:
        self._out: IO[bytes] = os.fdopen(os.dup(1), "wb", buffering=0)
        os.dup2(2, 1)
        self.fileno = self._out.fileno()
        self._lock = threading.Lock()

    def send(self, message: Message) -> None:
        """Send one event; a line below 4096 bytes arrives whole even from several processes."""
        with self._lock:
            self._out.write(json.dumps(message).encode() + b"\n")

    def commands(self) -> Iterator[Message]:
        """Yield commands until the front goes away."""
        for line in sys.stdin.buffer:
            yield json.loads(line)


class Child:
    """The front's side: a module run as a process that restarts when it ends.

    Parameters
    ----------
    module : str
        Run as ``python -m module *arguments``.
    on_event : called with every event
    on_exit : called with a sentence whenever the process ends unasked, before it is started again
    environment : variables added to those of this process
    """

    def __init__(
        self,
        module: str,
        arguments: list[str],
        on_event: Callable[[Message], None],
        on_exit: Callable[[str], None],
        environment: dict[str, str] | None = None,
    ) -> None:
        self.module = module
        self.arguments = arguments
        self.on_event = on_event
        self.on_exit = on_exit
        self.environment = {**os.environ, **(environment or {})}
        self.on_restart: Callable[[str, str], None] | None = None
        """Called with module and reason as well, to count and log it."""
        self._process: asyncio.subprocess.Process | None = None
        self._runner: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if running and self._process else None

    def start(self) -> None:
        """Start the process and keep it running."""
        self._runner = asyncio.create_task(self._run(), name=self.module)

    async def stop(self) -> None:
        """End the process for good."""
        self._stopping = True
        if self._runner is not None:
            self._runner.cancel()
        self.kill()
        if self._runner is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._runner
        if self._process is not None:
            await self._process.wait()

    def kill(self) -> None:
        """End the process now; it is started again unless ``stop`` was called."""
        if self._process is not None and self._process.returncode is None:
            _kill_group(self._process.pid)

    def send(self, message: Message) -> bool:
        """Send a command; False when the process is not there (``on_exit`` tells of the loss)."""
        if self.pid is None or self._process is None or self._process.stdin is None:
            return False
        if self._process.stdin.is_closing():
            return False
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        return True

    async def _run(self) -> None:
        delay = 0.0
        while True:
            await asyncio.sleep(delay)
            started = asyncio.get_running_loop().time()
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                self.module,
                *self.arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=_LINE_LIMIT,
                env=self.environment,
                start_new_session=True,  # Ctrl-C in a terminal is for the front, which drains first
            )
            await self._read(self._process)
            _kill_group(self._process.pid)  # children of a child that died must not keep what it held
            code = await self._process.wait()
            if self._stopping:
                return
            reason = f"{self.module} ended by signal {-code}" if code < 0 else f"{self.module} ended ({code})"
            self.on_exit(reason)
            if self.on_restart is not None:
                self.on_restart(self.module, reason)
            lived = asyncio.get_running_loop().time() - started
            delay = 0.0 if lived > 5 else min(5.0, delay * 2 + 0.2)  # no storm of restarts

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        """Take events until the process has ended."""
        assert process.stdout is not None
        while True:
            try:
                async with asyncio.timeout(_LOOK_SECONDS):  # wait_for of Python 3.11 can lose a cancellation
                    line = await process.stdout.readline()
            except TimeoutError:
                if process.returncode is not None:  # what it started keeps the pipe open
                    return
                continue
            if not line:
                return
            try:
                event = json.loads(line)
            except ValueError:  # the last words of a process that was killed
                log.warning("%s sent half a line", self.module)
                continue
            self.on_event(event)


def _kill_group(pid: int) -> None:
    """End a child with everything that it started; it leads a session of its own."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
