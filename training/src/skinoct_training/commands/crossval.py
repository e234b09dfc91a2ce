"""``skinoct-train crossval``: train and measure with each tomogram left out in turn."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from skinoct_training.commands.fit import settings
from skinoct_training.commands.options import add_label_options, label_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("data", type=Path, help="folder of tomogram folders, one per subject")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints, runs and crossval.json")
    long = parser.add_mutually_exclusive_group()
    long.add_argument("--epochs", type=int, help="epochs of each fold (default 40)")
    long.add_argument("--minutes", type=float, help="minutes of each fold instead")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="CPU threads (default: all)")
    parser.add_argument("--config", type=Path, help="JSON file with settings that differ from the defaults")
    parser.add_argument("--from", dest="start", metavar="CHECKPOINT", help="fine-tune this checkpoint in each fold")
    parser.add_argument("--recipe", choices=("default", "paper"), default="default")
    parser.add_argument("--batch", type=int, help="crops per step")
    parser.add_argument("--crop", type=int, nargs=2, metavar=("ROWS", "COLUMNS"), help="size of a crop")
    add_label_options(parser)


def run(args: argparse.Namespace) -> None:
    """Run all folds and print their table."""
    from skinoct_training.crossval import folds, results_file, spread, table
    from skinoct_training.fit import FitOptions
    from skinoct_training.loop import Duration
    from skinoct_training.preparation import DataOptions
    from skinoct_training.report import new_folder

    folder = new_folder(args.out)
    options = FitOptions(
        data=DataOptions(folder=args.data, labels=label_options(args)),
        out=folder / "checkpoints",
        run=folder / "runs",
        duration=Duration(epochs=None if args.minutes else args.epochs or 40, minutes=args.minutes),
        threads=args.threads,
        start=args.start,
        command="skinoct-train " + " ".join(sys.argv[1:]),
    )
    figures = dict(folds(options, settings(args)))
    results_file(folder).write_text(json.dumps(spread(figures), indent=2) + "\n", encoding="utf-8")
    for line in table(figures):
        print(line)
    print(f"Written: {results_file(folder)}")
