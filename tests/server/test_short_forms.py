"""The long measurements start, end, and print their tables; what they say about speed is not looked at here."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "benchmarks.md"


def run(*arguments: object, most: int = 0) -> tuple[str, str]:
    """Return what a script says on stdout and stderr; ``most`` 1 allows for targets that a busy machine misses."""
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=500)
    assert done.returncode <= most, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout, done.stderr


@pytest.fixture(autouse=True)
def _page_stays():
    before = PAGE.read_text()
    yield
    assert PAGE.read_text() == before


def measured_on(section: str, target: str) -> re.Match[str] | None:
    """The last line, which says on what, when and how: enough to measure it again."""
    return re.search(
        r"\n.+, \d+ cores, \d+ GiB, \w+; Python [\d.]+, skinoct [\d.]+.*, torch [\d.]+.*; \d{4}-\d\d-\d\d\. .*"
        rf"Weights: \w+ \([0-9a-f]{{12}}\).*\. Command: `make {target}` with `.+`\.\n<!-- end of",
        section,
    )


def test_bench_server(tiny_models):
    table, told = run("bench.py", "--short", "--models", tiny_models)
    assert "times** the predictor alone" in table
    assert measured_on(table, "bench-server"), table
    assert "| 1 | 16 of 16 |" in table
    assert "| 2 | 16 of 16 |" in table
    assert "tomograms of 2 slices from 2 clients" in told


def test_bench_clients():
    table, _ = run("load.py", "clients", "--clients", 3, "--megabytes", 2, "--minutes", 4, "--dry", most=1)
    assert "| all 3 answered, nothing lost | yes |" in table
    assert "| every answer the same bytes | yes |" in table
    assert measured_on(table, "bench-clients"), table


def test_bench_switches():
    table, told = run("load.py", "switches", "--switches", 6, "--minutes", 4, "--dry", most=1)
    assert "| 6 switches | yes |" in table
    assert "| no failed request, every answer of the model that it names | yes |" in table
    assert "| a corrupt checkpoint is refused with a reason and changes nothing | yes |" in table
    assert "0 of 6 switches" in told
    assert measured_on(table, "bench-switches"), table


def test_faults(tiny_models):
    table, told = run("faults.py", "--short", "--models", tiny_models, most=1)
    assert table.count("| 3 | 0 | 0 |") == 4, table
    assert "Lost or wrong: 0 (target 0)." in table
    assert "the server killed" in told
    assert measured_on(table, "faults"), table


def test_mutations():
    table, told = run("mutations.py", "--count", 10_000 // 20, "--first", 3)
    assert "refused (" in table
    assert "slowest" in table
    assert told == "", "progress is for long runs"
