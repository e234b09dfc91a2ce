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
    for name, text, run in (
        ("install", "put Plugins > Skin into a Fiji; it then needs no Python", _install),
        ("uninstall", "take it out again", _uninstall),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("--fiji", type=Path, required=True, help="folder Fiji.app")
        command.set_defaults(run=run)
    return parser


def _install(options: argparse.Namespace) -> int:
    from skinoct_fiji.installer import install

    files = install(options.fiji)
    print(f"{len(files)} files are in {options.fiji}. Restart Fiji; the entries are under Plugins > Skin.")
    return 0


def _uninstall(options: argparse.Namespace) -> int:
    from skinoct_fiji.installer import uninstall

    files = uninstall(options.fiji)
    print(f"{len(files)} files were removed from {options.fiji}. Restart Fiji.")
    return 0


def _launch(options: argparse.Namespace) -> int:
    from skinoct_fiji.app import open_imagej, stay
    from skinoct_fiji.bridge.jvm import find_installation

    ij = open_imagej(find_installation(options.fiji), server=options.server, memory=options.memory)
    print("ImageJ is open. Segment an image with Plugins > Skin > Segment skin.", flush=True)
    stay(ij)
    os._exit(0)  # Java's own threads would keep the process alive


if __name__ == "__main__":
    sys.exit(main())
