"""Kinds of problems: documented, complete, and what the server imports is free of torch and pickle."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import skinoct
from skinoct.errors import Cancelled, InputError, OutOfMemoryError, SkinoctError, TomogramError
from skinoct_server.error_page import page
from skinoct_server.problems import KINDS, kind_of, problem_of

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
