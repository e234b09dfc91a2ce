"""A screen without a monitor, a real ImageJ in a process of its own, and a server to speak to."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from skinoct_fiji.cli import main

from .fake_server import FakeServer, handler

HERE = Path(__file__).parent
OPEN_MENUS = "--add-opens=java.desktop/sun.awt.X11=ALL-UNNAMED --add-opens=java.desktop/sun.awt=ALL-UNNAMED"
"""Lets a test ask where Java drew a menu item, so that the mouse can go there."""
IJ_JAR = Path(os.environ.get("IJ_JAR", "/usr/share/java/ij.jar"))


def _need(condition: bool, what: str) -> None:
    """Skip on a desk that lacks something; in CI that is a failure."""
    if not condition:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(what)


@pytest.fixture(scope="session")
def new_screen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], str]]:
    """Start Xvfb on a free display each time; returns its name, such as ``:7``. Sessions must not overlap."""
    _need(shutil.which("Xvfb") is not None, "needs Xvfb (Debian package xvfb)")
    _need(shutil.which("xdotool") is not None, "needs xdotool")
    started: list[subprocess.Popen[bytes]] = []

    def start() -> str:
        read, write = os.pipe()
        with (tmp_path_factory.mktemp("screen") / "xvfb.log").open("w") as log:
            screen = ["-screen", "0", "1280x900x24", "-nolisten", "tcp"]
            command = ["Xvfb", "-displayfd", str(write), *screen]
            started.append(subprocess.Popen(command, pass_fds=[write], stderr=log, stdout=log))
        os.close(write)
        with os.fdopen(read) as pipe:
            number = pipe.readline().strip()
        assert number, "Xvfb did not start"
        return f":{number}"

    yield start
    for server in started:
        server.terminate()
        server.wait(10)


@dataclass
class Session:
    """A running ImageJ: ``session("python expression")`` is evaluated inside it."""

    process: subprocess.Popen[str]
    display: str
    log: Path
    folder: Path

    def __call__(self, source: str) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(source) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"ImageJ ended:\n{self.log.read_text()[-3000:]}"
        answer = json.loads(line)
        assert "error" not in answer, answer.get("error")
        return answer["value"]

    def until(self, source: str, seconds: float = 30.0) -> Any:
        """Evaluate until the value is true."""
        end = time.monotonic() + seconds
        while not (value := self(source)):
            assert time.monotonic() < end, f"not within {seconds} s: {source}; windows: {self.windows()}"
            time.sleep(0.05)
        return value

    def windows(self) -> list[str]:
        """Titles of all windows of ImageJ that can be seen."""
        titles = "[str(getattr(w, 'getTitle', w.getName)()) for w in JClass('java.awt.Window').getWindows()"
        value: list[str] = self(f"{titles} if w.isShowing()]")
        return value

    def xdotool(self, *words: str | int) -> str:
        """Move the mouse, click, type: what a person does."""
        environment = {**os.environ, "DISPLAY": self.display}
        done = subprocess.run(
            ["xdotool", *map(str, words)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        return done.stdout

    def click(self, x: int, y: int) -> None:
        """Click with the left button."""
        self.xdotool("mousemove", x, y)
        time.sleep(0.15)
        self.xdotool("mousedown", 1)
        time.sleep(0.05)
        self.xdotool("mouseup", 1)

    def choose(self, *path: str) -> None:
        """Click through a menu, as ``choose("Plugins", "Skin", "Segment skin")``."""
        at = self(f"menu_point({path[0]!r})")
        for depth in range(1, len(path)):
            at = self._open(at, path[: depth + 1])
        self.click(*at)

    def _open(self, at: tuple[int, int], below: tuple[str, ...]) -> tuple[int, int]:
        """Click until the menu that holds ``below`` is open; return where ``below`` is."""
        for attempt in range(30):
            if attempt % 10 == 0:
                self.click(*at)
            if found := self(f"menu_point{below!r}"):
                return found[0], found[1]
            time.sleep(0.1)
        raise AssertionError(f"the menu with {below} did not open")

    def corner(self, title: str) -> tuple[int, int]:
        """Return where a window is; without a window manager Java itself may be wrong about that."""
        found = self.xdotool("search", "--onlyvisible", "--name", f"^{re.escape(title)}").split()[-1]
        place = dict(line.split("=") for line in self.xdotool("getwindowgeometry", "--shell", found).splitlines())
        return int(place["X"]), int(place["Y"])

    def press(self, title: str, label: str) -> None:
        """Click a button or a field in a window, by its text, once it has come to rest."""
        self._press(title, f"point({title!r}, {label!r})")

    def type(self, title: str, label: str, text: str) -> None:
        """Replace what stands in the field behind a label, with mouse and keyboard."""
        self.until(f"window({title!r}) is not None")
        field = f"field({title!r}, {label!r})"
        self._press(title, f"inside({field})")
        self.xdotool("key", "End", *["BackSpace"] * self(f"len(str({field}.getText()))"))
        self.until(f"str({field}.getText()) == ''")
        self.xdotool("type", "--delay", "20", text)
        self.until(f"str({field}.getText()) == {text!r}")

    def pick(self, title: str, label: str, item: str) -> None:
        """Choose from the list behind a label, with mouse and keyboard."""
        self.until(f"window({title!r}) is not None")
        field = f"field({title!r}, {label!r})"
        steps = self(f"[str({field}.getItem(i)) for i in range({field}.getItemCount())].index({item!r})")
        steps -= self(f"{field}.getSelectedIndex()")
        self._press(title, f"inside({field})")
        self.xdotool("key", *["Down" if steps > 0 else "Up"] * abs(steps), "Return")
        self.until(f"str({field}.getSelectedItem()) == {item!r}")

    def _press(self, title: str, place: str) -> None:
        self.until(f"window({title!r}) is not None")
        where, before = (0, 0), (1, 1)
        for _ in range(10):
            before = where
            time.sleep(0.3)
            (left, top), (x, y) = self.corner(title), self(place)
            where = (left + x, top + y)
            if where == before:
                break
        self.click(*where)

    def focus(self, title: str) -> None:
        """Click on an image, as a person does before pressing a key."""
        (left, top), (x, y) = self.corner(title), self("inside(img.getCanvas())")
        self.click(left + x, top + y)
        time.sleep(0.2)

    def ok(self, title: str) -> None:
        """Press OK until the dialog is gone: a busy machine may miss the first click."""
        for _ in range(5):
            if not self(f"window({title!r}) is not None"):
                break
            with contextlib.suppress(AssertionError):
                self.press(title, "OK")
                self.until(f"window({title!r}) is None", 4)

    def cancel(self, title: str) -> None:
        """Press Cancel and wait until the dialog is gone."""
        self.press(title, "Cancel")
        self.until(f"window({title!r}) is None")

    def message(self, title: str = "skinoct") -> str:
        """Wait for a dialog of one sentence, press OK, return the sentence."""
        self.until(f"window({title!r}) is not None")
        time.sleep(0.3)
        text = " ".join(self(f"texts({title!r})")).strip()
        self.ok(title)
        return text

    def screenshot(self, path: Path, window: str = "root") -> None:
        """Save what the screen shows."""
        environment = {**os.environ, "DISPLAY": self.display}
        command = ["import", "-window", window, str(path)]
        subprocess.run(command, env=environment, check=True, timeout=30)


@pytest.fixture(scope="session")
def launch(new_screen: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Session]]:
    """Start ImageJ sessions; they end with the tests."""
    sessions: list[Session] = []

    def start(path: Path, server: str, home: Path | None = None) -> Session:
        folder, screen = home or tmp_path_factory.mktemp("imagej"), new_screen()
        environment = {
            **os.environ,
            "DISPLAY": screen,
            "LC_ALL": "C.UTF-8",
            "JAVA_TOOL_OPTIONS": f"-Duser.home={folder} {OPEN_MENUS}",
            "SKINOCT_TRACE": "1",
            "OMP_NUM_THREADS": "1",
        }
        log = folder / "log.txt"
        with log.open("w") as stderr:
            process = subprocess.Popen(
                [sys.executable, str(HERE / "drive.py"), str(path), server],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env=environment,
                cwd=folder,
            )
        session = Session(process, screen, log, folder)
        sessions.append(session)
        assert process.stdout is not None
        while (line := process.stdout.readline()) and line.strip() != '"ready"':
            continue
        assert line, f"ImageJ did not start:\n{log.read_text()[-3000:]}"
        return session

    yield start
    for session in sessions:
        session.process.kill()
        session.process.communicate(timeout=20)


@pytest.fixture(scope="session")
def imagej_jar() -> Path:
    """ImageJ 1 alone, as Debian ships it."""
    _need(IJ_JAR.exists() and shutil.which("java") is not None, "needs Java and ImageJ (package libij-java)")
    return IJ_JAR


@pytest.fixture(scope="session")
def imagej(launch: Callable[..., Session], fake: FakeServer, imagej_jar: Path) -> Session:
    """ImageJ 1 with Plugins > Skin."""
    return launch(imagej_jar, fake.url)


@pytest.fixture
def quiet(imagej: Session, fake: FakeServer) -> Iterator[Session]:
    """Run each test on an ImageJ without images or dialogs, and a server in good order."""
    fake.reset()
    close_all(imagej)
    imagej(f"ij.remember({{'server': {fake.url!r}, 'options': '', 'key': ''}})")
    yield imagej
    fake.reset()
    close_all(imagej)


@pytest.fixture(scope="session")
def full_fiji(launch: Callable[..., Session], fake: FakeServer) -> Session:
    """Open a full Fiji, where one is given."""
    folder = os.environ.get("FIJI_DIR")
    if not folder:
        pytest.skip("needs a full Fiji, given by FIJI_DIR")
    return launch(Path(folder), fake.url)


@pytest.fixture
def fiji(full_fiji: Session, fake: FakeServer) -> Iterator[Session]:
    """Run each test on a Fiji without images or dialogs."""
    fake.reset()
    close_all(full_fiji)
    full_fiji(f"ij.remember({{'server': {fake.url!r}, 'options': '', 'key': ''}})")
    yield full_fiji
    fake.reset()
    close_all(full_fiji)


def _link(source: str, target: str) -> None:
    """Copy a file without its bytes, where the file system can."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


