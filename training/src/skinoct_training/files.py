"""Files that are complete or absent, whatever happens while they are written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def complete_or_absent(path: Path) -> Iterator[Path]:
    """Yield where to write instead; it takes the place of ``path`` at the end, and vanishes after an error."""
    partial = path.with_name(f".partial-{os.getpid()}-{path.name}")  # the suffix stays: some writers go by it
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a whole text file."""
    with complete_or_absent(path) as partial:
        partial.write_text(text, encoding="utf-8")
