"""``skinoct-train fit``: train a network on tomograms and ROI sets."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from skinoct.errors import OptionError
from skinoct_training.commands.options import (
    add_duration,
    add_label_options,
    add_settings,
    duration,
    label_options,
    positive,
    red,
    settings,
)

if TYPE_CHECKING:
    from skinoct_training.loop import Standing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "data", type=Path, help="folder of tomogram folders, each tomogram.tif + RoiSet.zip or labels.tif"
    )
    parser.add_argument("--out", type=Path, required=True, help="checkpoint folder to write")
    add_duration(parser)
    parser.add_argument("--val", type=int, metavar="N", help="tomograms to hold out (default: 15 %%, at least one)")
    parser.add_argument("--threads", type=positive, help="CPU threads (default: all)")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run")
    parser.add_argument(
        "--run",
        "--run-folder",  # torchrun has options that begin with --run, and refuses that one as ambiguous
        type=Path,
        help="run folder (default: runs/ and the checkpoint's name)",
    )
    parser.add_argument(
        "--from",
        dest="start",
        metavar="CHECKPOINT",
        help="fine-tune this checkpoint: a folder or a name; default is the shipped one",
    )
    parser.add_argument(
        "--pixel-size",
        type=float,
        metavar="UM",
        help="pixel size at which the network works, not that of the files (default: the data's)",
    )
    parser.add_argument("--description", default="", help="one sentence for the checkpoint's card")
    parser.add_argument(
        "--split",
        choices=("by-tomogram", "by-slice"),
        default="by-tomogram",
        help="by-slice holds out every eighth slice instead of tomograms; it exists only to show the leak",
    )
    add_settings(parser)
    add_label_options(parser)


def run(args: argparse.Namespace) -> None:
    """Train, then say where the checkpoint is and how good it was on held-out tomograms."""
    from skinoct.grid import PLAUSIBLE_UM
    from skinoct_training.distributed import rank
    from skinoct_training.evaluate import LEAK
    from skinoct_training.fit import FitOptions, fit
    from skinoct_training.preparation import DataOptions

    if args.threads is not None and args.threads < 1:
        raise OptionError(f"--threads {args.threads} is not possible; give 1 or more.")
    least, most = PLAUSIBLE_UM
    if args.pixel_size is not None and not least <= args.pixel_size <= most:
        raise OptionError(f"--pixel-size {args.pixel_size:g} is not possible; give {least:g} to {most:g} um.")
    data = DataOptions(
        folder=args.data,
        labels=label_options(args),
        held_out=args.val,
        by_slice=args.split == "by-slice",
        pixel_um=args.pixel_size,
    )
    if data.by_slice:
        print(red(LEAK, sys.stderr), file=sys.stderr)
    options = FitOptions(
        data=data,
        out=args.out,
        run=args.run or Path("runs") / args.out.name,
        duration=duration(args),
        resume=args.resume,
        threads=args.threads,
        start=args.start,
        description=args.description,
        command="skinoct-train " + " ".join(sys.argv[1:]),
    )
    checkpoint, standing = fit(options, settings(args))
    if rank() > 0:
        return
    if checkpoint is None:
        raise OptionError("Stopped before the first epoch was over; nothing was saved.")
    print(f"{args.out}: {standing_text(standing)}, epoch {standing.best_epoch} of {standing.epoch}.")
    print(f"Measure it with: skinoct-train evaluate {args.out} DATA --out DIR")


def standing_text(standing: Standing) -> str:
    """Say how good the best epoch was, in one phrase."""
    if not standing.extra:
        return "error not measured"
    if not math.isfinite(standing.best_um):
        return "error not measured, because the held-out slices show no whole DEJ"
    text = f"DEJ error {standing.best_um:.2f} um on held-out tomograms"
    gaps = standing.extra.get("gap_fraction", 0.0)
    if gaps >= 1:
        return f"{text} (it finds no DEJ yet; train longer)"
    return f"{text} (it finds none in {100 * gaps:.0f} % of the columns)" if gaps >= 0.005 else text
