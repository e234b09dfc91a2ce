"""What the network says of the slices of a tomogram: some of them first, all of them later.

Of a short tomogram no slice is computed twice; of a long one a few are, which costs less than to keep them.

Memory does not grow with the number of slices: they are read a batch at a time, and no floating-point copy of the
stack ever exists.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from skinoct.engines import Engine
from skinoct.errors import Cancelled, OutOfMemoryError
from skinoct.grid import Grid, resize
from skinoct.intensity import IntensityConfig, IntensityScale, normalize
from skinoct.labels import NUM_CLASSES
from skinoct.segmentation import FloatArray
from skinoct.tomogram import Tomogram

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with slices done and slices in all."""

REMEMBERED_BYTES = 64 * 2**20
"""Answers for some slices that are kept until all are asked for."""
REMEMBERED_OF = 128
"""Slices of the longest tomogram of which something is kept."""
AT_ONCE = 2
"""Of the slices that lie apart: as many as keep the cores busy, for they are copied."""
_REFERENCE_PIXELS = 224 * 512
"""Of the images that ``Engine.preferred_batch`` speaks of."""


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
    ) -> None:
        self._engine, self._tomogram = engine, tomogram
        self._scale, self._intensity = scale, intensity
        self._context, self._batch = context, batch
        self._remembered: dict[tuple[Grid, int], FloatArray] = {}

    def some(self, grid: Grid, slices: Sequence[int]) -> list[FloatArray]:
        """Return the probabilities (1, 5, H, W) of each of some slices, and remember them where that pays.

        Raises
        ------
        OutOfMemoryError
            When not even one slice fits.
        """
        found = {z: self._remembered[grid, z] for z in slices if (grid, z) in self._remembered}
        missing = [z for z in slices if z not in found]
        batch = min(AT_ONCE, self._suited_batch(grid))
        for start in range(0, len(missing), batch):
            few = missing[start : start + batch]
            found |= zip(few, self._ask([self._images(z, z + 1, grid) for z in few]), strict=True)
        if self._tomogram.voxels.shape[0] <= REMEMBERED_OF:
            self._remember(grid, {z: found[z] for z in missing})
        return [found[z] for z in slices]

    def _remember(self, grid: Grid, answers: dict[int, FloatArray]) -> None:
        room = REMEMBERED_BYTES - sum(answer.nbytes for answer in self._remembered.values())
        for z, answer in answers.items():
            room -= answer.nbytes
            if room >= 0:
                self._remembered[grid, z] = answer

    def all(
        self, grid: Grid, progress: Progress | None = None, cancelled: Callable[[], bool] | None = None
    ) -> Iterator[FloatArray]:
        """Yield the probabilities (n, 5, H, W) of consecutive slices, from the first to the last.

        Parameters
        ----------
        grid : Grid
        progress : callable, optional
            Called after each batch with slices done and slices in all.
        cancelled : callable, optional
            Asked between batches.

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
        with ThreadPoolExecutor(1, thread_name_prefix="read") as reader:  # beside the network

            def read(first: int) -> Future[FloatArray]:
                return reader.submit(self._images, first, min(first + batch, total), grid)

            start, reading = 0, read(0)
            while start < total:
                if cancelled is not None and cancelled():
                    raise Cancelled(f"Stopped after {start} of {total} slices, as asked; nothing was written.")
                images = reading.result()
                stop = start + len(images)
                if stop < total:
                    reading = read(stop)
                try:
                    probabilities = self._complete(images, start, known)
                except OutOfMemoryError:
                    if batch == 1:
                        raise
                    batch //= 2
                    log.warning("Out of memory: going on with batches of %d slices.", batch)
                    reading = read(start)
                    continue
                yield probabilities
                start = stop
                if progress is not None:
                    progress(start, total)

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
        pixels = grid.network[0] * grid.network[1]
        return self._batch or min(64, max(1, self._engine.preferred_batch * _REFERENCE_PIXELS // pixels))

    def _images(self, start: int, stop: int, grid: Grid) -> FloatArray:
        """Return slices ``start`` to ``stop`` with their neighbors as channels, float32 (n, C, H, W)."""
        voxels, context = self._tomogram.voxels, self._context
        reach = context * grid.slice_step
        first, last = max(0, start - reach), min(voxels.shape[0], stop + reach)
        block = normalize(np.asarray(voxels[first:last]), self._scale, self._intensity)
        return stack_neighbors(resize(block, grid.network), start - first, stop - start, context, grid.slice_step)


def stack_neighbors(slices: FloatArray, start: int, count: int, context: int, step: int = 1) -> FloatArray:
    """Give each slice its neighbors as channels, without copying them.

    Parameters
    ----------
    slices : float32, shape (n, H, W)
        Consecutive slices; beyond its ends the outermost slice is repeated.
    start, count : int
        Which slices to return.
    context : int
        Neighbors on each side.
    step : int
        Slices from one neighbor to the next.

    Returns
    -------
    float32, shape (count, 2 * context + 1, H, W)
        A view, in which a slice that is a neighbor of several lies once.
    """
    reach = context * step
    before, after = max(0, reach - start), max(0, start + count + reach - len(slices))
    if before or after:
        slices = np.pad(slices, ((before, after), (0, 0), (0, 0)), mode="edge")
    first = start + before - reach
    needed = np.ascontiguousarray(slices[first : first + count + 2 * reach])
    # Writeable only because PyTorch warns of arrays that are not; nobody writes.
    windows = np.lib.stride_tricks.sliding_window_view(needed, 2 * reach + 1, axis=0, writeable=True)
    return np.moveaxis(windows[..., ::step], -1, 1)
