"""``skinoct-fiji doctor``: is everything there that Segment skin needs, and what to do when not."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from skinoct.errors import SkinoctError
from skinoct.wire import API_VERSION
from skinoct_fiji import __version__
from skinoct_fiji.bridge.jvm import find_installation, find_java
from skinoct_fiji.client import ServerClient
from skinoct_fiji.installer import installed

OLDEST_JAVA, OLDEST_IMAGEJ = 8, "1.53"


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    good: bool
    text: str


def examine(fiji: Path | None, server: str, key: str | None) -> Iterator[Finding]:
    """Yield what was found, in the order in which things depend on each other."""
    yield Finding(True, f"skinoct-fiji {__version__}")
    yield _java(fiji)
    if fiji is not None:
        yield from _fiji(fiji)
    yield _server(server, key)


def _java(fiji: Path | None) -> Finding:
    try:
        home = find_java(find_installation(fiji) if fiji is not None else None)
        done = subprocess.run(
            [home / "bin" / "java", "-version"], capture_output=True, text=True, timeout=30, check=False
        )
    except SkinoctError as error:
        return Finding(False, str(error))
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding(False, f"Java at {home} does not run ({error}). Install another, or set JAVA_HOME.")
    found = re.search(r'version "(?:1\.)?(\d+)', done.stderr)
    version = int(found[1]) if found else 0
    if version < OLDEST_JAVA:
        return Finding(False, f"Java at {home} is too old. Install Java {OLDEST_JAVA} or newer.")
    return Finding(True, f"Java {version} at {home}")


def _fiji(fiji: Path) -> Iterator[Finding]:
    try:
        found = find_installation(fiji)
    except SkinoctError as error:
        yield Finding(False, str(error))
        return
    kind = "Fiji" if found.kind == "fiji" else "ImageJ 1"
    if found.version and found.version < OLDEST_IMAGEJ:
        yield Finding(False, f"{kind} at {found.path} has ImageJ {found.version}. Update it: Help > Update.")
    else:
        yield Finding(True, f"{kind} at {found.path}, ImageJ {found.version or 'of unknown version'}")
    if found.kind == "fiji":
        text = "are installed" if installed(found.path) else "are not installed or of another version"
        cure = "" if installed(found.path) else f"; to have them: skinoct-fiji install --fiji {found.path}"
        yield Finding(True, f"the scripts for a Fiji without Python {text}{cure}")


def _server(server: str, key: str | None) -> Finding:
    try:
        with ServerClient(server, key, patience=0) as client:
            info = client.check()
            models = [model.name for model in client.models()]
    except SkinoctError as error:
        return Finding(False, str(error))
    same = "" if info.version == __version__ else f" (this is {__version__}; both speak version {API_VERSION})"
    return Finding(True, f"skinoct-server {info.version}{same} at {client.url}, models: {', '.join(models)}")
