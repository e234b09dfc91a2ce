"""``skinoct-train benchmark``: measure how fast a training runs on this machine."""

from __future__ import annotations

import argparse

from skinoct.errors import OptionError
from skinoct_training.commands.options import add_settings, positive, settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--seconds", type=float, default=20.0, help="how long to measure (default 20)")
    parser.add_argument("--threads", type=positive, help="CPU threads (default: all)")
    add_settings(parser)


def run(args: argparse.Namespace) -> None:
    """Print images per second beside the paper's."""
    import torch

    from skinoct_training.benchmark import measure_speed
    from skinoct_training.fit import make_config

    if not args.seconds > 0:
        raise OptionError(f"--seconds {args.seconds:g} is not possible; give more than 0.")
    if args.threads:
        torch.set_num_threads(args.threads)
    for line in measure_speed(make_config(settings(args)), seconds=args.seconds).lines():
        print(line)
