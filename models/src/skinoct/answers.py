"""What the network says of the slices of a tomogram: some of them first, all of them later.

Of a short tomogram no slice is computed twice; of a long one a few are, which costs less than to keep them.

Memory does not grow with the number of slices: they are read a batch at a time, and no floating-point copy of the
stack ever exists.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

import numpy as np

from skinoct.engines import LARGE_PIXELS, Engine, suited_batch
from skinoct.errors import Cancelled, OutOfMemoryError
from skinoct.grid import Grid
from skinoct.intensity import IntensityConfig, IntensityScale
from skinoct.labels import NUM_CLASSES
from skinoct.neighbors import NeighborReader
from skinoct.segmentation import FloatArray
from skinoct.tomogram import Tomogram

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with slices done and slices in all."""

REMEMBERED_BYTES = 128 * 2**20
"""Answers for some slices that are kept until all are asked for: those of six images of 512 x 2048."""
LONGEST_REMEMBERED = 128
"""Slices of the longest tomogram of which something is kept."""
AT_ONCE = 2
"""Slices of ``some`` that go to the engine in one call; of large images one."""


class Answers:
    """Runs the network over one tomogram.

    Parameters
    ----------
    engine : Engine
    tomogram : Tomogram
    scale : IntensityScale
        Of its gray values.
    intensity : IntensityConfig
    context : int
        Neighbors that the network sees on each side of a slice.
    batch : int, optional
        Slices per batch; the engine's own preference when None. No answer depends on it.
    cancelled : callable, optional
        Asked before each batch.
    """

    def __init__(
        self,
        engine: Engine,
        tomogram: Tomogram,
        scale: IntensityScale,
        intensity: IntensityConfig,
        *,
        context: int,
        batch: int | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        self._engine, self._tomogram = engine, tomogram
        self._cancelled = cancelled or (lambda: False)
        self._scale, self._intensity = scale, intensity
        self._context, self._batch = context, batch
        self._remembered: dict[tuple[Grid, int], FloatArray] = {}

    def some(self, grid: Grid, slices: Sequence[int]) -> list[FloatArray]:
        """Return the probabilities (1, 5, H, W) of each of some slices, and remember them where that pays.

        Raises
        ------
        Cancelled
            When ``cancelled()`` is true.
        OutOfMemoryError
            When not even one slice fits.
        """
        found = {z: self._remembered[grid, z] for z in slices if (grid, z) in self._remembered}
        missing = [z for z in slices if z not in found]
        small = grid.network[0] * grid.network[1] <= LARGE_PIXELS
        batch = min(AT_ONCE, self._batch or AT_ONCE) if small else 1
        reader = self._reader(grid)
        for start in range(0, len(missing), batch):
            self._go_on(0)
            few = missing[start : start + batch]
            found |= zip(few, self._ask([reader.read(z, z + 1) for z in few]), strict=True)
        if self._tomogram.voxels.shape[0] <= LONGEST_REMEMBERED:
            self._remember(grid, {z: found[z] for z in missing})
        return [found[z] for z in slices]

    def _remember(self, grid: Grid, answers: dict[int, FloatArray]) -> None:
        room = REMEMBERED_BYTES - sum(answer.nbytes for answer in self._remembered.values())
        for z, answer in answers.items():
            room -= answer.nbytes
            if room >= 0:
                self._remembered[grid, z] = answer

    def _go_on(self, done: int) -> None:
        if self._cancelled():
            total = self._tomogram.voxels.shape[0]
            raise Cancelled(f"Stopped after {done} of {total} slices, as asked; nothing was written.")

    def all(self, grid: Grid, progress: Progress | None = None) -> Iterator[FloatArray]:
        """Yield the probabilities (n, 5, H, W) of consecutive slices, from the first to the last.

        Parameters
        ----------
        grid : Grid
        progress : callable, optional
            Called after each batch with slices done and slices in all.

        Raises
        ------
        Cancelled
            When ``cancelled()`` is true.
        OutOfMemoryError
            When not even one slice fits.
        """
        total = self._tomogram.voxels.shape[0]
        batch = self._suited_batch(grid)
        known = {z: answer for (size, z), answer in self._remembered.items() if size == grid}
        self._remembered.clear()
        done = 0

        def ask(images: FloatArray, start: int) -> FloatArray:
            return self._complete(images, start, known)

        with _Pipeline(self._reader(grid).read, ask, self._engine.calls_at_once) as pipeline:
            while done < total:
                self._go_on(done)
                try:
                    probabilities = pipeline.answer(total, batch)
                except OutOfMemoryError:
                    if batch == 1 and pipeline.alone:
                        raise
                    batch = max(1, batch // 2)
                    log.warning("Out of memory: going on with batches of %d slices.", batch)
                    pipeline.go_back(done)
                    continue
                done += len(probabilities)
                yield probabilities
                del probabilities  # its memory is needed as soon as whoever asked has done with it
                if progress is not None:
                    progress(done, total)

    def _ask(self, images: list[FloatArray]) -> list[FloatArray]:
        """Ask for some images (1, C, H, W) at once, or one by one where that needs too much memory."""
        if len(images) > 1:
            try:
                answers = self._engine.probabilities(np.concatenate(images))
                return [answers[index : index + 1] for index in range(len(images))]
            except OutOfMemoryError:
                log.warning("Out of memory: going on with single slices.")
        return [self._engine.probabilities(image) for image in images]

    def _complete(self, images: FloatArray, start: int, known: dict[int, FloatArray]) -> FloatArray:
        """Return the answers for the consecutive ``images`` from slice ``start`` on; only new ones are computed."""
        new = np.array([start + index not in known for index in range(len(images))])
        if new.all():
            return self._engine.probabilities(images)
        answers = np.empty((len(images), NUM_CLASSES, *images.shape[2:]), np.float32)
        if new.any():
            answers[new] = self._engine.probabilities(images[new])
        for index in np.flatnonzero(~new):
            answers[index] = known.pop(start + int(index))  # its memory is free from here on
        return answers

    def _suited_batch(self, grid: Grid) -> int:
        return self._batch or suited_batch(self._engine.preferred_batch, *grid.network)

    def _reader(self, grid: Grid) -> NeighborReader:
        return NeighborReader(self._tomogram.voxels, self._scale, self._intensity, grid, self._context)


class _Pipeline:
    """Reads slices while the network works, and has its next call ready when it has answered one.

    Parameters
    ----------
    read : callable
        From the first slice and the one after the last to their images.
    ask : callable
        From images and their first slice to probabilities.
    calls : int
        Of ``ask`` at the same time.
    """

    def __init__(
        self, read: Callable[[int, int], FloatArray], ask: Callable[[FloatArray, int], FloatArray], calls: int
    ) -> None:
        self._read, self._ask = read, ask
        self._reading, self._asking = ThreadPoolExecutor(1, "read"), ThreadPoolExecutor(calls, "ask")
        self._most = max(calls, 2)
        self._asked: deque[Future[FloatArray]] = deque()
        self._ahead = 0

    def __enter__(self) -> _Pipeline:
        return self

    def __exit__(self, *_: object) -> None:
        self._asking.shutdown(cancel_futures=True)  # waits for the calls under way
        self._reading.shutdown(cancel_futures=True)

    def answer(self, total: int, batch: int) -> FloatArray:
        """Return the answer for the next slices, at most ``batch`` of the ``total``; those after them are asked for."""
        while self._ahead < total and len(self._asked) < self._most:
            start, stop = self._ahead, min(self._ahead + batch, total)
            images = self._reading.submit(self._read, start, stop)
            self._asked.append(self._asking.submit(self._ask_for, images, start))
            self._ahead = stop
        return self._asked.popleft().result()

    def _ask_for(self, images: Future[FloatArray], start: int) -> FloatArray:
        return self._ask(images.result(), start)

    @property
    def alone(self) -> bool:
        """Whether calls have all memory for themselves."""
        return self._most == 1

    def go_back(self, start: int) -> None:
        """Forget what was asked; go on with slice ``start``, one call after the other."""
        self._most = 1
        wait(self._asked)
        self._asked.clear()
        self._ahead = start
