"""Load that takes minutes: many clients with large tomograms, and models switched under load.

python tests/server/load.py clients [--clients 64] [--megabytes 100] [--minutes 15]
python tests/server/load.py switches [--switches 1000] [--minutes 10]

Each tells on stderr how far it is, and measures a real server with a small network of random weights (the load is the
point, not the network), writes a section of docs/benchmarks.md, prints it, and ends with 1 when a target was missed.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import hashlib
import json
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parent))
from bench import say, url_of, write_section, write_tomogram
from footer import footer, weights

MIB = 1 << 20
BUDGET = 800 * MIB
FRONT_LIMIT = 400 * MIB
LATENCY_LIMIT = 0.05
HEAD = "POST /segment HTTP/1.1\r\nHost: x\r\nAccept: application/x-npy\r\nContent-Length: {}\r\n{}\r\n"


def make_checkpoint(folder: Path, seed: int) -> None:
    """Write a checkpoint with random weights."""
    import torch

    from skinoct.checkpoint import Architecture, Card
    from skinoct.checkpoint_write import save_checkpoint
    from skinoct.unet import UNet, UNetConfig

    torch.manual_seed(seed)
    config = UNetConfig(widths=(8, 8, 8))
    card = Card(
        name=folder.name,
        created="2026-01-01T00:00:00Z",
        description="Random weights, for load tests.",
        architecture=Architecture(config=config.model_dump(mode="json")),
        pixel_size_um=0.9,
        band_thickness_um=5.0,
    )
    save_checkpoint(folder, card, UNet(config).state_dict())


@contextmanager
def running(folder: Path, *options: str) -> Iterator[tuple[str, psutil.Process]]:
    """Start a server with the checkpoints of ``folder/models``; stop it at the end, whatever happens."""
    command = [sys.executable, "-m", "skinoct_server.cli", "serve", "--port", "0", "--models", str(folder / "models")]
    command += ["--data-dir", str(folder / "data"), "--requests-per-minute", "1000000", *options]
    with (folder / "log").open("wb") as log:
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        yield url_of(child, folder / "log"), psutil.Process(child.pid)
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(60)
        except subprocess.TimeoutExpired:
            child.kill()
        if child.stdout is not None:
            child.stdout.close()


def address(url: str) -> tuple[str, int]:
    """Return host and port."""
    host, port = url.removeprefix("http://").split(":")
    return host, int(port)


# the probe: a process of its own, so that it does not wait for the clients' threads


def probe(url: str) -> None:
    """Time `/healthz`, and the refusal of an upload whose body is never sent, until stdin closes; print both.

    A first line says that it has begun.
    """
    health, refusal = list[float](), list[float]()
    head = HEAD.format(100 * MIB, "").encode()
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as http:
        http.get("/healthz")
        print("begun", flush=True)
        done = False
        while not done:
            started = time.perf_counter()
            http.get("/healthz")
            health.append(time.perf_counter() - started)
            with socket.create_connection(address(url), 60) as client:
                started = time.perf_counter()
                client.sendall(head)
                if select.select([client], [], [], 0.25)[0] and b" 429 " in client.recv(4096):
                    refusal.append(time.perf_counter() - started)
            done = bool(select.select([sys.stdin], [], [], 0.05)[0])
    print(json.dumps({"health": health, "refusal": refusal}))


@dataclass
class Watch:
    """What is sampled while the load runs."""

    process: psutil.Process
    peak: dict[str, int] = field(default_factory=dict)
    total: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Sample memory until stopped."""
        while not self.stop.wait(0.5):
            total = 0
            for process in [self.process, *self.process.children(recursive=True)]:
                try:
                    line, own = process.cmdline(), process.memory_full_info().uss
                    name = line[line.index("-m") + 1].rsplit(".", 1)[-1]
                except (psutil.NoSuchProcess, psutil.AccessDenied, ValueError, IndexError):
                    continue
                total += own
                self.peak[name] = max(self.peak.get(name, 0), own)
            self.total = max(self.total, total)


