"""Command line options that several subcommands share."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from skinoct.errors import OptionError
from skinoct.labels import Label, label_from_name
from skinoct_training.dataset import LabelOptions

if TYPE_CHECKING:
    from skinoct_training.loop import Duration

DEFAULT_EPOCHS = 40


def red(text: str, stream: TextIO) -> str:
    """Return a warning in red where a person reads it."""
    return f"\033[31;1m{text}\033[0m" if stream.isatty() else text


def add_label_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how annotations become labels."""
    parser.add_argument(
        "--labels",
        choices=("auto", "labels", "rois"),
        default="auto",
        help="annotation to use: labels.tif, RoiSet.zip, or labels.tif where it exists (the default)",
    )
    parser.add_argument(
        "--roi-class",
        type=roi_class,
        metavar="CLASS",
        help="class of ROIs without a group that nobody named (ImageJ calls them 0012-0100-0256), for example dej",
    )


def label_options(args: argparse.Namespace) -> LabelOptions:
    """Return what ``add_label_options`` read."""
    return LabelOptions(source=args.labels, roi_class=args.roi_class)


def roi_class(text: str) -> Label:
    """Read a class name; argparse shows the error."""
    label = label_from_name(text)
    if not label:
        raise argparse.ArgumentTypeError(f"{text!r} is no class; choose glass, glycerol, epidermis, dej or dermis")
    return label


def positive(text: str) -> int:
    """Read a whole number from 1; argparse shows the error."""
    return _at_least(1, text)


def not_negative(text: str) -> int:
    """Read a whole number from 0; argparse shows the error."""
    return _at_least(0, text)


def _at_least(least: int, text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"{text} is not possible; give a whole number, {least} or more")
    return value


def add_duration(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how long to train."""
    long = parser.add_mutually_exclusive_group()
    long.add_argument("--epochs", type=int, help=f"train this many epochs (default {DEFAULT_EPOCHS})")
    long.add_argument("--minutes", type=float, help="train this many minutes instead")


def duration(args: argparse.Namespace) -> Duration:
    """Return what ``add_duration`` read.

    Raises
    ------
    OptionError
        When it is no time at all.
    """
    from skinoct_training.loop import Duration

    if args.minutes is not None:
        if not args.minutes > 0:
            raise OptionError(f"--minutes {args.minutes:g} is not possible; give more than 0.")
        return Duration(minutes=args.minutes)
    epochs = DEFAULT_EPOCHS if args.epochs is None else args.epochs
    if epochs < 1:
        raise OptionError(f"--epochs {epochs} is not possible; give 1 or more.")
    return Duration(epochs=epochs)


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add the options that change settings of a training."""
    parser.add_argument(
        "--seed", type=not_negative, default=0, help="same seed, same checkpoint (on a CPU, with --epochs)"
    )
    parser.add_argument("--config", type=Path, help="JSON file with settings that differ from the defaults")
    parser.add_argument(
        "--recipe", choices=("default", "paper"), default="default", help="the paper's recipe is the baseline"
    )
    parser.add_argument("--batch", type=int, help="crops per step")
    parser.add_argument("--crop", type=int, nargs=2, metavar=("ROWS", "COLUMNS"), help="size of a crop")


def read_config(path: Path | None) -> dict[str, Any]:
    """Read the JSON file of ``--config``; nothing without one.

    Raises
    ------
    OptionError
        When the file cannot be read.
    """
    if path is None:
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise OptionError(f"{path} is not a readable JSON file ({error}).") from None


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that the command line changes, over those of ``--config``.

    Raises
    ------
    OptionError
        When the file cannot be read.
    """
    given = read_config(args.config)
    given |= {"recipe": args.recipe, "seed": args.seed}
    if args.batch is not None:
        given["batch"] = args.batch
    if args.crop is not None:
        if min(args.crop) < 1:
            raise OptionError(f"--crop {args.crop[0]} {args.crop[1]} is not possible; give 1 or more of both.")
        given["crop"] = tuple(args.crop)
    return given
