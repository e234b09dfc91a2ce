"""From a tomogram to its layers: choose how large the network sees it, ask the network, decode."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from skinoct.answers import Answers, Progress
from skinoct.checkpoint import Checkpoint
from skinoct.decode import (
    OrderedDecoder,
    decode_pixel,
    decode_slices,
    find_overhangs,
    for_slices_apart,
    for_wide_columns,
    typical_thickness,
    with_own_thickness,
)
from skinoct.decode_config import DecodeConfig
from skinoct.engines import LARGE_PIXELS, Engine, make_engine, network_config
from skinoct.errors import OptionError, OutOfMemoryError
from skinoct.grid import MAX_ENLARGEMENT, Grid, plan_grid, resize, slice_step, source_columns, stretch_columns
from skinoct.intensity import IntensityScale, measure_intensity, sample_indices
from skinoct.labels import Label
from skinoct.segmentation import Decode, FloatArray, LabelArray, ModelIdentity, Segmentation
from skinoct.tomogram import PixelSize, Tomogram

SEARCHED_BEYOND = 1.5
"""Images whose pixels, enlarged, are still so many times as large as the network's are tried as they are as well."""
LARGEST_SEARCHED = 2 * LARGE_PIXELS
"""Pixels beyond which an image is not tried enlarged: it shows its layers well enough."""
SHALLOW_UM = 150.0
"""Fields of skin are deeper than this, or the DEJ would lie below them."""
SHALLOW_FAVOR = 1.3
"""The confidence of the enlarged image counts so many times as much where the field would be too shallow."""
SEARCH_TEMPERATURE = 64.0
"""At which the confidence of a few slices is compared: high, so that it tells certain from very certain."""
THICKNESS_SLICES = 5
"""Slices that tell the typical thickness of the epidermis."""
LABELS_IN_MEMORY = 256 * 2**20
"""Bytes of ``pixel`` labels above which they are kept in a temporary file."""


