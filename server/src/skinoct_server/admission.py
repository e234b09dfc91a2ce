"""Admission before memory: bytes and jobs are counted against a budget before a body is read."""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from skinoct_server.problems import HttpProblem
from skinoct_server.settings import Settings


def size_text(count: int) -> str:
    """Return a number of bytes for people: ``1.5 GiB``."""
    value = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError


@dataclass
class Ticket:
    """One admitted upload; give it back when its job has ended."""

    owner: str
    size: int = 0


@dataclass
class Admission:
    """Count bytes and jobs on hand; refuse what does not fit with 429, 413 or 507.

    ``retry_after`` is asked for the seconds until there should be room.
    """

    settings: Settings
    folder: Path
    keyed: bool = False
    """Whether owners are API keys; only then is one owner's share limited."""
    jobs: int = 0
    size: int = 0
    retry_after: float = 5.0
    _by_owner: dict[str, tuple[int, int]] = field(default_factory=dict)
    _starts: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def admit(self, owner: str, declared: int | None) -> Ticket:
        """Take a job and its declared bytes onto the books.

        Raises
        ------
        HttpProblem
            ``too-large``, ``queue-full``, ``too-many-requests`` or ``disk-full``.
        """
        self._check_size(declared or 0)
        self._check_rate(owner)
        limit = self.settings.max_pending_jobs
        if self.jobs >= limit:
            raise self._full(
                f"{self.jobs} tomograms are waiting, all that this server takes (setting max_pending_jobs)"
            )
        mine = self._by_owner.get(owner, (0, 0))
        if self.keyed and mine[0] + 1 > max(1, int(limit * self.settings.queue_share)):
            raise self._full(
                f"{mine[0]} tomograms of this key are waiting, its share of the queue (setting queue_share)"
            )
        ticket = Ticket(owner)
        self.jobs += 1
        self._by_owner[owner] = (mine[0] + 1, mine[1])
        try:
            self.grow(ticket, declared or 0)
        except HttpProblem:
            self.release(ticket)
            raise
        return ticket

    def readmit(self, owner: str, size: int) -> Ticket:
        """Take a job of an earlier life of the server onto the books, whatever the limits."""
        ticket = Ticket(owner, size)
        jobs, held = self._by_owner.get(owner, (0, 0))
        self._by_owner[owner] = (jobs + 1, held + size)
        self.jobs += 1
        self.size += size
        return ticket

    def grow(self, ticket: Ticket, size: int) -> None:
        """Raise a ticket to ``size`` bytes in all, as the body is counted.

        Raises
        ------
        HttpProblem
            ``too-large``, ``queue-full`` or ``disk-full``.
        """
        more = size - ticket.size
        if more <= 0:
            return
        self._check_size(size)
        budget = self.settings.max_pending_bytes
        # One tomogram is always let in alone, else a budget below its size would refuse it forever.
        if self.size + more > budget and self.size > ticket.size:
            raise self._full(
                f"{size_text(self.size)} of tomograms are on hand and {size_text(budget)} is all this server takes "
                "(setting max_pending_bytes)"
            )
        jobs, held = self._by_owner[ticket.owner]
        if self.keyed and held > ticket.size and held + more > budget * self.settings.queue_share:
            raise self._full(f"{size_text(held)} of tomograms of this key are on hand, its share (setting queue_share)")
        self._check_disk(more)
        ticket.size = size
        self.size += more
        self._by_owner[ticket.owner] = (jobs, held + more)

    def release(self, ticket: Ticket) -> None:
        """Take a job off the books."""
        jobs, held = self._by_owner.pop(ticket.owner)
        if jobs > 1:
            self._by_owner[ticket.owner] = (jobs - 1, held - ticket.size)
        self.jobs -= 1
        self.size -= ticket.size

    def _check_size(self, size: int) -> None:
        limit = self.settings.max_upload_bytes
        if size > limit:
            raise HttpProblem(
                "too-large",
                f"This tomogram has more than {size_text(limit)}, the largest upload this server takes "
                "(setting max_upload_bytes). Send fewer slices at a time.",
            )

    def _check_rate(self, owner: str) -> None:
        now = time.monotonic()
        starts = [t for t in self._starts[owner] if t > now - 60]
        self._starts[owner] = starts
        if len(starts) >= self.settings.requests_per_minute:
            wait = max(1, round(starts[0] + 60 - now))
            raise HttpProblem(
                "too-many-requests",
                f"More than {self.settings.requests_per_minute} uploads in a minute (setting requests_per_minute). "
                f"Retry in {wait} s.",
                {"Retry-After": str(wait)},
            )
        starts.append(now)
        if len(self._starts) > 10_000:  # addresses seen long ago must not pile up
            self._starts = defaultdict(list, {k: v for k, v in self._starts.items() if v and v[-1] > now - 60})

    def _check_disk(self, more: int) -> None:
        free = shutil.disk_usage(self.folder).free
        if free - more < self.settings.min_free_disk_bytes:
            raise HttpProblem(
                "disk-full",
                f"The server's data folder has only {size_text(free)} left. "
                "Ask whoever runs the server to free space, then retry.",
                {"Retry-After": "60"},
            )

    def _full(self, what: str) -> HttpProblem:
        wait = max(1, min(600, round(self.retry_after)))
        return HttpProblem("queue-full", f"{what}. Retry in {wait} s.", {"Retry-After": str(wait)})
