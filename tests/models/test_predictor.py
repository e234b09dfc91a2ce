"""The predictor's answer depends on tomogram and checkpoint, not on how it is computed."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from skinoct.answers import Answers
from skinoct.checkpoint import Architecture, Card, Checkpoint
from skinoct.decode_config import DecodeConfig
from skinoct.engines import Engine, FloatArray, make_engine
from skinoct.engines.fold import between
from skinoct.errors import Cancelled, OptionError, OutOfMemoryError, TomogramError
from skinoct.grid import plan_grid, resize, slice_step, stretch_columns
from skinoct.intensity import IntensityConfig, IntensityScale, measure_intensity, normalize
from skinoct.neighbors import NeighborReader, stack_neighbors
from skinoct.predictor import Predictor
from skinoct.tomogram import PixelSize, Tomogram
from skinoct.unet import UNet, UNetConfig

CONFIG = UNetConfig(in_slices=3, stem=(2, 2), widths=(4, 6))


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    torch.manual_seed(1)
    card = Card(
        name="tiny",
        created="2026-01-01T00:00:00+00:00",
        architecture=Architecture(config=CONFIG.model_dump()),
        pixel_size_um=0.9,
        band_thickness_um=5.0,
        weights_sha256="0" * 64,
    )
    return Checkpoint(card, UNet(CONFIG).state_dict())


@pytest.fixture(scope="module")
def engine(checkpoint: Checkpoint) -> Engine:
    return make_engine(checkpoint, "torch", threads=1)


def tomogram(shape: tuple[int, int, int] = (5, 40, 50), dtype: type = np.uint8, **kwargs: Any) -> Tomogram:
    voxels = np.random.default_rng(0).integers(0, 255, shape).astype(dtype)
    return Tomogram(voxels, "test", **kwargs)


class BrightnessEngine:
    """Knows the truth: dark is glycerol, bright is epidermis, middle is dermis; probabilities follow."""

    name = "brightness"
    preferred_batch = 4
    calls_at_once = 1

    def __init__(self, limit: int = 10_000) -> None:
        self.limit = limit
        self.batches: list[int] = []

    def probabilities(self, images: FloatArray) -> FloatArray:
        self.batches.append(len(images))
        if len(images) > self.limit:
            raise OutOfMemoryError("too many")
        middle = images[:, images.shape[1] // 2]
        targets = np.array([2.0, 0.0, 1.0, 0.75, 0.5], np.float32)
        scores = np.exp(-((middle[:, None] - targets[None, :, None, None]) ** 2) * 60)
        return np.asarray(scores / scores.sum(axis=1, keepdims=True), np.float32)


def layered(shape: tuple[int, int, int], surface: float, dej: float, band: float) -> npt.NDArray[np.float32]:
    rows = (np.arange(shape[1]) + 0.5)[None, :, None]
    values = np.where(
        rows < surface,
        0.0,
        np.where(rows < dej - band / 2, 1.0, np.where(rows < dej + band / 2, 0.5625, 0.25)),
    )
    return np.broadcast_to(values, shape).astype(np.float32)


class FarsightedEngine(BrightnessEngine):
    """Sees layers only in images of some height; keeps the heights that it was asked about."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.rows = rows
        self.asked: list[int] = []

    def probabilities(self, images: FloatArray) -> FloatArray:
        self.asked.append(images.shape[2])
        sure = super().probabilities(images)
        return sure if images.shape[2] == self.rows else np.full_like(sure, 0.2)


