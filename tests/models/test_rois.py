"""Reading, filling, tracing and writing ROIs: properties that need no ImageJ."""

from __future__ import annotations

import io
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from roifile import ImagejRoi

from skinoct.errors import OptionError, RoiError
from skinoct.labels import Label, label_from_name
from skinoct.rois import (
    Oval,
    Paths,
    Roi,
    Stroke,
    lines_to_bands,
    rasterize,
    read_roi_set,
    roi_mask,
    trace,
    trace_mask,
    write_roi_set,
)
from skinoct.segmentation import draw_layers


def through_zip(rois: list[Roi]) -> list[Roi]:
    file = io.BytesIO()
    write_roi_set(file, rois)
    return read_roi_set(file.getvalue())


@settings(max_examples=60, deadline=None)
@given(arrays.arrays(np.uint8, arrays.array_shapes(min_dims=3, max_dims=3, max_side=12), elements=st.integers(0, 5)))
def test_labels_to_rois_and_back_lose_no_pixel(labels: np.ndarray) -> None:
    rois = list(trace(labels))
    if rois:
        np.testing.assert_array_equal(rasterize(through_zip(rois), labels.shape), labels)
    else:
        assert not labels.any()


@settings(max_examples=60, deadline=None)
@given(arrays.arrays(np.bool_, arrays.array_shapes(min_dims=2, max_dims=2, max_side=14)))
def test_borders_turn_right_around_the_mask(mask: np.ndarray) -> None:
    """The signed area of all borders is the number of pixels: holes count negative."""
    paths = trace_mask(mask)
    area = sum(float((p[:, 0] * np.roll(p[:, 1], -1) - np.roll(p[:, 0], -1) * p[:, 1]).sum()) / 2 for p in paths)
    assert area == mask.sum()
    for p in paths:  # corners only: rows and columns by turns
        steps = np.abs(np.roll(p, -1, axis=0) - p)
        assert (np.count_nonzero(steps, axis=1) == 1).all()


def test_a_whole_tomogram_in_seconds() -> None:
    random = np.random.default_rng(0)
    tops = np.array([10, 40, 80, 90])[:, None, None] + np.cumsum(random.normal(0, 0.5, (4, 439, 512)), axis=2)
    labels = draw_layers(np.maximum.accumulate(tops, axis=0).astype(np.float32), 224)
    start = time.perf_counter()
    rois = list(trace(labels))
    back = rasterize(through_zip(rois), labels.shape)
    assert time.perf_counter() - start < 60  # 7 s on one idle core
    assert (back == labels).all()


def test_blocks_are_traced_like_the_stack() -> None:
    labels = np.random.default_rng(1).integers(0, 6, (5, 9, 9)).astype(np.uint8)
    whole, pieces = list(trace(labels)), list(trace(iter([labels[:2], labels[2:]])))
    assert [(r.name, r.slice_index) for r in whole] == [(r.name, r.slice_index) for r in pieces]


def square(name: str, left: float, top: float, size: float = 6, slice_index: int | None = 0, label=None) -> Roi:
    corners = np.array([[0, 0], [size, 0], [size, size], [0, size]]) + np.array([left, top])
    return Roi(name, label, slice_index, Paths((corners,)), "RoiSet.zip")


def test_names_groups_slices_and_shapes_survive() -> None:
    rois = [
        square("dej", 2, 3, slice_index=4, label=Label.DEJ),
        square("dej", 2.25, 3.5, slice_index=5, label=Label.DEJ),
        square("no slice", 1, 1, slice_index=None, label=Label.DERMIS),
        Roi("glass", Label.GLASS, 0, Oval(1, 2, 8, 5)),
        Roi("epidermis", Label.EPIDERMIS, 1, Stroke(np.array([[1.0, 2.0], [9.0, 7.0], [15.0, 7.0]]), 2.5)),
        Roi("dermis", Label.DERMIS, 2, Stroke(np.array([[1.5, 2.0], [9.0, 7.25]]), 3.0, straight=True)),
        Roi("ignore", Label.UNLABELED, 3, Paths((np.array([[-3.0, -2], [5, -2], [5, 6]]),))),
    ]
    back = through_zip(rois)
    assert [r.name for r in back] == ["dej", "dej-2", *(r.name for r in rois[2:])]
    for before, after in zip(rois, back, strict=True):
        assert (before.label, before.slice_index) == (after.label, after.slice_index)
        np.testing.assert_array_equal(roi_mask(before, (20, 20)), roi_mask(after, (20, 20)))


