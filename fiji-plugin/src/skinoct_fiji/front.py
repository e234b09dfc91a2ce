"""From a click or a macro line to a command, and from an error to one sentence.

ImageJ calls ``Front.execute`` on a thread of its own. The work runs on ours: after a click ImageJ goes on at
once; a macro waits, because its next line needs the result. Escape is watched while it runs.

One entry at a time works on an image or on the server. Those that only show something (help, settings, colors) open
beside it, each of them once.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from skinoct.errors import Cancelled, SkinoctError
from skinoct_fiji.bridge import menu
from skinoct_fiji.bridge.gateway import Call, Gateway, in_background
from skinoct_fiji.failures import Declined, FijiError


@dataclass
class Run:
    """One command at work."""

    ij: Gateway
    call: Call
    _cancelled: threading.Event = field(default_factory=threading.Event)
    _finished: threading.Event = field(default_factory=threading.Event)
    error: SkinoctError | None = None

    def cancelled(self) -> bool:
        """Whether the user pressed Escape."""
        if not self._cancelled.is_set() and self.ij.escape_pressed():
            self._cancelled.set()
        return self._cancelled.is_set()

    def status(self, text: str, fraction: float | None = None) -> None:
        """Show progress under ImageJ's tool bar."""
        self.ij.status(f"{self.call.command.removesuffix('...')}: {text}", fraction)


Command = Callable[[Run], None]


class Front:
    """Runs the commands, one at a time but for those in ``beside``."""

    def __init__(self, ij: Gateway, commands: Mapping[str, Command], beside: Collection[str] = ()) -> None:
        self.ij = ij
        self._commands = dict(commands)
        self._beside = frozenset(beside)
        self._busy: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._now = ""

    def install(self) -> None:
        """Put the entries into the menu and listen for them."""
        menu.add_entries(self.ij, list(self._commands))
        menu.listen(self.ij, list(self._commands), self.execute)

    def execute(self, label: str) -> None:
        """Run an entry; called by ImageJ, on the thread that it runs commands on."""
        call = self.ij.current_call(label)
        run = Run(self.ij, call)
        if not self._lock(label).acquire(blocking=False):
            self.ij.fail(call, self._occupied(label))
            return
        if label not in self._beside:
            self._now = label.removesuffix("...")
            self.ij.reset_escape()
        in_background(f"skinoct {label}", lambda: self._work(run))
        if not call.macro:
            return
        self.ij.wait_for(run._finished)
        if run.error is not None and not self.ij.macro_stopped():
            self.ij.fail(call, str(run.error))

    def _lock(self, label: str) -> threading.Lock:
        return self._busy[label if label in self._beside else ""]

    def _occupied(self, label: str) -> str:
        if label in self._beside:
            return f"{label.removesuffix('...')} is open already. Close that window first."
        return f"{self._now} is still at work. Wait until it is done, or press Escape to stop it."

    def _work(self, run: Run) -> None:
        try:
            self._commands[run.call.command](run)
        except Declined:
            run.error = Declined("The dialog was canceled.") if run.call.macro else None
        except Cancelled as error:
            run.error = error if run.call.macro else None
            run.status("stopped, as you asked", 1.0)
        except SkinoctError as error:
            run.error = error
            run.status("not done", 1.0)
        except OSError as error:
            run.error = FijiError(
                f"{error.filename or 'A file'} cannot be read or written ({error.strerror or error}). Make room, or "
                "give another folder; your image is unchanged."
            )
            run.status("not done", 1.0)
        except BaseException as error:
            run.error = _unexpected(error)
            run.status("not done", 1.0)
        finally:
            self._lock(run.call.command).release()
            run._finished.set()
        if run.error is not None and not run.call.macro:
            self.ij.fail(run.call, str(run.error))


def _unexpected(error: BaseException) -> FijiError:
    """Turn a bug into a sentence; the trace goes to the terminal that started us, for a report."""
    if os.environ.get("SKINOCT_TRACE") or sys.stderr.isatty():
        traceback.print_exception(error, file=sys.stderr)
    return FijiError(
        f"Something went wrong that should not ({type(error).__name__}: {error}). Your image is unchanged. Start "
        "with SKINOCT_TRACE=1 set and send the text in the terminal to the maintainers of skinoct."
    )
