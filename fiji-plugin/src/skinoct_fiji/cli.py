"""``skinoct-fiji``: put *Segment skin* into Fiji."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from skinoct.errors import OptionError, SkinoctError
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
    archive = commands.add_parser("zip", help="write what install copies as one zip, to be unpacked in Fiji.app")
    archive.add_argument("file", type=Path, help="zip to write; never overwritten")
    archive.set_defaults(run=_zip)
    macro = commands.add_parser("macro", help="run an ImageJ macro that uses Plugins > Skin, without a window")
    macro.add_argument("file", type=Path, help="an .ijm file")
    macro.add_argument("argument", nargs="?", default="", help="what getArgument() returns in it")
    macro.add_argument("--fiji", type=Path, required=True, help="folder Fiji.app, or an ImageJ 1 jar")
    macro.add_argument("--memory", default="2g", help="memory for ImageJ's images (default: 2g)")
    macro.set_defaults(run=_macro)
    doctor = commands.add_parser("doctor", help="check Java, Fiji, server and versions, and say the cure")
    doctor.add_argument("--fiji", type=Path, help="folder Fiji.app, or an ImageJ 1 jar")
    doctor.add_argument("--server", default=DEFAULT_SERVER, help=f"(default: {DEFAULT_SERVER})")
    doctor.set_defaults(run=_doctor)
    segment = commands.add_parser("segment", help="segment all tomograms of a folder; needs no Fiji")
    segment.add_argument("folder", type=Path, help="folder with .tif, .tiff and .npy files")
    segment.add_argument("--out", type=Path, required=True, help="folder for results; finished ones are skipped")
    segment.add_argument("--server", default=DEFAULT_SERVER, help=f"(default: {DEFAULT_SERVER})")
    segment.add_argument("--model", help="name of a model (default: the server's)")
    segment.add_argument("--pixel-size", type=float, help="um (default: each file's own)")
    segment.set_defaults(run=_segment)
    return parser


def _doctor(options: argparse.Namespace) -> int:
    from skinoct_fiji.doctor import examine

    findings = list(examine(options.fiji, options.server, os.environ.get("SKINOCT_API_KEY")))
    for finding in findings:
        print(f"{'ok     ' if finding.good else 'PROBLEM'}  {finding.text}")
    return 0 if all(finding.good for finding in findings) else 1


def _segment(options: argparse.Namespace) -> int:
    from skinoct_fiji.batch import SUMMARY, segment_folder
    from skinoct_fiji.client import Request, ServerClient

    request = Request(model=options.model, pixel_size_um=options.pixel_size)
    with ServerClient(options.server, os.environ.get("SKINOCT_API_KEY")) as client:
        outcomes = segment_folder(client, options.folder, options.out, request=request, tell=_tell)
    print()
    for outcome in outcomes:
        print(f"{outcome.state:8} {outcome.name}: {outcome.detail}")
    failed = sum(outcome.state == "failed" for outcome in outcomes)
    print(f"{len(outcomes) - failed} of {len(outcomes)} tomograms; table in {options.out / SUMMARY}")
    return 1 if failed else 0


def _tell(number: int, count: int, name: str, progress: object) -> None:
    text = getattr(progress, "text", lambda: "")()
    print(f"\r\033[K{number} of {count}  {name}  {text}", end="", flush=True)


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


def _zip(options: argparse.Namespace) -> int:
    from skinoct_fiji.installer import archive

    try:
        with options.file.open("xb") as file:
            archive(file)
    except OSError as error:
        raise OptionError(f"{options.file} cannot be made ({error.strerror}). Give another name.") from error
    print(f"Unpack {options.file} in the folder Fiji.app, then restart Fiji.")
    return 0


def _macro(options: argparse.Namespace) -> int:
    from skinoct_fiji.app import run_macro
    from skinoct_fiji.bridge.jvm import find_installation

    try:
        text = options.file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"{options.file} cannot be read ({error}). Give an ImageJ macro.") from error
    answer = run_macro(find_installation(options.fiji), text, options.argument, memory=options.memory)
    print(answer, end="\n" if answer else "", flush=True)
    os._exit(0)  # Java's own threads would keep the process alive


def _launch(options: argparse.Namespace) -> int:
    from skinoct_fiji.app import open_imagej, stay
    from skinoct_fiji.bridge.jvm import find_installation

    ij = open_imagej(find_installation(options.fiji), server=options.server, memory=options.memory)
    print("ImageJ is open. Segment an image with Plugins > Skin > Segment skin.", flush=True)
    stay(ij)
    os._exit(0)  # Java's own threads would keep the process alive


if __name__ == "__main__":
    sys.exit(main())
