"""``skinoct-train export``: write a checkpoint as ONNX or as a bioimage.io package."""

from __future__ import annotations

import argparse
from pathlib import Path

SUFFIX = {"onnx": ".onnx", "bioimageio": ".bioimageio.zip"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("checkpoint", help="checkpoint folder, or name of a shipped one, or default")
    parser.add_argument("--format", choices=tuple(SUFFIX), required=True, help="what to write")
    parser.add_argument("--out", type=Path, help="file to write (default: the checkpoint's name)")


def run(args: argparse.Namespace) -> None:
    """Export, check, and say where the file is."""
    from skinoct.checkpoint import open_checkpoint
    from skinoct_training.export import export_bioimageio, export_onnx

    checkpoint = open_checkpoint(args.checkpoint)
    path = args.out or Path(checkpoint.card.name + SUFFIX[args.format])
    export = export_onnx if args.format == "onnx" else export_bioimageio
    print(f"Checked and written: {export(checkpoint, path)}")
