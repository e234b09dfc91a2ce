"""Small helpers of the queue: fair order, and loops that go on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TypeVar

log = logging.getLogger(__name__)
T = TypeVar("T")


def in_turn(waiting: Iterable[T], owner_of: Callable[[T], str], served: Mapping[str, int]) -> list[T]:
    """Sort so that owners take turns, each first come first served.

    Parameters
    ----------
    waiting : iterable
        In order of arrival.
    owner_of : callable
        Tells whose an item is.
    served : mapping of str to int
        The turn at which an owner was served last; who waited longest goes first.
    """
    rank: dict[str, int] = {}
    keyed = []
    for item in waiting:
        owner = owner_of(item)
        rank[owner] = rank.get(owner, 0) + 1
        keyed.append(((rank[owner], served.get(owner, 0)), item))
    keyed.sort(key=lambda pair: pair[0])
    return [item for _, item in keyed]


async def forever(loop: Callable[[], Awaitable[None]]) -> None:
    """Run a loop that must not end: an error in it is logged, and it goes on."""
    while True:
        try:
            await loop()
        except Exception:
            log.exception("%s", loop.__name__)
            await asyncio.sleep(1)
