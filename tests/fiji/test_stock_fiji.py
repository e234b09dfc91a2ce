"""The installed scripts in a stock Fiji; needs FIJI_DIR. What both ways do alike is in the tests with ``either``."""

from __future__ import annotations

import contextlib
import os
import signal

import pytest

from .fake_server import answer

pytestmark = pytest.mark.fiji

OURS = "[r for r in (img.getOverlay().toArray() if img.getOverlay() else []) if r.getProperty('skinoct')]"


def open_stack(session):
    session("img = ij.IJ.createImage('skin', '8-bit ramp', 128, 100, 6); img.show()")


def macro(session, code):
    session("result = None; import threading")
    session(f"def _go():\n global result\n result = str(ij.IJ.runMacro({code!r}))")
    session("threading.Thread(target=_go, name='test_Macro$', daemon=True).start()")


def test_click_through_the_dialog_and_the_recorder(door_b, fake):
    open_stack(door_b)
    door_b(f"ij.Prefs.set('skinoct.server', {fake.url!r})")
    door_b("ij.IJ.run('Record...')")
    door_b.until("bool(ij.Recorder.record)")
    door_b.choose("Plugins", "Skin", "Segment skin")
    door_b.press("Segment skin", "Test connection")
    door_b.until("any('Connected to skinoct-server' in t for t in texts('Segment skin'))")
    door_b.ok("Segment skin")
    door_b.until(f"len({OURS}) == 6")
    line = f'run("Segment skin", "server={fake.url} opacity=40");'
    door_b.until(f"{line!r} in str(ij.Recorder.getInstance().getText())")
    door_b("ij.Recorder.getInstance().close()")


def test_other_entries(door_b, fake):
    open_stack(door_b)
    macro(
        door_b,
        f'run("Export layers to ROI Manager", "server={fake.url}"); '
        f'run("Segment skin", "server={fake.url} show=[all layers]"); '
        'run("Layer display...", "style=outlines color=yellow opacity=100"); '
        f'run("Measure DEJ", "server={fake.url} maps"); return "done";',
    )
    assert door_b.until("result", 60) == "done"
    assert door_b("ij.RoiManager.getInstance2().getCount()") == 6
    assert door_b(f"{OURS}[0].getStrokeColor().getRGB() & 0xffffff") == 0xFFDD33
    value = "JClass('ij.measure.ResultsTable').getResultsTable('DEJ measurements').getValue('thickness_mean_um', 0)"
    assert door_b(value) == pytest.approx(31.5)
    assert door_b("ij.WindowManager.getImage('skin maps') is not None")


def test_439_slices_appear_within_two_seconds(door_b, fake, stock_folder, tmp_path):
    """Time of the thread, which is time on a clock wherever a core is free; as in the test of the other way."""
    fake.wave = 12.0
    path = tmp_path / "dej.zip"
    path.write_bytes(answer(fake, (439, 224, 512), "application/vnd.skinoct.dej+zip"))
    door_b("img = ij.IJ.createImage('skin', '8-bit black', 512, 224, 439); img.show()")
    door_b(f"""
import time
bsh = JClass('bsh.Interpreter')()
bsh.set('img', img)
bsh.set('content', JClass('java.nio.file.Files').readAllBytes(JClass('java.io.File')({str(path)!r}).toPath()))
bsh.eval('source("{stock_folder}/lib/skinoct/common.bsh");')
begin = time.thread_time()
bsh.eval('skinPaint(img, skinRois(content, false), new int[] {{0, 439}}, null, "by layer", 40, "filled");')
taken = time.thread_time() - begin""")
    assert door_b(f"len({OURS})") == 439
    assert door_b("taken") < 2.0


def test_error_that_nobody_catches_is_shown_and_ends_the_macro(door_b, fake):
    open_stack(door_b)
    fake.failure = "Slice 4 holds NaN. Repair it."
    macro(door_b, f'run("Segment skin", "server={fake.url}"); return "went on";')
    assert "Slice 4 holds NaN" in door_b.message("Macro Error")
    assert door_b.until("result") != "went on"


def test_server_that_is_killed_at_work_is_said(door_b, start_server, make_tiff, tmp_path):
    path = tmp_path / "skin.tif"
    path.write_bytes(make_tiff(12, 64, 96))
    door_b(f"img = ij.IJ.openImage({str(path)!r}); img.show()")
    server = start_server()
    engines = [pid for name, pid in server.children().items() if name.startswith("engine")]
    for pid in engines:
        os.kill(pid, signal.SIGSTOP)
    macro(door_b, f'run("Segment skin", "server={server.url}"); return "went on";')
    door_b.until("'(Escape stops)' in status() and ('slice' in status() or 'waiting' in status())")
    server.process.kill()
    server.process.wait(10)
    for pid in engines:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    door_b.until("window('Macro Error') is not None", 60)
    assert "went away while it was working" in " ".join(door_b.message("Macro Error").split())
    assert door_b("img.getOverlay()") is None
