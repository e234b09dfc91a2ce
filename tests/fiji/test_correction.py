"""Correct in the ROI Manager, save for training; segment a folder from the menu's macro line."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from skinoct.labels import Label
from skinoct.rois import rasterize, read_roi_set

pytestmark = pytest.mark.imagej


def run(session, command, options):
    code = f'run("{command}", "{options}"); return "done";'
    assert session(f"str(ij.IJ.runMacro({code!r}))") == "done"


def export_and_move(session, fake, slices):
    session("img = ij.IJ.createImage('skin', '8-bit ramp', 128, 100, 6); img.show()")
    run(session, "Export layers to ROI Manager", f"server={fake.url}")
    session("manager = ij.RoiManager.getInstance2()")
    for number in slices:
        session(f"roi = manager.getRoi({number - 1}); roi.setLocation(roi.getXBase(), roi.getYBase() + 10.0)")


def labels_of(path, name="RoiSet.zip"):
    return rasterize(read_roi_set(path / name), (6, 100, 128), default=Label.UNLABELED)


def test_only_corrected_slices_are_for_training(quiet, fake, tmp_path):
    export_and_move(quiet, fake, [2, 5])
    run(quiet, "Save correction for training...", f"folder=[{tmp_path}] name=patient-1")
    target = tmp_path / "patient-1"
    assert tifffile.imread(target / "tomogram.tif").shape == (6, 100, 128)
    labels = labels_of(target)
    assert [int(z) for z in np.flatnonzero(labels.any(axis=(1, 2)))] == [1, 4]
    assert (labels[1, 60:70] == Label.DEJ).all()
    assert all("corrected" in roi.name for roi in read_roi_set(target / "RoiSet.zip"))
    assert len(read_roi_set(target / "model-output.zip")) == 4
    code = f'run("Save correction for training...", "folder=[{tmp_path}] name=patient-1");'
    assert "not overwritten" in quiet(f"str(JClass('ij.macro.Interpreter')().eval({code!r}))")


def test_slices_between_are_interpolated_and_drawn_ones_stay(quiet, fake, tmp_path):
    export_and_move(quiet, fake, [1, 5])
    quiet("roi = manager.getRoi(4); roi.setLocation(roi.getXBase(), roi.getYBase() + 8.0)")
    run(quiet, "Save correction for training...", f"folder=[{tmp_path}] name=p interpolate")
    labels = labels_of(tmp_path / "p")
    tops = [int(np.flatnonzero(labels[z, :, 64] == Label.DEJ)[0]) for z in range(5)]
    assert tops == [60, 62, 64, 66, 68]
    assert not labels[5].any()


def test_untouched_slices_only_when_asked(quiet, fake, tmp_path):
    export_and_move(quiet, fake, [])
    code = f'run("Save correction for training...", "folder=[{tmp_path}] name=p");'
    assert "No ROI" in quiet(f"str(JClass('ij.macro.Interpreter')().eval({code!r}))")
    assert not (tmp_path / "p").exists()
    run(quiet, "Save correction for training...", f"folder=[{tmp_path}] name=p untouched")
    assert labels_of(tmp_path / "p").any(axis=(1, 2)).all()


def test_folder_entry_ends_with_a_table(quiet, fake, live_server, make_tiff, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.tif").write_bytes(make_tiff(3, 40, 60))
    (folder / "b.tif").write_bytes(b"no TIFF")
    run(quiet, "Segment folder...", f"folder=[{folder}] out=[{tmp_path / 'out'}] server={live_server.url}")
    table = "JClass('ij.measure.ResultsTable').getResultsTable('Segmented folder')"
    assert quiet(f"[str({table}.getStringValue('state', n)) for n in range(2)]") == ["done", "failed"]
    assert (tmp_path / "out" / "a.tif" / "labels.tif").exists()
    quiet("ij.WindowManager.getWindow('Segmented folder').close(False)")
