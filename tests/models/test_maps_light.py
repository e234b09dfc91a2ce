"""En-face maps and light outlines."""

from __future__ import annotations

import dataclasses
import io
from dataclasses import replace

import numpy as np
import pytest
import tifffile

from skinoct.labels import Label
from skinoct.maps import en_face, write_maps
from skinoct.roi_light import light_rois, thin, thin_ring
from skinoct.rois import Paths, rasterize, trace
from skinoct.segmentation import ModelIdentity, Segmentation, draw_layers
from skinoct.tomogram import PixelSize


@pytest.fixture
def plane():
    """A tilted DEJ of 5 um, 50.4 um below the surface; one column without DEJ, one slice without surface."""
    x = np.indices((8, 100))[1]
    skin = 20 + 0.1 * x
    tops = np.stack([5 + 0 * x, skin, skin + 53, skin + 59]).astype(np.float32)
    tops[3, 0, 7] = tops[2, 0, 7]
    tops[:2, 5] = 0
    return Segmentation(
        (8, 128, 100), "ordered", tops, None, np.full((8, 100), 0.75, np.float32), np.zeros((8, 100), bool),
        PixelSize(0.9, 0.9, 2.0), 5.4, ModelIdentity("plane", "0"),
    )  # fmt: skip


def test_maps_of_a_plane_are_exact(plane):
    thickness, depth, confidence = en_face(plane)
    seen = np.ones((8, 100), bool)
    seen[0, 7] = False
    np.testing.assert_array_equal(np.isfinite(depth), seen)
    np.testing.assert_allclose(thickness[1:5], 56 * 0.9, rtol=1e-5)
    assert np.isnan(thickness[5]).all()
    np.testing.assert_allclose(depth[3], (76 + 0.1 * np.arange(100)) * 0.9, rtol=1e-5)
    assert (confidence == 0.75).all()


def test_maps_are_a_calibrated_imagej_stack(plane):
    file = io.BytesIO()
    write_maps(file, plane)
    file.seek(0)
    with tifffile.TiffFile(file) as tif:
        np.testing.assert_array_equal(tif.asarray(), en_face(plane))
        assert tif.imagej_metadata["unit"] == "micron"
        assert tif.imagej_metadata["slices"] == 3
        assert tif.imagej_metadata["Labels"][0] == "epidermal thickness (um)"
        x, y = (tif.pages[0].tags[name].value for name in ("XResolution", "YResolution"))
        assert x[1] / x[0] == pytest.approx(0.9)
        assert y[1] / y[0] == pytest.approx(2.0)


def test_maps_invent_no_distance_of_slices(plane):
    file = io.BytesIO()
    write_maps(file, dataclasses.replace(plane, pixel_size_um=PixelSize(0.9, 0.9)))
    file.seek(0)
    with tifffile.TiffFile(file) as tif:
        assert tif.imagej_metadata["unit"] == "pixel"
        assert tif.imagej_metadata["Labels"][0] == "epidermal thickness (um)"
        assert tif.pages[0].tags["XResolution"].value == tif.pages[0].tags["YResolution"].value == (1, 1)


def waves(period: float, amplitude: float, decode: str) -> Segmentation:
    z, x = np.indices((4, 256))
    top = 60 + amplitude * np.sin(2 * np.pi * x / period + z)
    tops = np.stack([0 * x, 20 + 0 * x, top, top + 6]).astype(np.float32)
    tops[3, 1, 40:90] = tops[2, 1, 40:90]
    ordered = decode == "ordered"
    return Segmentation(
        (4, 128, 256), decode, tops if ordered else None, None if ordered else draw_layers(tops, 128),
        np.ones((4, 256), np.float32), np.zeros((4, 256), bool), None, 5.0, ModelIdentity("waves", "0"),
    )  # fmt: skip


@pytest.mark.parametrize("decode", ["ordered", "pixel"])
@pytest.mark.parametrize(("period", "amplitude"), [(120, 15), (60, 10), (256, 0), (40, 12)])
def test_light_polygons_are_the_layers_within_a_pixel(period, amplitude, decode):
    segmentation = waves(period, amplitude, decode)
    rois = list(light_rois(segmentation))
    assert len(rois) == 4 * 4  # glass is absent
    assert [roi.name for roi in rois[:4]] == ["glycerol-0001", "epidermis-0001", "dej-0001", "dermis-0001"]
    labels = segmentation.labels()
    for label in (Label.EPIDERMIS, Label.DEJ):
        ours = [roi for roi in rois if roi.label == label]
        drawn = rasterize(ours, labels.shape, default=Label.UNLABELED) == label
        wrong = (drawn ^ (labels == label)).sum(axis=1)
        assert wrong.max() <= 2  # one pixel at either edge
        assert wrong.mean() < 0.5
    band = next(roi for roi in rois if roi.label == Label.DEJ)
    if decode == "ordered":
        assert len(band.shape.paths[0]) <= 2 * 256 / 4


def test_runs_without_a_layer_split_its_polygon():
    band = list(light_rois(waves(120, 15, "ordered"), labels_to_trace=[Label.DEJ]))[1]
    assert len(band.shape.paths) == 2
    assert band.shape.paths[0][:, 0].max() == 40
    assert band.shape.paths[1][:, 0].min() == 90


def test_a_rectangle_keeps_its_four_corners():
    path = np.array([[2, 3], [12, 3], [12, 9], [2, 9]], float)
    assert sorted(map(tuple, thin_ring(path))) == sorted(map(tuple, path))


def test_a_side_stays_within_half_a_pixel():
    rng = np.random.default_rng(1)
    line = np.stack([np.arange(300.0), rng.normal(0, 1, 300).cumsum()], axis=1)
    thinned = thin(line, np.array([0, 299]), 0.5)
    assert 2 < len(thinned) < 300
    steepest = np.hypot(1, np.abs(np.diff(thinned[:, 1]) / np.diff(thinned[:, 0])).max())
    assert np.abs(np.interp(line[:, 0], *thinned.T) - line[:, 1]).max() <= 0.5 * steepest


def test_parts_and_holes_survive():
    labels = np.zeros((1, 60, 60), np.uint8)
    labels[0, 5:25, 5:50] = 4
    labels[0, 10:20, 20:30] = 3
    labels[0, 40:50, 10:20] = 4
    (traced,) = trace(labels, labels_to_trace=[Label.DEJ])
    roi = replace(traced, shape=Paths(tuple(thin_ring(path) for path in traced.shape.paths)))
    assert len(roi.shape.paths) == 3
    np.testing.assert_array_equal(rasterize([roi], labels.shape, default=Label.UNLABELED)[0] == 4, labels[0] == 4)