@pytest.fixture(scope="session")
def stock_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the Fiji with the scripts of ``skinoct-fiji install`` in it."""
    folder = os.environ.get("FIJI_DIR")
    if not folder:
        pytest.skip("needs a full Fiji, given by FIJI_DIR")
    copy = tmp_path_factory.mktemp("stock") / "Fiji.app"
    shutil.copytree(folder, copy, copy_function=_link)
    assert main(["install", "--fiji", str(copy)]) == 0
    return copy


@pytest.fixture(scope="session")
def headless_fiji(stock_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Return a function for ``Fiji --headless ARGUMENTS``, no screen and no Python at work; it returns the output."""
    home = tmp_path_factory.mktemp("home")
    jars = [stock_folder / folder / "*" for folder in ("jars", "jars/bio-formats", "plugins")]
    command = ["java", "--add-opens=java.base/java.lang=ALL-UNNAMED", "-Djava.awt.headless=true"]
    command += ["-Dscijava.context.strict=false", f"-Duser.home={home}"]
    command += [f"-D{name}={stock_folder}" for name in ("imagej.dir", "plugins.dir")]
    command += ["-Xmx2g", "-cp", os.pathsep.join(map(str, jars)), "net.imagej.Main", "--headless"]
    environment = {name: value for name, value in os.environ.items() if name != "DISPLAY"}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [*command, *arguments], capture_output=True, text=True, env=environment, timeout=500, check=False
        )
        return done.stdout + done.stderr

    return run