@dataclass
class Client:
    """One client that posts its tomogram until it is answered."""

    url: str
    body: Path
    polite: bool
    """Waits for "100 Continue" as curl does, instead of sending its body at once."""
    end: float
    refused: int = 0
    status: int = 0
    digest: str = ""
    seconds: float = 0.0

    def run(self) -> Client:
        """Post until answered or out of time."""
        started = time.monotonic()
        while time.monotonic() < self.end:
            self.status, headers, content = self.post()
            if self.status != 429:
                self.digest = hashlib.sha256(content).hexdigest()
                break
            self.refused += 1
            time.sleep(min(float(headers["retry-after"]), max(0.0, self.end - time.monotonic())))
        self.seconds = time.monotonic() - started
        return self

    def post(self) -> tuple[int, dict[str, str], bytes]:
        """Post once; stop sending when the answer comes early."""
        size = self.body.stat().st_size
        extra = "Expect: 100-continue\r\n" if self.polite else ""
        with socket.create_connection(address(self.url), 60) as client:
            client.settimeout(max(60.0, self.end - time.monotonic()))
            client.sendall(HEAD.format(size, extra).encode())
            early = client.recv(65536) if self.polite else b""
            if not early or early.startswith(b"HTTP/1.1 100"):
                early = early.partition(b"\r\n\r\n")[2]
                with self.body.open("rb") as file:
                    while (piece := file.read(MIB)) and not select.select([client], [], [], 0)[0]:
                        client.sendall(piece)
            return read_answer(client, early)


def read_answer(client: socket.socket, content: bytes) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and content of an answer of which some bytes have come."""
    while b"\r\n\r\n" not in content and (part := client.recv(65536)):
        content += part
    head, _, content = content.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    parts = [content]
    missing = int(headers["content-length"]) - len(content)
    while missing > 0 and (part := client.recv(MIB)):
        parts.append(part)
        missing -= len(part)
    assert missing == 0, "the answer was cut off"
    return int(first.split()[1]), headers, b"".join(parts)


def write_large(path: Path, megabytes: int) -> None:
    """Write a float32 tomogram of about so many megabytes."""
    from skinoct.tomogram import write_tomogram as write

    shape = (megabytes * 1_000_000 // (4 * 224 * 512), 224, 512)
    write(path, np.random.default_rng(0).random(shape, np.float32))


def measure_clients(options: argparse.Namespace, folder: Path) -> tuple[list[str], bool, list[str]]:
    """Let all clients post at once; returns the section's lines, whether every target was met, and the weights."""
    write_large(folder / "large.tif", options.megabytes)
    make_checkpoint(folder / "models" / "load", 0)
    with running(folder, "--max-pending-bytes", str(BUDGET)) as (url, process):
        watch = Watch(process)
        watcher = threading.Thread(target=watch.run)
        watcher.start()
        command = [sys.executable, __file__, "probe", url]
        prober = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert prober.stdout is not None
        prober.stdout.readline()
        end = time.monotonic() + options.minutes * 60
        crowd = [Client(url, folder / "large.tif", number % 2 == 0, end) for number in range(options.clients)]
        started = time.monotonic()
        threading.Thread(target=tell, args=(crowd, watch.stop), daemon=True).start()
        with concurrent.futures.ThreadPoolExecutor(options.clients) as pool:
            answered = list(pool.map(Client.run, crowd))
        wall = time.monotonic() - started
        times = {name: np.array(values) for name, values in json.loads(prober.communicate("\n")[0]).items()}
        watch.stop.set()
        watcher.join()
        left = httpx.get(f"{url}/readyz", trust_env=False).json()["jobs"]
        models = weights(url)
    lines, met = report_clients(options, answered, wall, times, watch, left)
    return lines, met, models


