"""Correct in the ROI Manager, save for training, check and train; the same from Python and from a stock Fiji."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile

from skinoct.checkpoint import load_checkpoint
from skinoct.labels import Label
from skinoct.rois import rasterize, read_roi_set
from skinoct_training.cli import main as train

pytestmark = pytest.mark.imagej


def run(session, command, options):
    code = f'run("{command}", "{options}"); return "done";'
    assert session(f"str(ij.IJ.runMacro({code!r}))") == "done"


def sentence(session, code):
    """Return the error that a macro ends with, however it is broken into lines."""
    return " ".join(session(f"str(JClass('ij.macro.Interpreter')().eval({code!r}))").split())


def export_and_move(session, fake, slices):
    session("img = ij.IJ.createImage('skin', '8-bit ramp', 128, 100, 6); img.show()")
    run(session, "Export layers to ROI Manager", f"server={fake.url}")
    session("manager = ij.RoiManager.getInstance2()")
    for number in slices:
        session(f"roi = manager.getRoi({number - 1}); roi.setLocation(roi.getXBase(), roi.getYBase() + 10.0)")


def labels_of(path, name="RoiSet.zip"):
    return rasterize(read_roi_set(path / name), (6, 100, 128), default=Label.UNLABELED)


def test_only_corrected_slices_are_for_training(either, fake, tmp_path):
    export_and_move(either, fake, [2, 5])
    run(either, "Save correction for training...", f"folder=[{tmp_path}] name=patient-1")
    target = tmp_path / "patient-1"
    assert tifffile.imread(target / "tomogram.tif").shape == (6, 100, 128)
    labels = labels_of(target)
    assert [int(z) for z in np.flatnonzero(labels.any(axis=(1, 2)))] == [1, 4]
    assert (labels[1, 60:70] == Label.DEJ).all()
    assert all("corrected" in roi.name for roi in read_roi_set(target / "RoiSet.zip"))
    assert len(read_roi_set(target / "model-output.zip")) == 4
    code = f'run("Save correction for training...", "folder=[{tmp_path}] name=patient-1");'
    assert "not overwritten" in sentence(either, code)


def test_slices_between_are_interpolated_and_drawn_ones_stay(either, fake, tmp_path):
    export_and_move(either, fake, [1, 5])
    either("roi = manager.getRoi(4); roi.setLocation(roi.getXBase(), roi.getYBase() + 8.0)")
    run(either, "Save correction for training...", f"folder=[{tmp_path}] name=p interpolate")
    labels = labels_of(tmp_path / "p")
    tops = [int(np.flatnonzero(labels[z, :, 64] == Label.DEJ)[0]) for z in range(5)]
    assert tops == [60, 62, 64, 66, 68]
    assert not labels[5].any()


def test_untouched_slices_only_when_asked(either, fake, tmp_path):
    export_and_move(either, fake, [])
    code = f'run("Save correction for training...", "folder=[{tmp_path}] name=p");'
    assert "No ROI" in sentence(either, code)
    assert not (tmp_path / "p").exists()
    run(either, "Save correction for training...", f"folder=[{tmp_path}] name=p untouched")
    assert labels_of(tmp_path / "p").any(axis=(1, 2)).all()


def slices_of(path, word, name="RoiSet.zip"):
    return sorted(roi.slice_index + 1 for roi in read_roi_set(path / name) if word in roi.name)


def test_slice_with_anything_drawn_on_it_is_not_interpolated(either, fake, tmp_path):
    export_and_move(either, fake, [1, 5])
    either("mine = JClass('ij.gui.Roi')(10, 10, 20, 20); mine.setName('ignore-here'); mine.setPosition(3)")
    either("manager.addRoi(mine)")
    run(either, "Save correction for training...", f"folder=[{tmp_path}] name=p interpolate")
    assert slices_of(tmp_path / "p", "interpolated") == [2, 4]
    assert slices_of(tmp_path / "p", "corrected") == [1, 3, 5]
    assert not labels_of(tmp_path / "p")[2].any()


def test_layers_may_be_named_in_other_languages(either, fake, tmp_path):
    export_and_move(either, fake, [1])
    for number, name in enumerate(("\u00c9piderme 3", "jonction dermo-e\u0301pidermique", "Lederhaut"), 3):
        either(f"mine = JClass('ij.gui.Roi')(10, 10, 20, 20); mine.setName({name!r}); mine.setPosition({number})")
        either("manager.addRoi(mine)")
    run(either, "Save correction for training...", f"folder=[{tmp_path}] name=p")
    labels = labels_of(tmp_path / "p")
    assert [int(labels[z, 15, 15]) for z in (2, 3, 4)] == [Label.EPIDERMIS, Label.DEJ, Label.DERMIS]


def test_interpolated_slices_take_the_place_of_the_models(either, fake, tmp_path):
    export_and_move(either, fake, [1, 4])
    run(either, "Save correction for training...", f"folder=[{tmp_path}] name=p interpolate untouched")
    assert slices_of(tmp_path / "p", "dej") == [1, 2, 3, 4, 5, 6]
    assert slices_of(tmp_path / "p", "model") == [5, 6]
    assert slices_of(tmp_path / "p", "dej", "model-output.zip") == [2, 3]


def test_other_pieces_of_a_corrected_layer_go_with_it(either, fake, tmp_path):
    """A band in two pieces: who moves one has looked at the other."""
    either("img = ij.IJ.createImage('skin', '8-bit ramp', 128, 100, 6); img.show()")
    run(either, "Export layers to ROI Manager", f"server={fake.url}")
    either("""
