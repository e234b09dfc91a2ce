"""The last line of a section of docs/benchmarks.md: what the figures above it were measured on, and how."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib import metadata

import httpx
import psutil

from skinoct_training.run_folder import processor

PACKAGES = ("skinoct", "skinoct-server", "torch", "openvino", "numpy", "fastapi", "uvicorn")


def versions() -> str:
    """Return Python and those of ``PACKAGES`` that are installed."""
    found = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


def weights(url: str) -> list[str]:
    """Return a server's models with the beginning of the hash of their weights, the default one first."""
    models = httpx.get(f"{url}/models", trust_env=False, timeout=60).json()
    return [f"{model['name']} ({model['weights_sha256'][:12]})" for model in models]


def footer(target: str, arguments: Sequence[str], models: Iterable[str]) -> str:
    """Return the line; ``arguments`` are those that ``make target`` would not give."""
    memory = psutil.virtual_memory().total / 2**30
    deviating = f" with `{shlex.join(arguments)}`" if arguments else ""
    return (
        f"{processor()}, {memory:.0f} GiB, {platform.system()}; {versions()}; "
        f"{datetime.now(UTC):%Y-%m-%d}. Clients run on the same cores. Weights: {', '.join(models)}. "
        f"Command: `make {target}`{deviating}."
    )