@pytest.fixture(scope="session")
def stock_fiji(launch: Callable[..., Session], stock_folder: Path) -> Session:
    """Open a Fiji with the scripts in it and no Python at work."""
    return launch(stock_folder, "")


@pytest.fixture
def door_b(stock_fiji: Session, fake: FakeServer) -> Iterator[Session]:
    """Run each test on a stock Fiji without images or dialogs."""
    fake.reset()
    close_all(stock_fiji)
    for key, value in {"server": fake.url, "options": "", "key": ""}.items():
        stock_fiji(f"ij.Prefs.set('skinoct.{key}', {value!r})")
    yield stock_fiji
    fake.reset()
    close_all(stock_fiji)


@pytest.fixture(params=["python", pytest.param("scripts", marks=pytest.mark.fiji)])
def either(request: pytest.FixtureRequest) -> Session:
    """Run a test twice: entries that Python runs, and the scripts of a stock Fiji. Both must do the same."""
    session: Session = request.getfixturevalue("quiet" if request.param == "python" else "door_b")
    return session


def close_all(session: Session) -> None:
    """Stop what runs, close dialogs, images, tables and the ROI Manager."""
    session("ij.IJ.setKeyDown(27); import threading")
    session("""def _close():
    for w in JClass('java.awt.Window').getWindows():
        if isinstance(w, JClass('ij.gui.NonBlockingGenericDialog')) and w.isShowing():
            w.windowClosing(None)
        elif isinstance(w, JClass('java.awt.Dialog')) and w.isDisplayable():
            later(w.dispose)  # from another thread Java may wait for ever, when the dialog closes by itself just now
    busy = JClass('java.lang.System').getProperty('skinoct.busy')  # of the scripts of a stock Fiji
    return busy is None and not [t for t in threading.enumerate() if t.name.startswith('skinoct ')]""")
    session.until("_close()")
    session("""for _i in list(ij.WindowManager.getIDList() or ()):
    _m = ij.WindowManager.getImage(_i); _m.changes = False; _m.close()""")
    session("""for _w in list(ij.WindowManager.getNonImageWindows() or ()):
    if 'DEJ' in str(_w.getTitle()) or 'Segmented' in str(_w.getTitle()): _w.close(False)""")
    session("_m = ij.WindowManager.getWindow('Log'); _m and _m.close()")
    session("_m = ij.RoiManager.getInstance2(); _m and _m.close()")
    session("_m = ij.Recorder.getInstance(); _m and _m.close()")


@pytest.fixture(scope="session")
def fake() -> Iterator[FakeServer]:
    """Run a fake server on a free port."""
    with _served(FakeServer()) as fake:
        yield fake


@pytest.fixture
def mortal() -> Iterator[FakeServer]:
    """Run a fake server that may die."""
    with _served(FakeServer()) as fake:
        yield fake


@contextlib.contextmanager
def _served(fake: FakeServer) -> Iterator[FakeServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(fake))
    server.daemon_threads = True
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield fake
    server.shutdown()
    server.server_close()
    thread.join()
