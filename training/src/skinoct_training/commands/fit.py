"""``skinoct-train fit``: train a network on tomograms and ROI sets."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from skinoct.errors import OptionError
from skinoct_training.commands.options import add_label_options, label_options

DEFAULT_EPOCHS = 40


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "data", type=Path, help="folder of tomogram folders, each tomogram.tif + RoiSet.zip or labels.tif"
    )
    parser.add_argument("--out", type=Path, required=True, help="checkpoint folder to write")
    long = parser.add_mutually_exclusive_group()
    long.add_argument("--epochs", type=int, help=f"train this many epochs (default {DEFAULT_EPOCHS})")
    long.add_argument("--minutes", type=float, help="train this many minutes instead")
    parser.add_argument("--val", type=int, metavar="N", help="tomograms to hold out (default: 15 %%, at least one)")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same checkpoint (on a CPU, with --epochs)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: all)")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run")
    parser.add_argument("--run", type=Path, help="run folder (default: runs/ and the checkpoint's name)")
    parser.add_argument("--config", type=Path, help="JSON file with settings that differ from the defaults")
    parser.add_argument("--from", dest="start", metavar="CHECKPOINT", help="fine-tune this checkpoint (folder or name)")
    parser.add_argument(
        "--recipe", choices=("default", "paper"), default="default", help="the paper's recipe is the baseline"
    )
    parser.add_argument("--batch", type=int, help="crops per step")
    parser.add_argument("--crop", type=int, nargs=2, metavar=("ROWS", "COLUMNS"), help="size of a training crop")
    parser.add_argument("--pixel-size", type=float, metavar="UM", help="train at this pixel size (default: the data's)")
    parser.add_argument("--description", default="", help="one sentence for the checkpoint's card")
    parser.add_argument(
        "--split",
        choices=("by-tomogram", "by-slice"),
        default="by-tomogram",
        help="by-slice holds out every eighth slice instead of tomograms; it exists only to show the leak",
    )
    add_label_options(parser)


def run(args: argparse.Namespace) -> None:
    """Train, then say where the checkpoint is and how good it was on held-out tomograms."""
    from skinoct_training.distributed import rank
    from skinoct_training.evaluate import LEAK
    from skinoct_training.fit import FitOptions, fit
    from skinoct_training.loop import Duration
    from skinoct_training.preparation import DataOptions

    if args.threads is not None and args.threads < 1:
        raise OptionError(f"--threads {args.threads} is not possible; give 1 or more.")
    epochs = args.epochs if args.epochs or args.minutes else DEFAULT_EPOCHS
    data = DataOptions(
        folder=args.data,
        labels=label_options(args),
        held_out=args.val,
        by_slice=args.split == "by-slice",
        pixel_um=args.pixel_size,
    )
    if data.by_slice:
        print(LEAK, file=sys.stderr)
    options = FitOptions(
        data=data,
        out=args.out,
        run=args.run or Path("runs") / args.out.name,
        duration=Duration(epochs=epochs, minutes=args.minutes),
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
    error = f"DEJ error {standing.best_um:.2f} um on held-out tomograms" if standing.extra else "error not measured"
    print(f"{args.out}: {error}, epoch {standing.best_epoch} of {standing.epoch}.")
    print(f"Measure it with: skinoct-train evaluate {args.out} DATA --out DIR")


def settings(args: argparse.Namespace) -> dict[str, object]:
    """Return the settings that the command line changes, over those of ``--config``."""
    import json

    given: dict[str, object] = {}
    if args.config:
        try:
            given = json.loads(args.config.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise OptionError(f"{args.config} is not a readable JSON file ({error}).") from None
    given["recipe"] = args.recipe
    given["seed"] = args.seed
    if args.batch is not None:
        given["batch"] = args.batch
    if args.crop is not None:
        given["crop"] = tuple(args.crop)
    return given
