"""What an ROI covers is what a real ImageJ fills, pixel for pixel, for every type that doctors draw."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from roifile import ROI_OPTIONS, ROI_SUBTYPE, ROI_TYPE, ImagejRoi

from skinoct.labels import CLASSES, Label
from skinoct.rois import rasterize, read_roi_set, roi_mask, trace, write_roi_set

HEIGHT, WIDTH = 60, 80
Random = np.random.Generator


def vertices(random: Random, count: int, subpixel: bool) -> np.ndarray:
    """Return vertices, some outside the image; halves and quarters among them, where ties are."""
    points = random.uniform([-15, -15], [WIDTH + 15, HEIGHT + 15], (count, 2))
    if not subpixel:
        return np.round(points)
    return points if random.random() < 0.5 else np.round(points * 4) / 4


def polygonal(kind: ROI_TYPE, count: tuple[int, int]) -> Callable[[Random, bool], ImagejRoi]:
    def make(random: Random, subpixel: bool) -> ImagejRoi:
        points = vertices(random, random.integers(*count), subpixel)
        if not subpixel:
            points = points.astype(np.int32)
        roi = ImagejRoi.frompoints(points, name="x")
        roi.roitype = kind
        if kind in (ROI_TYPE.FREELINE, ROI_TYPE.POLYLINE):
            roi.stroke_width = int(random.integers(0, 9))
            if subpixel:
                roi.float_stroke_width = float(random.uniform(1, 9))
        return roi

    return make


def smooth_line(random: Random, subpixel: bool) -> ImagejRoi:
    """A line as a doctor draws it: many short segments from left to right."""
    x = np.cumsum(random.uniform(1, 5, 20))
    points = np.stack([x, HEIGHT / 2 + np.cumsum(random.normal(0, 2, 20))], axis=1)
    roi = ImagejRoi.frompoints(points if subpixel else np.round(points).astype(np.int32), name="x")
    roi.roitype = ROI_TYPE.FREELINE
    roi.stroke_width = int(random.integers(1, 8))
    return roi


def straight(random: Random, subpixel: bool) -> ImagejRoi:
    (x1, y1), (x2, y2) = vertices(random, 2, subpixel).tolist()
    return ImagejRoi(roitype=ROI_TYPE.LINE, x1=x1, y1=y1, x2=x2, y2=y2, stroke_width=int(random.integers(0, 9)))


def boxed(kind: ROI_TYPE, rounded: bool = False) -> Callable[[Random, bool], ImagejRoi]:
    def make(random: Random, subpixel: bool) -> ImagejRoi:
        roi = ImagejRoi(roitype=kind)
        (x, y), size = vertices(random, 1, subpixel)[0].tolist(), random.uniform(1, 50, 2)
        roi.left, roi.top = int(x), int(y)
        roi.right, roi.bottom = roi.left + int(size[0]), roi.top + int(size[1])
        if subpixel:
            roi.options |= ROI_OPTIONS.SUB_PIXEL_RESOLUTION
            roi.xd, roi.yd, roi.widthd, roi.heightd = x, y, *size.tolist()
        if rounded:
            roi.rounded_rect_arc_size = int(random.integers(2, 40))
        return roi

    return make


def composite(random: Random, subpixel: bool) -> ImagejRoi:
    """Several paths, crossing each other, some with curves."""
    segments: list[float] = []
    everything = []
    for _ in range(random.integers(1, 4)):
        points = vertices(random, 13, subpixel)
        everything.append(points)
        flat = points.ravel().tolist()
        segments += [0, *flat[0:2], 1, *flat[2:4], 1, *flat[4:6], 1, *flat[6:8]]
        if random.random() < 0.5:
            segments += [3, *flat[8:14], 2, *flat[14:18], 1, *flat[18:20]]
        segments += [4]
    (left, top), (right, bottom) = (
        np.concatenate(everything).min(axis=0),
        np.concatenate(everything).max(axis=0),
    )
    return ImagejRoi(
        roitype=ROI_TYPE.RECT,
        shape_roi_size=len(segments),
        multi_coordinates=np.array(segments, np.float32),
        left=int(left),
        top=int(top),
        right=int(right) + 1,
        bottom=int(bottom) + 1,
    )


def rotated(subtype: ROI_SUBTYPE, kind: ROI_TYPE = ROI_TYPE.FREEHAND) -> Callable[[Random, bool], bytes]:
    """An ellipse or rotated rectangle: an axis, and a number where roifile knows other fields."""

    def make(random: Random, subpixel: bool) -> bytes:
        (x1, y1), (x2, y2) = vertices(random, 2, subpixel).tolist()
        roi = ImagejRoi.frompoints(np.array([[0, 0], [9, 0], [9, 9]]), name="x")
        roi.roitype = kind
        roi.subtype = subtype
        number = random.uniform(0.1, 1) if subtype == ROI_SUBTYPE.ELLIPSE else random.uniform(1, 30)
        data = bytearray(roi.tobytes())
        data[18:34] = struct.pack(">4f", x1, y1, x2, y2)
        data[52:56] = struct.pack(">f", number)
        return bytes(data)

    return make


def splined(kind: ROI_TYPE) -> Callable[[Random, bool], ImagejRoi]:
    def make(random: Random, subpixel: bool) -> ImagejRoi:
        roi = polygonal(kind, (3, 9))(random, subpixel)
        roi.options |= ROI_OPTIONS.SPLINE_FIT
        if subpixel:  # off the lattice where a tie hangs on the last bit of the spline
            roi.subpixel_coordinates += np.float32(0.0137)
        return roi

    return make


KINDS = {
    "polygon": polygonal(ROI_TYPE.POLYGON, (3, 12)),
    "freehand": polygonal(ROI_TYPE.FREEHAND, (3, 40)),
    "traced": polygonal(ROI_TYPE.TRACED, (3, 20)),
    "rectangle": boxed(ROI_TYPE.RECT),
    "rounded rectangle": boxed(ROI_TYPE.RECT, rounded=True),
    "oval": boxed(ROI_TYPE.OVAL),
    "composite": composite,
    "freeline": smooth_line,
    "segmented line": polygonal(ROI_TYPE.POLYLINE, (2, 6)),
    "straight line": straight,
    "ellipse": rotated(ROI_SUBTYPE.ELLIPSE),
    "rotated rectangle": rotated(ROI_SUBTYPE.ROTATED_RECT),
    "spline polygon": splined(ROI_TYPE.POLYGON),
    "spline line": splined(ROI_TYPE.POLYLINE),
}


def zipped(rois: list[ImagejRoi | bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for index, roi in enumerate(rois):
            archive.writestr(f"{index:06d}.roi", roi if isinstance(roi, bytes) else roi.tobytes())
    return file.getvalue()


@pytest.mark.imagej
def test_every_type_covers_what_imagej_fills(tmp_path: Path, ask_imagej: Callable[..., None]) -> None:
    random = np.random.default_rng(2024)
    kinds = [(kind, subpixel) for kind in KINDS for subpixel in (False, True) for _ in range(60)]
    path = tmp_path / "RoiSet.zip"
    path.write_bytes(zipped([KINDS[kind](random, subpixel) for kind, subpixel in kinds]))
    ask_imagej("masks", path, HEIGHT, WIDTH, tmp_path / "masks.npz")
    expected = np.load(tmp_path / "masks.npz")["masks"]
    wrong = {}
    for (kind, subpixel), roi, mask in zip(kinds, read_roi_set(path), expected, strict=True):
        difference = int((roi_mask(roi, (HEIGHT, WIDTH)) ^ mask).sum())
        if difference:
            wrong.setdefault((kind, subpixel), []).append(difference)
    assert not wrong
    assert expected.any(axis=(1, 2)).mean() > 0.5


def test_rotated_rectangles_of_imagej_1_54_are_those_of_before() -> None:
    """It writes them as polygons, which older versions read by their corners; so they are no kind above."""
    before, now = (
        [rotated(ROI_SUBTYPE.ROTATED_RECT, kind)(np.random.default_rng(seed), True) for seed in range(20)]
        for kind in (ROI_TYPE.FREEHAND, ROI_TYPE.POLYGON)
    )
    expected, found = (
        np.stack([roi_mask(roi, (HEIGHT, WIDTH)) for roi in read_roi_set(zipped(rois))]) for rois in (before, now)
    )
    assert expected.any(axis=(1, 2)).mean() > 0.5
    np.testing.assert_array_equal(found, expected)


@pytest.mark.imagej
def test_traced_labels_are_what_imagej_fills(tmp_path: Path, ask_imagej: Callable[..., None]) -> None:
    random = np.random.default_rng(5)
    noise = random.integers(0, 6, (3, 30, 40))
    layers = np.sort(random.integers(1, 6, (3, 30, 40)), axis=1)
    labels = np.concatenate([noise, layers]).astype(np.uint8)
    path = tmp_path / "RoiSet.zip"
    rois = list(trace(labels))
    write_roi_set(path, rois)
    ask_imagej("masks", path, 30, 40, tmp_path / "masks.npz")
    for roi, mask in zip(rois, np.load(tmp_path / "masks.npz")["masks"], strict=True):
        np.testing.assert_array_equal(mask, labels[roi.slice_index] == roi.label)


@pytest.mark.imagej
def test_imagej_reads_slices_groups_and_colors(tmp_path: Path, ask_imagej: Callable[..., None]) -> None:
    import json

    labels = np.sort(np.random.default_rng(6).integers(1, 6, (3, 30, 40)), axis=1).astype(np.uint8)
    rois = list(trace(labels, labels_to_trace=[Label.DEJ, Label.DERMIS]))
    write_roi_set(tmp_path / "RoiSet.zip", rois)
    ask_imagej("decode", tmp_path / "RoiSet.zip", tmp_path / "seen.json")
    seen = json.loads((tmp_path / "seen.json").read_text())
    for roi, found in zip(rois, seen, strict=True):
        assert (found["name"], found["position"], found["group"]) == (
            roi.name,
            roi.slice_index + 1,
            roi.label,
        )
        r, g, b = CLASSES[roi.label - 1].overlay_color
        assert found["fill"] == f"java.awt.Color[r={r},g={g},b={b}]"
    np.testing.assert_array_equal(
        rasterize(read_roi_set(tmp_path / "RoiSet.zip"), labels.shape), np.where(labels >= 4, labels, 0)
    )


@pytest.mark.imagej
def test_the_roi_manager_opens_fills_and_saves(tmp_path: Path, ask_imagej: Callable[..., None]) -> None:
    labels = np.random.default_rng(8).integers(0, 6, (4, 20, 30)).astype(np.uint8)
    write_roi_set(tmp_path / "RoiSet.zip", trace(labels))
    out, saved = tmp_path / "seen.npz", tmp_path / "saved.zip"
    ask_imagej("manager", tmp_path / "RoiSet.zip", *labels.shape, out, saved, display=True)
    np.testing.assert_array_equal(np.load(out)["labels"], labels)
    np.testing.assert_array_equal(rasterize(read_roi_set(saved), labels.shape), labels)