from skinoct_fiji.bridge import overlays
manager = ij.RoiManager.getInstance2(); manager.reset()
pieces = []
for _x, _z in ((0, 2), (70, 2), (0, 4)):
    _p = JClass('ij.gui.Roi')(_x, 50, 50, 6); _p.setName(f'dej-{_z}-{_x}'); _p.setPosition(_z); pieces.append(_p)
overlays.to_manager(pieces)
manager.getRoi(0).setLocation(0.0, 54.0)""")
    run(either, "Save correction for training...", f"folder=[{tmp_path}] name=p")
    assert slices_of(tmp_path / "p", "corrected") == [2, 2]
    assert slices_of(tmp_path / "p", "model", "model-output.zip") == [4]


def draw(session, y, number, name="dej redrawn", x=0, width=128):
    session(f"r = JClass('ij.gui.Roi')({x}, {y}, {width}, 6); r.setName({name!r}); r.setPosition({number})")
    session("manager.addRoi(r)")


def test_layer_that_is_drawn_anew_replaces_the_models(either, fake, tmp_path):
    """In its slice alone; nobody has to delete what the model drew."""
    export_and_move(either, fake, [2])
    draw(either, 20, 3)
    run(either, "Save correction for training...", f"folder=[{tmp_path}] name=p")
    assert slices_of(tmp_path / "p", "corrected") == [2, 3]
    assert np.flatnonzero(labels_of(tmp_path / "p")[2, :, 64]).tolist() == list(range(20, 26))
    assert slices_of(tmp_path / "p", "model", "model-output.zip") == [1, 4, 5, 6]
    run(either, "Save correction for training...", f"folder=[{tmp_path}] name=all untouched")
    assert slices_of(tmp_path / "all", "dej") == [1, 2, 3, 4, 5, 6]


def test_layer_that_is_drawn_anew_in_pieces_keeps_them(either, fake, tmp_path):
    export_and_move(either, fake, [])
    draw(either, 20, 3, width=50)
    draw(either, 24, 3, x=70, width=58)
    draw(either, 30, 4, name="epidermis")
    run(either, "Save correction for training...", f"folder=[{tmp_path}] name=p")
    labels = labels_of(tmp_path / "p")
    assert np.flatnonzero(labels[2, :, 10]).tolist() == list(range(20, 26))
    assert np.flatnonzero(labels[2, :, 90]).tolist() == list(range(24, 30))
    assert np.unique(labels[3]).tolist() == [Label.UNLABELED, Label.EPIDERMIS]
    assert slices_of(tmp_path / "p", "model", "model-output.zip") == [1, 2, 4, 5, 6]  # another layer of that slice


def test_layers_that_were_exported_twice_count_once(either, fake, tmp_path):
    """Who drags one of two that lie on each other means both."""
    export_and_move(either, fake, [])
    run(either, "Export layers to ROI Manager", f"server={fake.url}")
    for number, rows in ((2, 10.0), (9, 4.0)):  # the first of slice 2, the second of slice 3
        either(f"roi = manager.getRoi({number - 1}); roi.setLocation(roi.getXBase(), roi.getYBase() + {rows})")
    run(either, "Save correction for training...", f"folder=[{tmp_path}] name=p")
    assert slices_of(tmp_path / "p", "corrected") == [2, 3]
    labels = labels_of(tmp_path / "p")
    assert [int(np.flatnonzero(labels[z, :, 64])[0]) for z in (1, 2)] == [60, 54]
    assert slices_of(tmp_path / "p", "model", "model-output.zip") == [1, 4, 5, 6]


def test_bands_in_pieces_are_interpolated_where_both_slices_have_them(either, fake, tmp_path):
    either("img = ij.IJ.createImage('skin', '8-bit ramp', 128, 100, 6); img.show()")
    either("manager = ij.RoiManager.getRoiManager()")
    for x, y, width, number in ((0, 40, 128, 1), (0, 47, 50, 4), (70, 47, 58, 4)):
        either(f"r = JClass('ij.gui.Roi')({x}, {y}, {width}, 6); r.setName('dej'); r.setPosition({number})")
        either("manager.addRoi(r)")
    run(either, "Save correction for training...", f"folder=[{tmp_path}] name=p interpolate")
    labels = labels_of(tmp_path / "p")
    dej = labels[1] == Label.DEJ
    assert dej[:, :50].any(axis=0).all()
    assert dej[:, 70:].any(axis=0).all()
    assert not dej[:, 50:70].any()
    assert np.flatnonzero(dej[:, 10]).tolist() == [42, 43, 44, 45, 46, 47]


OTHERS = {
    "behind the last slice": ("JClass('ij.gui.Roi')(10, 10, 20, 20)", 9, "lies on slice 9, 'skin' has 6"),
    "point": ("JClass('ij.gui.PointRoi')(10, 10)", 2, "of type point, which covers no area"),
    "text": ("JClass('ij.gui.TextRoi')(10, 10, 'look')", 2, "of type text, which covers no area"),
    "arrow": ("JClass('ij.gui.Arrow')(10.0, 10.0, 60.0, 20.0)", 2, "of type arrow, which covers no area"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_roi_that_belongs_to_no_layer_is_named(either, fake, tmp_path, kind):
    """What training could not read is not saved for it."""
    made, number, words = OTHERS[kind]
    export_and_move(either, fake, [2])
    either(f"other = {made}; other.setName('mark'); other.setPosition({number}); manager.addRoi(other)")
    words_of = sentence(either, f'run("Save correction for training...", "folder=[{tmp_path}] name=p");')
    assert f"ROI mark {'is ' if number == 2 else ''}{words}" in words_of
    assert list(tmp_path.iterdir()) == []


def test_frames_are_tomograms_of_their_own(either, fake, tmp_path):
    """Two frames of three slices: what was drawn on the one is not saved with the other."""
    either("img = ij.IJ.createImage('skin', '8-bit ramp', 128, 100, 6)")
    either("img.setDimensions(1, 3, 2); img.setOpenAsHyperStack(True); img.show()")
    for frame in (1, 2):
        either(f"img.setPosition(1, 1, {frame})")
        run(either, "Export layers to ROI Manager", f"server={fake.url}")
    either("manager = ij.RoiManager.getInstance2()")
    for index, rows in ((1, 5.0), (5, 9.0)):
        either(f"roi = manager.getRoi({index}); roi.setLocation(roi.getXBase(), roi.getYBase() + {rows})")
    for frame, number in ((1, 2), (2, 3)):
        either(f"img.setPosition(1, 1, {frame})")
        run(either, "Save correction for training...", f"folder=[{tmp_path}] name=frame-{frame}")
        assert slices_of(tmp_path / f"frame-{frame}", "corrected") == [number]
        assert slices_of(tmp_path / f"frame-{frame}", "model", "model-output.zip") == sorted({1, 2, 3} - {number})
    either("manager.runCommand('Deselect')")
    for index in (5, 4, 3):
        either(f"manager.select({index}); manager.runCommand('Delete')")
    words = sentence(either, f'run("Save correction for training...", "folder=[{tmp_path}] name=p");')
    assert "of other frames of 'skin'" in words


def test_nothing_is_left_behind_when_the_image_cannot_be_written(quiet, fake, tmp_path):
    export_and_move(quiet, fake, [2])
    (tmp_path / "file").write_text("no folder")
    code = f'run("Save correction for training...", "folder=[{tmp_path / "file"}] name=p");'
    assert "Give another folder" in sentence(quiet, code)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


TINY = {
    "network": {"in_slices": 3, "stem": [2, 2], "widths": [8, 12]},
    "crop": [48, 48],
    "epoch_images": 8,
    "batch": 4,
    "val_slices": 4,
}


def correct(session, fake, path, data):
    """What a doctor does: open, export, move the DEJ of two slices, Update, save."""
    session(f"img = ij.IJ.openImage({str(path)!r}); img.show()")
    run(session, "Export layers to ROI Manager", f"server={fake.url}")
    session("manager = ij.RoiManager.getInstance2()")
    for number in (2, 6):
        session(f"manager.select({number - 1}); roi = img.getRoi()")
        session("roi.setLocation(roi.getXBase(), roi.getYBase() + 4.0); manager.runCommand('Update')")
    session("manager.runCommand('Deselect')")
    run(session, "Save correction for training...", f"folder=[{data}] interpolate")
    session("manager.reset(); img.changes = False; img.close()")


def test_correction_goes_through_check_and_fit_as_it_is(either, fake, make_tiff, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "data"
    for name, seed in (("patient-1", 1), ("patient-2", 2)):
        fake.wave = 2.0 + seed
        path = tmp_path / f"{name}.tif"
        path.write_bytes(make_tiff(8, 64, 96, seed=seed))
        correct(either, fake, path, data)
    for name in ("patient-1", "patient-2"):
        target = data / name
        assert slices_of(target, "corrected") == [2, 6]
        assert slices_of(target, "interpolated") == [3, 4, 5]
        assert slices_of(target, "model", "model-output.zip") == [1, 3, 4, 5, 7, 8]
        np.testing.assert_array_equal(
            tifffile.imread(target / "tomogram.tif"), tifffile.imread(tmp_path / f"{name}.tif")
        )
    assert train(["check", str(data)]) == 0
    report = capsys.readouterr().out
    assert "ERROR" not in report
    assert "DEJ band is" not in report
    (tmp_path / "tiny.json").write_text(json.dumps(TINY))
    assert train(["fit", str(data), "--out", "net", "--epochs", "2", "--config", "tiny.json", "--threads", "1"]) == 0
    card = load_checkpoint("net").card
    assert set(card.data["files"]) == {"patient-1", "patient-2"}
    assert card.pixel_size_um == pytest.approx(0.9)
