"""Console script ``skinoct-server``: ``serve``, ``key``, ``doctor``."""

from __future__ import annotations

import argparse
import sys
import typing
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from skinoct import __version__
from skinoct.errors import SkinoctError
from skinoct_server import doctor, keys
from skinoct_server.settings import Settings, field_help


def _add_settings(parser: argparse.ArgumentParser, names: Iterable[str]) -> None:
    """Make fields of ``Settings`` options."""
    texts = field_help()
    for name in names:
        field = Settings.model_fields[name]
        flag = "--" + name.replace("_", "-")
        if field.annotation is bool:
            parser.add_argument(flag, dest=name, action="store_true", default=None, help=texts[name])
        elif typing.get_origin(field.annotation) is tuple:
            parser.add_argument(flag, dest=name, nargs="+", metavar="TEXT", help=texts[name])
        else:
            metavar = "PATH" if "Path" in str(field.annotation) else "VALUE"
            shown = "" if field.default is None else f" Default: {field.default}."
            parser.add_argument(flag, dest=name, metavar=metavar, help=texts[name].replace("%", "%%") + shown)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="skinoct-server", description="Segment skin tomograms over HTTP.")
    parser.add_argument("--version", action="version", version=f"skinoct-server {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="run the server")
    _add_settings(serve, Settings.model_fields)
    check = commands.add_parser("doctor", help="look at this machine and say what is missing")
    _add_settings(check, doctor.SETTINGS)
    key = commands.add_parser("key", help="make an API key and add its hash to a file")
    key.add_argument("file", type=Path, help="key file, made when it does not exist")
    key.add_argument("name", help="whose key it is, for the log")
    key.add_argument("--admin", action="store_true", help="may switch the default model")
    return parser


def settings_from(options: argparse.Namespace) -> Settings:
    """Build settings from options; what is not given comes from the environment or is the default.

    Raises
    ------
    SystemExit
        With a sentence when a value cannot be used.
    """
    given: dict[str, Any] = {
        name: value for name in Settings.model_fields if (value := getattr(options, name, None)) is not None
    }
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name, text = str(first["loc"][0]), first["msg"].removeprefix("Value error, ")
        source = "--" + name.replace("_", "-") if name in given else f"SKINOCT_SERVER_{name.upper()}"
        raise SystemExit(
            f"skinoct-server: {source}: {text}. `skinoct-server serve --help` lists the options."
        ) from None


def _key(options: argparse.Namespace) -> int:
    secret = keys.add_key(options.file, options.name, "admin" if options.admin else "user")
    print(secret)
    print(f"This key is shown once; {options.file} holds only its hash. Clients send it as", file=sys.stderr)
    print("  Authorization: Bearer KEY", file=sys.stderr)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "key":
            return _key(options)
        settings = settings_from(options)
        if options.command == "doctor":
            return doctor.run(settings)
        from skinoct_server import logs
        from skinoct_server.serve import serve

        logs.set_up(settings.log_json)
        serve(settings)
    except SkinoctError as error:
        print(f"skinoct-server: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
