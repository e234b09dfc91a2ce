"""``skinoct-train explain``: show what the network's filters respond to."""

from __future__ import annotations

import argparse
from pathlib import Path

from skinoct_training.commands.options import not_negative


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("checkpoint", help="checkpoint folder, or name of a shipped one, or default")
    parser.add_argument("--out", type=Path, default=Path("filters.png"), help="PNG to write (default filters.png)")
    parser.add_argument("--steps", type=not_negative, default=80, help="steps of gradient ascent (default 80)")
    parser.add_argument("--seed", type=not_negative, default=0, help="of the noise")


def run(args: argparse.Namespace) -> None:
    """Draw the figure."""
    from skinoct.checkpoint import open_checkpoint
    from skinoct.errors import OptionError
    from skinoct_training.explain import explain

    if args.out.exists():
        raise OptionError(f"{args.out} exists already and is never overwritten; give --out another name.")
    explain(open_checkpoint(args.checkpoint), args.out, steps=args.steps, seed=args.seed)
    print(f"Figure: {args.out}")
