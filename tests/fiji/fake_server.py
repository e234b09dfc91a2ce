"""The contract of the server in a few lines, so that every failure and every answer can be had at will."""

from __future__ import annotations

import io
import json
import threading
import time
import uuid
import zipfile
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

import numpy as np
import tifffile

from skinoct.labels import Label
from skinoct.maps import write_maps
from skinoct.measure import measure_segmentation
from skinoct.roi_light import light_rois
from skinoct.rois import trace, write_roi_set
from skinoct.segmentation import ModelIdentity, Segmentation
from skinoct.tomogram import PixelSize, write_labels


@dataclass
class FakeServer:
    """The contract of the server in a few lines, so that every failure can be had at will."""

    url: str = ""
    slices_per_second: float = 1000.0
    api_version: int = 1
    key: str | None = None
    full: bool = False
    version: str = "0.1.0"
    queued: int = 0
    """Jobs that go first; while there are any, nothing is done."""
    seconds_per_megabyte: float = 0.0
    """Of reading what is sent."""
    failure: str | None = None
    html: bool = False
    deleted: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    queries: list[str] = field(default_factory=list)
    confidence: tuple[float, ...] = ()
    """Of each slice; empty: the same everywhere."""
    um: float | None = 0.9
    """Pixel size of every answer."""
    no_dej: bool = False
    """Nothing of it was found."""
    wave: float = 0.0
    """Rows by which the DEJ goes up and down."""
    breaks: dict[int, str] = field(default_factory=dict)
    """Length of an upload to when its connection breaks: ``sending``, ``answering``, ``result``; or ``dying``."""
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)

    def reset(self) -> None:
        fresh = FakeServer(self.url, jobs=self.jobs)
        self.__dict__.update(fresh.__dict__)

    def shape(self, job: str) -> tuple[int, ...]:
        return self.jobs[job]["shape"]


def segmentation(fake: FakeServer, shape: tuple[int, ...]) -> Segmentation:
    """Make flat layers: epidermis from a fifth of the height, DEJ from the half, dermis from six tenths."""
    depth, height, width = shape
    share = np.array([0.0, 0.2, 0.5, 0.6])[:, None, None]
    tops = np.round(share * height) + np.zeros((4, depth, width))
    tops[2:] += np.round(fake.wave * np.sin(np.arange(width) / 9 + np.arange(depth)[:, None] / 7))
    sure = np.array(fake.confidence if len(fake.confidence) == depth else [0.8] * depth, np.float32)
    return Segmentation(
        shape=(depth, height, width),
        decode="ordered",
        boundaries=tops.astype(np.float32),
        pixel_labels=None,
        confidence=np.repeat(sure[:, None], width, axis=1),
        overhang=np.zeros((depth, width), bool),
        pixel_size_um=PixelSize(fake.um, fake.um, fake.um) if fake.um else None,
        band_thickness_um=5.0,
        model=ModelIdentity("phantom-v1", "0" * 64),
    )


def answer(fake: FakeServer, shape: tuple[int, ...], accept: str) -> bytes:
    """Write flat layers as the server would."""
    result, out = segmentation(fake, shape), io.BytesIO()
    match accept:
        case "application/zip":
            write_roi_set(out, trace(result.blocks()))
        case "application/vnd.skinoct.dej+zip" if fake.no_dej:
            zipfile.ZipFile(out, "w").close()
        case "application/vnd.skinoct.dej+zip":
            write_roi_set(out, trace(result.blocks(), labels_to_trace=[Label.DEJ]))
        case "application/vnd.skinoct.light+zip":
            write_roi_set(out, light_rois(result))
        case "application/vnd.skinoct.maps+tiff":
            write_maps(out, result)
        case "application/json":
            out.write(measure_segmentation(result).model_dump_json().encode())
        case "text/csv":
            out.write(measure_segmentation(result).to_csv().encode())
        case _:
            write_labels(out, result.blocks(), result.shape, pixel_size_um=result.pixel_size_um)
    return out.getvalue()