def encode(**fields: object) -> bytes:
    roi = ImagejRoi.frompoints(np.array([[1, 1], [6, 1], [6, 6]]), name="")
    for key, value in fields.items():
        setattr(roi, key, value)
    return roi.tobytes()


@pytest.mark.parametrize(
    ("name", "fields", "expected"),
    [
        ("dej", {"position": 7, "z_position": 3}, 6),
        ("dej", {"z_position": 3, "t_position": 2}, 2),
        ("dej", {"t_position": 2}, 1),
        ("0012-0100-0256", {}, 11),
        ("0012-0100-0256-1", {}, 11),
        ("00012-00100-00256", {}, 11),
        ("000012-000100-000256", {}, 11),
        ("0012-0100-0256", {"position": 3}, 2),
        ("dej", {"name": "0012-0100-0256"}, 11),
        ("0100-0256", {}, None),
        ("dej-0012", {}, None),
        ("0000-0100-0256", {}, None),
    ],
)
def test_where_the_slice_is_found(tmp_path: Path, name: str, fields: dict, expected: int | None) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr(f"{name}.roi", encode(**fields))
    assert read_roi_set(tmp_path / "set.zip")[0].slice_index == expected


@pytest.mark.parametrize(
    ("name", "group", "expected"),
    [
        ("dej", 0, Label.DEJ),
        ("DEJ-0012", 0, Label.DEJ),
        ("0012-0100-0256", 4, Label.DEJ),
        ("0012-0100-0256", 0, None),
        ("0012-0100-0256", 6, None),
        ("dermis", 4, Label.DERMIS),
        ("ignore", 0, Label.UNLABELED),
    ],
)
def test_where_the_class_is_found(name: str, group: int, expected: Label | None) -> None:
    assert read_roi_set(encode(name=name, group=group))[0].label == expected


def test_a_single_roi_file(tmp_path: Path) -> None:
    (tmp_path / "dej.roi").write_bytes(encode(position=2))
    (roi,) = read_roi_set(tmp_path / "dej.roi")
    assert (roi.name, roi.label, roi.slice_index, roi.file) == ("dej", Label.DEJ, 1, "dej.roi")


def test_a_line_of_width_5_at_row_10_covers_rows_8_to_12() -> None:
    for straight in (False, True):
        line = Stroke(np.array([[0.0, 10.0], [30.0, 10.0]]), 5, straight)
        rows = np.flatnonzero(roi_mask(line, (20, 30)).any(axis=1))
        assert rows.tolist() == [8, 9, 10, 11, 12]


@pytest.mark.parametrize("width", [0, 1])
def test_a_thin_line_covers_one_pixel_across(width: float) -> None:
    line = Stroke(np.array([[0.0, 10.0], [30.0, 10.0]]), width)
    assert np.flatnonzero(roi_mask(line, (20, 30)).any(axis=1)).tolist() == [10]


def test_dej_is_painted_over_the_others_and_ignore_over_all() -> None:
    rois = [
        square("ignore", 8, 0, 2, label=Label.UNLABELED),
        square("dej", 0, 4, 4, label=Label.DEJ),
        square("epidermis", 0, 0, 6, label=Label.EPIDERMIS),
        square("dermis", 0, 6, 10, label=Label.DERMIS),
    ]
    for order in (rois, rois[::-1]):
        labels = rasterize(order, (1, 16, 16), default=Label.GLASS)
        assert (labels[0, 4:8, 0:4] == Label.DEJ).all()
        assert (labels[0, 0:4, 0:4] == Label.EPIDERMIS).all()
        assert (labels[0, 0:2, 8:10] == Label.UNLABELED).all()
        assert labels[0, 15, 15] == Label.GLASS


