"""Keep freed memory for what is allocated next, where the C library lets one ask for it.

Networks allocate and free the same large arrays over and over. glibc gives each of them back to the system and fetches
it anew, cleared page by page; keeping them makes a training on a CPU faster.
"""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
"""Numbers of the options of ``mallopt`` (malloc.h of glibc)."""
LARGEST_KEPT = 32 * 2**20
"""Bytes of the largest array that may come from kept memory: glibc takes no more."""


def keep_freed_memory(most_bytes: int) -> bool:
    """Let the process keep up to ``most_bytes`` of freed memory; return whether the C library understood.

    For processes that compute and then end; one that waits for hours should give back what it does not need.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is None:
        return False
    settings = ((_MMAP_THRESHOLD, LARGEST_KEPT), (_TRIM_THRESHOLD, most_bytes), (_TOP_PAD, min(most_bytes, 2**26)))
    return all(bool(mallopt(option, value)) for option, value in settings)
