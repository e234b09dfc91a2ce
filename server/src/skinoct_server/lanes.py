"""Which jobs the engine works on at the same time: one large tomogram, or several small ones that share batches."""

from __future__ import annotations

import math
from collections.abc import Collection

from skinoct_server.jobs import Job

MOST_TOGETHER = 4
"""Small tomograms that are segmented at the same time."""
_SMALL_PIXELS = 16 * 224 * 512
"""Larger tomograms fill the engine's batches by themselves."""


def is_small(job: Job) -> bool:
    """Whether a job may share the engine.

    One whose engine died has it for itself the next time, so that the one at fault is told from the others.
    """
    return job.tomogram is not None and math.prod(job.tomogram["shape"]) <= _SMALL_PIXELS and job.attempts == 0


def may_begin(job: Job, running: Collection[Job]) -> bool:
    """Whether the next job in order may begin while others run."""
    if not running:
        return True
    together = all(other.model_sha256 == job.model_sha256 and other.attempts == 1 for other in running)
    fits = is_small(job) and all(math.prod((other.tomogram or {})["shape"]) <= _SMALL_PIXELS for other in running)
    return together and fits and len(running) < MOST_TOGETHER