class TestUnknownPixelSize:
    def segment(self, checkpoint: Checkpoint, sees: int, rows: int = 200, **given: Any) -> tuple[Any, list[int]]:
        card = checkpoint.card.model_copy(update={"decode": DecodeConfig(enlarge_unknown=True)})
        engine = FarsightedEngine(sees)
        voxels = layered((7, rows, 40), surface=0.2 * rows, dej=0.5 * rows, band=5.6 * rows / sees)
        predictor = Predictor(Checkpoint(card, checkpoint.weights), engine=engine, batch=1)
        return predictor.segment(Tomogram(voxels, "t"), **given), engine.asked

    @pytest.mark.parametrize("sees", [200, 400])
    def test_the_image_is_shown_at_the_size_at_which_its_layers_are_seen(
        self, checkpoint: Checkpoint, sees: int
    ) -> None:
        answer, asked = self.segment(checkpoint, sees)
        assert asked[6:] == [sees] * 4  # three slices were tried in both sizes, and are not computed again
        middle = answer.boundaries[2:].mean(axis=0)
        np.testing.assert_allclose(middle, 100, atol=1.5)
        assert answer.pixel_size_um is None

    def test_a_known_size_is_believed(self, checkpoint: Checkpoint) -> None:
        assert set(self.segment(checkpoint, 400, pixel_size_um=0.9)[1]) == {200}

    @pytest.mark.parametrize("sees", [200, 400])
    def test_very_coarse_images_are_tried_as_they_are(self, checkpoint: Checkpoint, sees: int) -> None:
        answer, asked = self.segment(checkpoint, sees, pixel_size_um=4.0)
        assert asked[6:] == [sees] * 4  # three slices were tried in both sizes, and are not computed again
        # The painted band is 5.6 rows thick, that of 5 um only 1.25: it may lie anywhere in it.
        np.testing.assert_allclose(answer.boundaries[2:].mean(axis=0), 100, atol=2.8)

    def test_coarse_images_are_enlarged(self, checkpoint: Checkpoint) -> None:
        assert set(self.segment(checkpoint, 200, pixel_size_um=2.4)[1]) == {400}

    def test_large_images_are_shown_as_they_are(self, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("skinoct.predictor.LARGEST_SEARCHED", 400 * 80 - 1)
        assert set(self.segment(checkpoint, 400)[1]) == {200}


@pytest.mark.parametrize("decode", ["ordered", "pixel"])
@pytest.mark.parametrize("um", [None, 0.9, 1.8, PixelSize(0.6, 0.45)])
def test_the_answer_does_not_depend_on_the_batch(checkpoint: Checkpoint, decode: Any, um: Any, engine: Engine) -> None:
    answers = [
        Predictor(checkpoint, engine=engine, batch=batch).segment(tomogram(), decode=decode, pixel_size_um=um)
        for batch in (1, 2, 5)
    ]
    for answer in answers:
        assert answer.shape == (5, 40, 50)
        assert answer.labels().shape == answer.shape
        assert answer.confidence.shape == answer.overhang.shape == (5, 50)
        np.testing.assert_array_equal(answer.labels(), answers[0].labels())
        np.testing.assert_allclose(answer.confidence, answers[0].confidence, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 10, 10), (2, 7, 90), (3, 65, 3)])
def test_any_size_works(checkpoint: Checkpoint, shape: tuple[int, int, int], engine: Engine) -> None:
    for decode in ("ordered", "pixel"):
        labels = Predictor(checkpoint, engine=engine).segment(tomogram(shape), decode=decode).labels()
        assert labels.shape == shape
        assert labels.min() >= 1
        assert labels.max() <= 5


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_gain_and_offset_do_not_matter(checkpoint: Checkpoint, dtype: type, engine: Engine) -> None:
    base = tomogram((2, 32, 32)).voxels[0:2].astype(np.float32)
    scaled = Tomogram((base * 100 + 500).astype(dtype) if dtype != np.uint8 else base.astype(dtype), "t")
    one = Predictor(checkpoint, engine=engine).segment(Tomogram(base, "t")).labels()
    np.testing.assert_array_equal(one, Predictor(checkpoint, engine=engine).segment(scaled).labels())


