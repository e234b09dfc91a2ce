"""Files that appear whole or not at all, and never in place of a user's file unless asked to."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from skinoct.errors import OptionError


@contextmanager
def open_output(target: str | Path | BinaryIO, *, overwrite: bool = False) -> Iterator[BinaryIO]:
    """Give a binary file to write; an open file is passed on, a path is filled when all is written.

    Raises
    ------
    OptionError
        When the path exists and ``overwrite`` is False (kind ``file-exists``), its folder does not exist
        (kind ``no-such-folder``) or nothing can be written there (kind ``not-writable``).
    """
    if not isinstance(target, str | Path):
        yield target
        return
    path = Path(target)
    _check_free(path, overwrite)
    path = path.resolve()  # a link stays, and what it points to is replaced
    if not path.parent.is_dir():
        raise OptionError(f"There is no folder {path.parent}. Create it first.", kind="no-such-folder")
    try:
        handle, name = tempfile.mkstemp(prefix=".skinoct-", suffix=".part", dir=path.parent)
    except OSError as error:
        raise OptionError(
            f"Nothing can be written to the folder {path.parent} ({error.strerror}). Choose another one.",
            kind="not-writable",
        ) from None
    part = Path(name)
    try:
        os.close(handle)
        with part.open("w+b") as file:
            yield file
        _use_default_permissions(part)
        _check_free(path, overwrite)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _check_free(path: Path, overwrite: bool) -> None:
    if path.is_dir():
        raise OptionError(f"{path} is a folder. Give the name of a file.", kind="file-exists")
    if (path.exists() or path.is_symlink()) and not overwrite:
        raise OptionError(
            f"{path} exists already and is left as it is. Choose another name or allow overwriting.",
            kind="file-exists",
        )


def _use_default_permissions(path: Path) -> None:
    """Give a temporary file, which only its owner may read, the permissions of an ordinary new file."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)
