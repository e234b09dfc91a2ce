"""From a tomogram to its layers: normalize, rescale, run the network batch by batch, decode.

Memory does not grow with the number of slices, apart from the answer itself: slices are read a batch at a
time, and no floating-point copy of the stack ever exists.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from skinoct.checkpoint import Checkpoint
from skinoct.decode import (
    DecodeConfig,
    OrderedDecoder,
    decode_pixel,
    decode_slices,
    find_overhangs,
    for_slices_apart,
    for_wide_columns,
    typical_thickness,
    with_own_thickness,
)
from skinoct.engines import Engine, make_engine
from skinoct.errors import Cancelled, OptionError, OutOfMemoryError, TomogramError
from skinoct.intensity import IntensityConfig, IntensityScale, measure_intensity, normalize, sample_indices
from skinoct.labels import Label
from skinoct.line_search import suited_lanes
from skinoct.segmentation import Decode, FloatArray, LabelArray, ModelIdentity, Segmentation
from skinoct.tomogram import PixelSize, Tomogram
from skinoct.unet_config import UNetConfig

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with slices done and slices in all."""

PLAUSIBLE_UM = (0.1, 10.0)
"""Pixel sizes of optical skin tomograms; a file that says otherwise was calibrated for something else."""
RESCALE_TOLERANCE = 0.04
"""Smaller relative differences of pixel size are left to the network: resampling would blur more than it
cures."""
MAX_ENLARGEMENT = 2.0
"""Coarser images are not enlarged any further: it would only blur them, at the price of its square. The network meets
skin of every scale in training."""
SEARCHED_BEYOND = 1.5
"""Images whose pixels, enlarged, are still so many times as large as the network's are tried as they are as well."""
LARGEST_SEARCHED = 2**21
"""Pixels beyond which an image is not tried enlarged: it shows its layers well enough."""
SHALLOW_UM = 150.0
"""Fields of skin are deeper than this, or the DEJ would lie below them."""
SHALLOW_FAVOR = 1.3
"""Share by which the enlarged image may be less sure where the field would be too shallow."""
SEARCH_TEMPERATURE = 64.0
"""At which the confidence of a few slices is compared: high, so that it tells certain from very certain."""
LARGEST_STEP = 8
"""Slices from one neighbor to the next at most, whatever distance the file states."""
THICKNESS_SLICES = 5
"""Slices that tell the typical thickness of the epidermis."""
LABELS_IN_MEMORY = 256 * 2**20
"""Bytes of ``pixel`` labels above which they are kept in a temporary file."""
_REFERENCE_PIXELS = 224 * 512