@pytest.mark.parametrize("um", [0.45, 0.9, 1.8])
def test_lines_come_back_in_the_pixels_of_the_image(checkpoint: Checkpoint, um: float) -> None:
    """The same skin at any pixel size gives the same depths in micrometers."""
    rows = round(90 / um)
    shape = (3, rows, 40)
    voxels = layered(shape, surface=20 / um, dej=60 / um, band=5 / um)
    answer = Predictor(checkpoint, engine=BrightnessEngine()).segment(Tomogram(voxels, "t"), pixel_size_um=um)
    assert answer.boundaries is not None
    depths = answer.boundaries.mean(axis=(1, 2)) * um
    np.testing.assert_allclose(depths, [0, 20, 57.5, 62.5], atol=max(0.9, um))
    np.testing.assert_allclose((depths[3] - depths[2]), 5.0, atol=0.1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, ">u2"])
def test_tables_normalize_to_the_bit_as_arithmetic_does(dtype: Any) -> None:
    config, scale = IntensityConfig(power=0.7), IntensityScale(13.0, 201.5)
    block = np.arange(2**8, dtype=np.uint16).reshape(1, 16, 16)
    expected = normalize(block.astype(np.int32), scale, config)
    np.testing.assert_array_equal(normalize(block.astype(dtype), scale, config), expected)


def test_progress_counts_slices_and_ends_at_the_last(checkpoint: Checkpoint, engine: Engine) -> None:
    seen: list[tuple[int, int]] = []
    Predictor(checkpoint, engine=engine, batch=2).segment(
        tomogram(), progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(2, 5), (4, 5), (5, 5)]


def test_it_stops_between_batches_when_asked(checkpoint: Checkpoint) -> None:
    engine, done = BrightnessEngine(), list[int]()
    with pytest.raises(Cancelled, match="after 2 of 5 slices"):
        Predictor(checkpoint, engine=engine, batch=1).segment(
            tomogram(), progress=lambda count, _: done.append(count), cancelled=lambda: len(done) == 2
        )
    assert done == [1, 2]
    assert len(engine.batches) <= 4  # those under way are answered, no more are begun


@pytest.mark.parametrize("calls", [1, 2, 3])
def test_calls_side_by_side_change_no_answer(checkpoint: Checkpoint, calls: int) -> None:
    """Whichever call is answered first, slices stay in their order."""

    class Hasty(BrightnessEngine):
        calls_at_once = calls

        def probabilities(self, images: FloatArray) -> FloatArray:
            time.sleep(0.002 * (len(self.batches) % 3))
            return super().probabilities(images)

    voxels = tomogram((17, 40, 50))
    expected = Predictor(checkpoint, engine=BrightnessEngine(), batch=17).segment(voxels)
    found = Predictor(checkpoint, engine=Hasty(), batch=2).segment(voxels)
    np.testing.assert_array_equal(found.labels(), expected.labels())
    np.testing.assert_array_equal(found.confidence, expected.confidence)


def test_memory_for_one_call_is_enough(checkpoint: Checkpoint) -> None:
    """Where two calls at a time need too much memory, one at a time does what they would have done."""

    class Narrow(BrightnessEngine):
        calls_at_once = 2

        def __init__(self) -> None:
            super().__init__()
            self.room = threading.Semaphore(1)

        def probabilities(self, images: FloatArray) -> FloatArray:
            if not self.room.acquire(blocking=False):
                raise OutOfMemoryError("another call has it")
            try:
                time.sleep(0.01)
                return super().probabilities(images)
            finally:
                self.room.release()

    expected = Predictor(checkpoint, engine=BrightnessEngine()).segment(tomogram())
    found = Predictor(checkpoint, engine=Narrow(), batch=1).segment(tomogram())
    np.testing.assert_array_equal(found.labels(), expected.labels())


def test_memory_shortage_halves_the_batch(checkpoint: Checkpoint, caplog: pytest.LogCaptureFixture) -> None:
    tight, wide = BrightnessEngine(limit=2), BrightnessEngine()
    one = Predictor(checkpoint, engine=tight, batch=5).segment(tomogram())
    other = Predictor(checkpoint, engine=wide, batch=5).segment(tomogram())
    np.testing.assert_array_equal(one.labels(), other.labels())
    assert tight.batches == [5, 2, 2, 1]
    assert "batches of 2" in caplog.text


