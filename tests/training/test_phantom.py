"""Phantoms: repeatable, anatomically possible, and within what was measured on real FF-OCT skin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, astuple, replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from skinoct.labels import Label
from skinoct.rois import rasterize, read_roi_set
from skinoct.tomogram import read_tomogram
from skinoct_training.cli import main
from skinoct_training.phantom.draw import draw_spec
from skinoct_training.phantom.fields import FloatArray
from skinoct_training.phantom.geometry import Surfaces, draw_ridges, draw_spots, draw_surfaces
from skinoct_training.phantom.make import Phantom, make_phantom
from skinoct_training.phantom.painted import LEAST_CHANGE, SHAPES, draw_painted_tissue, draw_profile
from skinoct_training.phantom.spec import FAMILIES, Family
from skinoct_training.phantom.statistics import measure_statistics

SEEDS = range(24)


@pytest.fixture(scope="module")
def ffoct() -> list[Phantom]:
    return [make_phantom((2026, seed), 2) for seed in SEEDS]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_seed_gives_the_same_voxels(family: Family) -> None:
    first, second, other = (make_phantom((5, seed), 2, family) for seed in (1, 1, 2))
    assert np.array_equal(first.voxels, second.voxels)
    assert np.array_equal(first.labels, second.labels)
    assert not np.array_equal(first.labels, other.labels)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", range(6))
def test_layers_are_in_order_and_the_band_is_5_um(family: Family, seed: int) -> None:
    phantom = make_phantom((9, seed), 3, family)
    assert phantom.voxels.shape == (3, 224, 512)
    assert phantom.voxels.min() < phantom.voxels.max()
    labels = phantom.labels
    assert np.all(np.diff(labels.astype(int), axis=1) >= 0)
    _, skin, top, bottom = phantom.boundaries
    whole = (top > 0) & (bottom < 224)
    thickness = (bottom - top)[whole] * phantom.pixel_size_um.y
    np.testing.assert_allclose(thickness, 5.0, atol=0.05)
    assert np.all(top[whole] - skin[whole] > 0)


def test_statistics_are_those_of_real_skin(ffoct: list[Phantom]) -> None:
    """Medians over phantoms against the ranges measured on real FF-OCT skin B-scans (docs/phantom.md)."""
    measured = [measure_statistics(p.voxels[0], p.boundaries[:, 0]) for p in ffoct]
    rows = [asdict(m) for m in measured if m is not None]
    assert len(rows) >= 18
    median = {name: float(np.median([row[name] for row in rows])) for name in rows[0]}
    spread = {name: np.percentile([row[name] for row in rows], [10, 90]) for name in rows[0]}
    assert 1.05 <= median["above_below"] <= 1.47
    assert spread["above_below"][1] > 1.2
    assert 0.22 <= median["faint_share"] <= 0.5
    assert 0.26 <= median["contrast_epidermis"] <= 0.36
    assert 0.27 <= median["contrast_dermis"] <= 0.38
    assert 3.0 <= median["grain_px"] <= 6.0
    assert 0.03 <= median["saturated_corneum"] <= 0.25
    assert median["slope"] <= 1.0
    assert 1.005 <= median["length_ratio"] <= 1.06


def test_some_files_of_the_wide_family_lost_their_calibration() -> None:
    lost = [p for p in (make_phantom((3, seed), 1, "wide") for seed in range(12)) if p.spec.grid.told_um is not None]
    assert 0 < len(lost) < 12
    for phantom in lost:
        assert phantom.spec.grid.y_um != phantom.pixel_size_um.y == phantom.pixel_size_um.x == 0.9


def test_deep_fields_show_skin_as_large_pixels_do() -> None:
    specs = [make_phantom((3, seed), 1, "deep").spec for seed in range(12)]
    assert all(spec.grid.y_um >= 1.8 for spec in specs)
    assert 0 < sum(spec.grid.told_um is None for spec in specs) < 12
    epidermis_px = [(s.anatomy.corneum_um + s.anatomy.cellular_um) / s.grid.y_um for s in specs]
    assert np.median(epidermis_px) < 45
    assert sum(spec.look.dermis_step > 1.15 for spec in specs) >= 6


def test_friction_skin_is_thick_and_ridged() -> None:
    phantoms = [make_phantom((3, seed), 1, "thick") for seed in range(12)]
    specs = [p.spec for p in phantoms]
    assert np.median([s.anatomy.corneum_um for s in specs]) > 100
    assert all(s.anatomy.follicles_mm2 == 0 for s in specs)
    assert 0 < sum(s.grid.told_um is None for s in specs) < 12
    for spec in specs:
        spec = replace(spec, grid=replace(spec.grid, shape=(400, 4, 500), z_um=4.0, x_um=4.0))
        z, x = 4 * np.arange(400, dtype=np.float32), 4 * np.arange(500, dtype=np.float32)
        ridges = draw_ridges(np.random.default_rng(0), spec, z[:, None], x[None])
        assert np.ptp(ridges) == pytest.approx(spec.anatomy.ridge_um, rel=0.02)
    in_view = [np.mean(p.boundaries[2] < 223) for p in phantoms]
    assert np.median(in_view) > 0.9


def test_spots_are_as_many_and_as_wide_as_asked() -> None:
    spec = make_phantom((3, 0), 1).spec
    spec = replace(spec, grid=replace(spec.grid, shape=(500, 4, 500)))  # 0.2 square millimeters
    spots = draw_spots(np.random.default_rng(0), spec, 60.0, 10.0)
    count = ndimage.label(spots > 0.9)[1]
    assert 6 <= count <= 20
    assert spots.max() <= 1
    inside = (spots > np.exp(-1)).sum() * 0.9**2
    assert inside == pytest.approx(count * np.pi * 10.0**2, rel=0.35)


def test_every_seed_differs_in_site_age_layers_and_optics(ffoct: list[Phantom]) -> None:
    specs = [p.spec for p in ffoct]
    assert len({s.anatomy.site for s in specs}) >= 4
    assert np.ptp([s.anatomy.age_years for s in specs]) > 40
    assert np.ptp([s.anatomy.corneum_um for s in specs]) > 15
    assert len({s.optics.grain_y_px for s in specs}) == len(specs)


def test_neighboring_slices_show_the_same_skin(ffoct: list[Phantom]) -> None:
    changes = [np.abs(np.diff(p.boundaries[2] - p.boundaries[1], axis=0)).mean() for p in ffoct]
    assert np.median(changes) < 1.5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data") / "phantoms"
    arguments = ["--tomograms", "2", "--slices", "3", "--seed", "4", "--family", "mixed"]
    assert main(["phantom", str(out), *arguments]) == 0
    return out


def test_the_command_writes_what_fit_reads(folder: Path) -> None:
    cases = sorted(folder.iterdir())
    assert [c.name for c in cases] == ["phantom-4-0000", "phantom-4-0001"]
    for case in cases:
        tomogram = read_tomogram(case / "tomogram.tif")
        labels = np.asarray(read_tomogram(case / "labels.tif").voxels[0:3])
        assert tomogram.shape == labels.shape == (3, 224, 512)
        assert tomogram.pixel_size_um is not None
        assert '"synthetic": true' in (case / "phantom.json").read_text()


def test_the_doctors_rois_agree_with_the_truth_but_for_the_hand(folder: Path) -> None:
    for case in sorted(folder.iterdir()):
        truth = np.asarray(read_tomogram(case / "labels.tif").voxels[0:3])
        rois = read_roi_set(case / "RoiSet.zip")
        assert {roi.slice_index for roi in rois} == {0, 1, 2}
        drawn = rasterize(rois, truth.shape)
        known = drawn > 0
        assert known.mean() > 0.97
        assert (drawn[known] == truth[known]).mean() > 0.98
        dej, meant = drawn == Label.DEJ, truth == Label.DEJ
        if meant.any():
            assert 2 * (dej & meant).sum() / (dej.sum() + meant.sum()) > 0.75


def test_nothing_is_overwritten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["phantom", str(folder), "--tomograms", "1", "--slices", "1"]) == 1
    assert "not empty" in capsys.readouterr().err


def test_two_processes_make_the_same_set(tmp_path: Path, folder: Path) -> None:
    out = tmp_path / "again"
    arguments = ["--tomograms", "2", "--slices", "3", "--seed", "4", "--family", "mixed", "--jobs", "2"]
    assert main(["phantom", str(out), *arguments]) == 0
    for case in sorted(folder.iterdir()):
        assert (out / case.name / "tomogram.tif").read_bytes() == (case / "tomogram.tif").read_bytes()


def test_painted_layers_differ_at_the_dej_in_either_direction() -> None:
    specs = [draw_spec(np.random.default_rng((3, seed)), "painted", 1) for seed in range(40)]
    changes = np.log([spec.look.dermis_step for spec in specs])
    assert np.abs(changes).min() >= LEAST_CHANGE
    assert 0 < np.sum(changes > 0) < len(specs)
    assert 0 < sum(spec.grid.y_um >= 1.8 for spec in specs) < len(specs)


def test_a_painted_tissue_is_as_bright_as_any_other_on_the_whole() -> None:
    for seed in range(6):
        rng = np.random.default_rng((4, seed))
        spec = draw_spec(rng, "painted", 2)
        surfaces = draw_surfaces(rng, spec)
        tissue = draw_painted_tissue(rng, spec, surfaces)
        depth_um = (np.arange(224) + 0.5)[None, :, None] * spec.grid.y_um
        skin = depth_um >= surfaces.skin[:, None]
        assert np.isfinite(tissue).all()
        assert tissue.min() >= 0
        if skin.any():
            assert tissue[skin].mean() == pytest.approx(1, abs=0.02)


def test_a_view_without_skin_can_be_painted() -> None:
    rng = np.random.default_rng(0)
    spec = draw_spec(rng, "painted", 1)
    surfaces = draw_surfaces(rng, spec)
    below = Surfaces(*(np.full_like(surface, 1e4) for surface in astuple(surfaces)))
    tissue = draw_painted_tissue(rng, spec, replace(below, pane=surfaces.pane))
    assert np.isfinite(tissue).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_textures_have_contrast_and_stay_finite(shape: Callable[[FloatArray], FloatArray]) -> None:
    field = shape(np.random.default_rng(0).standard_normal((4, 50, 60), dtype=np.float32))
    assert np.isfinite(field).all()
    assert 0.3 < field.std() < 2


def test_a_profile_begins_at_1_and_has_no_jumps() -> None:
    position = np.linspace(0, 500, 2001, dtype=np.float32)
    for seed in range(5):
        profile = draw_profile(np.random.default_rng(seed), position, 20.0)
        assert profile[0] == pytest.approx(1)
        assert np.abs(np.diff(np.log(profile))).max() < 0.05
