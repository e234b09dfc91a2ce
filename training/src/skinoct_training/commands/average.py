"""``skinoct-train average``: the mean of a checkpoint and of one that was trained further from it."""

from __future__ import annotations

import argparse
from pathlib import Path

from skinoct.errors import OptionError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("start", help="checkpoint folder, or name of a shipped one, or default")
    parser.add_argument("trained", help="one that was trained from it; its card is kept")
    parser.add_argument("--share", type=float, default=0.5, help="of the trained weights, 0 to 1 (default 0.5)")
    parser.add_argument("--out", type=Path, required=True, help="new checkpoint folder")


def run(args: argparse.Namespace) -> None:
    """Save the mean."""
    from skinoct.checkpoint import open_checkpoint
    from skinoct.checkpoint_write import save_checkpoint
    from skinoct_training.average import average

    if not 0 <= args.share <= 1:
        raise OptionError(f"--share {args.share:g} is no share; give a number from 0 to 1.")
    found = average(open_checkpoint(args.start), open_checkpoint(args.trained), args.share)
    save_checkpoint(args.out, found.card, found.weights)
    print(f"Written: {args.out}. Measure it with: skinoct-train evaluate {args.out} DATA --out DIR")
