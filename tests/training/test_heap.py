"""Keeping freed memory."""

from __future__ import annotations

import subprocess
import sys

import pytest

from skinoct_training import heap

SCRIPT = """
import resource, sys
import numpy as np
from skinoct_training.heap import keep_freed_memory

if sys.argv[1] == "kept":
    assert keep_freed_memory(2**28)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    several = [np.ones(900_000, np.float32) for _ in range(20)]
    del several
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_kept_memory_is_not_fetched_again() -> None:
    faults = {
        how: int(subprocess.run([sys.executable, "-c", SCRIPT, how], check=True, capture_output=True).stdout)
        for how in ("kept", "returned")
    }
    assert faults["kept"] < 0.2 * faults["returned"]


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap.sys, "platform", "darwin")
    assert not heap.keep_freed_memory(1)
