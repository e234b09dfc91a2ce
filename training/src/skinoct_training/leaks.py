"""Which tomograms a checkpoint knows already, so that figures on them are not taken for figures on unseen skin.

Files are compared, not names: the same tomogram may lie in another folder. What a fine-tune's start had seen counts as
seen, through any number of fine-tunes; of it, cards carry hashes alone, and only as much of them as tells files apart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skinoct.checkpoint import Card
from skinoct_training.dataset import IMAGE_NAMES, Case

DIGITS = 16
"""Of a SHA-256 in hexadecimal: that any two of a million tomograms agree has a chance below one in 10 million."""


@dataclass(frozen=True)
class Known:
    """First digits of the hashes of tomograms that had a part in a checkpoint."""

    trained_on: frozenset[str] = frozenset()
    chose: frozenset[str] = frozenset()
    """Held out while training: the error on them chose the epoch."""

    def content(self) -> dict[str, list[str]]:
        """Return what the card of a fine-tune keeps of its start."""
        return {"trained_on": sorted(self.trained_on), "held_out": sorted(self.chose)}


@dataclass
class Leaks:
    """Names of examined tomograms that the checkpoint knows."""

    trained_on: list[str] = field(default_factory=list)
    chose: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.trained_on or self.chose)

    def warnings(self) -> list[str]:
        """Say it in a sentence each."""
        said = []
        if self.trained_on:
            said.append(f"Trained on: {', '.join(self.trained_on)}. Figures on these tomograms prove nothing.")
        if self.chose:
            said.append(
                f"Held out while training: {', '.join(self.chose)}. They chose the epoch that was kept, so figures on "
                "these tomograms flatter."
            )
        return said


def known(card: Card) -> Known:
    """Read from a card which tomograms the checkpoint knows, also by way of what it was fine-tuned from."""
    files, start = card.data.get("files", {}), card.data.get("start", {})

    def hashes(part: str) -> frozenset[str]:
        own = (image_hashes(files.get(name, {})) for name in card.data.get(part, []))
        return frozenset(start.get(part, [])).union(*own)

    return Known(hashes("trained_on"), hashes("held_out"))


def image_hashes(files: Mapping[str, Any]) -> set[str]:
    """Return the first digits of a tomogram's hash from those of its files, whatever format it has."""
    return {str(files[name])[:DIGITS] for name in IMAGE_NAMES if name in files}


def find_leaks(cases: Iterable[Case], seen: Known) -> Leaks:
    """Return which tomograms a checkpoint knows; what trained it is not named again as held out."""
    leaks = Leaks()
    for case in cases:
        digits = file_hash(case.image)[:DIGITS]
        if digits in seen.trained_on:
            leaks.trained_on.append(case.name)
        elif digits in seen.chose:
            leaks.chose.append(case.name)
    return leaks


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
