"""The chain of directories in a TIFF, walked to its end before anything of it is believed.

tifffile reads the directories themselves; it only logs where a chain breaks off, and a tomogram that lost
slices unnoticed would be a wrong answer that looks right.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

from skinoct.errors import TomogramError

MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MOST_TAGS = 4096
MOST_SLICES = 1 << 16


def directory_offsets(file: BinaryIO, size: int, name: str) -> list[int]:
    """Return the file offsets of all image directories.

    Raises
    ------
    TomogramError
        Kinds ``truncated``, ``damaged-tiff`` and ``empty``.
    """
    file.seek(0)
    header = file.read(16)
    order = "<" if header[:2] == b"II" else ">"
    big = header[2:4] in (b"+\0", b"\0+")
    number, link = (order + "Q", order + "Q") if big else (order + "H", order + "I")
    link_at = 8 if big else 4
    offset = _unpack(link, header[link_at : link_at + struct.calcsize(link)], name)
    found: list[int] = []
    seen: set[int] = set()
    while offset:
        if offset in seen:
            raise _damaged(name, len(found))
        if offset >= size:
            raise truncated(name, len(found))
        if len(found) == MOST_SLICES:
            raise TomogramError(
                f"{name} has more than {MOST_SLICES} slices. Save it in several files.", kind="dimensions"
            )
        seen.add(offset)
        found.append(offset)
        file.seek(offset)
        tags = _unpack(number, file.read(struct.calcsize(number)), name, len(found) - 1)
        if not 0 < tags <= _MOST_TAGS:
            raise _damaged(name, len(found) - 1)
        directory = file.read(tags * (20 if big else 12) + struct.calcsize(link))
        offset = _unpack(link, directory[tags * (20 if big else 12) :], name, len(found) - 1)
    if not found:
        raise TomogramError(f"{name} is a TIFF without images. Save the stack again.", kind="empty")
    return found


def _unpack(layout: str, data: bytes, name: str, page: int = 0) -> int:
    if len(data) < struct.calcsize(layout):
        raise truncated(name, page)
    return int(struct.unpack(layout, data)[0])


def truncated(name: str, page: int) -> TomogramError:
    """Return the error of a file that ends within (0-based) ``page``."""
    return TomogramError(
        f"{name} is cut off: it ends within slice {page + 1}. Copy or save it again.", kind="truncated"
    )


def _damaged(name: str, page: int) -> TomogramError:
    return TomogramError(
        f"{name} is damaged at slice {page + 1}: its directory of images makes no sense. Copy or save it again.",
        kind="damaged-tiff",
    )
