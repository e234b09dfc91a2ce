"""``skinoct-fiji``: put *Segment skin* into Fiji."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from skinoct.errors import SkinoctError
from skinoct_fiji import __version__
from skinoct_fiji.client import DEFAULT_SERVER


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; errors are one sentence on stderr and exit code 1."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except SkinoctError as error:
        print(f"skinoct-fiji: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="skinoct-fiji", description="Segment skin in Fiji and ImageJ.")
    parser.add_argument("--version", action="version", version=f"skinoct-fiji {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    launch = commands.add_parser("launch", help="open Fiji or ImageJ with Plugins > Skin, driven by Python")
    launch.add_argument("--fiji", type=Path, required=True, help="folder Fiji.app, or an ImageJ 1 jar")
    launch.add_argument("--server", help=f"address of the server (default: the last one, else {DEFAULT_SERVER})")
    launch.add_argument("--memory", default="2g", help="memory for ImageJ's images (default: 2g)")
    launch.set_defaults(run=_launch)
    return parser


def _launch(options: argparse.Namespace) -> int:
    from skinoct_fiji.app import open_imagej, stay
    from skinoct_fiji.bridge.jvm import find_installation

    ij = open_imagej(find_installation(options.fiji), server=options.server, memory=options.memory)
    print("ImageJ is open. Segment an image with Plugins > Skin > Segment skin.", flush=True)
    stay(ij)
    os._exit(0)  # Java's own threads would keep the process alive


if __name__ == "__main__":
    sys.exit(main())