def test_memory_shortage_at_one_slice_is_said(checkpoint: Checkpoint) -> None:
    with pytest.raises(OutOfMemoryError):
        Predictor(checkpoint, engine=BrightnessEngine(limit=0)).segment(tomogram())


class CountingVoxels:
    """Notes how many slices are asked for at once."""

    shape = (200, 16, 16)
    dtype = np.dtype(np.uint8)

    def __init__(self) -> None:
        self.largest = 0

    def __getitem__(self, slices: slice) -> npt.NDArray[Any]:
        start, stop, _ = slices.indices(self.shape[0])
        self.largest = max(self.largest, stop - start)
        return np.random.default_rng(start).integers(0, 255, (stop - start, 16, 16)).astype(np.uint8)


def test_slices_are_never_read_all_at_once(checkpoint: Checkpoint, engine: Engine) -> None:
    voxels = CountingVoxels()
    Predictor(checkpoint, engine=engine, batch=4).segment(Tomogram(voxels, "t"))
    assert voxels.largest <= 4 + 2


def test_large_pixel_labels_live_in_a_temporary_file(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, engine: Engine
) -> None:
    monkeypatch.setattr("skinoct.predictor.LABELS_IN_MEMORY", 100)
    answer = Predictor(checkpoint, engine=engine).segment(tomogram(), decode="pixel")
    assert isinstance(answer.pixel_labels, np.memmap)
    monkeypatch.undo()
    np.testing.assert_array_equal(
        answer.labels(), Predictor(checkpoint, engine=engine).segment(tomogram(), decode="pixel").labels()
    )


@pytest.mark.parametrize("um", [0.01, 352.8, float("nan")])
def test_a_pixel_size_of_another_instrument_is_refused(checkpoint: Checkpoint, um: float, engine: Engine) -> None:
    with pytest.raises(TomogramError, match="test says that a pixel is") as error:
        Predictor(checkpoint, engine=engine).segment(tomogram(pixel_size_um=PixelSize(um, um)))
    assert "pixel_size_um" in str(error.value)


def test_the_callers_pixel_size_wins(checkpoint: Checkpoint, engine: Engine) -> None:
    calibrated = tomogram(pixel_size_um=PixelSize(0.9, 0.9, 2.0))
    predictor = Predictor(checkpoint, engine=engine)
    assert predictor.segment(calibrated).pixel_size_um == PixelSize(0.9, 0.9, 2.0)
    assert predictor.segment(calibrated, pixel_size_um=1.0).pixel_size_um == PixelSize(1.0, 1.0, 2.0)
    assert predictor.segment(tomogram()).pixel_size_um is None


def test_small_differences_of_pixel_size_are_not_resampled() -> None:
    assert plan_grid((224, 512), PixelSize(0.89, 0.91), 0.9, "t").same
    assert plan_grid((224, 512), PixelSize(0.45, 1.8), 0.9, "t").network == (112, 1024)
    grid = plan_grid((400, 600), PixelSize(4.0, 1.2), 0.9, "t")
    assert grid.network == (800, 800)  # not 1778 rows: pixels that coarse are enlarged twice at most
    assert grid.network_um == 2.0


def test_impossible_options_are_refused(checkpoint: Checkpoint, engine: Engine) -> None:
    with pytest.raises(OptionError, match="batch"):
        Predictor(checkpoint, engine=engine, batch=0)
    with pytest.raises(OptionError, match="choose ordered or pixel"):
        Predictor(checkpoint, engine=engine).segment(tomogram(), decode="magic")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="engine"):
        make_engine(checkpoint, "abacus")


@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize("percentiles", [(0.5, 99.5), (0, 100), (33.3, 50), (2.7, 99.9)])
def test_counting_gives_the_percentiles_of_sorting(dtype: str, percentiles: tuple[float, float]) -> None:
    rng = np.random.default_rng(0)
    config = IntensityConfig(low_percentile=percentiles[0], high_percentile=percentiles[1])
    for shape in ((1, 1, 1), (1, 2, 3), (3, 20, 31)):
        voxels = rng.gamma(1.5, 20, shape).clip(0, 255).astype(dtype)
        low, high = np.percentile(voxels.astype(np.float32), percentiles)
        scale = measure_intensity(list(voxels), config)
        assert (scale.low, scale.high) == (low, high if high > low else low + 1)


