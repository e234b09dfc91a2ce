"""Honest estimates of time: from what the last jobs took, and None where there is nothing to go by."""

from __future__ import annotations

from collections.abc import Sequence

from skinoct_server.jobs import Job

_MEMORY = 0.3
"""Weight of the newest job in the moving averages."""


def _pixels(job: Job) -> int | None:
    if job.tomogram is None:
        return None
    z, y, x = job.tomogram["shape"]
    return int(z * y * x)


class Estimate:
    """Seconds left, by moving averages over finished jobs."""

    def __init__(self) -> None:
        self.pixels_per_second: float | None = None
        self.pixels_per_byte: float | None = None
        self.seconds_per_job = 5.0

    def learn(self, job: Job, seconds: float) -> None:
        """Take a finished job into the averages."""
        pixels = _pixels(job)
        if not pixels or seconds <= 0:
            return
        self.pixels_per_second = _mix(self.pixels_per_second, pixels / seconds)
        self.pixels_per_byte = _mix(self.pixels_per_byte, pixels / max(1, job.size))
        self.seconds_per_job = _mix(self.seconds_per_job, seconds)

    def seconds_left(self, job: Job, done: int, ahead: Sequence[tuple[Job, int]]) -> float | None:
        """Return seconds until ``job`` is done, of which ``done`` slices are; ``ahead`` go first."""
        if job.final:
            return None
        if self.pixels_per_second is None:
            return None
        pixels = sum(self._left(other, slices) for other, slices in [*ahead, (job, done)])
        return round(pixels / self.pixels_per_second, 1)

    def _left(self, job: Job, done: int) -> float:
        pixels = _pixels(job)
        if pixels is None:  # not read yet: as many pixels a byte as the last ones had
            return job.size * (self.pixels_per_byte or 1.0)
        return pixels * (1 - done / max(1, job.slices or 1))


def _mix(old: float | None, new: float) -> float:
    return new if old is None else old + _MEMORY * (new - old)
