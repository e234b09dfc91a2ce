"""Where bytes come from: a path, bytes in memory or an open binary file, read piecewise and by any thread.

A path is opened anew for each use and never memory mapped: nothing stays open, memory stays flat, and a file
that shrinks while it is read gives an error and not a bus error.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from skinoct.errors import TomogramError
from skinoct.tomogram_types import UPLOADED


class Source:
    """Bytes of one tomogram file."""

    def __init__(self, source: str | Path | bytes | BinaryIO, name: str | None = None) -> None:
        self._lock = threading.Lock()
        self._source = _seekable(source)
        if isinstance(self._source, Path):
            self.name = name or self._source.name
            self.size = _file_size(self._source, self.name)
        elif isinstance(self._source, bytes):
            self.name = name or UPLOADED
            self.size = len(self._source)
        else:
            self.name = name or UPLOADED
            self.size = self._source.seek(0, io.SEEK_END)

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Give a seekable binary file; an open file of the caller's is locked meanwhile and left open."""
        if isinstance(self._source, Path):
            try:
                handle = self._source.open("rb")
            except OSError as error:
                raise _unreadable(self.name, error) from None
            with handle:
                yield handle
        elif isinstance(self._source, bytes):
            yield io.BytesIO(self._source)
        else:
            with self._lock:
                self._source.seek(0)
                yield self._source

    def read(self, offset: int, count: int) -> bytes:
        """Return ``count`` bytes from ``offset``, fewer at the end of the file."""
        with self.open() as handle:
            handle.seek(offset)
            return handle.read(count)


def _seekable(source: str | Path | bytes | BinaryIO) -> Path | bytes | BinaryIO:
    """Return what pieces can be read from at random; a pipe is read to its end."""
    if isinstance(source, str):
        return Path(source)
    if isinstance(source, bytearray | memoryview):
        return bytes(source)
    if isinstance(source, Path | bytes) or source.seekable():
        return source
    return source.read()


def _file_size(path: Path, name: str) -> int:
    if path.is_dir():
        raise TomogramError(f"{name} is a folder. Give the path of one TIFF stack or .npy file.", kind="not-a-tomogram")
    try:
        return path.stat().st_size
    except FileNotFoundError:
        raise TomogramError(f"There is no file {path}. Check the path.", kind="no-such-file") from None
    except OSError as error:
        raise _unreadable(name, error) from None


def _unreadable(name: str, error: OSError) -> TomogramError:
    return TomogramError(f"{name} cannot be opened ({error.strerror}). Check its permissions.", kind="unreadable-file")
