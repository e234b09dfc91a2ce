"""Segment skin against the real skinoct-server with a real, tiny network."""

from __future__ import annotations

import contextlib
import io
import os
import signal

import httpx
import numpy as np
import pytest
import tifffile

from skinoct.rois import read_roi_set

pytestmark = pytest.mark.imagej

OURS = "[r for r in (img.getOverlay().toArray() if img.getOverlay() else []) if r.getProperty('skinoct')]"


@pytest.fixture
def opened(quiet, make_tiff, tmp_path):
    """An ImageJ with a calibrated tomogram of 12 slices in front."""
    content = make_tiff(12, 64, 96)
    path = tmp_path / "skin.tif"
    path.write_bytes(content)
    quiet(f"img = ij.IJ.openImage({str(path)!r}); img.show()")
    return quiet, content


def run_macro(session, url, options=""):
    code = f'run("Segment skin", "server={url} {options}"); return "done";'
    assert session(f"str(ij.IJ.runMacro({code!r}))") == "done"


def test_overlay_is_the_label_stack_pixel_for_pixel(opened, live_server):
    session, content = opened
    run_macro(session, live_server.url, "show=[all layers] opacity=40")
    answer = httpx.post(f"{live_server.url}/segment", content=content, headers={"Content-Type": "image/tiff"})
    labels = tifffile.imread(io.BytesIO(answer.content))
    session("""
import numpy
painted = numpy.zeros((12, 64, 96), numpy.uint8)
values = dict(glass=1, glycerol=2, epidermis=3, dej=4, dermis=5)
for roi in img.getOverlay().toArray():
    plane = JClass('ij.process.ByteProcessor')(96, 64)
    plane.setColor(values[str(roi.getProperty('skinoct'))])
    plane.fill(roi)
    painted[roi.getPosition() - 1] |= numpy.asarray(plane.getPixels()).view(numpy.uint8).reshape(64, 96)
numpy.save(str(Path('painted.npy').absolute()), painted)""")
    painted = np.load(session.folder / "painted.npy")
    np.testing.assert_array_equal(painted, labels)


def test_click_with_the_real_server(opened, live_server):
    session, _ = opened
    session(f"ij.remember({{'server': {live_server.url!r}, 'options': ''}})")
    session.choose("Plugins", "Skin", "Segment skin")
    session.until("window('Segment skin') is not None")
    session.ok("Segment skin")
    session.until("'12 slices' in status() or 'no DEJ' in status()")
    assert "tiny" in session("status()")


def test_roi_set_opens_in_imagejs_own_roi_manager(opened, live_server, tmp_path):
    session, content = opened
    answer = httpx.post(f"{live_server.url}/segment", content=content, headers={"Accept": "application/zip"})
    path = tmp_path / "RoiSet.zip"
    path.write_bytes(answer.content)
    rois = read_roi_set(path)
    code = f'roiManager("Open", "{path}"); return "" + roiManager("count");'
    assert session(f"str(ij.IJ.runMacro({code!r}))") == str(len(rois))
    read = "ij.RoiManager.getInstance2().getRoisAsArray()"
    assert session(f"[r.getPosition() for r in {read}]") == [roi.slice_index + 1 for roi in rois]
    assert session(f"[str(r.getName()) for r in {read}]") == [roi.name for roi in rois]
    assert session("window('Error') is None")


def test_server_that_is_killed_at_work_is_said(opened, start_server):
    """Its engine stands still, so the job is at work for certain when everything is killed."""
    session, _ = opened
    server = start_server("--device", "torch")
    engines = [pid for name, pid in server.children().items() if name.startswith("engine")]
    for pid in engines:
        os.kill(pid, signal.SIGSTOP)
    session(f"ij.remember({{'server': {server.url!r}, 'options': ''}})")
    session.choose("Plugins", "Skin", "Segment skin")
    session.until("window('Segment skin') is not None")
    session.ok("Segment skin")
    session.until("'(Escape stops)' in status() and ('slice' in status() or 'waiting' in status())")
    server.process.kill()
    server.process.wait(10)
    for pid in engines:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    session.until("window('skinoct') is not None", 60)
    sentence = session.message()
    assert "went away while it was working" in sentence
    assert "your image is unchanged" in sentence
    assert session("img.getOverlay()") is None
    assert session.windows() == ["ImageJ", "skin.tif"]


def test_server_says_what_is_wrong_with_an_image(quiet, live_server):
    quiet("img = ij.IJ.createImage('flat', '8-bit black', 96, 64, 5); img.show()")
    code = f'run("Segment skin", "server={live_server.url}"); return "done";'
    sentence = quiet(f"str(JClass('ij.macro.Interpreter')().eval({code!r}))")
    assert "Every voxel" in sentence
    assert quiet("img.getOverlay()") is None


def test_models_of_the_server_are_offered(opened, live_server):
    session, _ = opened
    session(f"ij.remember({{'server': {live_server.url!r}, 'options': ''}})")
    session.choose("Plugins", "Skin", "Segment skin")
    session.until("window('Segment skin') is not None")
    session("models = window('Segment skin').getChoices().get(0)")
    assert session("[str(models.getItem(i)) for i in range(models.getItemCount())]") == ["default", "tiny"]
    session.press("Segment skin", "Cancel")
