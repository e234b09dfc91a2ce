"""Common batches: who shares one gets the answer that it would have got alone, bit for bit."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from skinoct.errors import OutOfMemoryError
from skinoct_server import sharing
from skinoct_server.sharing import SharedEngine, least_batch


class FakeEngine:
    """Answers with the images' own means, and remembers the sizes of its batches."""

    name = "fake"
    preferred_batch = 4
    calls_at_once = 1

    def __init__(self, error_of=None) -> None:
        self.sizes: list[int] = []
        self.error_of = error_of or (lambda size: 0.0)
        self.may_run = lambda: True
        self.most = 1000

    def probabilities(self, images):
        while not self.may_run():
            time.sleep(0.001)
        if len(images) > self.most:
            raise OutOfMemoryError("too many")
        self.sizes.append(len(images))
        mean = images.mean(axis=1, keepdims=True) + np.float32(self.error_of(len(images)))
        return np.repeat(mean / 5, 5, axis=1)


@pytest.fixture
def network():
    with ThreadPoolExecutor(1) as pool:
        yield pool


def share(engine, network, batch=None):
    runs = []
    shared = SharedEngine(engine, 3, batch, network, lambda tomograms, images: runs.append((tomograms, images)))
    engine.sizes.clear()
    return shared, runs


def ask_at_once(shared, images):
    """Let a thread for each image stack ask; the first batch runs when all of them have asked."""
    asked = threading.Event()

    def all_asked():
        members = list(shared._members)
        if len(members) == len(images) and all(member.left <= 0 for member in members):
            asked.set()
        return asked.is_set()

    shared.engine.may_run = all_asked

    def one(stack):
        with shared.member(len(stack)) as member:
            return member.probabilities(stack)

    with ThreadPoolExecutor(len(images)) as pool:
        return list(pool.map(one, images))


def some_images(count, size=(24, 32)):
    return [np.random.default_rng(n).random((1, 3, *size), np.float32) for n in range(count)]


@pytest.mark.parametrize(
    ("error_of", "least"),
    [
        (lambda size: 0.0, 1),
        (lambda size: 0.25 * (size == 1), 2),
        (lambda size: 0.25 * size, 4),
    ],
    ids=["always steady", "single images differ", "every size differs"],
)
def test_answers_are_those_of_running_alone(network, error_of, least):
    engine = FakeEngine(error_of)
    shared, runs = share(engine, network)
    assert shared.least == least
    images = some_images(8)
    alone = [shared.run(member, stack) for stack in images for member in [_member(shared)]]
    runs.clear()
    together = ask_at_once(shared, images)
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)
    assert sum(count for _, count in runs) == 8
    assert len(runs) < 8, "nothing was shared"
    assert all(size >= least for size in engine.sizes)


def _member(shared):
    with shared.member(1) as member:
        return member


def test_an_engine_that_is_never_steady_is_not_shared(network):
    counter = iter(range(10**6))
    shared, runs = share(FakeEngine(lambda size: 0.01 * next(counter)), network)
    assert shared.least is None
    ask_at_once(shared, some_images(5))
    assert runs == [(1, 1)] * 5


def test_only_images_of_one_size_share(network):
    engine = FakeEngine()
    shared, _ = share(engine, network)
    images = some_images(3) + some_images(3, (16, 16))
    answers = ask_at_once(shared, images)
    for stack, answer in zip(images, answers, strict=True):
        assert answer.shape == (1, 5, *stack.shape[2:])
        np.testing.assert_allclose(answer[:, 0], stack.mean(axis=1) / 5, rtol=1e-6)


def test_a_batch_that_does_not_fit_is_run_one_by_one(network):
    engine = FakeEngine()
    shared, runs = share(engine, network)
    engine.most = 1
    images = some_images(6)
    for stack, answer in zip(images, ask_at_once(shared, images), strict=True):
        np.testing.assert_allclose(answer[:, 0], stack.mean(axis=1) / 5, rtol=1e-6)
    assert runs == [(1, 1)] * 6


def test_an_error_reaches_only_its_own_tomogram(network):
    class Picky(FakeEngine):
        def probabilities(self, images):
            if (images > 5).any():
                raise ValueError("cannot")
            return super().probabilities(images)

    shared, _ = share(Picky(), network)
    images = [*some_images(4), np.full((1, 3, 24, 32), 9, np.float32)]

    def one(stack):
        with shared.member(1) as member:
            try:
                return member.probabilities(stack)
            except ValueError as error:
                return str(error)

    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(one, images))
    assert answers[-1] == "cannot"
    assert all(isinstance(answer, np.ndarray) for answer in answers[:-1])


def test_an_operators_batch_is_never_exceeded(network):
    engine = FakeEngine()
    shared, _ = share(engine, network, batch=2)
    ask_at_once(shared, some_images(7))
    assert max(engine.sizes) <= 2


def test_an_engine_works_on_as_many_calls_as_it_takes():
    class Pair(FakeEngine):
        """Answers two calls together or none."""

        calls_at_once = 2
        meeting: threading.Barrier | None = None

        def probabilities(self, images):
            if self.meeting:
                self.meeting.wait(timeout=20)
            return super().probabilities(images)

    engine = Pair()
    with ThreadPoolExecutor(2) as network:
        shared, runs = share(engine, network, batch=1)
        engine.meeting = threading.Barrier(2)
        images = some_images(4)
        for stack, answer in zip(images, ask_at_once(shared, images), strict=True):
            np.testing.assert_allclose(answer[:, 0], stack.mean(axis=1) / 5, rtol=1e-6)
    assert runs == [(1, 1)] * 4


def test_nobody_waits_for_one_who_has_asked_for_everything(network, monkeypatch):
    shared, _ = share(FakeEngine(), network)
    monkeypatch.setattr(sharing, "_GATHER_SECONDS", 30.0)
    started = time.monotonic()
    with shared.member(1) as idle, shared.member(3) as busy:
        threading.Timer(0.1, lambda: busy.probabilities(some_images(1)[0])).start()
        idle.probabilities(some_images(1)[0])
        busy.probabilities(some_images(1)[0])
        busy.probabilities(some_images(1)[0])
    assert time.monotonic() - started < 15


def test_too_little_memory_for_the_check_means_not_shared():
    engine = FakeEngine()
    engine.most = 1
    assert least_batch(engine, 3, 4) is None