@pytest.mark.parametrize("batch", [1, 2, 5, 40])
@pytest.mark.parametrize(("step", "size"), [(1, 1.0), (3, 1.0), (2, 0.5)])
def test_a_reader_reads_every_slice_once(batch: int, step: int, size: float) -> None:
    class Counting(np.ndarray[Any, Any]):
        rows = 0

        def __getitem__(self, key: Any) -> Any:
            part = np.asarray(self)[key]
            Counting.rows += len(part)
            return part

    voxels = np.random.default_rng(0).integers(0, 255, (23, 16, 24)).astype(np.uint8)
    config = IntensityConfig()
    scale = measure_intensity(list(voxels), config)
    grid = replace(plan_grid((16, 24), PixelSize(size, size), 1.0, "t"), slice_step=step)
    reader = NeighborReader(voxels.view(Counting), scale, config, grid, 2)
    found = np.concatenate([reader.read(z, min(z + batch, 23)) for z in range(0, 23, batch)])
    assert Counting.rows == 23
    whole = resize(normalize(voxels, scale, config), grid.network)
    np.testing.assert_array_equal(found, stack_neighbors(whole, 0, 23, 2, step))
    np.testing.assert_array_equal(reader.read(3, 5), found[3:5])  # also backwards


class TestAnswers:
    """What was asked about some slices is not asked again, and changes no answer."""

    def make(self, engine: BrightnessEngine, batch: int, total: int = 9) -> Answers:
        config = IntensityConfig()
        voxels = np.random.default_rng(0).integers(0, 255, (total, 16, 24)).astype(np.uint8)
        scale = measure_intensity(list(voxels), config)
        return Answers(engine, Tomogram(voxels, "t"), scale, config, context=1, batch=batch)

    @pytest.mark.parametrize("batch", [1, 2, 4, 9])
    @pytest.mark.parametrize("slices", [[], [0], [3, 4, 5], [0, 2, 4, 6, 8], list(range(9))])
    def test_no_slice_is_computed_twice(self, batch: int, slices: list[int]) -> None:
        grid = plan_grid((16, 24), PixelSize(1.0, 1.0), 1.0, "t")
        expected = np.concatenate(list(self.make(BrightnessEngine(), batch).all(grid)))
        engine = BrightnessEngine()
        answers = self.make(engine, batch)
        some = answers.some(grid, slices)
        again = answers.some(grid, slices)
        everything = np.concatenate(list(answers.all(grid)))
        np.testing.assert_array_equal(everything, expected)
        for z, one, other in zip(slices, some, again, strict=True):
            np.testing.assert_array_equal(one, expected[z : z + 1])
            assert other is one
        assert sum(engine.batches) == 9

    def test_answers_for_another_size_are_forgotten(self) -> None:
        engine = BrightnessEngine()
        answers = self.make(engine, 4)
        answers.some(plan_grid((16, 24), PixelSize(1.0, 1.0), 1.0, "t"), [0, 1, 2])
        small = plan_grid((16, 24), PixelSize(0.5, 0.5), 1.0, "t")
        assert np.concatenate(list(answers.all(small))).shape == (9, 5, 8, 12)
        assert sum(engine.batches) == 3 + 9

    def test_large_answers_are_not_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        one = 4 * 5 * 16 * 24
        monkeypatch.setattr("skinoct.answers.REMEMBERED_BYTES", 2 * one)
        engine = BrightnessEngine()
        answers = self.make(engine, 4)
        grid = plan_grid((16, 24), PixelSize(1.0, 1.0), 1.0, "t")
        answers.some(grid, [0, 1, 2])
        assert len(list(answers.all(grid))) == 3
        assert sum(engine.batches) == 3 + 9 - 2

    def test_of_many_slices_nothing_is_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("skinoct.answers.LONGEST_REMEMBERED", 8)
        engine = BrightnessEngine()
        answers = self.make(engine, 4)
        grid = plan_grid((16, 24), PixelSize(1.0, 1.0), 1.0, "t")
        answers.some(grid, [0, 1, 2])
        assert len(list(answers.all(grid))) == 3
        assert sum(engine.batches) == 3 + 9

    def test_memory_shortage_asks_one_by_one(self) -> None:
        grid = plan_grid((16, 24), PixelSize(1.0, 1.0), 1.0, "t")
        engine = BrightnessEngine(limit=1)
        some = self.make(engine, 4).some(grid, [1, 5, 7])
        assert engine.batches == [2, 1, 1, 1]
        for one, other in zip(some, self.make(BrightnessEngine(), 4).some(grid, [1, 5, 7]), strict=True):
            np.testing.assert_array_equal(one, other)


