"""Put *Plugins > Skin* into a stock Fiji, and take it out again: scripts that need no Python there."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from skinoct_fiji.failures import FijiError

MENU = PurePosixPath("scripts/Plugins/Skin")
LIBRARY = PurePosixPath("lib/skinoct")
MARK = b"// skinoct: "
"""What each of our files begins with, so that nobody else's file is ever replaced or removed."""


@dataclass(frozen=True)
class Script:
    """One file, where it goes inside a Fiji."""

    target: PurePosixPath
    content: bytes


def scripts() -> list[Script]:
    """Return all files to install."""
    folder = resources.files("skinoct_fiji") / "scripts"
    return [
        Script(target / file.name, file.read_bytes())
        for source, target in ((folder, MENU), (folder / "lib", LIBRARY))
        for file in sorted(source.iterdir(), key=lambda item: item.name)
        if file.name.endswith(".bsh")
    ]


def archive(file: BinaryIO) -> None:
    """Write all files as a zip to unpack in the folder of a Fiji: what the server offers to workstations."""
    with zipfile.ZipFile(file, "w") as made:
        for script in scripts():
            entry = zipfile.ZipInfo(str(script.target), date_time=(2026, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            made.writestr(entry, script.content, compress_type=zipfile.ZIP_DEFLATED)


def install(fiji: Path) -> list[Path]:
    """Copy the scripts into a Fiji; an earlier version of ours is replaced. Returns the files.

    Raises
    ------
    FijiError
        When it is no Fiji, cannot be written to, or a file of that name is somebody else's.
    """
    _require_fiji(fiji)
    wanted = [(fiji / script.target, script.content) for script in scripts()]
    for path, _ in wanted:
        if path.exists() and not _is_ours(path):
            raise FijiError(f"{path} is not one of skinoct's files and is not overwritten. Move it away first.")
    try:
        for path, content in wanted:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    except OSError as error:
        raise FijiError(
            f"{fiji} cannot be written to ({error.strerror}). Run this as its owner, or install into a Fiji of "
            "your own."
        ) from error
    return [path for path, _ in wanted]


def uninstall(fiji: Path) -> list[Path]:
    """Remove the scripts from a Fiji, and the folders that are empty then. Returns the files removed.

    Raises
    ------
    FijiError
        When it is no Fiji or cannot be written to.
    """
    _require_fiji(fiji)
    try:
        return _remove(fiji)
    except OSError as error:
        raise FijiError(
            f"{error.filename} cannot be removed ({error.strerror}). Close Fiji, and run this as the owner of {fiji}."
        ) from error


def _remove(fiji: Path) -> list[Path]:
    removed = []
    for folder in (fiji / MENU, fiji / LIBRARY):
        for path in sorted(folder.glob("*.bsh")):
            if _is_ours(path):
                path.unlink()
                removed.append(path)
        while folder != fiji and (not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))):
            if folder.exists():
                folder.rmdir()
            folder = folder.parent
    return removed


def installed(fiji: Path) -> bool:
    """Whether the scripts lie in a Fiji, all of them and of this version."""
    return all(
        (fiji / script.target).is_file() and (fiji / script.target).read_bytes() == script.content
        for script in scripts()
    )


def _is_ours(path: Path) -> bool:
    return path.is_file() and path.read_bytes().startswith(MARK)


def _require_fiji(fiji: Path) -> None:
    if not list((fiji / "jars").glob("ij-[0-9]*.jar")):
        raise FijiError(f"There is no Fiji at {fiji}. Give the folder Fiji.app, the one that holds jars/ and plugins/.")
