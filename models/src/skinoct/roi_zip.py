"""The entries of a RoiSet.zip, unpacked with a limit on everything: the zip may come from anywhere."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator

from skinoct.errors import RoiError

MAX_ENTRIES = 200_000
MAX_ENTRY_BYTES = 1 << 26
MAX_TOTAL_BYTES = 1 << 30
MAX_RATIO = 400
"""Deflate packs ROIs 2 to 50 times smaller; a bomb is packed 1000 times."""

_RATIO_COUNTS_FROM = 1 << 20
_CHUNK = 1 << 16
_BYSTANDERS = (".ds_store", "thumbs.db", "desktop.ini")


def zip_entries(data: bytes, name: str) -> Iterator[tuple[str, bytes]]:
    """Yield name and bytes of each entry that may be an ROI.

    Folders and the files that operating systems add (``__MACOSX``, ``.DS_Store``) are left out.

    Raises
    ------
    RoiError
        Kinds ``damaged-zip``, ``encrypted-zip``, ``nested-zip``, ``zip-too-large``.
    """
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, EOFError):
        raise _damaged(name) from None
    entries = archive.infolist()
    if len(entries) > MAX_ENTRIES:
        raise RoiError(
            f"{name} has {len(entries)} entries, more than any set of ROIs. Give the RoiSet.zip alone.",
            kind="zip-too-large",
        )
    total = 0
    for entry in entries:
        if _is_bystander(entry):
            continue
        if entry.flag_bits & 1:
            raise RoiError(
                f"{name} is encrypted. Unpack it and zip the .roi files again without a password.",
                kind="encrypted-zip",
            )
        content = _unpack(archive, entry, name, MAX_TOTAL_BYTES - total)
        total += len(content)
        if content.startswith(b"PK\x03\x04"):
            raise RoiError(
                f"{name} holds another zip, {entry.filename}. Unpack it and give the RoiSet.zip inside.",
                kind="nested-zip",
            )
        yield entry.filename, content


def _is_bystander(entry: zipfile.ZipInfo) -> bool:
    parts = entry.filename.replace("\\", "/").split("/")
    return (
        entry.filename.endswith("/")  # is_dir() fails on an empty name
        or "__MACOSX" in parts
        or parts[-1].lower() in _BYSTANDERS
        or parts[-1].startswith("._")
    )


def _unpack(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str, left: int) -> bytes:
    """Inflate one entry and stop as soon as it grows beyond what ROIs need: sizes in a zip can lie."""
    limit = min(MAX_ENTRY_BYTES, left)
    content = bytearray()
    try:
        with archive.open(entry) as file:
            while chunk := file.read(_CHUNK):
                content += chunk
                packed = max(1, entry.compress_size)
                if len(content) > limit or len(content) > max(_RATIO_COUNTS_FROM, MAX_RATIO * packed):
                    raise RoiError(
                        f"{entry.filename} in {name} unpacks to more than any ROI needs, so it is not read. "
                        "Save the ROI set again from the ROI Manager.",
                        kind="zip-too-large",
                    )
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        OSError,
        ValueError,
        RuntimeError,
        NotImplementedError,
    ):
        raise _damaged(name) from None
    return bytes(content)


def _damaged(name: str) -> RoiError:
    return RoiError(
        f"{name} is a damaged or cut off zip. Copy it again or save the ROI set again from the ROI Manager.",
        kind="damaged-zip",
    )
