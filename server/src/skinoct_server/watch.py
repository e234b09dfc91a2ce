"""Watch the folder of checkpoints by looking at it: works on network shares, where notifications do not."""

from __future__ import annotations

import asyncio
from pathlib import Path

from skinoct_server.engine_client import EngineClient

_SECONDS = 1.0
_CARD = "card.json"

Picture = frozenset[tuple[str, int, int]]


def look(folder: Path) -> Picture:
    """Return name, inode and time of every card, which change when a checkpoint appears by rename.

    Raises
    ------
    OSError
        When the folder itself is away.
    """
    folder.stat()  # glob finds nothing in a folder that is not there, as if every model had been removed
    found = set()
    for card in folder.glob(f"[!.]*/{_CARD}"):
        try:
            stat = card.stat()
        except OSError:  # went away just now
            continue
        found.add((card.parent.name, stat.st_ino, stat.st_mtime_ns))
    return frozenset(found)


async def watch_models(engine: EngineClient, folder: Path | None) -> None:
    """Have the engine process verify checkpoints whenever the folder changes."""
    if folder is None:
        return
    await engine.ready.wait()
    seen: Picture | None = None  # the engine looked before it was ready: what appeared meanwhile is found now
    while True:
        await asyncio.sleep(_SECONDS)
        try:
            now = await asyncio.to_thread(look, folder)
        except OSError:  # a network share that is away for a moment
            continue
        if now != seen:
            seen = now
            await engine.scan()
