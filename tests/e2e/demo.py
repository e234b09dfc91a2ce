"""Segment a phantom tomogram through a running server and leave the results to look at.

python tests/e2e/demo.py [--out demo] [--slices 64] [--seed 77]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from running import Failure, post, running_server, stop_in_order

from skinoct.errors import SkinoctError
from skinoct.labels import CLASSES
from skinoct.overlay import triptych, write_png
from skinoct.tomogram import read_tomogram, write_tomogram
from skinoct_training.metrics import nest, score
from skinoct_training.phantom.make import Phantom, make_phantom

ROOT = Path(__file__).resolve().parents[2]
FILES = ("tomogram.tif", "labels.tif", "RoiSet.zip", "overlay.png", "report.json")
RECORD = ".written-by-demo.json"
"""In the results folder: hash of each file that the demo wrote, so that it replaces these and nothing else."""
NOTE = "Synthetic: these figures were measured on a phantom, not on skin."


@dataclass(frozen=True)
class Answer:
    """What came back from the server."""

    seconds: float
    model: str
    sha256: str


def check_folder(out: Path) -> None:
    """Refuse to replace what the demo did not write, or what was changed since.

    Raises
    ------
    Failure
        With the name of the file.
    """
    try:
        written = json.loads((out / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        written = {}
    for name in FILES:
        path = out / name
        if path.exists() and (not path.is_file() or written.get(name) != digest(path)):
            raise Failure(
                f"{path} was not written by the demo, or was changed since, and is not overwritten. "
                "Move it away, or give another folder with --out."
            )


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def move_into(out: Path, folder: Path) -> None:
    """Put the finished files in place, all of them or, when something failed before, none."""
    out.mkdir(parents=True, exist_ok=True)
    record = {name: digest(folder / name) for name in FILES}
    (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    for name in (RECORD, *FILES):
        shutil.move(folder / name, out / name)


def segment(folder: Path) -> Answer:
    """Send ``tomogram.tif`` through a server of its own; writes ``labels.tif`` and ``RoiSet.zip``."""
    say("Starting skinoct-server on a free port ...")
    with running_server() as (url, _):
        say(f"Posting tomogram.tif to {url}/segment ...")
        started = time.perf_counter()
        labels = post(url, folder / "tomogram.tif", "image/tiff")
        seconds = time.perf_counter() - started
        (folder / "labels.tif").write_bytes(labels.content)
        rois = post(url, folder / "tomogram.tif", "application/zip")
        (folder / "RoiSet.zip").write_bytes(rois.content)
    return Answer(seconds, labels.headers["X-Skinoct-Model"], labels.headers["X-Skinoct-Model-Sha256"])


def write_report(folder: Path, phantom: Phantom, seed: tuple[int, ...], answer: Answer) -> dict[str, Any]:
    """Compare the answer with the truth; writes ``report.json`` and ``overlay.png``, returns the report."""
    predicted = np.asarray(read_tomogram(folder / "labels.tif").voxels[:])
    size = phantom.pixel_size_um
    figures = score(predicted, phantom.labels, um=(size.y, size.x))
    anatomy = phantom.spec.anatomy
    report = {
        "synthetic": True,
        "note": NOTE,
        "seconds": round(answer.seconds, 3),
        "slices_per_second": round(len(predicted) / answer.seconds, 1),
        "dej_error_um": round(figures["dej.mae_um"], 3) if np.isfinite(figures["dej.mae_um"]) else None,
        "dice": {item.name: nest(figures)["classes"][item.name]["dice"] for item in CLASSES},  # type: ignore[index]
        "model": {"name": answer.model, "sha256": answer.sha256},
        "tomogram": {
            "shape": list(phantom.voxels.shape),
            "seed": list(seed),
            "family": phantom.spec.family,
            "site": anatomy.site,
            "age_years": round(anatomy.age_years),
        },
        "figures": nest(figures),
    }
    (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    middle = len(predicted) // 2
    write_png(folder / "overlay.png", triptych(phantom.voxels[middle], predicted[middle]))
    return report


def run(out: Path, slices: int, seed: tuple[int, ...]) -> None:
    """Do everything; the results appear in ``out`` when all of them are there."""
    check_folder(out)
    say(f"Drawing a phantom tomogram of {slices} B-scans that no training has seen ...")
    phantom = make_phantom(seed, slices, "ffoct")
    with tempfile.TemporaryDirectory(prefix="skinoct-demo-") as name:
        folder = Path(name)
        write_tomogram(folder / "tomogram.tif", phantom.voxels, pixel_size_um=phantom.pixel_size_um)
        report = write_report(folder, phantom, seed, segment(folder))
        move_into(out, folder)
    show(out, report, slices)


def show(out: Path, report: dict[str, Any], slices: int) -> None:
    """Print the figures and what to do next."""
    error, speed, model = report["dej_error_um"], report["slices_per_second"], report["model"]["name"]
    dice = ", ".join(f"{k} {'-' if v is None else f'{v:.3f}'}" for k, v in report["dice"].items())
    say(
        f"""
{slices} B-scans in {report["seconds"]:.1f} s ({speed:.3g} a second) with {model}
DEJ error  {"no DEJ was found" if error is None else f"{error:.2f} um"} (mean distance from the truth)
Dice       {dice}
{NOTE}

Look at    {out}/overlay.png: a B-scan, the DEJ over it, all layers
In Fiji    open {out}/tomogram.tif, then {out}/RoiSet.zip, and tick "Show All" in the ROI Manager;
           or let Fiji ask the server: .venv/bin/skinoct-fiji launch --fiji /path/to/Fiji.app
Serve      make serve, then http://127.0.0.1:8000/docs
Your data  README.md, "Retrain on your own ROI sets" """.rstrip()
    )


def say(text: str) -> None:
    """Print at once, also into a pipe."""
    print(text, flush=True)


def main() -> int:
    """Run the command line; a failure is one sentence and status 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder of the results (default: demo)")
    parser.add_argument("--slices", type=int, default=64, help="B-scans of the tomogram (default: 64)")
    parser.add_argument("--seed", type=int, nargs="+", default=[77, 0], help="of the phantom; training used 1 N")
    options = parser.parse_args()
    if options.slices < 1:
        parser.error("--slices must be 1 or more")
    stop_in_order()
    try:
        run(options.out, options.slices, tuple(options.seed))
    except (Failure, SkinoctError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"demo: {error.filename or options.out} could not be written ({error.strerror}).", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: stopped; nothing was changed.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
