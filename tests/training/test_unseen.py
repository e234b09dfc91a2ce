"""Skin of another generator: repeatable, ordered, of many scales, apart from what is trained on; and its page."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from skinoct.labels import Label
from skinoct.tomogram import read_tomogram

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    """The generator."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TESTS)
        from unseen import generate
    return generate


@pytest.fixture(scope="module")
def samples(generate: ModuleType) -> dict[str, Any]:
    """One tomogram of each instrument."""
    return {kind: generate.draw_sample(1, kind, 1) for kind in generate.KINDS}


def test_one_seed_gives_the_same_voxels_and_another_does_not(generate: ModuleType, samples: dict[str, Any]) -> None:
    again, other = generate.draw_sample(1, "handheld", 1), generate.draw_sample(2, "handheld", 1)
    np.testing.assert_array_equal(again.voxels, samples["handheld"].voxels)
    np.testing.assert_array_equal(again.labels, samples["handheld"].labels)
    assert other.voxels.shape != again.voxels.shape or (other.voxels != again.voxels).any()


def test_voxels_are_those_that_weights_were_chosen_on(generate: ModuleType) -> None:
    # Figures of one seed can be compared only as long as it gives the same skin on every machine, within rounding.
    sample = generate.draw_sample(900, "handheld", 0)
    assert sample.voxels.shape == (2, 170, 363)
    assert sample.recipe.view.pixel_um == pytest.approx(1.66525, abs=1e-4)
    assert sample.voxels.mean() == pytest.approx(48.447, abs=0.05)


def test_layers_are_in_order_and_the_band_is_5_um_thick(samples: dict[str, Any]) -> None:
    for kind, sample in samples.items():
        labels = sample.labels
        assert sample.voxels.shape == labels.shape, kind
        assert labels.min() >= Label.GLASS, kind
        assert (np.diff(labels.astype(int), axis=1) >= 0).all(), kind
        assert set(np.unique(labels)) >= {Label.GLYCEROL, Label.EPIDERMIS, Label.DEJ, Label.DERMIS}, kind
        pixel_um = sample.recipe.view.pixel_um
        dej_px, half_px = sample.relief.dej_um / pixel_um, 2.5 / pixel_um
        whole = (dej_px > half_px) & (dej_px < labels.shape[1] - half_px)
        thickness_um = (labels == Label.DEJ).sum(axis=1)[whole] * pixel_um
        assert np.abs(thickness_um - 5).max() <= 1.01 * pixel_um, kind


def test_instruments_differ_in_pixel_size(generate: ModuleType) -> None:
    def size(kind: str) -> float:
        return float(np.mean([generate.draw_recipe(np.random.default_rng(n), kind).view.pixel_um for n in range(9)]))

    sizes = [size(kind) for kind in ("immersion", "confocal", "handheld", "swept")]
    assert all(b > 1.2 * a for a, b in pairwise(sizes))


def test_the_generator_knows_nothing_of_the_training() -> None:
    code = "import sys, unseen.generate; print([name for name in sys.modules if name.startswith('skinoct_training')])"
    done = run("-c", code)
    assert done.stdout.strip() == "[]", done.stderr
    for path in (TESTS / "unseen").glob("*.py"):
        for package in ("phantom", "instruments", "families"):
            assert f"skinoct_training.{package}" not in path.read_text(encoding="utf-8")


def test_measuring_writes_its_page_picture_and_tomograms(tmp_path: Path, make_checkpoint: Callable[..., Path]) -> None:
    checkpoint = make_checkpoint(tmp_path / "tiny")
    words = [str(tmp_path / "data"), "--per-kind", "1", "--kinds", "handheld", "--threads", "1"]
    page = tmp_path / "page" / "unseen.md"
    page.parent.mkdir()
    done = run("-m", "unseen.measure", *words, "--checkpoint", str(checkpoint), "--page", str(page))
    assert done.returncode == 0, done.stderr
    text = page.read_text(encoding="utf-8")
    assert "Synthetic tomograms only" in text
    assert "not its accuracy on real skin" in text
    assert "(`handheld`) | 1 |" in text
    assert "nan" not in text
    picture = page.parent / "images" / "unseen.jpg"
    assert f"images/{picture.name}" in text
    assert 10_000 < picture.stat().st_size <= 250_000
    tomogram = read_tomogram(tmp_path / "data" / "other-handheld-0" / "tomogram.tif")
    assert tomogram.pixel_size_um is not None
    assert 1.5 <= tomogram.pixel_size_um.y == pytest.approx(tomogram.pixel_size_um.x)


def test_a_checkpoint_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    done = run("-m", "unseen.measure", str(tmp_path / "data"), "--checkpoint", "no-such", "--page", str(tmp_path / "p"))
    assert done.returncode == 1
    assert done.stderr.startswith("unseen: ")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data").exists()


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """Run Python with the folder of the tests in its path, warnings being errors."""
    command = [sys.executable, "-W", "error", *words]
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
