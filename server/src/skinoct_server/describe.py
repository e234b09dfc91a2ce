"""What OpenAPI cannot learn from the routes: bodies, answers, problems, limits."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from skinoct.wire import Problem
from skinoct_server.admission import size_text
from skinoct_server.formats import FORMATS
from skinoct_server.middleware import SMALL_BODY_BYTES
from skinoct_server.parameters import FIELD_SCHEMAS
from skinoct_server.problems import responses
from skinoct_server.settings import Settings

__all__ = [
    "ANSWERS",
    "LIMIT_COLUMNS",
    "UPLOAD_BODY",
    "UPLOAD_PROBLEMS",
    "install",
    "limits",
    "responses",
]

_BINARY = {"schema": {"type": "string", "format": "binary"}}

UPLOAD_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The tomogram: a gray TIFF stack or an npy array (Z, Y, X). A form may hold beside it "
        "what the query leaves out.",
        "content": {
            "image/tiff": _BINARY,
            "application/x-npy": _BINARY,
            "application/octet-stream": _BINARY,
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"image": {"type": "string", "format": "binary"}, **FIELD_SCHEMAS},
                    "required": ["image"],
                    "additionalProperties": False,
                }
            },
        },
    }
}

UPLOAD_PROBLEMS = (
    "bad-request",
    "unauthorized",
    "forbidden",
    "unknown-model",
    "upload-timeout",
    "too-large",
    "unsupported-encoding",
    "invalid-request",
    "invalid-tomogram",
    "queue-full",
    "too-many-requests",
    "not-ready",
    "shutting-down",
    "disk-full",
)

ANSWERS: dict[str, Any] = {
    "description": "\n".join(f"- `{form.media_type}`: {form.description}" for form in FORMATS),
    "content": {
        form.media_type: {"schema": {"type": "object"}} if form.name == "json" else _BINARY for form in FORMATS
    },
    "headers": {
        name: {"description": text, "schema": {"type": "string"}}
        for name, text in {
            "X-Skinoct-Model": "Name of the model that answered.",
            "X-Skinoct-Model-Sha256": "SHA-256 of its weights.",
            "X-Skinoct-Input-Sha256": "SHA-256 of the tomogram as it was uploaded.",
            "Repr-Digest": "SHA-256 of the answer (RFC 9530).",
            "Server-Timing": "Milliseconds of each stage.",
        }.items()
    },
}


LIMIT_COLUMNS = ("limit", "here", "setting")


def limits(settings: Settings) -> list[tuple[str, str, str]]:
    """Return what a client may run into, as rows of ``LIMIT_COLUMNS``."""
    rows = {
        "max_upload_bytes": ("largest upload", size_text(settings.max_upload_bytes)),
        "max_decoded_bytes": ("largest tomogram once decompressed", size_text(settings.max_decoded_bytes)),
        "max_pending_jobs": ("tomograms on hand, all clients together", str(settings.max_pending_jobs)),
        "max_pending_bytes": ("bytes on hand, all clients together", size_text(settings.max_pending_bytes)),
        "queue_share": ("share of one API key", f"{settings.queue_share:.0%} of these"),
        "requests_per_minute": ("uploads a minute and key or address", str(settings.requests_per_minute)),
        "decode_memory_bytes": ("memory to read one upload", size_text(settings.decode_memory_bytes)),
        "decode_seconds": ("time to read one upload", f"{settings.decode_seconds:g} s"),
        "header_seconds": ("time to send the headers", f"{settings.header_seconds:g} s"),
        "body_idle_seconds": ("longest pause in an upload", f"{settings.body_idle_seconds:g} s"),
        "body_seconds": ("time for a whole upload", f"{settings.body_seconds:g} s"),
        "max_connections": ("connections at the same time", str(settings.max_connections)),
        "max_attempts": ("tries of a tomogram whose engine dies", str(settings.max_attempts)),
        "result_seconds": ("results are kept", f"{settings.result_seconds / 3600:g} h"),
    }
    fixed = ("body of a call that takes no tomogram", size_text(SMALL_BODY_BYTES), "fixed")
    return [*((text, value, f"`{name}`") for name, (text, value) in rows.items()), fixed]


def _markdown(settings: Settings) -> str:
    rows = [LIMIT_COLUMNS, ("---",) * len(LIMIT_COLUMNS), *limits(settings)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def install(app: FastAPI, settings: Settings) -> None:
    """Make ``app.openapi()`` tell the whole truth: problems instead of FastAPI's own 422, and the limits."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title="skinoct-server",
                version=app.version,
                description=f"Segments full-field OCT tomograms of human skin.\n\n{_markdown(settings)}\n\n"
                "Errors are RFC 9457 problem details with a stable `type`. Research only, not for "
                "clinical use.",
                routes=app.routes,
            )
            _use_problems(schema)
            _use_keys(schema, needed=settings.api_key_file is not None)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _use_problems(schema: dict[str, Any]) -> None:
    schemas = schema.setdefault("components", {}).setdefault("schemas", {})
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    schemas["Problem"] = Problem.model_json_schema(mode="serialization")
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for operations in schema["paths"].values():
        for operation in operations.values():
            answers = operation["responses"]
            for status, answer in list(answers.items()):
                if status.startswith(("4", "5")):
                    answer["content"] = problem
            answers.setdefault("500", {"description": "`internal`: an error in the server.", "content": problem})


def _use_keys(schema: dict[str, Any], *, needed: bool) -> None:
    """Say which calls take an API key; a server that was started without keys asks for none."""
    schema["components"]["securitySchemes"] = {
        "key": {"type": "http", "scheme": "bearer", "description": "What `skinoct-server key` prints."}
    }
    for operations in schema["paths"].values():
        for operation in operations.values():
            if "401" in operation["responses"]:
                operation["security"] = [{"key": list[str]()}, *([] if needed else [{}])]
