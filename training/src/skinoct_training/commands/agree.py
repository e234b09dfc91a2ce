"""``skinoct-train agree``: compare two doctors' ROI sets of one tomogram."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from skinoct_training.commands.options import red, roi_class


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("first", type=Path, help="RoiSet.zip (or label stack) of one doctor")
    parser.add_argument("second", type=Path, help="that of another, or of the same doctor on another day")
    parser.add_argument("--tomogram", type=Path, required=True, help="the tomogram that both drew on")
    parser.add_argument("--roi-class", type=roi_class, metavar="CLASS", help="class of unnamed ROIs, for example dej")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")


def run(args: argparse.Namespace) -> None:
    """Print distance and overlap."""
    from skinoct.errors import OptionError
    from skinoct_training.agreement import agreement
    from skinoct_training.dataset import LabelOptions

    if args.json and args.json.exists():
        raise OptionError(f"{args.json} exists already and is never overwritten; give --json another name.")
    figures = agreement(args.first, args.second, args.tomogram, LabelOptions(roi_class=args.roi_class))
    for warning in figures.warnings:
        print(red(warning, sys.stdout))
    for title, value in figures.lines():
        print(f"{title}: {value}")
    if args.json:
        args.json.write_text(json.dumps(figures.content(), indent=2) + "\n", encoding="utf-8")
