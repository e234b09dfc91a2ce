"""Errors as RFC 9457 problem details, in one place: kinds, exceptions, handlers.

A problem's ``type`` is ``urn:skinoct:problem:<kind>``; kinds are stable.
``docs/errors.md`` is made from ``KINDS``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from skinoct import errors
from skinoct.wire import Problem
from skinoct_server.heads import answers_head

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:skinoct:problem:"


@dataclass(frozen=True)
class Kind:
    """One kind of problem."""

    status: int
    title: str
    cure: str
    """For docs/errors.md."""


KINDS: dict[str, Kind] = {
    # the request
    "bad-request": Kind(400, "Bad request", "Send a well-formed HTTP/1.1 request."),
    "unauthorized": Kind(
        401,
        "API key needed",
        "Send `Authorization: Bearer KEY`; ask whoever runs the server for a key.",
    ),
    "forbidden": Kind(403, "Not allowed", "Use an admin key for this call; name a web page in `--cors-origins`."),
    "not-found": Kind(404, "Not found", "Check the address; `/docs` lists all of them."),
    "unknown-model": Kind(404, "Unknown model", "Take a name from `GET /models`."),
    "unknown-job": Kind(
        404,
        "Unknown job",
        "Jobs and results go some time after they finish (setting `result_seconds`); post the tomogram again.",
    ),
    "method-not-allowed": Kind(405, "Method not allowed", "Use a method from the answer's `Allow` header."),
    "not-acceptable": Kind(406, "No such answer format", "Use one of the `Accept` types that the text lists."),
    "upload-timeout": Kind(408, "Upload too slow", "Send the tomogram again over a faster connection."),
    "not-done": Kind(409, "Job is not done", "Wait for state `done`; follow `GET /jobs/{id}/events`."),
    "job-cancelled": Kind(409, "Job was cancelled", "Post the tomogram again if you still need it."),
    "cancelled": Kind(409, "Cancelled", "Post the tomogram again if you still need it."),
    "length-mismatch": Kind(400, "Upload is incomplete", "Send all bytes that `Content-Length` announces."),
    "too-large": Kind(
        413,
        "Tomogram is too large",
        "Cut the tomogram into parts of fewer slices, or raise `--max-upload-bytes` / `--max-decoded-bytes`.",
    ),
    "unsupported-encoding": Kind(415, "Compressed upload", "Send the file without `Content-Encoding`."),
    "invalid-request": Kind(422, "Invalid parameter", "Correct the parameter that the text names."),
    "invalid-input": Kind(422, "Input cannot be used", "Correct what the text names."),
    "invalid-tomogram": Kind(
        422,
        "Tomogram cannot be used",
        "Send a gray TIFF stack (8 or 16 bit, or float32) or an npy array of shape (Z, Y, X).",
    ),
    "invalid-roi": Kind(422, "ROI cannot be used", "Correct the ROI that the text names."),
    "invalid-dataset": Kind(422, "Data set cannot be used", "Correct the folder that the text names."),
    "invalid-option": Kind(422, "Option cannot be used", "Correct the option that the text names."),
    "idempotency-key-reused": Kind(
        422,
        "Idempotency key was used for another request",
        "Use a new `Idempotency-Key` for every tomogram and set of parameters.",
    ),
    **{
        kind: Kind(422, title, cure)
        for kind, title, cure in (
            ("not-a-tomogram", "Not a tomogram", "Send a TIFF stack or an npy array."),
            ("empty", "Nothing was sent, or a file without images", "Send the tomogram as the body."),
            ("truncated", "File is truncated", "Copy or export the file again; it ends too early."),
            ("damaged-tiff", "TIFF is damaged", "Export the stack again (ImageJ: File > Save As > Tiff...)."),
            ("damaged-npy", "npy is damaged", "Save the array again with `numpy.save`."),
            ("object-array", "npy holds objects", "Save a plain numeric array of shape (Z, Y, X)."),
            ("color-image", "Tomogram is in color", "Convert it to gray (ImageJ: Image > Type > 8-bit)."),
            (
                "multi-channel",
                "Tomogram has several channels",
                "Send one channel (ImageJ: Image > Color > Split).",
            ),
            ("mixed-page-sizes", "Slices differ in size", "Crop all slices to one size."),
            ("mixed-pages", "Slices differ in kind", "Save all slices with one type and compression."),
            ("voxel-type", "Voxel type cannot be used", "Convert to 8-bit, 16-bit or 32-bit float."),
            ("dimensions", "Dimensions cannot be used", "Send axes (Z, Y, X), or (Y, X) for one slice."),
            (
                "compression",
                "Compression cannot be used",
                "Save without compression, or with deflate or LZW.",
            ),
            ("several-files", "Tomogram is spread over files", "Send one file that holds all slices."),
            ("no-such-file", "File is missing", "Send the file again."),
            ("unreadable-file", "File cannot be read", "Send the file again."),
            ("decompression-bomb", "File grows too much", "Save the tomogram again, without compression."),
            ("constant-image", "Every voxel is the same", "Check that the recording was exported correctly."),
            ("not-finite", "NaN or infinite voxels", "Replace them by numbers and save again."),
            (
                "implausible-pixel-size",
                "Pixel size is not one of an OCT",
                "Give `pixel_size_um` of 0.1 to 10.",
            ),
        )
    },
    "decode-crashed": Kind(
        422,
        "Tomogram cannot be read",
        "The reader stopped on this file; save it anew with ImageJ (File > Save As > Tiff...).",
    ),
    "decode-timeout": Kind(
        422,
        "Tomogram takes too long to read",
        "Save it uncompressed, or raise `--decode-seconds`.",
    ),
    "decode-memory": Kind(
        422,
        "Tomogram takes too much memory to read",
        "Save it as a plain TIFF stack, or raise `--decode-memory-bytes`.",
    ),
    "out-of-memory": Kind(
        422,
        "Slices are too large for the engine",
        "Crop the tomogram, or use a machine with more memory.",
    ),
    # the server
    "too-many-requests": Kind(429, "Too many requests", "Wait as long as `Retry-After` says, then retry."),
    "queue-full": Kind(429, "Queue is full", "Wait as long as `Retry-After` says, then retry."),
    "internal": Kind(500, "Error in the server", "Report it with the request id; the log has the details."),
    "encode-failed": Kind(
        500, "Answer could not be written", "Try another `Accept` type; report it with the request id."
    ),
    "invalid-checkpoint": Kind(503, "Model cannot be used", "Install the checkpoint folder again."),
    "engine-failed": Kind(
        503,
        "Engine stopped",
        "Retry; it restarts by itself. If it happens again, send fewer slices and report it.",
    ),
    "not-ready": Kind(503, "Server is starting", "Wait for `GET /readyz` to answer 200."),
    "shutting-down": Kind(503, "Server is stopping", "Retry once it has started again."),
    "too-many-connections": Kind(503, "Too many connections", "Wait as long as `Retry-After` says, then retry."),
    "disk-full": Kind(507, "Disk is full", "Free space in the server's data folder."),
    "error": Kind(500, "Error", "Report it with the request id."),
}

_STATUS_KINDS = {
    400: "bad-request",
    401: "unauthorized",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    406: "not-acceptable",
    408: "upload-timeout",
    413: "too-large",
    422: "invalid-request",
    429: "too-many-requests",
}


@dataclass(eq=False)
class HttpProblem(Exception):  # noqa: N818 - the name that RFC 9457 gives it
    """Raised anywhere below a route to answer with a problem."""

    kind: str
    detail: str
    headers: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__(self.detail)


def kind_of(error: errors.SkinoctError) -> str:
    """Return a kind of ``KINDS`` for an error of skinoct: its own, else that of its nearest base class."""
    if error.kind in KINDS:
        return error.kind
    for base in type(error).__mro__:
        kind = getattr(base, "kind", None)
        if kind in KINDS:
            return str(kind)
    return "error"


def problem_of(kind: str, detail: str, instance: str | None = None) -> Problem:
    """Return the message for a kind; an unknown kind becomes ``internal``."""
    name = kind if kind in KINDS else "internal"
    info = KINDS[name]
    if detail.startswith("the "):  # "the uploaded tomogram", where a file's name stands in other texts
        detail = "T" + detail[1:]
    return Problem(type=TYPE_PREFIX + name, title=info.title, status=info.status, detail=detail, instance=instance)


def response_of(problem: Problem, headers: dict[str, str] | None = None) -> Response:
    """Return a problem as an HTTP response."""
    body = problem.model_dump_json(exclude_none=True)
    return Response(body, problem.status, headers, MEDIA_TYPE)


def answer(request: Request, kind: str, detail: str, headers: dict[str, str] | None = None) -> Response:
    """Return a problem as the response to ``request``."""
    instance = request.scope.get("skinoct.request_id")
    request.scope["skinoct.problem"] = kind
    return response_of(problem_of(kind, detail, instance), headers)


def _validation_detail(error: RequestValidationError) -> str:
    parts = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"][1:]) or "request"
        parts.append(f"{where}: {item['msg']}")
    return "; ".join(parts) + ". See /docs for what each parameter takes."


def install(app: FastAPI) -> None:
    """Make every error of ``app`` a problem."""

    @app.exception_handler(HttpProblem)
    async def _problem(request: Request, error: HttpProblem) -> Response:
        return answer(request, error.kind, error.detail, error.headers)

    @app.exception_handler(errors.SkinoctError)
    async def _skinoct(request: Request, error: errors.SkinoctError) -> Response:
        return answer(request, kind_of(error), str(error))

    @app.exception_handler(RequestValidationError)
    async def _validation(request: Request, error: RequestValidationError) -> Response:
        return answer(request, "invalid-request", _validation_detail(error))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        kind = _STATUS_KINDS.get(error.status_code, "internal")
        headers = dict(error.headers or {})
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = _allowed(request)
        return answer(request, kind, _http_detail(request, error), headers)


def _allowed(request: Request) -> str:
    """Return the methods of an address: those of all its routes, where Starlette tells those of the first."""
    found = [
        method
        for method in ("GET", "POST", "PUT", "DELETE")
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in request.app.routes)
    ]
    if "GET" in found and answers_head(request.url.path):
        found.insert(1, "HEAD")
    return ", ".join(found)


def _http_detail(request: Request, error: HTTPException) -> str:
    path, method = request.url.path, request.method
    if error.status_code == HTTPStatus.NOT_FOUND:
        return f"There is nothing at {path[:200]}. /docs lists every address of this server."
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return f"{method} is not a method of {path[:200]}. /docs lists the methods of every address."
    return f"{error.detail}. /docs describes every call of this server."


def responses(*kinds: str) -> dict[int | str, dict[str, Any]]:
    """Return the ``responses`` of a route's OpenAPI for these kinds."""
    by_status: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        info = KINDS[kind]
        entry = by_status.setdefault(info.status, {"description": "", "content": {}})
        text = f"`{kind}`: {info.title}. {info.cure}"
        entry["description"] = "\n\n".join(filter(None, [entry["description"], text]))
        entry["content"] = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
        if info.status in (429, 503):
            entry["headers"] = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}}
    return by_status
