"""``skinoct-train crossval``: train and measure with each tomogram left out in turn."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("data", type=Path, help="folder of tomogram folders, one per subject")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints, runs and crossval.json")
    add_duration(parser)
    parser.add_argument("--resume", action="store_true", help="go on with what is missing after an interruption")
    parser.add_argument("--threads", type=positive, help="CPU threads (default: all)")
    parser.add_argument(
        "--from",
        dest="start",
        metavar="CHECKPOINT",
        help="fine-tune this checkpoint in each fold; default is the shipped one",
    )
    add_settings(parser)
    add_label_options(parser)


def run(args: argparse.Namespace) -> None:
    """Run all folds that are missing and print their table."""
    from skinoct_training.crossval import folds, prepare, results_file, spread, table
    from skinoct_training.files import write_text
    from skinoct_training.fit import FitOptions
    from skinoct_training.preparation import DataOptions

    folder: Path = args.out
    options = FitOptions(
        data=DataOptions(folder=args.data, labels=label_options(args)),
        out=folder / "checkpoints",
        run=folder / "runs",
        duration=duration(args),
        resume=args.resume,
        threads=args.threads,
        start=args.start,
        command="skinoct-train " + " ".join(sys.argv[1:]),
    )
    chosen = settings(args)
    prepare(folder, options, chosen)
    measured = dict(folds(options, chosen, folder))
    figures = {name: fold.figures for name, fold in measured.items()}
    warnings = [text for fold in measured.values() for text in fold.warnings]
    write_text(results_file(folder), json.dumps({"warnings": warnings, **spread(figures)}, indent=2) + "\n")
    for line in table(figures):
        print(line)
    for warning in warnings:
        print(red(warning, sys.stdout))
    print(f"Written: {results_file(folder)}")
