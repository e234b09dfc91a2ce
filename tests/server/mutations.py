"""Mutations of valid files: whatever is changed, a reader answers with labels or with a sentence.

Each mutation is made from a seed, so that one that fails can be made again:

    python tests/server/mutations.py --count 100000
"""

from __future__ import annotations

import argparse
import collections
import io
import json
import os
import resource
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

_CHUNK = 500
_MEMORY = 512 << 20
_LIMIT_SECONDS = 2.0
_INTERESTING = [0, 1, 2, 7, 8, 16, 32, 255, 256, 65535, 1 << 16, (1 << 31) - 1, 1 << 31, (1 << 32) - 1]


def originals() -> dict[str, bytes]:
    """Small valid files of each kind that is read."""
    import tifffile

    from skinoct.rois import trace, write_roi_set
    from skinoct.tomogram import PixelSize, write_tomogram

    rng = np.random.default_rng(0)
    voxels = rng.integers(0, 255, (3, 20, 24)).astype(np.uint8)
    found: dict[str, bytes] = {}

    def add(name: str, **how: object) -> None:
        file = io.BytesIO()
        tifffile.imwrite(file, voxels, photometric="minisblack", **how)
        found[name] = file.getvalue()

    add("plain", metadata=None)
    add("deflate", compression="zlib", predictor=True, metadata=None)
    add("lzw", compression="lzw", metadata=None)
    add("zstd", compression="zstd", metadata=None)
    add("packbits", compression="packbits", metadata=None)
    add("tiled", tile=(16, 16), compression="zlib", metadata=None)
    add("bigtiff", bigtiff=True, metadata=None)
    add("big-endian", byteorder=">", metadata=None)
    add("ome", ome=True, metadata={"axes": "ZYX"})
    file = io.BytesIO()
    write_tomogram(file, voxels.astype(np.float32), pixel_size_um=PixelSize(0.9, 0.9, 0.9))
    found["imagej-float"] = file.getvalue()
    file = io.BytesIO()
    np.save(file, voxels)
    found["npy"] = file.getvalue()
    labels = np.sort(rng.integers(1, 6, (2, 20, 24)).astype(np.uint8), axis=1)
    file = io.BytesIO()
    write_roi_set(file, trace(labels))
    found["rois"] = file.getvalue()
    return found


def mutate(data: bytes, rng: np.random.Generator, other: bytes) -> bytes:
    """Change a file in one to four ways."""
    out = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        at = int(rng.integers(0, max(1, min(len(out), 400)))) if rng.random() < 0.6 else int(rng.integers(len(out) + 1))
        span = int(rng.integers(1, 64))
        match rng.integers(7):
            case 0 if at < len(out):
                out[at] ^= 1 << int(rng.integers(8))
            case 1 if at < len(out):
                out[at] = int(rng.integers(256))
            case 2:
                value = int(rng.choice(_INTERESTING)) & 0xFFFFFFFF
                layout = "<I" if rng.random() < 0.5 else "<H"
                packed = struct.pack(layout, value & (0xFFFF if layout == "<H" else 0xFFFFFFFF))
                out[at : at + len(packed)] = packed
            case 3:
                del out[at : at + span]
            case 4:
                out[at:at] = rng.bytes(span)
            case 5:
                out[at : at + span] = other[at : at + span]
            case 6 if rng.random() < 0.3:
                del out[at:]
    return bytes(out)


def read(name: str, data: bytes) -> str:
    """Read one file as the server's reader does; returns how it ended."""
    from skinoct.errors import SkinoctError
    from skinoct.rois import rasterize, read_roi_set
    from skinoct.tomogram import iter_blocks, read_tomogram

    try:
        if name == "rois":
            rasterize(read_roi_set(data), (2, 20, 24))
        else:
            tomogram = read_tomogram(data)
            if np.prod(tomogram.shape, dtype=float) < 1e8:
                for _ in iter_blocks(tomogram.voxels):
                    pass
    except SkinoctError as error:
        return f"refused ({error.kind})"
    except MemoryError:
        return "MEMORY"
    except Exception as error:
        return f"UNEXPECTED {type(error).__name__}: {str(error)[:80]}"
    return "read"


@dataclass
class Report:
    """How mutated files ended."""

    counts: collections.Counter[str] = field(default_factory=collections.Counter)
    failures: list[str] = field(default_factory=list)
    slowest: float = 0.0
    peak_bytes: int = 0


def _child(first: int, count: int, out: int) -> None:
    """Read `count` mutations in this process, telling the parent which one is at hand."""
    files = originals()
    names = sorted(files)
    usage = int(next(x for x in open("/proc/self/status") if x.startswith("VmData")).split()[1]) * 1024  # noqa: PTH123, SIM115
    resource.setrlimit(resource.RLIMIT_DATA, (usage + _MEMORY, usage + _MEMORY))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    for seed in range(first, first + count):
        rng = np.random.default_rng(seed)
        name = names[seed % len(names)]
        data = mutate(files[name], rng, files[names[int(rng.integers(len(names)))]])
        os.write(out, (json.dumps({"at": seed, "name": name}) + "\n").encode())
        started = time.perf_counter()
        how = read(name, data)
        seconds = round(time.perf_counter() - started, 3)
        os.write(out, (json.dumps({"seed": seed, "name": name, "how": how, "seconds": seconds}) + "\n").encode())


def _run_chunk(first: int, count: int, report: Report) -> None:
    incoming, outgoing = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(incoming)
            _child(first, count, outgoing)
            code = 0
        finally:
            os._exit(code)
    os.close(outgoing)
    last = ""
    with os.fdopen(incoming) as lines:
        for line in lines:
            last = line.strip()
            entry = json.loads(line)
            if "how" not in entry:
                continue
            report.counts[entry["how"].split(":")[0]] += 1
            report.slowest = max(report.slowest, entry["seconds"])
            if not entry["how"].startswith(("read", "refused")) or entry["seconds"] > _LIMIT_SECONDS:
                report.failures.append(line.strip())
    _, status, usage = os.wait4(pid, 0)
    report.peak_bytes = max(report.peak_bytes, usage.ru_maxrss * 1024)
    if status:
        report.failures.append(f"process died with status {status} after {last}")


def run(count: int, first: int = 0, tell: Callable[[int, Report], None] = lambda done, report: None) -> Report:
    """Read `count` mutated files in processes of their own."""
    report = Report()
    for start in range(first, first + count, _CHUNK):
        _run_chunk(start, min(_CHUNK, first + count - start), report)
        tell(start - first + _CHUNK, report)
    return report


def main() -> int:
    """Print a table of how the files ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0, help="seed of the first one")
    options = parser.parse_args()
    started = time.monotonic()

    def tell(done: int, report: Report) -> None:
        if done % (20 * _CHUNK) == 0:
            left = (time.monotonic() - started) * (options.count - done) / done
            text = f"{done} of {options.count} files, {len(report.failures)} failures, about {left:.0f} s left"
            print(text, file=sys.stderr, flush=True)

    report = run(options.count, options.first, tell)
    for how, number in report.counts.most_common():
        print(f"{number:8}  {how}")
    print(f"slowest {report.slowest:.2f} s, peak memory {report.peak_bytes >> 20} MiB")
    for failure in report.failures[:50]:
        print("FAILED", failure)
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
