"""Common batches: slices of several small tomograms go through the network together.

Each tomogram is segmented by a thread of its own, which asks a ``Member`` for probabilities as if it had the
engine for itself. Whoever comes first runs the network for all that wait with images of the same size, first come
first served.

An answer must not depend on who shared its batch, not even in the last bit, so sharing is earned: processors choose
other algorithms for other sizes of batch. ``least_batch`` finds out from which size on an engine gives an image the
same bits whatever is beside it, and smaller batches are filled up to that size. An engine that is never steady runs
every tomogram's batches alone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from skinoct.engines import Engine, FloatArray, suited_batch
from skinoct.errors import OutOfMemoryError
from skinoct.golden import golden_slice

_GATHER_SECONDS = 0.005
"""How long a batch that is not full waits for tomograms that are about to ask."""

Report = Callable[[int, int], None]
"""Called after each run of the network with numbers of tomograms and images in it."""


def least_batch(engine: Engine, channels: int, most: int) -> int | None:
    """Return from which size of batch on an image gets the same bits whatever is beside it; None for never.

    ``most`` itself is the answer of an engine that is steady only when all batches have the same size.
    """
    one = golden_slice(channels)
    images = np.concatenate([np.roll(one, 31 * n, axis=3) for n in range(most)])
    try:
        expected = engine.probabilities(images)
        for least in sorted({1, min(2, most), most}):
            sizes = {least, min(least + 1, most), most}
            turned = {size: engine.probabilities(np.ascontiguousarray(images[-size:][::-1]))[::-1] for size in sizes}
            if all(np.array_equal(turned[size], expected[-size:]) for size in sizes):
                return least
    except OutOfMemoryError:
        pass
    return None


@dataclass(eq=False)
class _Request:
    """Images that wait for the network, then their answer."""

    images: FloatArray
    answer: FloatArray | None = None
    error: Exception | None = None

    @property
    def done(self) -> bool:
        return self.answer is not None or self.error is not None


@dataclass(eq=False)
class Member:
    """One tomogram's view of a shared engine; an ``Engine`` itself."""

    shared: SharedEngine
    left: int
    """Images that it will still ask for."""

    @property
    def name(self) -> str:
        """As the engine is called."""
        return self.shared.engine.name

    @property
    def preferred_batch(self) -> int:
        """As the engine likes it."""
        return self.shared.engine.preferred_batch

    @property
    def calls_at_once(self) -> int:
        """As many as the engine likes."""
        return self.shared.engine.calls_at_once

    def probabilities(self, images: FloatArray) -> FloatArray:
        """Run the network, together with others that wait; see ``Engine.probabilities``."""
        return self.shared.run(self, images)


@dataclass(eq=False)
class SharedEngine:
    """An engine that several tomograms use at the same time.

    Parameters
    ----------
    engine : Engine
    channels : int
        Of its images.
    batch : int, optional
        Most images in a common batch; what suits the engine when None.
    network : ThreadPoolExecutor
        Whose threads, shared by all engines, are the only ones that run networks.
    report : callable
    """

    engine: Engine
    channels: int
    batch: int | None
    network: ThreadPoolExecutor
    report: Report
    least: int | None = field(init=False)
    """From ``least_batch``."""

    def __post_init__(self) -> None:
        self._most = max(2, self.engine.preferred_batch)
        self.least = self.network.submit(least_batch, self.engine, self.channels, self._most).result()
        self._changed = threading.Condition()
        self._running = 0
        """Threads that run the network or gather for it; at most as many as the engine takes calls."""
        self._waiting: list[tuple[Member, _Request]] = []
        self._members: set[Member] = set()

    @contextmanager
    def member(self, slices: int) -> Iterator[Member]:
        """Take part with a tomogram of so many slices."""
        member = Member(self, slices)
        with self._changed:
            self._members.add(member)
        try:
            yield member
        finally:
            with self._changed:
                self._members.discard(member)
                self._changed.notify_all()

    def run(self, member: Member, images: FloatArray) -> FloatArray:
        """Return probabilities of one member's images."""
        request = _Request(images)
        with self._changed:
            self._waiting.append((member, request))
            member.left -= len(images)
            self._changed.notify_all()
            while not request.done:
                if self._waiting and self._running < self.engine.calls_at_once:
                    self._run_some()  # for all who wait
                else:
                    self._changed.wait()
        if request.error is not None:
            raise request.error
        assert request.answer is not None
        return request.answer

    def _run_some(self) -> None:
        """Run the network for the first who wait; ``_changed`` is held, and let go meanwhile."""
        self._running += 1
        try:
            self._gather()
            requests = self._take()
            self._changed.release()
            try:
                self._answer(requests)
            finally:
                self._changed.acquire()
        finally:
            self._running -= 1
            self._changed.notify_all()

    def _answer(self, requests: list[_Request]) -> None:
        if len(requests) > 1:
            try:
                answers = self._compute(np.concatenate([r.images for r in requests]), len(requests))
            except Exception:  # one of them may be at fault: each by itself then
                pass
            else:
                ends = np.cumsum([len(r.images) for r in requests])[:-1]
                for request, answer in zip(requests, np.split(answers, ends), strict=True):
                    request.answer = np.ascontiguousarray(answer)
                return
        for request in requests:
            try:
                request.answer = self._compute(request.images, 1)
            except Exception as error:
                request.error = error

    def _gather(self) -> None:
        """Wait a moment for members that will ask for more; nobody waits for one who is alone."""
        if self.least is None:
            return
        end = time.monotonic() + _GATHER_SECONDS
        while self._waiting and (left := end - time.monotonic()) > 0:
            images = self._waiting[0][1].images
            here = {member for member, _ in self._waiting}
            full = sum(len(r.images) for _, r in self._waiting) >= self._limit(images)
            if full or not any(member.left > 0 for member in self._members - here):
                return
            self._changed.wait(left)

    def _take(self) -> list[_Request]:
        """Take the first request and those after it that fit into its batch; none where another took them all."""
        if not self._waiting:
            return []
        first, taken, rest = self._waiting[0][1], list[_Request](), list[tuple[Member, _Request]]()
        room = self._limit(first.images)
        for member, request in self._waiting:
            fits = request.images.shape[1:] == first.images.shape[1:] and len(request.images) <= room
            if request is first or (fits and self.least is not None):
                taken.append(request)
                room -= len(request.images)
            else:
                rest.append((member, request))
        self._waiting = rest
        return taken

    def _limit(self, images: FloatArray) -> int:
        if self.batch is not None:
            return self.batch
        if self.least == self._most:
            return self._most
        return suited_batch(self._most, *images.shape[2:])

    def _compute(self, images: FloatArray, tomograms: int) -> FloatArray:
        """Run the network on the thread for it, in batches that are steady."""
        step = self._most if self.least == self._most else len(images)
        parts = [images[start : start + step] for start in range(0, len(images), step)]
        answers = [self.network.submit(self._filled, part).result() for part in parts]
        self.report(tomograms, len(images))
        return answers[0] if len(answers) == 1 else np.concatenate(answers)

    def _filled(self, images: FloatArray) -> FloatArray:
        missing = (self.least or 0) - len(images)
        if missing <= 0:
            return self.engine.probabilities(images)
        padding = np.repeat(images[-1:], missing, axis=0)
        try:
            return self.engine.probabilities(np.concatenate([images, padding]))[: len(images)]
        except OutOfMemoryError:  # an answer that differs in its last bits is better than none
            return self.engine.probabilities(images)
