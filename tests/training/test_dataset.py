"""Training folders as labs have them: label stacks, ROI sets, sparse ones, lines, unnamed bands, mistakes."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from skinoct.errors import DatasetError
from skinoct.grid import plan_grid
from skinoct.intensity import IntensityConfig
from skinoct.labels import Label
from skinoct.rois import Paths, Roi, Stroke, read_roi_set, write_roi_set
from skinoct.tomogram import PixelSize
from skinoct_training.dataset import (
    LabelOptions,
    Volume,
    find_cases,
    fingerprint,
    load_volume,
    make_volume,
    native_pixel_um,
    resize_labels,
)
from skinoct_training.preparation import say_assumptions

from .conftest import MakeData, skin, write_stack


def load(data: Path, index: int = 0, pixel_um: float = 0.9, **options: object) -> Volume:
    chosen = LabelOptions(**options)  # type: ignore[arg-type]
    case = find_cases(data, chosen.source)[index]
    return load_volume(case, pixel_um=pixel_um, intensity=IntensityConfig(), options=chosen)


def test_label_stacks_come_as_they_are(make_data: MakeData) -> None:
    volume = load(make_data())
    np.testing.assert_array_equal(volume.labels, skin(0)[1])
    assert volume.images.dtype == np.uint8
    assert volume.images.shape == volume.labels.shape
    assert volume.annotated.tolist() == list(range(6))
    assert volume.band_um == pytest.approx(5.6 * 0.9, rel=0.03)


def test_complete_roi_sets_equal_the_label_stack(make_data: MakeData) -> None:
    volume = load(make_data(rois=list(Label)[1:]))
    np.testing.assert_array_equal(volume.labels, skin(0)[1])


def test_layers_left_out_are_derived(make_data: MakeData) -> None:
    volume = load(make_data(rois=[Label.GLASS, Label.GLYCEROL, Label.DEJ]))
    np.testing.assert_array_equal(volume.labels, skin(0)[1])


def test_sparse_annotation_leaves_the_other_slices_out(make_data: MakeData) -> None:
    volume = load(make_data(rois=[Label.GLYCEROL, Label.DEJ], every=3))
    assert volume.annotated.tolist() == [0, 3]
    assert not volume.labels[[1, 2, 4, 5]].any()


def test_unnamed_bands_need_to_be_told(make_data: MakeData) -> None:
    data = make_data(rois=[Label.DEJ])
    path = data / "t0" / "RoiSet.zip"
    rois = [replace(roi, label=None, name=f"{(roi.slice_index or 0) + 1:04d}-0100-0256") for roi in read_roi_set(path)]
    write_roi_set(path, rois, overwrite=True)
    with pytest.raises(DatasetError, match=r"ROI 0001-0100-0256 in t0/RoiSet\.zip.*--roi-class dej"):
        load(data)
    named = load(data, roi_class=Label.DEJ)
    np.testing.assert_array_equal(named.labels == Label.DEJ, skin(0)[1] == Label.DEJ)


def test_a_class_for_unnamed_rois_takes_no_named_one(make_data: MakeData) -> None:
    data = make_data(rois=[Label.DEJ])
    path = data / "t0" / "RoiSet.zip"
    first, *others = read_roi_set(path)
    write_roi_set(path, [replace(first, label=None, name="Hornschicht 1"), *others], overwrite=True)
    with pytest.raises(DatasetError, match=r"ROI Hornschicht 1 in t0/RoiSet\.zip does not tell its class"):
        load(data, roi_class=Label.DEJ)


def test_another_layer_is_not_taken_for_the_dej(make_data: MakeData) -> None:
    data = make_data()
    labels = skin(0)[1]
    labels[2:4][labels[2:4] == Label.EPIDERMIS] = Label.DEJ
    write_stack(data / "t0" / "labels.tif", labels)
    with pytest.raises(
        DatasetError, match=r"t0/labels\.tif: the DEJ is \d+ um thick in slice 3 and in 1 more; .*about 5 um"
    ):
        load(data)


@pytest.mark.parametrize("edges", [1, 2])
def test_lines_are_bands(make_data: MakeData, edges: int) -> None:
    data = make_data(rois=[Label.DEJ])
    offsets = [0.0] if edges == 1 else [-2.5, 2.5]
    rois = [
        Roi(f"dej-{k}", Label.DEJ, 0, Stroke(np.array([[0.0, 30 + offset], [63.0, 30 + offset]])))
        for k, offset in enumerate(offsets)
    ]
    write_roi_set(data / "t0" / "RoiSet.zip", rois, overwrite=True)
    volume = load(data, pixel_um=0.9)
    assert volume.annotated.tolist() == [0]
    assert volume.band_um == pytest.approx(5.0, abs=0.9)


def test_seams_and_overlaps_of_drawn_layers_leave_no_column_unknown(make_data: MakeData) -> None:
    data = make_data(rois=list(Label)[1:])
    path = data / "t0" / "RoiSet.zip"
    rows = {0: 1, 1: -1}  # in the first slice a seam above the epidermis, in the second an overlap

    def moved(roi: Roi) -> Roi:
        if roi.label != Label.EPIDERMIS or not isinstance(roi.shape, Paths):
            return roi
        down = np.array([0, rows.get(roi.slice_index or 0, 0)])
        return replace(roi, shape=Paths(tuple(points + down for points in roi.shape.paths)))

    apart = [moved(roi) for roi in read_roi_set(path)]
    write_roi_set(path, apart, overwrite=True)
    volume = load(data)
    assert volume.labels.min() > 0
    assert (
        np.abs((volume.labels == Label.EPIDERMIS).sum(axis=1) - (skin(0)[1] == Label.EPIDERMIS).sum(axis=1)).max() <= 1
    )


def test_ignored_regions_stay_unlabeled(make_data: MakeData) -> None:
    data = make_data(rois=[Label.GLYCEROL, Label.DEJ])
    path = data / "t0" / "RoiSet.zip"
    line = Stroke(np.array([[0.0, 40.0], [63.0, 40.0]]), width=4)
    write_roi_set(path, [*read_roi_set(path), Roi("ignore-hair", Label.UNLABELED, 0, line)], overwrite=True)
    volume = load(data)
    assert not volume.labels[0, 40].any()
    assert (volume.labels[1, 40] == Label.DERMIS).all()


def test_pixel_sizes_are_brought_to_one(make_data: MakeData) -> None:
    data = make_data(count=1, um=0.9)
    image, labels = skin(0)
    write_stack(data / "fine" / "tomogram.tif", image.repeat(2, 1).repeat(2, 2), 0.45)
    write_stack(data / "fine" / "labels.tif", labels.repeat(2, 1).repeat(2, 2), 0.45)
    fine, coarse = load(data, 0), load(data, 1)
    assert native_pixel_um(find_cases(data)) == pytest.approx((0.45 + 0.9) / 2)
    assert fine.images.shape == coarse.images.shape
    np.testing.assert_array_equal(fine.labels, coarse.labels)
    assert fine.band_um == pytest.approx(coarse.band_um)


def test_label_stacks_win_unless_rois_are_asked_for(make_data: MakeData) -> None:
    data = make_data(rois=[Label.DEJ])
    write_stack(data / "t0" / "labels.tif", skin(0)[1])
    assert find_cases(data)[0].annotation.name == "labels.tif"
    with pytest.raises(DatasetError, match=r"t1.*no labels\.tif"):
        find_cases(data, "labels")
    assert find_cases(data, "rois")[0].annotation.name == "RoiSet.zip"


def test_names_may_be_written_in_capitals(make_data: MakeData) -> None:
    data = make_data(rois=[Label.DEJ])
    (data / "t0" / "tomogram.tif").rename(data / "t0" / "Tomogram.TIF")
    (data / "t0" / "RoiSet.zip").rename(data / "t0" / "roiset.ZIP")
    assert [case.name for case in find_cases(data)] == ["t0", "t1", "t2"]
    assert (load(data).labels == Label.DEJ).any()


def test_other_folders_are_nobodys(make_data: MakeData) -> None:
    data = make_data()
    shutil.copytree(data / "t0", data / ".Trash-1000")
    (data / "notes").mkdir()
    (data / "notes" / "plan.txt").write_text("-")
    assert [case.name for case in find_cases(data)] == ["t0", "t1", "t2"]


def test_a_run_says_once_what_it_takes_for_granted(make_data: MakeData, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_data(rois=[Label.DEJ], um=0.9)
    say_assumptions(find_cases(data), LabelOptions())
    assert capsys.readouterr().err == ""
    for name in ("t0", "t2"):
        write_stack(data / name / "labels.tif", skin(0)[1])
        write_stack(data / name / "tomogram.tif", skin(0)[0])
    say_assumptions(find_cases(data), LabelOptions())
    size, labels = capsys.readouterr().err.splitlines()
    assert size.startswith("Without a pixel size: t0, t2; all micrometers assume 0.9 um")
    assert "labels.tif is used, not the RoiSet.zip beside it, in t0, t2; --labels rois" in labels
    say_assumptions(find_cases(data, "rois"), LabelOptions("rois"))
    assert "labels.tif" not in capsys.readouterr().err


@pytest.mark.parametrize("size_um", [(0.45, 1.8), (0.9, 0.92), (4.0, 2.5), (0.3, 9.0)])
def test_training_sees_an_image_at_the_size_of_use(size_um: tuple[float, float]) -> None:
    voxels, labels = skin(0)
    grid = plan_grid((voxels.shape[1], voxels.shape[2]), PixelSize(*size_um), 0.9, "t")
    volume = make_volume("t", voxels, labels, size_um, 0.9, IntensityConfig())
    assert volume.images.shape[1:] == volume.labels.shape[1:] == grid.network
    assert volume.pixel_um == pytest.approx(grid.network_um)


def test_resampled_labels_are_never_mixed() -> None:
    labels = np.array([[[1, 1, 5], [1, 5, 5]]], np.uint8)
    assert set(np.unique(resize_labels(labels, (7, 9)))) == {1, 5}


def test_the_fingerprint_changes_with_any_byte(make_data: MakeData) -> None:
    data = make_data()
    before = fingerprint(find_cases(data))
    assert fingerprint(find_cases(data)) == before
    write_stack(data / "t1" / "labels.tif", skin(5)[1])
    after = fingerprint(find_cases(data))
    assert after["t0"] == before["t0"]
    assert after["t1"]["labels.tif"] != before["t1"]["labels.tif"]


class TestBadData:
    def test_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match="There is no folder"):
            find_cases(tmp_path / "nowhere")

    def test_no_tomograms(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match="holds no tomogram folders"):
            find_cases(tmp_path)

    def test_a_misnamed_tomogram_is_not_left_out(self, make_data: MakeData) -> None:
        data = make_data(rois=[Label.DEJ])
        (data / "t1" / "tomogram.tif").rename(data / "t1" / "scan.tif")
        with pytest.raises(DatasetError, match=r"t1 holds RoiSet\.zip, scan\.tif but no tomogram\.tif; rename"):
            find_cases(data)
        (data / "t1" / "scan.tif").unlink()
        with pytest.raises(DatasetError, match=r"t1 holds RoiSet\.zip but no tomogram\.tif"):
            find_cases(data)

    def test_no_annotation(self, make_data: MakeData) -> None:
        data = make_data()
        (data / "t1" / "labels.tif").unlink()
        with pytest.raises(DatasetError, match=r"t1 has a tomogram but no labels\.tif and no RoiSet\.zip"):
            find_cases(data)

    def test_a_corrupt_file_is_named(self, make_data: MakeData) -> None:
        data = make_data()
        path = data / "t2" / "tomogram.tif"
        path.write_bytes(path.read_bytes()[:9000])
        with pytest.raises(DatasetError, match=r"t2/tomogram\.tif is cut off"):
            load(data, 2)

    def test_labels_of_another_tomogram(self, make_data: MakeData) -> None:
        data = make_data()
        write_stack(data / "t0" / "labels.tif", skin(0, (6, 48, 32))[1])
        with pytest.raises(DatasetError, match=r"6 x 48 x 32 but tomogram\.tif is 6 x 48 x 64"):
            load(data)

    def test_values_that_are_no_labels(self, make_data: MakeData) -> None:
        data = make_data()
        write_stack(data / "t0" / "labels.tif", skin(0)[1] * 50)
        with pytest.raises(DatasetError, match="holds the value 250"):
            load(data)

    def test_rois_of_another_tomogram(self, make_data: MakeData) -> None:
        data = make_data(rois=[Label.DEJ])
        shutil.copy(data / "t0" / "RoiSet.zip", data / "keep.zip")
        write_stack(data / "t0" / "tomogram.tif", skin(0)[0][:2])
        with pytest.raises(DatasetError, match=r"ROI dej-0003 in t0/RoiSet\.zip lies in slice 3"):
            load(data)

    def test_an_absurd_calibration(self, make_data: MakeData) -> None:
        with pytest.raises(DatasetError, match="a pixel is 350 um"):
            load(make_data(um=350.0))
