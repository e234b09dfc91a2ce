"""Door B: the installed scripts in a stock Fiji; needs FIJI_DIR."""

from __future__ import annotations

import io

import pytest
import tifffile

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


def test_macro_line_gives_what_door_a_gives(door_b, fake):
    open_stack(door_b)
    door_b("img.setOverlay(JClass('ij.gui.Overlay')(JClass('ij.gui.Roi')(5, 5, 20, 20)))")
    door_b("img.setRoi(20, 10, 40, 30)")
    macro(door_b, f'run("Segment skin", "server={fake.url} opacity=60 slices=3-5 selection"); return "done";')
    assert door_b.until("result") == "done"
    assert door_b("img.getOverlay().size()") == 4
    assert door_b(f"[r.getPosition() for r in {OURS}]") == [3, 4, 5]
    assert door_b(f"(lambda b: (b.x, b.y, b.width, b.height))({OURS}[0].getBounds())") == [20, 25, 40, 3]
    assert door_b(f"{OURS}[0].getFillColor().getAlpha()") == 153
    assert tifffile.imread(io.BytesIO(fake.bodies[-1])).shape == (3, 30, 40)
    assert door_b("img.getRoi().getBounds().width") == 40


def test_other_entries(door_b, fake):
    open_stack(door_b)
    macro(
        door_b,
        f'run("Export layers to ROI Manager", "server={fake.url}"); '
        f'run("Segment skin", "server={fake.url} show=[all layers]"); '
        'run("Layer display...", "style=outlines color=yellow opacity=100"); '
        f'run("Measure DEJ", "server={fake.url} maps"); return "done";',
    )
    assert door_b.until("result", 30) == "done"
    assert door_b("ij.RoiManager.getInstance2().getCount()") == 6
    assert door_b(f"{OURS}[0].getStrokeColor().getRGB() & 0xffffff") == 0xFFDD33
    value = "JClass('ij.measure.ResultsTable').getResultsTable('DEJ measurements').getValue('thickness_mean_um', 0)"
    assert door_b(value) == pytest.approx(31.5)
    assert door_b("ij.WindowManager.getImage('skin maps') is not None")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("server=http://127.0.0.1:9", "skinoct-server serve"),
        ("opactiy=40", "no option 'opactiy'"),
        ("opacity=400", "not a percentage"),
        ("slices=5-90", "not a range"),
        ("selection", "no rectangle selected"),
    ],
)
def test_errors_are_sentences_that_a_macro_can_catch(door_b, fake, options, words):
    open_stack(door_b)
    options = options if "server=" in options else f"server={fake.url} {options}"
    code = f'run("Segment skin", "{options}"); return "went on";'
    sentence = door_b(f"str(JClass('ij.macro.Interpreter')().eval({code!r}))")
    assert words in " ".join(sentence.split())


def test_error_that_nobody_catches_is_shown_and_ends_the_macro(door_b, fake):
    open_stack(door_b)
    fake.failure = "Slice 4 holds NaN. Repair it."
    macro(door_b, f'run("Segment skin", "server={fake.url}"); return "went on";')
    assert "Slice 4 holds NaN" in door_b.message("Macro Error")
    assert door_b.until("result") != "went on"


def test_escape_cancels_on_the_server(door_b, fake):
    open_stack(door_b)
    fake.slices_per_second = 0.2
    door_b(f"ij.Prefs.set('skinoct.server', {fake.url!r})")
    door_b.choose("Plugins", "Skin", "Segment skin")
    door_b.until("window('Segment skin') is not None")
    door_b.ok("Segment skin")
    door_b.until("'slice 0 of 6' in status()")
    door_b.focus("skin")
    door_b.xdotool("key", "Escape")
    assert "Stopped" in door_b.message()
    assert len(fake.deleted) == 1
    assert door_b("img.getOverlay()") is None
