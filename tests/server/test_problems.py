"""Kinds of problems: documented, complete, and what the server imports is free of torch and pickle."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

import skinoct
from skinoct.errors import Cancelled, InputError, OutOfMemoryError, SkinoctError, TomogramError
from skinoct_server.app import create_app
from skinoct_server.error_page import page
from skinoct_server.keys import add_key
from skinoct_server.problems import KINDS, kind_of, problem_of
from skinoct_server.settings import Settings

ROOT = Path(__file__).parents[2]
READERS = ("tomogram*.py", "tiff_structure.py", "predictor.py", "engines/*.py")


def test_errors_page_is_current():
    assert (ROOT / "docs" / "errors.md").read_text() == page(), (
        "run: python -m skinoct_server.error_page > docs/errors.md"
    )


def test_every_kind_that_reading_raises_is_documented():
    folder = Path(skinoct.__file__).parent
    found = set()
    for pattern in READERS:
        for path in folder.glob(pattern):
            found |= set(re.findall(r"kind=\"([a-z-]+)\"", path.read_text()))
    assert len(found) > 10
    assert found <= set(KINDS), found - set(KINDS)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TomogramError("x", kind="truncated"), "truncated"),
        (TomogramError("x", kind="never-heard-of"), "invalid-tomogram"),
        (InputError("x"), "invalid-input"),
        (OutOfMemoryError("x"), "out-of-memory"),
        (Cancelled("x"), "cancelled"),
        (SkinoctError("x"), "error"),
    ],
)
def test_kind_of(error, kind):
    assert kind_of(error) == kind


def test_no_detail_of_an_unknown_kind_gets_a_client_error():
    assert problem_of("no-such-kind", "x").status == 500


@pytest.mark.parametrize("module", ["skinoct_server.serve", "skinoct_server.codec"])
def test_front_and_codec_never_import_torch(module):
    """The front must not decode or infer, and a codec child must be small."""
    code = f"import sys, json, {module}; print(json.dumps(sorted(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    modules = set(json.loads(out))
    assert not modules & {"torch", "openvino", "safetensors"}
    if module == "skinoct_server.serve":
        assert "tifffile" not in modules


def test_no_pickle_and_no_torch_load_in_what_the_server_imports():
    forbidden = re.compile(
        r"(?<!safetensors\.)\btorch\.load\b|\bimport pickle\b|allow_pickle=True"
        r"|(?<![.\w])eval\(|(?<![.\w])exec\("
    )
    for package in ("server/src", "models/src"):
        for path in (ROOT / package).rglob("*.py"):
            assert not forbidden.search(path.read_text()), path


def test_a_crash_is_a_problem_with_the_request_id():
    app = create_app(Settings())

    async def crash():
        raise ZeroDivisionError("secret")

    app.add_api_route("/crash", crash)

    async def ask():
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            return await http.get("/crash", headers={"X-Request-Id": "find-me"})

    answer = asyncio.run(ask())
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"] == answer.json()["instance"] == "find-me"
    assert answer.json()["type"].endswith(":internal")
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text


LIMITS = [
    name
    for name in Settings.model_fields
    if name.startswith("max_") or name.endswith(("_seconds", "_share", "_per_minute")) or name == "decode_memory_bytes"
]
OPERATORS_ONLY = {"stall_seconds", "drain_seconds"}
"""What no client can run into."""


def test_every_limit_is_in_the_description():
    text = create_app(Settings()).openapi()["info"]["description"]
    assert not [name for name in LIMITS if f"`{name}`" not in text and name not in OPERATORS_ONLY]


@pytest.mark.parametrize("keys", [False, True])
def test_description_says_where_a_key_is_needed(keys, tmp_path):
    if keys:
        add_key(tmp_path / "keys", "anna", "user")
    schema = create_app(Settings(api_key_file=tmp_path / "keys" if keys else None)).openapi()
    (name,) = schema["components"]["securitySchemes"]
    open_to_all = set()
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            if "security" in operation:
                assert operation["security"] == [{name: []}, *([] if keys else [{}])]
            else:
                open_to_all.add(path)
    assert open_to_all == {"/healthz", "/readyz", "/fiji", "/fiji/skinoct-fiji.zip"}
