"""Hostile input: the corpus, mutated files, and a fuzzer on the live OpenAPI description."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import sys
from pathlib import Path

import psutil
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode, checks
from schemathesis.specs.openapi import checks as openapi_checks

from skinoct.errors import RoiError
from skinoct.rois import read_roi_set

MIB = 1 << 20


def load(name):
    """Import a helper that lies beside this file."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def test_corpus(start_server):
    """Every file: no 5xx, no crash, no hang, two seconds, memory within twice the cap."""
    server = start_server("--decode-memory-bytes", str(256 * MIB))
    children = server.children()
    outcomes = load("hostile").send_all(server.url)
    assert len(outcomes) >= 60
    assert not [item for item in outcomes if not item.good]
    assert server.children() == children
    metrics = server.http.get("/metrics").text
    peak = float(re.search(r"^skinoct_codec_peak_bytes (\S+)", metrics, re.M)[1])
    assert peak < 2 * 256 * MIB
    assert psutil.Process(server.process.pid).memory_info().rss < 256 * MIB
    assert server.http.get("/readyz").json()["jobs"] == 0


@pytest.mark.parametrize("name", sorted(load("corpus").archives()))
def test_hostile_roi_sets(name, tmp_path, monkeypatch):
    """Names in a zip are only names; everything else is refused."""
    monkeypatch.chdir(tmp_path)
    harmless = name in ("zip-slip", "zip-absolute")
    with contextlib.suppress(RoiError) if harmless else pytest.raises(RoiError):
        read_roi_set(load("corpus").archives()[name], name=name)
    assert not list(tmp_path.iterdir())


def test_mutated_files():
    report = load("mutations").run(2000)
    assert sum(report.counts.values()) == 2000
    assert report.counts["read"] > 100
    assert not report.failures


@pytest.mark.slow
def test_100000_mutated_files():
    assert not load("mutations").run(100_000).failures


CHECKS = [
    checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_headers_conformance,
    openapi_checks.response_schema_conformance,
    openapi_checks.unsupported_method,
]


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_openapi_is_true(live_server, mode):
    """Whatever a fuzzer sends to any address, the answer is one that the description promises."""
    schema = schemathesis.openapi.from_url(f"{live_server.url}/openapi.json")
    tried = set()
    for result in schema.get_all_operations():
        operation = result.ok()
        try_operation(operation, mode)
        tried.add(operation.path)
    assert {"/segment", "/jobs", "/jobs/{job_id}/result", "/models/default"} <= tried


def try_operation(operation, mode):
    @settings(
        max_examples=15,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def run(case):
        case.call_and_validate(checks=CHECKS, timeout=30)

    with contextlib.suppress(Unsatisfiable):  # nothing can be wrong about a request without parameters
        run()