def tell(crowd: list[Client], stop: threading.Event) -> None:
    """Say how far the clients are."""
    while not stop.wait(15):
        good, refused = sum(client.status == 200 for client in crowd), sum(client.refused for client in crowd)
        say(
            f"{good} of {len(crowd)} clients answered, {refused} refusals, {crowd[0].end - time.monotonic():.0f} s left"
        )


def report_clients(
    options: argparse.Namespace,
    answered: list[Client],
    wall: float,
    times: dict[str, np.ndarray],
    watch: Watch,
    left: int,
) -> tuple[list[str], bool]:
    """Return the lines of the section, and whether every target was met."""
    good = [client for client in answered if client.status == 200]
    waiting = sum(client.status == 429 for client in answered)
    seconds = np.array([client.seconds for client in good] or [np.nan])
    health = np.quantile(times["health"], 0.99)
    refusal = np.quantile(times["refusal"], 0.99) if len(times["refusal"]) else np.nan
    memory = ", ".join(f"{who} {peak // MIB}" for who, peak in sorted(watch.peak.items()))
    targets = {
        f"all {options.clients} answered, nothing lost": len(good) == options.clients and left == 0,
        "every answer the same bytes": len({client.digest for client in good}) == 1,
        "only 200 and 429": {client.status for client in answered} <= {200, 429},
        f"front below {FRONT_LIMIT // MIB} MiB": watch.peak.get("cli", 0) < FRONT_LIMIT,
        f"99 of 100 refusals within {LATENCY_LIMIT * 1000:.0f} ms": bool(refusal <= LATENCY_LIMIT),
        f"99 of 100 `/healthz` within {LATENCY_LIMIT * 1000:.0f} ms": bool(health <= LATENCY_LIMIT),
    }
    lines = [
        f"{options.clients} clients post {options.megabytes} MB at the same moment, half of them without waiting for",
        f"leave; the server holds {BUDGET // MIB} MiB of uploads. In {wall:.0f} s {len(good)} were answered, {waiting} "
        "were still asked to",
        f"wait, after {sum(client.refused for client in answered)} refusals with `Retry-After`. Time to the answer: "
        f"median {np.median(seconds):.0f} s, longest {seconds.max():.0f} s.",
        f"Refusals: p50 {np.median(times['refusal']) * 1000 if len(times['refusal']) else np.nan:.1f} ms, "
        f"p99 {refusal * 1000:.1f} ms (n = {len(times['refusal'])}); `/healthz`: p50 "
        f"{np.median(times['health']) * 1000:.1f} ms, p99 {health * 1000:.1f} ms (n = {len(times['health'])}).",
        f"Own memory at its peak, MiB: {memory}; all together {watch.total // MIB}.",
    ]
    return [*lines, "", *table(targets)], all(targets.values())


def measure_switches(options: argparse.Namespace, folder: Path) -> tuple[list[str], bool, list[str]]:
    """Switch the default model while clients post; half-way a corrupt checkpoint appears."""
    for seed, name in enumerate(("first", "second")):
        make_checkpoint(folder / "models" / name, seed)
    write_tomogram(folder / "small.tif", (2, 64, 96))
    body = (folder / "small.tif").read_bytes()
    stop, wrong, counts, switching = threading.Event(), list[str](), [0] * 4, list[float]()
    with (
        running(folder, "--model", "first") as (url, _),
        httpx.Client(base_url=url, timeout=60, trust_env=False) as http,
    ):
        expected = {
            name: http.post(f"/segment?model={name}&decode=pixel", content=body, timeout=60).content
            for name in ("first", "second")
        }

        def load(number: int) -> None:
            with httpx.Client(base_url=url, timeout=120, trust_env=False) as own:
                while not stop.is_set():
                    answer = own.post("/segment?decode=pixel", content=body)
                    name = answer.headers.get("x-skinoct-model", "")
                    if answer.status_code != 200 or answer.content != expected[name]:
                        wrong.append(f"{answer.status_code} {name} {answer.text[:200]}")
                    counts[number] += 1

        end = time.monotonic() + options.minutes * 60
        with concurrent.futures.ThreadPoolExecutor(len(counts)) as pool:
            for number in range(len(counts)):
                pool.submit(load, number)
            corrupt = switch(http, folder, options.switches, end, switching)
            stop.set()
        models = sorted(weights(url))
    targets = {
        f"{options.switches} switches": len(switching) == options.switches,
        "no failed request, every answer of the model that it names": not wrong and min(counts) > 0,
        "the models differ": len(set(expected.values())) == 2,
        "a corrupt checkpoint is refused with a reason and changes nothing": corrupt,
    }
    lines = [
        f"{len(switching)} switches of the default model in {sum(switching):.0f} s of calls, p99 "
        f"{np.quantile(switching, 0.99) * 1000:.0f} ms, while 4 clients got {sum(counts)} answers.",
        *(f"WRONG: {text}" for text in wrong[:3]),
    ]
    return [*lines, "", *table(targets)], all(targets.values()), models


