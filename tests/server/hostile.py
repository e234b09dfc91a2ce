"""Send every hostile file to a running server and print what became of each.

python tests/server/hostile.py [http://127.0.0.1:8000]

Without an address it starts a server of its own.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).parent))
import corpus
import load

LIMIT_SECONDS = 2.0


@dataclass(frozen=True)
class Outcome:
    """What a server made of one file."""

    name: str
    size: int
    status: int
    kind: str
    seconds: float

    @property
    def good(self) -> bool:
        """Whether it was read, or refused for a reason that the reader itself told, in time."""
        if self.seconds > LIMIT_SECONDS:
            return False
        return self.status == 200 or (400 <= self.status < 500 and not self.kind.startswith("decode-"))


def send_all(url: str, tell: Callable[[Outcome], None] = lambda outcome: None) -> list[Outcome]:
    """Post all files to `/segment`; one that took too long may have met with other programs, and is sent again."""
    outcomes = []
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as http:
        for name, data in corpus.files().items():
            outcome = send(http, name, data)
            for _ in range(2):
                if outcome.seconds > LIMIT_SECONDS:
                    outcome = send(http, name, data)
            tell(outcome)
            outcomes.append(outcome)
    return outcomes


def send(http: httpx.Client, name: str, data: bytes) -> Outcome:
    """Post one file."""
    started = time.perf_counter()
    answer = http.post("/segment", content=data)
    seconds = time.perf_counter() - started
    kind = "read" if answer.status_code == 200 else answer.json()["type"].rsplit(":", 1)[-1]
    return Outcome(name, len(data), answer.status_code, kind, seconds)


def main() -> int:
    """Print the table."""
    if len(sys.argv) > 1:
        return count(send_all(sys.argv[1], show))
    with tempfile.TemporaryDirectory(prefix="skinoct-hostile-") as name:
        folder = Path(name)
        load.make_checkpoint(folder / "models" / "hostile", 0)
        with load.running(folder, "--decode-memory-bytes", str(256 << 20)) as (url, _):
            return count(send_all(url, show))


def show(item: Outcome) -> None:
    """Print a row of the table."""
    mark = "" if item.good else "  <-- FAILED"
    line = f"{item.name:32} {item.size:>9} bytes  {item.status} {item.kind:22} {item.seconds:5.2f} s{mark}"
    print(line, flush=True)


def count(outcomes: list[Outcome]) -> int:
    """Print the last line; 0 when all is well."""
    good = sum(item.good for item in outcomes)
    print(f"{good} of {len(outcomes)} as they should be")
    return 0 if good == len(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
