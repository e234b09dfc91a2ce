"""Command line options that several subcommands share."""

from __future__ import annotations

import argparse

from skinoct.labels import Label, label_from_name
from skinoct_training.dataset import LabelOptions


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
        help="class of ROIs that have neither a class in their name nor a group, for example dej",
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