def switch(http: httpx.Client, folder: Path, count: int, end: float, seconds: list[float]) -> bool:
    """Switch to and fro; returns whether the corrupt checkpoint was refused and the models stayed."""
    for number in range(count):
        if time.monotonic() > end:
            break
        if number % 50 == 0:
            say(f"{number} of {count} switches")
        if number == count // 2:
            make_checkpoint(folder / "corrupt", 2)
            weights = folder / "corrupt" / "model.safetensors"
            weights.write_bytes(weights.read_bytes()[:-1] + b"?")
            (folder / "corrupt").rename(folder / "models" / "corrupt")
        started = time.perf_counter()
        answer = http.put("/models/default", json={"name": ("second", "first")[number % 2]})
        answer.raise_for_status()
        seconds.append(time.perf_counter() - started)
        time.sleep(0.01)
    told = time.monotonic() + 30
    while (answer := http.get("/models/corrupt")).status_code == 404 and time.monotonic() < told:
        time.sleep(0.2)
    names = {model["name"] for model in http.get("/models").json()}
    return answer.status_code == 503 and "SHA-256" in answer.json()["detail"] and names == {"first", "second"}


def table(targets: dict[str, bool]) -> list[str]:
    """Return the targets as a table."""
    return [
        "| target | met |",
        "|---|---|",
        *(f"| {text} | {'yes' if met else '**no**'} |" for text, met in targets.items()),
    ]


Measure = Callable[[argparse.Namespace, Path], tuple[list[str], bool, list[str]]]
SECTIONS: dict[str, tuple[str, Measure]] = {
    "clients": ("Many clients with large tomograms", measure_clients),
    "switches": ("Models switched under load", measure_switches),
}


def main() -> int:
    """Measure one kind of load and write its section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    kinds.add_parser("probe").add_argument("url")
    clients = kinds.add_parser("clients")
    clients.add_argument("--clients", type=int, default=64)
    clients.add_argument("--megabytes", type=int, default=100)
    clients.add_argument("--minutes", type=float, default=15)
    switches = kinds.add_parser("switches")
    switches.add_argument("--switches", type=int, default=1000)
    switches.add_argument("--minutes", type=float, default=10)
    for command in (clients, switches):
        command.add_argument("--dry", action="store_true", help="print the section, leave the page alone")
    options = parser.parse_args()
    if options.kind == "probe":
        probe(options.url)
        return 0
    title, measure = SECTIONS[options.kind]
    with tempfile.TemporaryDirectory(prefix="skinoct-load-") as name:
        lines, met, models = measure(options, Path(name))
    begin, end = f"<!-- {options.kind}: written by make bench-{options.kind} -->", f"<!-- end of {options.kind} -->"
    last = footer(f"bench-{options.kind}", sys.argv[2:], models)
    section = "\n".join([begin, f"## {title}", "", *lines, "", last, end])
    if not options.dry:
        write_section(begin, end, section)
    print(section)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