class Predictor:
    """Segments tomograms with one checkpoint.

    Parameters
    ----------
    checkpoint : Checkpoint
        From ``load_checkpoint``.
    engine : Engine, optional
        From ``make_engine``; torch when None.
    batch : int, optional
        Slices per batch; the engine's own preference when None. The answer does not depend on it.
    threads : int, optional
        CPU threads; the library's own choice when None.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        engine: Engine | None = None,
        batch: int | None = None,
        threads: int | None = None,
    ) -> None:
        if batch is not None and batch < 1:
            raise OptionError(f"A batch of {batch} slices is not possible; give 1 or more.")
        self.card = checkpoint.card
        self.identity: ModelIdentity = checkpoint.identity
        self.engine = engine if engine is not None else make_engine(checkpoint, threads=threads)
        self._batch = batch
        self._context = network_config(checkpoint).in_slices // 2

    def segment(
        self,
        tomogram: Tomogram,
        *,
        decode: Decode = "ordered",
        pixel_size_um: float | PixelSize | None = None,
        progress: Progress | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Segmentation:
        """Segment one tomogram.

        Parameters
        ----------
        tomogram : Tomogram
            Voxels (Z, Y, X); read once, in order, after a sample for the intensity scale.
        decode : {"ordered", "pixel"}
            ``ordered`` gives smooth surfaces in anatomical order, ``pixel`` the best class of each pixel.
        pixel_size_um : float or PixelSize, optional
            Micrometers per pixel; the file's own calibration when None. Without either, the scale at which the network
            is surest is used, and lengths are not known.
        progress : callable, optional
            Called after each batch with slices done and slices in all.
        cancelled : callable, optional
            Asked before each batch.

        Raises
        ------
        TomogramError
            When the voxels cannot be used or the pixel size is not one of an optical tomogram.
        Cancelled
            When ``cancelled()`` is true.
        OutOfMemoryError
            When not even one slice fits.
        """
        if decode not in ("ordered", "pixel"):
            raise OptionError(f"There is no decoding {decode!r}; choose ordered or pixel.")
        size = _pixel_size(pixel_size_um, tomogram)
        shape = tomogram.voxels.shape
        grid = plan_grid((shape[1], shape[2]), size, self.card.pixel_size_um, tomogram.name)
        grid = replace(grid, slice_step=slice_step(size.z if size is not None else None, self.card.slice_step_um))
        answers = Answers(
            self.engine,
            tomogram,
            self._scale(tomogram),
            self.card.intensity,
            context=self._context,
            batch=self._batch,
            cancelled=cancelled,
        )
        if self.card.decode.enlarge_unknown:
            grid = self._surest(answers, grid, shape[0], size)
        boundaries, labels = None, None
        if decode == "ordered":
            config = self._suited_decoding(answers, grid, shape[0], size)
            boundaries, confidence, overhang = _decode_ordered(answers.all(grid, progress), grid, config, shape)
        else:
            blocks = answers.all(grid, progress)
            labels, confidence, overhang = _decode_pixels(blocks, grid, self.card.class_weights, shape)
        return Segmentation(
            shape=shape,
            decode=decode,
            boundaries=boundaries,
            pixel_labels=labels,
            confidence=confidence,
            overhang=overhang,
            pixel_size_um=size,
            band_thickness_um=self.card.band_thickness_um,
            model=self.identity,
        )

    def _scale(self, tomogram: Tomogram) -> IntensityScale:
        voxels = tomogram.voxels
        indices = sample_indices(voxels.shape[0], self.card.intensity)
        return measure_intensity((voxels[z : z + 1] for z in indices), self.card.intensity)

    def _suited_decoding(self, answers: Answers, grid: Grid, total: int, size: PixelSize | None) -> DecodeConfig:
        """Return how lines are drawn on this grid: with its band, and with the thickness that the tomogram shows."""
        given: dict[str, Any] = {
            "band_thickness_px": self.card.band_thickness_um / grid.network_um,
            "row_um": None if size is None else grid.network_um,
        }
        config = self.card.decode.model_copy(update=given)
        config = for_slices_apart(config, size.z if size is not None else None)
        config = for_wide_columns(config, grid.network[1] / grid.image[1])
        if not config.own_price:
            return config
        return with_own_thickness(config, _own_thickness(answers, grid, total, config))

    def _surest(self, answers: Answers, planned: Grid, total: int, size: PixelSize | None) -> Grid:
        """Choose between an image as it is and enlarged, by the confidence on a few slices.

        For images of unknown pixel size, and for those with pixels so large that they are not enlarged all the way to
        the network's. Skin that looks half as thick as usual is found better when it is enlarged; speckle as coarse as
        the image's pixels is not. The shallower an unknown field would be, the more likely its pixels are large.
        """
        rows, columns = planned.image
        if size is None:
            plain, larger = planned, replace(planned, network=(2 * rows, 2 * columns))
        elif max(size.y, size.x) > SEARCHED_BEYOND * MAX_ENLARGEMENT * self.card.pixel_size_um:
            plain, larger = replace(planned, network=planned.image, network_um=size.y), planned
        else:
            return planned
        if larger.network[0] * larger.network[1] > LARGEST_SEARCHED:
            return planned
        slices = sorted({total // 6, total // 2, total - 1 - total // 6})
        favor = SHALLOW_FAVOR if rows * plain.network_um < SHALLOW_UM else 1.0
        try:
            surer = self._confidence(answers.some(larger, slices)) * favor
        except OutOfMemoryError:
            return plain
        return larger if surer > self._confidence(answers.some(plain, slices)) else plain

    def _confidence(self, slices: list[FloatArray]) -> float:
        """Return the mean confidence of all columns of some slices (1, 5, H, W)."""
        # In rows of the network, as if nobody knew their size: where a row is thicker, a band of as many micrometers
        # would be fewer rows, and harder to be sure of.
        band_px = self.card.band_thickness_um / self.card.pixel_size_um
        config = self.card.decode.model_copy(
            update={"band_thickness_px": band_px, "row_um": None, "temperature": SEARCH_TEMPERATURE}
        )
        return float(decode_slices(slices, config, (len(slices), *slices[0].shape[2:]))[1].mean())


def _own_thickness(answers: Answers, grid: Grid, total: int, config: DecodeConfig) -> float | None:
    """Return the typical thickness of the epidermis in rows of the network, by a few slices of all the stack."""
    count = min(THICKNESS_SLICES, max(1, total // 4))
    slices = sorted({(2 * k + 1) * total // (2 * count) for k in range(count)})
    boundaries, confidence = decode_slices(answers.some(grid, slices), config, (len(slices), *grid.network))
    return typical_thickness(boundaries, confidence, grid.network[0])


def _pixel_size(given: float | PixelSize | None, tomogram: Tomogram) -> PixelSize | None:
    if given is None:
        return tomogram.pixel_size_um
    if isinstance(given, PixelSize):
        return given
    return PixelSize(given, given, tomogram.pixel_size_um.z if tomogram.pixel_size_um else None)


def _decode_ordered(
    blocks: Iterator[FloatArray], grid: Grid, config: DecodeConfig, shape: tuple[int, int, int]
) -> tuple[FloatArray, FloatArray, npt.NDArray[np.bool_]]:
    """Return boundaries (4, Z, X) in image pixels, confidence (Z, X) and overhang (Z, X).

    A block is decoded while the network works on the next: no more than two are ever in memory.
    """
    decoder = OrderedDecoder(config, (shape[0], *grid.network))
    with ThreadPoolExecutor(1, thread_name_prefix="decode") as worker:
        decoding: Future[None] | None = None
        for block in blocks:
            if decoding is not None:
                decoding.result()
            decoding = worker.submit(decoder.add, block)
        if decoding is not None:
            decoding.result()
    boundaries, confidence, overhang = decoder.finish()
    if grid.same:
        return boundaries, confidence, overhang
    width = grid.image[1]
    boundaries = stretch_columns(boundaries, width) * np.float32(grid.image[0] / grid.network[0])
    nearest = np.clip(source_columns(grid.network[1], width).round().astype(int), 0, grid.network[1] - 1)
    return boundaries, stretch_columns(confidence, width), np.asarray(overhang[..., nearest])


def _decode_pixels(
    blocks: Iterator[FloatArray], grid: Grid, class_weights: tuple[float, ...], shape: tuple[int, int, int]
) -> tuple[LabelArray, FloatArray, npt.NDArray[np.bool_]]:
    """Return labels (Z, Y, X), the best DEJ probability of each column (Z, X) and overhang (Z, X)."""
    labels = _label_stack(shape)
    confidence = np.empty((shape[0], shape[2]), np.float32)
    overhang = np.empty((shape[0], shape[2]), np.bool_)
    start = 0
    for native in blocks:
        block = resize(native, grid.image)
        stop = start + len(block)
        labels[start:stop] = decode_pixel(block, class_weights)
        confidence[start:stop] = block[:, Label.DEJ - 1].max(axis=1)
        overhang[start:stop] = find_overhangs(labels[start:stop] - np.uint8(1))
        start = stop
    return labels, confidence, overhang


def _label_stack(shape: tuple[int, int, int]) -> npt.NDArray[Any]:
    """Return an empty label stack, in a temporary file that vanishes with it when it is large."""
    if int(np.prod(shape)) <= LABELS_IN_MEMORY:
        return np.empty(shape, np.uint8)
    with tempfile.TemporaryFile(prefix="skinoct-labels-") as file:
        return np.memmap(file, np.uint8, "w+", shape=shape)
