"""What of this processor decides how fast a network runs: its instruction set for many numbers at once."""

from __future__ import annotations

import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
_KNOWN = (
    ("amx_bf16", "AMX with bfloat16"),
    ("avx512_bf16", "AVX-512 with bfloat16"),
    ("avx512f", "AVX-512 without bfloat16"),
    ("avx2", "AVX2"),
)
"""Flags of Linux and what they are called, fastest first; a processor with one has all that follow."""
_SLOW = "no AVX2, so that segmenting is slow; use a newer processor, and show a virtual machine all of it (cpu=host)"


def instruction_set() -> str:
    """Return the best instruction set of this processor in words, and what to do where it is too old."""
    machine = platform.machine().lower()
    if machine not in ("x86_64", "amd64"):
        return machine or "unknown"
    flags = _flags()
    if flags is None:
        return machine
    return next((name for flag, name in _KNOWN if flag in flags), _SLOW)


def has_bfloat16() -> bool:
    """Return whether this processor multiplies bfloat16 numbers; False where the system does not tell."""
    return not {"amx_bf16", "avx512_bf16"}.isdisjoint(_flags() or [])


def _flags() -> list[str] | None:
    """Return the flags of the processor that Linux lists; None elsewhere."""
    try:
        text = CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return next((line.split(":", 1)[1].split() for line in text.splitlines() if line.startswith("flags")), None)
