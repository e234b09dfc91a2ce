"""``skinoct-server doctor``: what this machine has, what is missing, and the cure."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from skinoct import __version__
from skinoct.errors import SkinoctError
from skinoct_server.admission import size_text
from skinoct_server.settings import GIB, Settings

SETTINGS = (
    *("host", "port", "models", "device", "threads", "data_dir", "codec_workers", "decode_memory_bytes"),
    *("max_pending_bytes", "min_free_disk_bytes"),
)
"""What it looks at, and takes as options."""


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    ok: bool
    topic: str
    text: str


def _versions(_settings: Settings) -> Iterator[Finding]:
    yield Finding(True, "skinoct", f"{__version__}, Python {platform.python_version()}, {platform.system()}")
    supported = hasattr(os, "fork")
    yield Finding(supported, "system", "Linux or macOS" if supported else "Windows: run the server in WSL or Docker.")


def _engine(_settings: Settings) -> Iterator[Finding]:
    from skinoct.engines.processor import instruction_set

    yield Finding(True, "processor", f"{os.cpu_count()} cores, {instruction_set()}")
    try:
        import torch
    except ImportError:
        if find_spec("openvino") is None:
            yield Finding(False, "torch", "not installed. Run: pip install 'skinoct[torch]'")
        return
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        name = torch.cuda.get_device_name()
        yield Finding(free > 2 * GIB, "GPU", f"{name}, {size_text(free)} of {size_text(total)} free")
    else:
        yield Finding(True, "GPU", f"none; the CPU segments (torch {torch.__version__})")


def _models(settings: Settings) -> Iterator[Finding]:
    from skinoct.checkpoint import default_models_dir, list_checkpoints, load_checkpoint
    from skinoct.engines import make_engine, why
    from skinoct_server.library import check_golden_slice

    folder = settings.models or default_models_dir()
    names = list_checkpoints(folder)
    if not names:
        yield Finding(False, "models", f"{folder} holds no checkpoint. Give a folder with --models.")
    for name in names:
        try:
            checkpoint = load_checkpoint(folder / name)
            engine = make_engine(checkpoint, settings.device or "auto", threads=settings.threads)
            check_golden_slice(checkpoint, engine)
            sha256 = checkpoint.card.fingerprint
            text = f"sha256 {sha256[:12]}... fits its card, {engine.name} answers the golden slice as it should"
            yield Finding(True, f"model {name}", f"{text}; {why(engine)}")
        except SkinoctError as error:
            yield Finding(False, f"model {name}", str(error))


def _memory(settings: Settings) -> Iterator[Finding]:
    if not hasattr(os, "sysconf"):
        return
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    need = settings.codec_workers * settings.decode_memory_bytes + 2 * GIB
    text = f"{size_text(total)}; readers and engine may take {size_text(need)}"
    cure = "" if total >= need else ". Lower --decode-memory-bytes or --codec-workers."
    yield Finding(total >= need, "memory", text + cure)


def _disk(settings: Settings) -> Iterator[Finding]:
    folder = settings.data_dir or Path(tempfile.gettempdir())
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    writable = os.access(existing, os.W_OK)
    free = shutil.disk_usage(existing).free
    need = settings.max_pending_bytes + settings.min_free_disk_bytes
    text = f"{folder}: {size_text(free)} free, a full queue needs {size_text(need)}"
    if not writable:
        text += ". It cannot be written; choose another with --data-dir."
    elif free < need:
        text += ". Free space, or lower --max-pending-bytes."
    yield Finding(writable and free >= need, "disk", text)


def _port(settings: Settings) -> Iterator[Finding]:
    where = f"{settings.host}:{settings.port}"
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        socket.create_server((settings.host, settings.port), family=family).close()
    except OSError as error:
        yield Finding(False, "port", f"{where} cannot be used ({error.strerror}). Choose another with --port.")
    else:
        yield Finding(True, "port", f"{where} is free")


CHECKS: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
    _versions,
    _engine,
    _models,
    _memory,
    _disk,
    _port,
)


def examine(settings: Settings) -> list[Finding]:
    """Return all findings."""
    return [finding for check in CHECKS for finding in check(settings)]


def run(settings: Settings) -> int:
    """Print the report; 0 when the server can run."""
    findings = examine(settings)
    for finding in findings:
        print(f"{'ok     ' if finding.ok else 'PROBLEM'} {finding.topic}: {finding.text}")
    return 0 if all(finding.ok for finding in findings) else 1
