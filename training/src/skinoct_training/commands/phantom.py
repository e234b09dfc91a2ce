"""``skinoct-train phantom``: make synthetic tomograms with their truth."""

from __future__ import annotations

import argparse
import json
import multiprocessing
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from skinoct.errors import OptionError
from skinoct.rois import write_roi_set
from skinoct.tomogram import write_labels, write_tomogram
from skinoct_training.commands.options import not_negative, positive
from skinoct_training.families import FAMILIES, Family, make_synthetic
from skinoct_training.phantom.doctor import doctor_rois


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("out", type=Path, help="new folder for the tomogram folders")
    parser.add_argument("--tomograms", type=positive, default=10, metavar="N", help="how many (default 10)")
    parser.add_argument("--slices", type=positive, default=32, metavar="Z", help="B-scans of each (default 32)")
    parser.add_argument("--seed", type=not_negative, default=0, help="same seed, same tomograms (default 0)")
    parser.add_argument(
        "--family",
        choices=(*FAMILIES, "mixed"),
        default="ffoct",
        help="ffoct: as measured on full-field OCT (default); wide: random appearance; deep: a millimeter deep, "
        "with large pixels; thick: palms, soles and fingertips; painted: layers of any look; instruments: four "
        "microscopes of a second generator; processed: after a maker's software; mixed: each in turn",
    )
    parser.add_argument("--jobs", type=positive, default=1, help="processes (default 1)")


def run(args: argparse.Namespace) -> None:
    """Write one folder per tomogram: tomogram.tif, RoiSet.zip, labels.tif and phantom.json."""
    out: Path = args.out
    if out.exists() and any(out.iterdir()):
        raise OptionError(f"{out} is not empty and nothing of yours is overwritten; give a new folder.")
    out.mkdir(parents=True, exist_ok=True)
    work = partial(write_phantom, out, args.seed, args.slices, args.family)
    numbers = range(args.tomograms)
    progress = partial(tqdm, total=args.tomograms, desc="phantoms", unit="tomogram")
    if args.jobs == 1:
        for _ in progress(map(work, numbers)):
            pass
        return
    with multiprocessing.get_context("spawn").Pool(args.jobs) as pool:
        for _ in progress(pool.imap_unordered(work, numbers)):
            pass


def write_phantom(out: Path, seed: int, slices: int, family: str, number: int) -> None:
    """Make and write tomogram ``number`` of the set with ``seed``; its voxels depend on nothing else."""
    chosen: Family = family if family in FAMILIES else FAMILIES[number % len(FAMILIES)]
    phantom = make_synthetic((seed, number), slices, chosen)
    folder = out / f"phantom-{seed}-{number:04d}"
    folder.mkdir()
    size = phantom.pixel_size_um
    labels = phantom.labels
    write_tomogram(folder / "tomogram.tif", phantom.voxels, pixel_size_um=size)
    write_labels(folder / "labels.tif", [labels], labels.shape, pixel_size_um=size)
    write_roi_set(folder / "RoiSet.zip", doctor_rois(phantom, np.random.default_rng((seed, number, 1))))
    facts = {"synthetic": True, "seed": seed, "number": number, **phantom.facts}
    (folder / "phantom.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
