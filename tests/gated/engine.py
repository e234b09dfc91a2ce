"""The engine process with a gate before the network."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from skinoct.engines import Engine, FloatArray, make_engine
from skinoct.golden import SHAPE
from skinoct_server import engine, library


class Gate:
    """Lets batches through as its file says: ``{"turn": 3, "batches": 2, "seconds": 0.1}``.

    ``batches`` may pass after a new ``turn`` began (null: any number), each at least ``seconds`` after the one before.
    A file beside it tells the turn of the batch that passed last.
    """

    def __init__(self, path: Path) -> None:
        self.ajar = False
        """Whether all pass, as while the engine gets ready."""
        self._path = path
        self._turn: int | None = None
        self._passed = 0
        self._last = 0.0

    def wait(self) -> None:
        """Return when the next batch may pass."""
        while not self._open():
            time.sleep(0.01)
        self._passed += 1
        self._last = time.monotonic()
        partial = self._path.with_suffix(".telling")
        partial.write_text(str(self._turn))
        partial.rename(self._path.with_suffix(".passed"))

    def _open(self) -> bool:
        try:
            rule = json.loads(self._path.read_text())
        except FileNotFoundError:
            return True
        if rule["turn"] != self._turn:
            self._turn, self._passed = rule["turn"], 0
        room = rule["batches"] is None or self._passed < rule["batches"]
        return room and time.monotonic() - self._last >= rule["seconds"]


class GatedEngine:
    """An engine behind a gate."""

    def __init__(self, inner: Engine, gate: Gate) -> None:
        self.inner = inner
        self.gate = gate
        self.name = inner.name
        self.preferred_batch = inner.preferred_batch
        self.calls_at_once = inner.calls_at_once

    def probabilities(self, images: FloatArray) -> FloatArray:
        """Run the network; only the golden slice, with which the server looks after itself, need not wait."""
        if images.shape[2:] != SHAPE and not self.gate.ajar:
            self.gate.wait()
        return self.inner.probabilities(images)


def make_gated(*arguments: Any, **options: Any) -> GatedEngine:
    """Do as ``make_engine``."""
    return GatedEngine(make_engine(*arguments, **options), gate)


def warm_up_at_once(self: library.Library, *, calibrated: bool) -> None:
    """Do all warming up before the engine is ready: later it would take batches that a test counts for its own."""
    if calibrated:
        gate.ajar = True
        warm_up(self, calibrated=True)
        warm_up(self, calibrated=False)
        gate.ajar = False


if __name__ == "__main__":
    gate = Gate(Path(os.environ["SKINOCT_TEST_GATE"]))
    warm_up = library.Library.warm_up
    library.make_engine = make_gated
    library.Library.warm_up = warm_up_at_once
    sys.exit(engine.main())