def test_thin_overlaps_are_nobodys() -> None:
    rois = [
        square("epidermis", 0, 0, 6, label=Label.EPIDERMIS),
        square("dermis", 0, 4, 6, label=Label.DERMIS),
    ]
    labels = rasterize(rois, (1, 16, 16))
    assert not labels[0, 4:6, 0:6].any()
    assert (labels[0, 6:10, 0:6] == Label.DERMIS).all()


def thin(name: str, points: list, width: float = 0, slice_index: int | None = 0) -> Roi:
    return Roi(name, Label.DEJ, slice_index, Stroke(np.array(points, np.float64), width), "RoiSet.zip")


def test_two_lines_are_the_edges_of_a_band() -> None:
    upper = thin("dej-a", [[0, 10], [20, 10], [39, 10]])
    lower = thin("dej-b", [[39, 15], [0, 15]])  # drawn the other way round
    (band,) = lines_to_bands([upper, lower], 99)
    rows = np.flatnonzero(roi_mask(band, (30, 40)).any(axis=1))
    assert len(rows) == 5
    assert rows[0] in (10, 11)
    assert roi_mask(band, (30, 40)).sum() == 5 * 39


def test_one_line_is_the_middle_of_a_band() -> None:
    (band,) = lines_to_bands([thin("dej", [[0, 10], [39, 10]])], 5.0)
    assert np.flatnonzero(roi_mask(band, (30, 40)).any(axis=1)).tolist() == [8, 9, 10, 11, 12]


def test_other_rois_pass_unchanged() -> None:
    area, wide = square("dej", 1, 1, label=Label.DEJ), thin("dej", [[0, 10], [39, 10]], width=5)
    pieces = [thin("dej-1", [[0, 10], [15, 10]]), thin("dej-2", [[20, 12], [39, 12]])]
    elsewhere = thin("dej-3", [[0, 10], [15, 10]], slice_index=3)
    result = lines_to_bands([area, wide, *pieces, elsewhere], 5.0)
    assert result[:2] == [area, wide]
    assert [r.name for r in result[2:]] == ["dej-1", "dej-2", "dej-3"]
    assert all(isinstance(r.shape, Stroke) and r.shape.width == 5.0 for r in result[2:])


def test_three_lines_are_a_question() -> None:
    lines = [thin(f"dej-{y}", [[0, y], [30, y]]) for y in (5, 10, 15)]
    with pytest.raises(
        RoiError, match=r"3 lines \(dej-5, dej-10, dej-15\) in slice 1 of RoiSet.zip lie above each other"
    ):
        lines_to_bands(lines, 5.0)


def test_a_line_that_was_added_twice_counts_once() -> None:
    points = [[0, 10], [20, 12], [39, 10]]
    once = lines_to_bands([thin("dej-1", points)], 5.0)
    twice = lines_to_bands([thin("dej-1", points), thin("dej-2", points[::-1])], 5.0)
    assert [roi.name for roi in twice] == ["dej-1"]
    np.testing.assert_array_equal(roi_mask(twice[0], (30, 40)), roi_mask(once[0], (30, 40)))


def test_an_interrupted_edge_is_one_edge() -> None:
    upper = [thin("u1", [[0, 10], [18, 10]]), thin("u2", [[22, 10], [39, 10]])]
    (band,) = lines_to_bands([upper[1], thin("low", [[0, 15], [39, 15]]), upper[0]], 5.0)
    assert roi_mask(band, (30, 40)).sum() == 5 * 39


def test_edges_end_where_the_shorter_one_does() -> None:
    (band,) = lines_to_bands([thin("up", [[0, 10], [39, 10]]), thin("low", [[3, 15], [36, 15]])], 5.0)
    mask = roi_mask(band, (30, 40))
    assert np.flatnonzero(mask.any(axis=0)).tolist() == list(range(4, 37))
    assert mask.sum() == 5 * 33


@pytest.mark.parametrize(
    ("lower", "why"),
    [
        ([[0, 15], [19, 15]], r"2 lines \(up, low\) in slice 1 of RoiSet.zip do not begin and end at the same columns"),
        ([[0, 75], [39, 75]], r"are 65 px apart, where a band of about 5 px is expected"),
    ],
)
def test_lines_that_are_no_edges_of_one_band_are_a_question(lower: list, why: str) -> None:
    with pytest.raises(RoiError, match=why):
        lines_to_bands([thin("up", [[0, 10], [39, 10]]), thin("low", lower)], 5.0)