def test_neighbors_share_memory() -> None:
    slices = np.random.default_rng(0).random((9, 4, 5), np.float32)
    stacked = stack_neighbors(slices, 3, 2, 2)
    assert np.shares_memory(stacked, slices)
    for image, z in zip(stacked, (3, 4), strict=True):
        assert image.flags.c_contiguous
        np.testing.assert_array_equal(image, slices[z - 2 : z + 3])


def test_neighbors_are_repeated_at_the_ends() -> None:
    slices = np.arange(4, dtype=np.float32)[:, None, None] * np.ones((1, 2, 2), np.float32)
    stacked = stack_neighbors(slices, 0, 4, 1)
    assert stacked[:, :, 0, 0].tolist() == [[0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 3]]


def test_neighbors_may_lie_apart() -> None:
    slices = np.random.default_rng(0).random((20, 3, 4), np.float32)
    stacked = stack_neighbors(slices, 5, 9, 2, 3)
    for image, z in zip(stacked, range(5, 14), strict=True):
        expected = slices[np.clip(np.arange(z - 6, z + 7, 3), 0, 19)]
        np.testing.assert_array_equal(image, expected)
        between_them, step = between(image)
        np.testing.assert_array_equal(between_them[::step], expected)
        assert step == 3
        assert np.shares_memory(between_them, image)


@pytest.mark.parametrize(
    ("z_um", "step_um", "step"),
    [(0.9, 2.0, 2), (2.0, 2.0, 1), (9.0, 2.0, 1), (1e-9, 2.0, 8), (None, 2.0, 1), (0.5, None, 1), (0.5, 2.0, 4)],
)
def test_neighbors_are_as_far_apart_as_in_training(z_um: float | None, step_um: float | None, step: int) -> None:
    assert slice_step(z_um, step_um) == step


def test_engines_agree_on_neighbors_that_lie_apart(checkpoint: Checkpoint) -> None:
    """As on images of their own memory; and a tomogram whose slices are near is segmented so."""
    slices = np.random.default_rng(3).random((9, 20, 28), np.float32)
    apart = stack_neighbors(slices, 2, 5, 1, 2)
    for name in ("torch", "openvino"):
        engine = make_engine(checkpoint, name, threads=1)
        np.testing.assert_array_equal(engine.probabilities(apart), engine.probabilities(apart.copy()))


def test_stretching_columns_keeps_order_and_constants() -> None:
    rng = np.random.default_rng(0)
    lines = np.sort(rng.random((4, 2, 9)).astype(np.float32), axis=0)
    wide = stretch_columns(lines, 23)
    assert wide.shape == (4, 2, 23)
    assert (np.diff(wide, axis=0) >= 0).all()
    np.testing.assert_allclose(stretch_columns(np.full((1, 5), 3, np.float32), 11), 3)


def test_engines_are_named(checkpoint: Checkpoint, tmp_path: Path) -> None:
    assert make_engine(checkpoint, "torch").name in ("torch-cpu", "torch-cuda")
