"""Faults on a running server, timed: what becomes of the tomograms on hand, and when it is ready again.

python tests/server/faults.py [--models DIR] [--short]

Writes the section "Faults" of docs/benchmarks.md and ends with 1 when a target was missed. ``--short`` takes little
work and leaves the page alone: to see that it runs.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

sys.path.insert(0, str(Path(__file__).parent))
from bench import say, url_of, write_section, write_tomogram
from footer import footer, weights

BEGIN, END = "<!-- faults: written by make faults -->", "<!-- end of faults -->"
READY_LIMIT = 10.0
WAIT_SECONDS = 180.0


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + WAIT_SECONDS
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"This did not come about within {WAIT_SECONDS:.0f} s: {condition.__qualname__}")
        time.sleep(0.02)


class Server:
    """A server that is started, disturbed and stopped."""

    def __init__(self, folder: Path, models: Path | None) -> None:
        command = [
            sys.executable,
            "-m",
            "skinoct_server.cli",
            "serve",
            "--port",
            "0",
            "--data-dir",
            str(folder / "data"),
        ]
        command += ["--models", str(models)] if models else []
        self.started = time.monotonic()
        with (folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        self.url = url_of(self.process, folder / "log")
        self.http = httpx.Client(base_url=self.url, timeout=WAIT_SECONDS, trust_env=False)

    def stop(self, how: int) -> None:
        """Send a signal and wait for the end."""
        self.http.close()
        self.process.send_signal(how)
        self.process.wait(WAIT_SECONDS)
        if self.process.stdout is not None:
            self.process.stdout.close()

    def child(self, module: str) -> int | None:
        """Return the process id of a child of the front."""
        for process in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.Error):
                if module in process.cmdline():
                    return process.pid
        return None

    def kill_child(self, module: str) -> float:
        """Kill -9 a child; returns the seconds until the server is ready with another one in its place."""
        victim = self.child(module)
        assert victim is not None
        os.kill(victim, signal.SIGKILL)
        started = time.monotonic()
        wait_for(lambda: self.child(module) not in (None, victim))
        wait_for(lambda: self.http.get("/readyz").status_code == 200)
        return time.monotonic() - started

    def wait_at_work(self, unanswered: Callable[[], int]) -> None:
        """Wait until all tomograms without an answer have been admitted and one of them at least is being segmented."""

        def at_work() -> bool:
            text = self.http.get("/metrics").text
            pending, running = (
                float(re.search(rf"^skinoct_{name} (\S+)", text, re.M)[1]) for name in ("pending_jobs", "running")
            )
            return pending == unanswered() and running > 0

        wait_for(at_work)


@dataclass
class Row:
    """What became of the tomograms on hand."""

    fault: str
    same: int = 0
    """Answered with the bytes of an undisturbed server."""
    typed: int = 0
    """Answered with a 503 of a known kind."""
    lost: int = 0
    """Anything else, wrong labels first."""
    seconds: float = 0.0
    """Until the server was ready again."""

    def count(self, answers: list[httpx.Response | None], expected: list[bytes]) -> Row:
        """Sort answers."""
        for answer, content in zip(answers, expected, strict=True):
            good = answer is not None and answer.status_code == 200 and answer.content == content
            typed = answer is not None and answer.status_code == 503 and "urn:skinoct:problem:" in answer.text
            self.same, self.typed = self.same + good, self.typed + typed
            self.lost += not good and not typed
        return self

    def text(self) -> str:
        """Return a row of the table."""
        return f"| {self.fault} | {self.same} | {self.typed} | {self.lost} | {self.seconds:.1f} |"


@dataclass
class Work:
    """Tomograms and what an undisturbed server makes of them."""

    folder: Path
    models: Path | None
    bodies: list[bytes]
    expected: list[bytes]

    @contextlib.contextmanager
    def on_hand(self, server: Server) -> Iterator[list[concurrent.futures.Future[httpx.Response | None]]]:
        """Post all at once and wait until they are being worked on; the answers are there at the end of the block."""

        def post(body: bytes) -> httpx.Response | None:
            with (
                contextlib.suppress(httpx.TransportError),
                httpx.Client(base_url=server.url, timeout=600, trust_env=False) as http,
            ):
                return http.post("/segment", content=body)
            return None

        with concurrent.futures.ThreadPoolExecutor(len(self.bodies)) as pool:
            answers = [pool.submit(post, body) for body in self.bodies]
            server.wait_at_work(lambda: sum(not answer.done() for answer in answers))
            yield answers


def child_killed(work: Work, server: Server, module: str, name: str) -> Row:
    """Kill a child in the middle of the work."""
    row = Row(f"kill -9 of the {name}, mid-request")
    with work.on_hand(server) as answers:
        row.seconds = server.kill_child(module)
    return row.count([answer.result() for answer in answers], work.expected)


def stopped(work: Work, server: Server) -> tuple[Row, Server]:
    """SIGTERM in the middle of the work, then another server."""
    row = Row("SIGTERM under load, then a new server")
    with work.on_hand(server) as answers:
        server.stop(signal.SIGTERM)
    again = Server(work.folder, work.models)
    row.seconds = time.monotonic() - again.started
    return row.count([answer.result() for answer in answers], work.expected), again


def ended(server: Server, job: str) -> bool:
    """Return whether a job waits or runs no more."""
    return server.http.get(f"/jobs/{job}").json()["state"] not in ("queued", "running")


def killed(work: Work, server: Server) -> tuple[Row, Server]:
    """Kill -9 the whole server with jobs queued; another one must finish each of them once."""
    row = Row("kill -9 of the server with jobs queued, then a new server")
    jobs = [server.http.post("/jobs", content=body).json()["id"] for body in work.bodies]
    server.wait_at_work(lambda: sum(not ended(server, job) for job in jobs))
    server.stop(signal.SIGKILL)
    again = Server(work.folder, work.models)
    row.seconds = time.monotonic() - again.started

    wait_for(lambda: all(ended(again, job) for job in jobs))
    return row.count([again.http.get(f"/jobs/{job}/result") for job in jobs], work.expected), again


def measure(options: argparse.Namespace, folder: Path) -> tuple[list[Row], str]:
    """Go through all faults; returns what became of the tomograms, and the model."""
    slices, count = (40, 3) if options.short else (48, 6)  # each large enough to have the engine for itself
    bodies = [write_tomogram(folder / f"{n}.tif", (slices + n, 224, 512)) for n in range(count)]
    server = Server(folder, options.models)
    try:
        say("an undisturbed server")
        work = Work(folder, options.models, bodies, [server.http.post("/segment", content=b).content for b in bodies])
        say("children killed")
        rows = [child_killed(work, server, f"skinoct_server.{name}", name) for name in ("engine", "codec")]
        say("the server stopped")
        row, server = stopped(work, server)
        say("the server killed")
        last, server = killed(work, server)
        return [*rows, row, last], weights(server.url)[0]
    finally:
        server.stop(signal.SIGKILL)


def main() -> int:
    """Measure and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path)
    parser.add_argument("--short", action="store_true", help="little work; the page stays as it is")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="skinoct-faults-") as name:
        rows, model = measure(options, Path(name))
    lost, slow = sum(row.lost for row in rows), [row for row in rows if row.seconds > READY_LIMIT]
    section = "\n".join(
        [
            BEGIN,
            "## Faults",
            "",
            "Tomograms on hand at that moment:",
            "",
            "| fault | the same bytes as ever | typed 503 | lost or wrong | ready again, s |",
            "|---|---|---|---|---|",
            *(row.text() for row in rows),
            "",
            f"Lost or wrong: {lost} (target 0). Ready again within {READY_LIMIT:.0f} s: "
            f"{'always' if not slow else f'**not after {len(slow)} of {len(rows)}**'}.",
            "",
            footer("faults", sys.argv[1:], [model]),
            END,
        ]
    )
    if not options.short:
        write_section(BEGIN, END, section)
    print(section)
    return 1 if lost or slow else 0


if __name__ == "__main__":
    sys.exit(main())