def handler(fake: FakeServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            return

        def send(self, status: int, body: Any, kind: str = "application/json", **headers: str) -> None:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(content)

        def problem(self, status: int, detail: str, **headers: str) -> None:
            body = {"type": "about:blank", "title": "no", "status": status, "detail": detail}
            self.send(status, body, "application/problem+json", **headers)

        def allowed(self) -> bool:
            if fake.html:
                self.send(200, b"<html>It works!</html>", "text/html")
                return False
            if fake.key and self.headers.get("Authorization") != f"Bearer {fake.key}" and "health" not in self.path:
                self.problem(401, "This server needs an API key.")
                return False
            return True

        def do_GET(self) -> None:
            if not self.allowed():
                return
            if self.path == "/healthz":
                body = {"service": "skinoct-server", "version": fake.version, "api_version": fake.api_version}
                self.send(200, body)
            elif self.path == "/models":
                model = {"name": "phantom-v1", "sha256": "0" * 64, "default": True, "description": "a fake"}
                self.send(200, [{**model, "pixel_size_um": 0.9}])
            elif self.path == "/readyz":
                self.send(503, {}) if fake.full else self.send(200, {"status": "ready"})
            elif self.path.endswith("/result"):
                headers = {"X_Skinoct_Model": "phantom-v1", "X_Skinoct_Model_Sha256": "0" * 64}
                accept = self.headers["Accept"]
                job = self.path.split("/")[2]
                if fake.breaks.get(fake.jobs.get(job, {}).get("size")) == "result":
                    self.close_connection = True
                elif job in fake.jobs:
                    self.send(200, answer(fake, fake.shape(job), accept), accept, **headers)
                else:
                    self.problem(404, "There is no such job.")
            else:
                self.job(self.path.split("/")[-1])

        def job(self, job: str, status: int = 200, **headers: str) -> None:
            state = fake.jobs[job]
            total = state["shape"][0]
            done = min(total, int((time.monotonic() - state["start"]) * fake.slices_per_second))
            body = {
                "id": job, "slices_done": done, "slices_total": total, "detail": "", "model": "phantom-v1",
                "model_sha256": "0" * 64, "input_sha256": "0" * 64, "created": 0.0,
                "seconds_left": (total - done) / fake.slices_per_second,
                "state": "done" if done == total else "running",
            }  # fmt: skip
            if fake.queued:
                body |= {"state": "queued", "position": fake.queued, "slices_done": 0}
            if fake.failure:
                problem = {"title": "no", "status": 422, "detail": fake.failure}
                body |= {"state": "failed", "problem": problem}
            self.send(status, body, **headers)

        def body(self, size: int) -> bytes:
            content = b""
            while len(content) < size and (part := self.rfile.read(min(size - len(content), 1 << 18))):
                content += part
                time.sleep(fake.seconds_per_megabyte / 4)
            return content

        def breaks(self, size: int) -> bool:
            """Whether the connection breaks now; with the server, where that dies."""
            how = fake.breaks.get(size, "result")
            if how == "dying":
                stopped = threading.Thread(target=self.server.shutdown)
                stopped.start()
                stopped.join()
                self.server.server_close()
            return how != "result"

        def do_POST(self) -> None:
            size = int(self.headers["Content-Length"])
            body = self.body(size // 8 if fake.breaks.get(size) == "sending" else size)
            if len(body) < size or self.breaks(size):  # or the client went away
                self.close_connection = True
                return
            if not self.allowed():
                return
            if fake.full:
                self.problem(429, "Too many tomograms are waiting.", Retry_After="1")
                return
            fake.bodies.append(body)
            fake.queries.append(self.path)
            array = tifffile.imread(io.BytesIO(body))
            job = uuid.uuid4().hex
            shape = array.shape if array.ndim == 3 else (1, *array.shape)
            fake.jobs[job] = {"start": time.monotonic(), "shape": shape, "size": size}
            self.job(job, 202, Location=f"/jobs/{job}")

        def do_DELETE(self) -> None:
            fake.deleted.append(self.path.split("/")[-1])
            self.send(200, {})

    return Handler
