"""``skinoct-train check``: look for mistakes in a training folder before anyone trains on it."""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

from skinoct_training.commands.options import add_label_options, label_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("data", type=Path, help="folder of tomogram folders")
    parser.add_argument(
        "--sheet", type=Path, help="contact sheet to write, with a number if there is one (default: DATA-check.png)"
    )
    add_label_options(parser)


def run(args: argparse.Namespace) -> None:
    """List what was found and draw the contact sheet; fails when something must be mended."""
    from skinoct.errors import DatasetError
    from skinoct_training.figures import draw_contact_sheet
    from skinoct_training.lint import lint

    result = lint(args.data, label_options(args))
    for finding in result.findings:
        print(finding)
    if result.samples:
        sheet = free_name(args.sheet or Path(f"{args.data.resolve().name}-check.png"))
        draw_contact_sheet(result.samples).savefig(sheet, dpi=100)
        print(f"Contact sheet: {sheet}")
    print(f"{count(result.tomograms, 'tomogram')} looked at.")
    warnings = len(result.findings) - result.errors
    if result.errors:
        found = f"{count(result.errors, 'error')} and {count(warnings, 'warning')}"
        raise DatasetError(f"{found}; mend what is marked ERROR before training.")
    print(f"No errors, {count(warnings, 'warning')}." if warnings else "Nothing to complain about.")


def free_name(path: Path) -> Path:
    """Return a path itself, or with a number behind its name where there is such a file: none is overwritten."""
    numbered = (path.with_stem(f"{path.stem}-{number}") for number in itertools.count(2))
    return next(free for free in itertools.chain([path], numbered) if not free.exists())


def count(number: int, what: str) -> str:
    """Return a number with its noun."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
