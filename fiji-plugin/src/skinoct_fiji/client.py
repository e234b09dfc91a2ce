"""Speak to a skinoct server over HTTP; needs neither Java nor torch, so scripts may use it too.

    from skinoct_fiji.client import Request, ServerClient

    with ServerClient("http://127.0.0.1:8000") as server:
        answer = server.segment("skin.tif", Request(accept="application/zip"))
        Path("RoiSet.zip").write_bytes(answer.content)

What can go wrong has one type each, so that a caller can tell the cases apart:

ServerError
    UnreachableError       nothing answers at that address
    BrokenError            it answered before, but the connection broke; the next request may get through
    WrongKeyError          the server wants another API key
    NotSkinoctError        something answers, but it is not skinoct
    OtherVersionError      its messages differ from ours
    BusyError              its queue stayed full
    RefusedError           it cannot use what we sent; the text is the server's own
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx
import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from skinoct.errors import Cancelled, OptionError, SkinoctError
from skinoct.wire import API_VERSION, JobStatus, ModelInfo, Problem, ServerInfo

DEFAULT_SERVER = "http://127.0.0.1:8000"
CHUNK = 1 << 20
POLL_SECONDS = 0.15
_MODELS = TypeAdapter(list[ModelInfo])

Image = str | Path | bytes | npt.NDArray[Any]
"""A tomogram: a file, its content, or voxels (Z, Y, X)."""


class ServerError(SkinoctError):
    """The server did not give an answer."""

    kind = "server"


class UnreachableError(ServerError):
    """Nothing answers at that address."""

    kind = "server-unreachable"


class BrokenError(ServerError):
    """The connection broke before the answer was there."""

    kind = "server-broken"


class WrongKeyError(ServerError):
    """The server wants another API key."""

    kind = "server-key"


class NotSkinoctError(ServerError):
    """Something answers, but it is not a skinoct server."""

    kind = "server-other"


class OtherVersionError(ServerError):
    """The server speaks another version of the messages."""

    kind = "server-version"


class BusyError(ServerError):
    """The server has no room at the moment."""

    kind = "server-busy"


class RefusedError(ServerError):
    """The server cannot use what was sent."""

    kind = "server-refused"


@dataclass(frozen=True)
class Progress:
    """How far a request is, for a status bar."""

    stage: str
    """``upload``, ``wait`` (the server is full), ``queue``, ``slices`` or ``download``."""
    done: int = 0
    total: int = 0
    """Bytes while uploading, slices while segmenting; 0 when unknown."""
    seconds_left: float | None = None

    def text(self) -> str:
        """Say it in a few words."""
        left = "" if self.seconds_left is None else f", {_duration(self.seconds_left)} left"
        share = f" {100 * self.done // self.total} %" if self.total else ""
        return {
            "upload": f"sending the image{share}",
            "wait": f"the server is full, trying again{left}",
            "queue": f"waiting, number {self.done} in the queue{left}" if self.done else f"waiting{left}",
            "slices": f"slice {self.done} of {self.total}{left}" if self.total else f"segmenting{left}",
            "download": "receiving the result",
        }[self.stage]

    @property
    def fraction(self) -> float:
        """Share of the whole, 0..1: the upload is the first tenth."""
        share = self.done / self.total if self.total else 0.0
        return {"upload": 0.1 * share, "slices": 0.1 + 0.85 * share, "download": 0.97}.get(self.stage, 0.1)


def _duration(seconds: float) -> str:
    whole = max(1, round(seconds))
    return f"{whole} s" if whole < 100 else f"{round(whole / 60)} min"


@dataclass(frozen=True)
class Request:
    """What to ask for."""

    model: str | None = None
    """None: the server's default."""
    decode: str = "ordered"
    pixel_size_um: float | None = None
    """None: the file's own calibration; without one the scale at which the network is surest is used, and no lengths
    are measured."""
    accept: str = "image/tiff"
    """Media type: image/tiff, application/x-npy, application/zip, application/json or text/csv."""

    def query(self) -> dict[str, str]:
        """Return the query parameters of ``POST /segment`` and ``POST /jobs``."""
        query = {"decode": self.decode}
        if self.model is not None:
            query["model"] = self.model
        if self.pixel_size_um is not None:
            query["pixel_size_um"] = repr(self.pixel_size_um)
        return query