def positioned(name: str, **positions: int) -> Roi:
    roi = ImagejRoi.frompoints([[1, 1], [5, 1], [5, 5]])
    roi.name = name
    for key, value in positions.items():
        setattr(roi, f"{key}_position", value)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{name}.roi", roi.tobytes())
    return read_roi_set(file.getvalue())[0]


@pytest.mark.parametrize(
    ("positions", "slice_index"),
    [
        ({"c": 1, "z": 1, "t": 5}, 4),
        ({"c": 1, "z": 3, "t": 1}, 2),
        ({"c": 9, "z": 1, "t": 1}, 8),
        ({"c": 1, "z": 1, "t": 1}, 0),
        ({"t": 2}, 1),
        ({"c": 1, "z": 3, "t": 2}, 2),
    ],
)
def test_hyperstack_positions_tell_the_slice(positions: dict[str, int], slice_index: int) -> None:
    assert positioned("dej", **positions).slice_index == slice_index


def test_a_slash_in_a_name_is_no_folder() -> None:
    assert positioned("epidermis/dermis").name == "epidermis/dermis"
    assert positioned("epidermis/dermis").label is None


def test_never_overwrites_unasked(tmp_path: Path) -> None:
    path = tmp_path / "RoiSet.zip"
    rois = [square("dej", 1, 1, label=Label.DEJ)]
    write_roi_set(path, rois)
    before = path.read_bytes()
    with pytest.raises(OptionError, match="exists already"):
        write_roi_set(path, rois * 2)
    assert path.read_bytes() == before
    write_roi_set(path, rois * 2, overwrite=True)
    assert len(read_roi_set(path)) == 2
    write_roi_set(tmp_path / "again.zip", rois)
    assert (tmp_path / "again.zip").read_bytes() == before  # the same ROIs make the same file


def test_an_empty_set_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(RoiError, match="no ROIs to write"):
        write_roi_set(tmp_path / "none.zip", [])
    assert list(tmp_path.iterdir()) == []


def test_many_vertices() -> None:
    """More vertices than fit into ImageJ's 16-bit count."""
    mask = np.indices((150, 150)).sum(axis=0) % 2 == 0
    mask[:, 0] = True
    mask[::2] = True
    labels = np.where(mask, Label.DEJ, Label.DERMIS).astype(np.uint8)[np.newaxis]
    np.testing.assert_array_equal(rasterize(through_zip(list(trace(labels))), labels.shape), labels)


def test_roi_types_beyond_16_bit_count_in_one_path() -> None:
    comb = np.zeros((3, 40_000), np.bool_)
    comb[0] = True
    comb[1:, ::2] = True
    (path,) = trace_mask(comb)
    assert len(path) > 1 << 15
    (roi,) = through_zip([Roi("dej", Label.DEJ, 0, Paths((path,)))])
    np.testing.assert_array_equal(roi_mask(roi, comb.shape), comb)


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("dej-0012", Label.DEJ),
        ("left epidermis", Label.EPIDERMIS),
        ("Épiderme 1", Label.EPIDERMIS),
        ("e\N{COMBINING ACUTE ACCENT}piderme", Label.EPIDERMIS),
        ("Jonction dermo-épidermique 3", Label.DEJ),
        ("JDE", Label.DEJ),
        ("glycérol", Label.GLYCEROL),
        ("Glycérine_2", Label.GLYCEROL),
        ("verre", Label.GLASS),
        ("derme", Label.DERMIS),
        ("Lederhaut", Label.DERMIS),
        ("Glas 4", Label.GLASS),
        ("Glyzerin", Label.GLYCEROL),
        ("dermoepidermale Junktion", Label.DEJ),
        ("épiderme/derme", None),
        ("0012-0100-0256", None),
        ("Hornschicht", None),
    ],
)
def test_classes_are_understood_in_three_languages(name: str, label: Label | None) -> None:
    assert label_from_name(name) == label