@dataclass(frozen=True)
class Grid:
    """How an image maps to the network's own pixels."""

    image: tuple[int, int]
    """(Y, X) of the tomogram."""
    network: tuple[int, int]
    """(H, W) that the network sees."""
    network_um: float
    """Depth of one network pixel in micrometers."""
    slice_step: int = 1
    """Slices from one neighbor that the network sees to the next."""

    @property
    def same(self) -> bool:
        """Whether no resampling is needed."""
        return self.image == self.network


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
        self._intensity = IntensityConfig(**self.card.intensity)
        self._context = UNetConfig(**self.card.architecture.config).in_slices // 2

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
            Micrometers per pixel; the file's own calibration when None, else the checkpoint's.
        progress : callable, optional
            Called after each batch with slices done and slices in all.
        cancelled : callable, optional
            Asked between batches.

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
        scale = self._scale(tomogram)
        if DecodeConfig(**self.card.decode).enlarge_unknown:
            grid = self._surest(tomogram, grid, scale, size)
        given: dict[str, Any] = {
            "band_thickness_px": self.card.band_thickness_um / grid.network_um,
            "row_um": None if size is None else grid.network_um,
        }
        config = for_slices_apart(DecodeConfig(**{**self.card.decode, **given}), size.z if size is not None else None)
        config = for_wide_columns(config, grid.network[1] / grid.image[1])
        if decode == "ordered" and config.own_price:
            config = with_own_thickness(config, self._thickness(tomogram, grid, scale, config))
        blocks = self._probabilities(tomogram, grid, scale, progress, cancelled)
        if decode == "ordered":
            boundaries, confidence, overhang = _decode_ordered(blocks, grid, config, shape)
            labels = None
        else:
            boundaries = None
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

    def _probabilities(
        self,
        tomogram: Tomogram,
        grid: Grid,
        scale: IntensityScale,
        progress: Progress | None,
        cancelled: Callable[[], bool] | None,
    ) -> Iterator[FloatArray]:
        """Yield probabilities (n, 5, H, W) of consecutive slices, from the first to the last."""
        total = tomogram.voxels.shape[0]
        batch = self._batch or self._suited_batch(grid)
        with ThreadPoolExecutor(1, thread_name_prefix="read") as reader:  # beside the network

            def read(first: int) -> Future[FloatArray]:
                return reader.submit(self._images, tomogram, first, min(first + batch, total), scale, grid)

            start, reading = 0, read(0)
            while start < total:
                if cancelled is not None and cancelled():
                    raise Cancelled(f"Stopped after {start} of {total} slices, as asked; nothing was written.")
                images = reading.result()
                stop = start + len(images)
                if stop < total:
                    reading = read(stop)
                try:
                    probabilities = self.engine.probabilities(images)
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

    def _scale(self, tomogram: Tomogram) -> IntensityScale:
        voxels = tomogram.voxels
        indices = sample_indices(voxels.shape[0], self._intensity)
        return measure_intensity((voxels[z : z + 1] for z in indices), self._intensity)

    def _surest(self, tomogram: Tomogram, planned: Grid, scale: IntensityScale, size: PixelSize | None) -> Grid:
        """Choose between an image as it is and enlarged, by the confidence on a few slices.

        For images of unknown pixel size, and for those with pixels so large that they are not enlarged all the way to
        the network's. Skin that looks half as thick as usual is found better when it is enlarged; speckle as coarse as
        the image's pixels is not. The shallower an unknown field would be, the more likely its pixels are large.
        """
        (rows, columns), total = planned.image, tomogram.voxels.shape[0]
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
            surer = self._confidence(tomogram, larger, slices, scale) * favor
        except OutOfMemoryError:
            return plain
        return larger if surer > self._confidence(tomogram, plain, slices, scale) else plain

    def _confidence(self, tomogram: Tomogram, grid: Grid, slices: list[int], scale: IntensityScale) -> float:
        """Return the mean confidence of all columns of some slices."""
        # In rows of the network, as if nobody knew their size: where a row is thicker, a band of as many micrometers
        # would be fewer rows, and harder to be sure of.
        band_px = self.card.band_thickness_um / self.card.pixel_size_um
        config = DecodeConfig(**{**self.card.decode, "band_thickness_px": band_px, "temperature": SEARCH_TEMPERATURE})
        found = [
            decode_slices(self.engine.probabilities(self._images(tomogram, z, z + 1, scale, grid)), config)[1].mean()
            for z in slices
        ]
        return float(np.mean(found))

    def _thickness(self, tomogram: Tomogram, grid: Grid, scale: IntensityScale, config: DecodeConfig) -> float | None:
        """Return the typical thickness of the epidermis in rows of the network, by a few slices of all the stack."""
        total = tomogram.voxels.shape[0]
        lanes, count = suited_lanes(*grid.network), min(THICKNESS_SLICES, max(1, total // 4))
        slices = sorted({(2 * k + 1) * total // (2 * count) for k in range(count)})
        found = [
            decode_slices(self.engine.probabilities(self._images(tomogram, z, z + 1, scale, grid)), config, lanes)
            for z in slices
        ]
        boundaries, confidence = (np.concatenate([one[k] for one in found], axis=axis) for k, axis in ((0, 1), (1, 0)))
        return typical_thickness(boundaries, confidence, grid.network[0])

    def _suited_batch(self, grid: Grid) -> int:
        pixels = grid.network[0] * grid.network[1]
        return min(64, max(1, self.engine.preferred_batch * _REFERENCE_PIXELS // pixels))

    def _images(self, tomogram: Tomogram, start: int, stop: int, scale: IntensityScale, grid: Grid) -> FloatArray:
        """Return slices ``start`` to ``stop`` with their neighbors as channels, float32 (n, C, H, W)."""
        context, total = self._context, tomogram.voxels.shape[0]
        reach = context * grid.slice_step
        first, last = max(0, start - reach), min(total, stop + reach)
        block = normalize(np.asarray(tomogram.voxels[first:last]), scale, self._intensity)
        return stack_neighbors(resize(block, grid.network), start - first, stop - start, context, grid.slice_step)


def slice_step(z_um: float | None, step_um: float | None) -> int:
    """Return how many slices, ``z_um`` apart, come closest to the distance that a network was trained with.

    Neighbors that are nearer show the same speckle and the same cells, and tell little. 1 where either is not known.
    """
    if not z_um or not step_um:
        return 1
    return int(np.clip(round(step_um / z_um), 1, LARGEST_STEP))


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


def resize(images: FloatArray, size: tuple[int, int]) -> FloatArray:
    """Resample the last two axes of float32 (n, H, W) or (n, C, H, W), averaging where pixels get larger."""
    if images.shape[-2:] == size:
        return images
    import torch  # takes longer to load than all else, and most tomograms have the pixels of the network
    from torch.nn import functional

    tensor = torch.from_numpy(images)
    batch = tensor[:, None] if images.ndim == 3 else tensor
    out = functional.interpolate(batch, size=size, mode="bilinear", antialias=True, align_corners=False)
    result: FloatArray = (out[:, 0] if images.ndim == 3 else out).numpy()
    return result


def _pixel_size(given: float | PixelSize | None, tomogram: Tomogram) -> PixelSize | None:
    if given is None:
        return tomogram.pixel_size_um
    if isinstance(given, PixelSize):
        return given
    return PixelSize(given, given, tomogram.pixel_size_um.z if tomogram.pixel_size_um else None)


def plan_grid(image: tuple[int, int], size: PixelSize | None, model_um: float, name: str) -> Grid:
    """Decide at which resolution the network sees an image (Y, X).

    Raises
    ------
    TomogramError
        When the pixel size is not one of an optical tomogram.
    """
    if size is None:
        return Grid(image, image, model_um)
    for value in (size.y, size.x):
        if not PLAUSIBLE_UM[0] <= value <= PLAUSIBLE_UM[1]:
            raise TomogramError(
                f"{name} says that a pixel is {value:g} um wide, but optical skin tomograms have "
                f"{PLAUSIBLE_UM[0]:g} to {PLAUSIBLE_UM[1]:g} um; give the true pixel size "
                "(pixel_size_um=0.9, say).",
                kind="implausible-pixel-size",
            )
    rows, columns = (
        pixels if abs(ratio - 1) <= RESCALE_TOLERANCE else max(1, round(pixels * min(ratio, MAX_ENLARGEMENT)))
        for pixels, ratio in zip(image, (size.y / model_um, size.x / model_um), strict=True)
    )
    return Grid(image, (rows, columns), size.y * image[0] / rows)


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
    nearest = np.clip(_source_columns(grid.network[1], width).round().astype(int), 0, grid.network[1] - 1)
    return boundaries, stretch_columns(confidence, width), np.asarray(overhang[..., nearest])


def _source_columns(network: int, width: int) -> npt.NDArray[np.float64]:
    """Return where the centers of ``width`` columns lie among ``network`` columns."""
    return (np.arange(width) + 0.5) * network / width - 0.5


def stretch_columns(values: FloatArray, width: int) -> FloatArray:
    """Interpolate the last axis linearly to ``width`` columns; order along other axes is kept."""
    source = np.clip(_source_columns(values.shape[-1], width), 0, values.shape[-1] - 1)
    left = np.floor(source).astype(int)
    right = np.minimum(left + 1, values.shape[-1] - 1)
    weight = (source - left).astype(np.float32)
    return np.asarray(values[..., left] * (1 - weight) + values[..., right] * weight, np.float32)


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