DEFAULT_REQUEST = Request()


@dataclass(frozen=True)
class Answer:
    """What the server sent, and which model made it."""

    content: bytes
    media_type: str
    model: str
    model_sha256: str
    request_id: str
    job: str | None = None
    """Id under which more answers can be had while the server keeps the result."""


def _nothing(_: Progress) -> None:
    return None


def _never() -> bool:
    return False


@dataclass(frozen=True)
class Watcher:
    """Whom to tell about progress, and whom to ask whether to stop."""

    progress: Callable[[Progress], None] = _nothing
    cancelled: Callable[[], bool] = _never

    def check(self) -> None:
        """Raise ``Cancelled`` when the user asked to stop."""
        if self.cancelled():
            raise Cancelled("Stopped, as you asked. Nothing was changed.")


class ServerClient:
    """One server; use it as a context manager.

    Parameters
    ----------
    url : str
        Address such as ``http://127.0.0.1:8000``; ``http://`` may be left out.
    key : str, optional
        API key, sent as ``Authorization: Bearer``; blanks around it do not count.
    patience : float
        Seconds to go on asking a server that is full or restarting before giving up.

    Raises
    ------
    OptionError, WrongKeyError
        When that cannot be an address, or a key.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        patience: float = 30.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.url = _address(url)
        self.patience = patience
        key = _checked_key(key or "")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        timeout = httpx.Timeout(120.0, connect=5.0)
        self._http = httpx.Client(
            base_url=self.url, headers=headers, timeout=timeout, transport=transport, trust_env=False
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def check(self) -> ServerInfo:
        """Ask who is there and whether it has room: *Test connection*.

        Raises
        ------
        UnreachableError, BrokenError, NotSkinoctError, OtherVersionError, WrongKeyError, BusyError
            One each, with the cure in the text.
        """
        info = self.hello()
        self.models()
        ready = self._ask("GET", "/readyz", timeout=5.0)
        if ready.status_code in (429, 503):
            raise BusyError(f"The skinoct server at {self.url} is busy or starting. {self._reason(ready)}".strip())
        return info

    def hello(self) -> ServerInfo:
        """Ask who is there: a skinoct server that speaks our version, or an error that says who else."""
        answer = self._ask("GET", "/healthz", timeout=5.0)
        self._check_key(answer)
        try:
            info = ServerInfo.model_validate_json(answer.content)
            ours = answer.status_code == 200 and info.service == "skinoct-server"
        except ValidationError:
            ours = False
        if not ours:
            raise NotSkinoctError(
                f"Something answers at {self.url}, but it is not a skinoct server. Check the address and the "
                "port; skinoct-server prints its own when it starts."
            )
        if info.api_version != API_VERSION:
            older = "server" if info.api_version < API_VERSION else "plugin"
            raise OtherVersionError(
                f"The server at {self.url} (skinoct {info.version}) speaks version {info.api_version}, "
                f"this plugin "
                f"version {API_VERSION}. Update the {older}, so that both are the same release."
            )
        return info

    def models(self) -> list[ModelInfo]:
        """Return the models of the server."""
        answer = self._ask("GET", "/models", timeout=5.0)
        self._raise(answer)
        try:
            return _MODELS.validate_json(answer.content)
        except ValidationError:
            raise OtherVersionError(
                f"The list of models of {self.url} cannot be read. Update server and plugin to the same release."
            ) from None

    def segment(self, image: Image, request: Request = DEFAULT_REQUEST, watch: Watcher | None = None) -> Answer:
        """Have a tomogram segmented and wait for the answer.

        Parameters
        ----------
        image : path, bytes or array
            A TIFF or npy file, its content, or voxels (Z, Y, X) as uint8, uint16 or float32.

        Raises
        ------
        ServerError, skinoct.errors.Cancelled
            See the tree in this module's text.
        """
        watch = watch or Watcher()
        job = self.submit(image, request, watch)
        if isinstance(job, Answer):
            return job
        try:
            self.wait(job.id, watch)
        except BaseException:
            self.cancel(job.id)
            raise
        watch.progress(Progress("download"))
        return self.result(job.id, request.accept)

    def submit(
        self, image: Image, request: Request = DEFAULT_REQUEST, watch: Watcher | None = None
    ) -> JobStatus | Answer:
        """Send a tomogram to the queue; a server without a queue answers at once."""
        watch, image = watch or Watcher(), _as_file(image)
        deadline = time.monotonic() + self.patience
        while True:
            answer = self._post("/jobs", image, request, watch)
            if answer.status_code in (404, 405):
                answer = self._post("/segment", image, request, watch)
            if answer.status_code not in (429, 503) or time.monotonic() > deadline:
                break
            _wait(watch, min(_retry_after(answer), max(0.1, deadline - time.monotonic())))
        self._raise(answer)
        if answer.status_code != 202:
            return self._answer(answer, None)
        return JobStatus.model_validate_json(answer.content)

    def wait(self, job: str, watch: Watcher | None = None) -> JobStatus:
        """Wait until a job is done; raise when it fails or is cancelled."""
        watch = watch or Watcher()
        while True:
            watch.check()
            status = self.job(job, watch)
            if status.state == "done":
                return status
            if status.state == "failed":
                raise RefusedError(status.problem.detail if status.problem else status.detail)
            if status.state == "cancelled":
                raise Cancelled("The job was cancelled on the server. Nothing was changed.")
            if status.state == "running":
                watch.progress(Progress("slices", status.slices_done, status.slices_total or 0, status.seconds_left))
            else:
                watch.progress(Progress("queue", status.position or 0, 0, status.seconds_left))
            time.sleep(POLL_SECONDS)

    def job(self, job: str, watch: Watcher | None = None) -> JobStatus:
        """Ask for the state of a job; a server that is restarting is asked again, until the user has enough."""
        deadline = time.monotonic() + min(self.patience, 12.0)
        while True:
            try:
                answer = self._ask("GET", f"/jobs/{job}", timeout=5.0)
                if answer.status_code != 503 or time.monotonic() > deadline:
                    break
            except (UnreachableError, BrokenError, NotSkinoctError) as error:
                if time.monotonic() > deadline:
                    raise UnreachableError(
                        f"The server at {self.url} went away while it was working. Start it again "
                        "(skinoct-server serve), then repeat the command; your image is unchanged."
                    ) from error
            (watch or Watcher()).check()
            time.sleep(0.5)
        self._raise(answer)
        return JobStatus.model_validate_json(answer.content)

    def result(self, job: str, accept: str) -> Answer:
        """Fetch the result of a finished job in one more form."""
        answer = self._ask("GET", f"/jobs/{job}/result", headers={"Accept": accept})
        self._raise(answer)
        return self._answer(answer, job)

    def cancel(self, job: str) -> None:
        """Ask the server to stop a job; that it is gone already is no error."""
        try:
            self._http.delete(f"/jobs/{job}", timeout=5.0)
        except httpx.HTTPError:
            return

    def _post(self, path: str, image: Path | bytes, request: Request, watch: Watcher) -> httpx.Response:
        size = len(image) if isinstance(image, bytes) else image.stat().st_size
        kind = "application/x-npy" if _head(image) == b"\x93NUMPY" else "image/tiff"
        headers = {"Content-Type": kind, "Content-Length": str(size), "Accept": request.accept}
        body = _body(image, size, watch)
        try:
            return self._ask("POST", path, params=request.query(), headers=headers, content=body, timeout=3600.0)
        except (BrokenError, NotSkinoctError) as error:
            raise BrokenError(
                f"The connection to {self.url} broke while the image was sent. Check that the server still runs, "
                "then try again."
            ) from error

    def _ask(self, method: str, path: str, **how: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **how)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            if "SSL" in str(error):
                raise UnreachableError(
                    f"{self.url} speaks no https that can be trusted. Try http:// in its place, or have whoever runs "
                    "it give you its certificate."
                ) from error
            raise UnreachableError(
                f"No skinoct server answers at {self.url}. Start it there with: skinoct-server serve - "
                f"or correct "
                "the address under Plugins > Skin > Server settings."
            ) from error
        except httpx.RemoteProtocolError as error:
            raise NotSkinoctError(
                f"The answer of {self.url} is not HTTP or broke off. Check the address and the port, "
                f"and that the "
                "server still runs."
            ) from error
        except httpx.HTTPError as error:
            raise BrokenError(
                f"The connection to {self.url} broke ({type(error).__name__}). Check that the server "
                f"still runs, "
                "then try again."
            ) from error

    def _check_key(self, answer: httpx.Response) -> None:
        if answer.status_code in (401, 403):
            raise WrongKeyError(
                f"The server at {self.url} does not accept this API key. Ask whoever runs it for a key "
                f"and enter it "
                "under Plugins > Skin > Server settings."
            )

    def _raise(self, answer: httpx.Response) -> None:
        if answer.is_success:
            return
        self._check_key(answer)
        reason = self._reason(answer)
        if answer.status_code in (429, 503):
            raise BusyError(f"The server at {self.url} is busy; try again in a minute. {reason}".strip())
        if not reason:
            self.hello()
        raise RefusedError(reason or f"The server at {self.url} answered {answer.status_code} and gave no reason.")

    @staticmethod
    def _reason(answer: httpx.Response) -> str:
        try:
            return Problem.model_validate_json(answer.content).detail
        except ValidationError:
            return ""

    @staticmethod
    def _answer(answer: httpx.Response, job: str | None) -> Answer:
        return Answer(
            content=answer.content,
            media_type=answer.headers.get("Content-Type", "").split(";")[0],
            model=answer.headers.get("X-Skinoct-Model", ""),
            model_sha256=answer.headers.get("X-Skinoct-Model-Sha256", ""),
            request_id=answer.headers.get("X-Request-Id", ""),
            job=job,
        )


def _address(url: str) -> str:
    """Complete and check an address that a person typed."""
    text = url.strip().rstrip("/")
    if "://" not in text:
        text = f"http://{text}"
    scheme, mark, rest = text.partition("://")
    text = f"{scheme.lower()}{mark}{rest}"
    try:
        parsed = httpx.URL(text)
        port = 80 if parsed.port is None else parsed.port
    except (httpx.InvalidURL, ValueError):
        parsed, port = httpx.URL(""), 0
    good = parsed.scheme in ("http", "https") and parsed.host and 0 < port < 65536
    if not good or any(letter.isspace() for letter in text):
        raise OptionError(f"'{url.strip()}' is not the address of a server. Give one like {DEFAULT_SERVER}.")
    return text


def _checked_key(key: str) -> str:
    """Return an API key as it is sent; what was pasted may have a line end, or quotes that no key has."""
    key = key.strip()
    if not (key.isascii() and key.isprintable()):
        raise WrongKeyError(
            "The API key holds characters that no key has, such as curly quotes. Copy it again and enter it under "
            "Plugins > Skin > Server settings, or in SKINOCT_API_KEY."
        )
    return key


def _as_file(image: Image) -> Path | bytes:
    """Return an image as a path or as the bytes of a file; an array becomes npy."""
    if isinstance(image, np.ndarray):
        file = io.BytesIO()
        np.save(file, image, allow_pickle=False)
        return file.getvalue()
    return Path(image) if isinstance(image, str) else image


def _head(image: Path | bytes) -> bytes:
    if isinstance(image, bytes):
        return image[:6]
    with image.open("rb") as file:
        return file.read(6)


def _body(image: Path | bytes, size: int, watch: Watcher) -> Iterator[bytes]:
    """Yield the body piece by piece, so that Escape works while it is sent."""
    sent = 0
    for piece in _pieces(image):
        watch.check()
        yield piece
        sent += len(piece)
        watch.progress(Progress("upload", sent, size))


def _pieces(image: Path | bytes) -> Iterator[bytes]:
    if isinstance(image, bytes):
        yield from (image[start : start + CHUNK] for start in range(0, len(image), CHUNK))
        return
    with image.open("rb") as file:
        while piece := file.read(CHUNK):
            yield piece


def _retry_after(answer: httpx.Response) -> float:
    try:
        return max(0.2, float(answer.headers.get("Retry-After", "2")))
    except ValueError:
        return 2.0


def _wait(watch: Watcher, seconds: float) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        watch.check()
        watch.progress(Progress("wait", seconds_left=left))
        time.sleep(min(POLL_SECONDS, left))


def parse_json(answer: Answer) -> dict[str, Any]:
    """Read an ``application/json`` answer."""
    value = json.loads(answer.content)
    if not isinstance(value, dict):
        raise OtherVersionError("The server's measurements cannot be read. Update server and plugin together.")
    return value
