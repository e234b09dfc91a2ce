"""ImageJ's classes, and what ImageJ knows of the command that is running."""

from __future__ import annotations

import textwrap
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jpype
from jpype import JClass

from skinoct_fiji.failures import FijiError

MACRO_CANCELED = "Macro canceled"
PREFERENCES = "skinoct."


@dataclass(frozen=True)
class Call:
    """One use of a menu entry."""

    command: str
    options: str | None
    """Option text of a macro; None for a click or a ``run`` without options, where a dialog can ask for them."""
    macro: bool
    """True when a macro or script waits for the command to end."""
    image: Any
    """``ij.ImagePlus`` in front when the command was called; None when there was none."""


class Gateway:
    """ImageJ 1 as this process runs it, alone or inside Fiji; create it after ``jvm.start``."""

    def __init__(self) -> None:
        self.IJ = JClass("ij.IJ")
        self.WindowManager = JClass("ij.WindowManager")
        self.Macro = JClass("ij.Macro")
        self.Menus = JClass("ij.Menus")
        self.Executer = JClass("ij.Executer")
        self.Prefs = JClass("ij.Prefs")
        self.Interpreter = JClass("ij.macro.Interpreter")
        self.Recorder = JClass("ij.plugin.frame.Recorder")
        self.RoiManager = JClass("ij.plugin.frame.RoiManager")
        self.ResultsTable = JClass("ij.measure.ResultsTable")
        self._monitor = self._listeners_monitor()

    @property
    def version(self) -> str:
        """Version of ImageJ 1, such as ``1.54p``."""
        return str(self.IJ.getVersion()).split("/")[-1]

    def current_call(self, command: str) -> Call:
        """Say who called ``command``; to be asked on the thread that ImageJ runs it on.

        A click runs on a thread of the command's own name; ``run(...)`` on a thread ``Run$_...``.
        """
        macro = str(JClass("java.lang.Thread").currentThread().getName()) != command
        options = self.Macro.getOptions() if macro else None
        if options is None and JClass("java.awt.GraphicsEnvironment").isHeadless():
            options = ""
        image = self.WindowManager.getCurrentImage()
        return Call(command, None if options is None else str(options).strip(), macro, image)

    def wait_for(self, finished: threading.Event) -> None:
        """Block ImageJ's own thread until ``finished``, without blocking ImageJ.

        ImageJ calls command listeners under a lock that every other command needs; ``wait`` gives the lock
        back while a macro waits for us.
        """
        while not finished.is_set():
            if self._monitor is None:
                finished.wait(0.05)
            else:
                self._monitor.wait(40)
            if self.macro_stopped():
                return

    def macro_stopped(self) -> bool:
        """Whether Escape has ended the macro that called us: its thread must return at once."""
        interpreter = self.Interpreter.getInstance()
        return interpreter is not None and bool(interpreter.done())

    def _listeners_monitor(self) -> Any:
        try:
            field = self.Executer.class_.getDeclaredField("listeners")
            field.setAccessible(True)
            return field.get(None)
        except jpype.JException:
            return None  # another ImageJ: macros then hold the lock while they wait

    def fail(self, call: Call, sentence: str) -> None:
        """Say why ``call`` failed: a dialog after a click; in a macro an error that ends it, to be caught."""
        if not call.macro:
            self.say("skinoct", sentence)
            return
        interpreter = self.Interpreter.getInstance()
        if interpreter is not None:
            interpreter.abort(sentence)
        else:
            raise JClass("java.lang.RuntimeException")(sentence)

    def say(self, title: str, sentence: str) -> None:
        """Show a sentence in a dialog; in the log when there are no dialogs."""
        self.IJ.showMessage(title, wrapped(sentence))

    def log(self, line: str) -> None:
        """Write a line into ImageJ's log window."""
        self.IJ.log(line)

    def status(self, text: str, fraction: float | None = None) -> None:
        """Show progress in the status bar; a fraction of 1 clears the bar."""
        self.IJ.showStatus(text)
        if fraction is not None:
            self.IJ.showProgress(float(fraction))

    def escape_pressed(self) -> bool:
        """Whether the user pressed Escape since ``reset_escape``."""
        return bool(self.IJ.escapePressed())

    def reset_escape(self) -> None:
        """Forget an earlier Escape."""
        self.IJ.resetEscape()

    def record(self, command: str, options: dict[str, str | bool]) -> None:
        """Write ``run("command", "key=value ...")`` into an open Recorder."""
        if not bool(self.Recorder.record):
            return
        self.Recorder.setCommand(command)
        for key, value in options.items():
            if value is True:
                self.Recorder.recordOption(key)
            else:
                self.Recorder.recordOption(key, str(value))
        self.Recorder.saveCommand()

    def remembered(self, key: str, default: str) -> str:
        """Return a preference of ours, as kept in ImageJ's own preferences file."""
        return str(self.Prefs.get(PREFERENCES + key, default))

    def remember(self, values: dict[str, str]) -> None:
        """Keep preferences, now and for the next start."""
        for key, value in values.items():
            self.Prefs.set(PREFERENCES + key, value)
        self.Prefs.savePreferences()

    def evaluate(self, macro: str, argument: str) -> str:
        """Run a macro without windows on this thread and return what it returns; its error becomes ours.

        Raises
        ------
        FijiError
            When the macro was stopped by an error.
        """
        interpreter = self.Interpreter()
        interpreter.setIgnoreErrors(True)
        try:
            answer, why = interpreter.run(macro, argument), interpreter.getErrorMessage()
        except jpype.JException as error:
            answer, why = None, error.getMessage()
        if why is not None or interpreter.wasError():
            raise FijiError(f"The macro stopped: {why}")
        return "" if answer is None else str(answer)

    def running(self) -> bool:
        """Whether ImageJ's window is still open; also while it asks whether to save, when somebody quits."""
        try:
            window = self.IJ.getInstance()
            return window is not None and bool(window.isDisplayable())
        except jpype.JVMNotRunning:  # a Fiji ends Java by itself
            return False


def wrapped(sentence: str) -> str:
    """Break a sentence into lines for ImageJ's dialogs, which do not do it themselves."""
    return "\n".join(textwrap.fill(line, 72, break_long_words=False) for line in sentence.splitlines())


def in_background(name: str, work: Callable[[], None]) -> threading.Thread:
    """Run ``work`` on a thread of its own, so that neither ImageJ nor its event thread waits."""
    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    return thread
