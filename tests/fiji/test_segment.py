"""*Segment skin* in a real ImageJ window: clicks, macros, the Recorder, Escape, and what may go wrong."""

from __future__ import annotations

import io
import time

import numpy as np
import pytest
import tifffile

pytestmark = pytest.mark.imagej

OURS = "[r for r in (img.getOverlay().toArray() if img.getOverlay() else []) if r.getProperty('skinoct')]"


def open_stack(session, kind="8-bit ramp", slices=6, width=128, height=64):
    session(f"img = ij.IJ.createImage('skin', '{kind}', {width}, {height}, {slices}); img.show()")
    session.until("img.getWindow().isShowing()")


def macro(session, text):
    """Run a macro as the user would; a message box that it opens must not keep us from going on."""
    session(f"result = None\ndef _go():\n global result\n result = str(ij.IJ.runMacro({text!r}))")
    session("import threading; threading.Thread(target=_go, name='test_Macro$', daemon=True).start()")


def finished(session):
    return session.until("result")


def test_click_puts_the_band_over_every_slice(quiet, fake):
    open_stack(quiet)
    quiet.choose("Plugins", "Skin", "Segment skin")
    quiet.until("window('Segment skin') is not None")
    quiet.ok("Segment skin")
    quiet.until(f"len({OURS}) == 6")
    assert quiet(f"[r.getPosition() for r in {OURS}]") == [1, 2, 3, 4, 5, 6]
    assert quiet(f"[str(r.getName()) for r in {OURS}][0]") == "dej-0001"
    assert quiet(f"{OURS}[0].getFillColor().getAlpha()") == 102
    quiet.until("'6 slices' in status()")
    sent = tifffile.imread(io.BytesIO(fake.bodies[-1]))
    assert sent.shape == (6, 64, 128)
    assert sent.dtype == np.uint8


def test_dialog_tells_whether_the_server_answers(quiet, fake):
    open_stack(quiet)
    quiet.choose("Plugins", "Skin", "Segment skin")
    quiet.press("Segment skin", "Test connection")
    quiet.until("any('Connected to skinoct-server' in t for t in texts('Segment skin'))")
    quiet.press("Segment skin", "Cancel")
    quiet.until("window('Segment skin') is None")
    assert quiet("img.getOverlay()") is None


def test_macro_line_runs_without_a_dialog(quiet, fake):
    open_stack(quiet)
    macro(quiet, f'run("Segment skin", "server={fake.url} opacity=60"); return "done";')
    assert finished(quiet) == "done"
    assert quiet(f"{OURS}[0].getFillColor().getAlpha()") == 153


def test_recorder_writes_a_line_that_runs(quiet, fake):
    open_stack(quiet)
    quiet("ij.IJ.run('Record...')")
    quiet.until("bool(ij.Recorder.record)")
    quiet.choose("Plugins", "Skin", "Segment skin")
    quiet.until("window('Segment skin') is not None")
    quiet.ok("Segment skin")
    quiet.until(f"len({OURS}) == 6")
    recorded = quiet("str(ij.Recorder.getInstance().getText())")
    line = f'run("Segment skin", "server={fake.url} opacity=40");'
    assert line in recorded.splitlines()
    quiet("ij.Recorder.getInstance().close()")
    quiet("img.setOverlay(None)")
    macro(quiet, line + 'return "again";')
    assert finished(quiet) == "again"
    assert quiet(f"len({OURS})") == 6


def test_own_overlay_selection_and_roi_manager_stay(either, fake):
    open_stack(either)
    either("from_user = JClass('ij.gui.Roi')(5, 5, 20, 20); from_user.setName('mine')")
    either("img.setOverlay(JClass('ij.gui.Overlay')(from_user))")
    either("manager = JClass('ij.plugin.frame.RoiManager')(False); manager.addRoi(from_user)")
    either("img.setRoi(10, 10, 30, 20)")
    for _ in range(2):
        macro(either, f'run("Segment skin", "server={fake.url}"); return "done";')
        assert finished(either) == "done"
    assert either("[str(r.getName()) for r in img.getOverlay().toArray()].count('mine')") == 1
    assert either("img.getOverlay().size()") == 7
    assert either("str(img.getRoi().getBounds())") == either("str(JClass('java.awt.Rectangle')(10, 10, 30, 20))")
    assert either("manager.getCount()") == 1


def test_escape_cancels_here_and_on_the_server(either, fake):
    open_stack(either)
    fake.slices_per_second = 0.5
    either.choose("Plugins", "Skin", "Segment skin")
    either.until("window('Segment skin') is not None")
    either.ok("Segment skin")
    either.until("'slice 0 of 6' in status()")
    either.focus("skin")
    either.xdotool("key", "Escape")
    either.until("'stopped' in status()")
    assert len(fake.deleted) == 1
    assert either("img.getOverlay()") is None


def test_imagej_goes_on_while_a_macro_waits(quiet, fake):
    """Command listeners run under ImageJ's own lock; a macro that waits must give it back."""
    open_stack(quiet)
    fake.slices_per_second = 0.5
    macro(quiet, f'run("Segment skin", "server={fake.url}"); return "done";')
    quiet.until("'slice 0 of 6' in status()")
    quiet.choose("Edit", "Selection", "Select All")
    quiet.until("img.getRoi() is not None", 5)
    quiet.focus("skin")
    quiet.xdotool("key", "Escape")
    assert finished(quiet) != "done"
    end = time.monotonic() + 5
    while not fake.deleted:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_second_click_while_running_is_answered(either, fake):
    open_stack(either)
    fake.slices_per_second = 0.5
    either.choose("Plugins", "Skin", "Segment skin")
    either.until("window('Segment skin') is not None")
    either.ok("Segment skin")
    either.until("'slice 0 of 6' in status()")
    either.choose("Plugins", "Skin", "Segment skin")
    assert "still at work" in either.message()
    fake.slices_per_second = 1000.0
    either.until(f"len({OURS}) == 6")


def test_help_settings_and_colors_can_be_used_meanwhile(either, fake):
    open_stack(either)
    macro(either, f'run("Segment skin", "server={fake.url} slices=1-2"); return "done";')
    assert finished(either) == "done"
    fake.slices_per_second = 0.01
    either.choose("Plugins", "Skin", "Segment skin")
    either.until("window('Segment skin') is not None")
    either.ok("Segment skin")
    either.until("'slice 0 of 6' in status()")
    either.choose("Plugins", "Skin", "Help on Skin")
    title = either.until("next((t for t in ('skinoct', 'skinoct 0.1.0') if window(t) is not None), None)")
    assert "not for clinical use" in either.message(title)
    either.choose("Plugins", "Skin", "Server settings...")
    either.until("window('Server settings') is not None")
    either.cancel("Server settings")
    for _ in range(2):
        either.choose("Plugins", "Skin", "Layer display...")
        either.until("window('Layer display...') is not None")
    assert "Layer display is open already" in either.message()
    either.cancel("Layer display...")
    either.focus("skin")
    either.xdotool("key", "Escape")
    either.until("'stopped' in status()")
    assert len(fake.deleted) == 1
    assert either(f"len({OURS})") == 2


def test_click_beside_a_macro_does_not_take_its_options(either, fake):
    """Nor its image; and the macro goes on."""
    open_stack(either)
    segment(either, fake, "slices=1-2")
    either("shown = img; img = ij.IJ.createImage('other', '8-bit ramp', 128, 64, 6); img.show()")
    fake.slices_per_second = 0.01
    macro(either, f'run("Segment skin", "server={fake.url}"); return "done";')
    either.until("'slice 0 of 6' in status()")
    either("ij.IJ.selectWindow('skin')")
    either.choose("Plugins", "Skin", "Layer display...")
    either.until("window('Layer display...') is not None")
    either.type("Layer display...", "Opacity", "80")
    either.until(f"[r.getFillColor().getAlpha() for r in {OURS.replace('img', 'shown')}] == [204, 204]")
    either.ok("Layer display...")
    fake.slices_per_second = 1000.0
    assert finished(either) == "done"
    assert either(f"len({OURS})") == 6


def test_result_goes_to_the_image_it_was_asked_for(either, fake):
    open_stack(either)
    fake.slices_per_second = 4.0
    either.choose("Plugins", "Skin", "Segment skin")
    either.until("window('Segment skin') is not None")
    either.ok("Segment skin")
    either.until("' of 6' in status()")
    either("other = ij.IJ.createImage('other', '8-bit black', 50, 50, 6); other.show()")
    either.until(f"len({OURS}) == 6")
    assert either("other.getOverlay()") is None


def test_closed_image_gets_nothing(either, fake):
    open_stack(either)
    fake.slices_per_second = 6.0
    either.choose("Plugins", "Skin", "Segment skin")
    either.until("window('Segment skin') is not None")
    either.ok("Segment skin")
    either.until("' of 6' in status()")
    either("img.changes = False; img.close()")
    either.until("'was closed' in status()")
    assert [title for title in either.windows() if "ImageJ" not in title] == []


def test_slices_and_selection_bound_what_is_segmented(either, fake):
    open_stack(either)
    either("img.setRoi(20, 10, 40, 30)")
    macro(either, f'run("Segment skin", "server={fake.url} slices=3-5 selection"); return "done";')
    assert finished(either) == "done"
    assert tifffile.imread(io.BytesIO(fake.bodies[-1])).shape == (3, 30, 40)
    assert either(f"[r.getPosition() for r in {OURS}]") == [3, 4, 5]
    bounds = either(f"(lambda b: (b.x, b.y, b.width, b.height))({OURS}[0].getBounds())")
    assert bounds == [20, 10 + 15, 40, 3]


def segment(session, fake, options=""):
    macro(session, f'run("Segment skin", "server={fake.url} {options}"); return "done";')
    assert finished(session) == "done"


def test_parts_are_segmented_one_after_another(either, fake):
    """What was segmented before stays, but in the slices that are segmented again."""
    open_stack(either)
    segment(either, fake, "slices=1-2")
    segment(either, fake, "slices=3-4")
    assert either(f"[r.getPosition() for r in {OURS}]") == [1, 2, 3, 4]
    segment(either, fake, "slices=2-3 show=[all layers]")
    positions = either(f"[r.getPosition() for r in {OURS}]")
    assert {number: positions.count(number) for number in (1, 2, 3, 4)} == {1: 1, 2: 4, 3: 4, 4: 1}
    segment(either, fake)
    assert either(f"[r.getPosition() for r in {OURS}]") == [1, 2, 3, 4, 5, 6]


BOUNDS = f"sorted([r.getPosition(), r.getBounds().x, r.getBounds().width] for r in {OURS})"


def test_layers_beside_the_selected_rectangle_stay(either, fake):
    open_stack(either)
    segment(either, fake, "slices=1-2")
    either("img.setRoi(28, 0, 40, 64)")
    segment(either, fake, "slices=2 selection color=cyan")
    assert either(BOUNDS) == [[1, 0, 128], [2, 0, 128], [2, 28, 40]]
    rest = f"[r for r in {OURS} if r.getPosition() == 2 and r.getBounds().width == 128][0]"
    assert either(f"[{rest}.contains(x, 33) for x in (10, 40, 100)]") == [True, False, True]
    assert either(f"{rest}.getFillColor().getRGB() & 0xffffff") == 0xFF40A0
    either("img.setRoi(0, 0, 128, 64)")
    segment(either, fake, "slices=1-2 selection")
    assert either(BOUNDS) == [[1, 0, 128], [2, 0, 128]]


def test_layers_of_other_frames_stay(either, fake):
    either("img = ij.IJ.createImage('skin', '8-bit ramp', 128, 64, 6)")
    either("img.setDimensions(1, 3, 2); img.setOpenAsHyperStack(True); img.show()")
    for frame in (1, 2, 2):
        either(f"img.setPosition(1, 1, {frame})")
        segment(either, fake)
    assert either(f"sorted([r.getTPosition(), r.getZPosition()] for r in {OURS})") == [
        [frame, z] for frame in (1, 2) for z in (1, 2, 3)
    ]


@pytest.mark.parametrize(
    ("setup", "words"),
    [
        ("", "No image is open"),
        ("img = ij.IJ.createImage('c', 'RGB white', 20, 20, 2); img.show()", "color image"),
    ],
)
def test_image_that_cannot_be_segmented_is_named(quiet, fake, setup, words):
    if setup:
        quiet(setup)
    quiet.choose("Plugins", "Skin", "Segment skin")
    assert words in quiet.message()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("opacity=400", "not a percentage"),
        ("opacity=many", "not a number"),
        ("opactiy=40", "no option 'opactiy'"),
        ("slices=5-90", "not a range of this stack of 6 slices"),
        ("selection", "no rectangle selected"),
        ("show=[the best]", "not known"),
        ("server=http://127.0.0.1:9", "skinoct-server serve"),
        ("server=ftp://somewhere", "not the address"),
    ],
)
def test_macro_fails_with_one_sentence_and_can_catch_it(either, fake, options, words):
    open_stack(either)
    options = options if "server=" in options else f"server={fake.url} {options}"
    code = f'run("Segment skin", "{options}"); return "not stopped";'
    sentence = either(f"str(JClass('ij.macro.Interpreter')().eval({code!r}))")
    assert words in " ".join(sentence.split())
    assert [title for title in either.windows() if "ImageJ" not in title] == ["skin"]


def test_macro_that_does_not_catch_ends_with_a_dialog(quiet, fake):
    open_stack(quiet)
    fake.failure = "Slice 4 holds NaN. Repair it."
    macro(quiet, f'run("Segment skin", "server={fake.url}"); return "went on";')
    assert "Slice 4 holds NaN" in quiet.message("Macro Error")
    assert finished(quiet) == "[aborted]"


def test_script_in_another_language_catches_an_exception(quiet, fake):
    open_stack(quiet)
    quiet(f"""
try:
    ij.IJ.run(img, 'Segment skin', 'server={fake.url} slices=9')
    caught = None
except JClass('java.lang.RuntimeException') as error:
    caught = str(error.getMessage())""")
    assert "not a range" in quiet("caught")


def test_click_without_server_says_how_to_start_it(quiet, fake):
    open_stack(quiet)
    quiet("ij.remember({'server': 'http://127.0.0.1:9'})")
    quiet.choose("Plugins", "Skin", "Segment skin")
    quiet.until("window('Segment skin') is not None")
    quiet.ok("Segment skin")
    message = quiet.message()
    assert "No skinoct server answers at http://127.0.0.1:9" in message
    assert "skinoct-server serve" in message


def test_sixteen_bit_with_signed_calibration_is_sent_unsigned(either, fake):
    open_stack(either, "16-bit ramp")
    either("img.getCalibration().setSigned16BitCalibration()")
    macro(either, f'run("Segment skin", "server={fake.url}"); return "done";')
    assert finished(either) == "done"
    sent = tifffile.imread(io.BytesIO(fake.bodies[-1]))
    assert sent.dtype == np.uint16
    assert sent[0, 0, 0] == either("img.getProcessor().get(0, 0)")
    assert sent[0, 0, 127] == either("img.getProcessor().get(127, 0)")


@pytest.mark.parametrize("order", ["(1, 6, 1)", "(1, 1, 6)", "(2, 3, 1)", "(1, 3, 2)"])
def test_hyperstacks_get_bands_where_they_belong(either, fake, order):
    open_stack(either)
    either(f"img.setDimensions{order}; img.setOpenAsHyperStack(True)")
    macro(either, f'run("Segment skin", "server={fake.url}"); return "done";')
    assert finished(either) == "done"
    _, depth, frames = eval(order)
    expected = depth if depth > 1 else frames
    assert tifffile.imread(io.BytesIO(fake.bodies[-1])).shape[0] == expected
    assert either(f"len({OURS})") == expected


def test_virtual_stack_is_read_from_disk_and_stays_virtual(either, fake, tmp_path):
    path = tmp_path / "skin.tif"
    voxels = np.random.default_rng(0).integers(0, 60000, (8, 40, 60), np.uint16)
    tifffile.imwrite(path, voxels, imagej=True, metadata={"axes": "ZYX"})
    either(f"img = ij.IJ.openVirtual({str(path)!r}); img.show(); img.setSlice(3)")
    assert either("img.getStack().isVirtual()")
    macro(either, f'run("Segment skin", "server={fake.url}"); return "done";')
    assert finished(either) == "done"
    np.testing.assert_array_equal(tifffile.imread(io.BytesIO(fake.bodies[-1])), voxels)
    assert either(f"[r.getPosition() for r in {OURS}]") == list(range(1, 9))
    assert either("img.getStack().isVirtual() and img.getCurrentSlice() == 3")


def test_calibration_travels_and_unit_pixel_does_not(either, fake):
    open_stack(either)
    either("c = img.getCalibration(); c.setUnit('um'); c.pixelWidth = c.pixelHeight = 0.9; c.pixelDepth = 1.5")
    macro(either, f'run("Segment skin", "server={fake.url}"); return "done";')
    assert finished(either) == "done"
    with tifffile.TiffFile(io.BytesIO(fake.bodies[-1])) as file:
        assert file.imagej_metadata["unit"] in ("um", "micron", "\\u00B5m")
        assert file.imagej_metadata["spacing"] == pytest.approx(1.5)
    assert either("str(img.getCalibration().getUnit())") == "µm"
    assert "pixel_size_um" not in fake.queries[-1]


def test_batch_mode_macro_leaves_the_overlay(either, fake, tmp_path):
    path = tmp_path / "skin.tif"
    out = tmp_path / "out.tif"
    tifffile.imwrite(path, np.arange(4 * 30 * 40, dtype=np.uint16).reshape(4, 30, 40), imagej=True)
    macro(
        either,
        f'setBatchMode(true); open("{path}"); run("Segment skin", "server={fake.url}"); '
        f'saveAs("Tiff", "{out}"); n = Overlay.size; close(); return "" + n;',
    )
    assert finished(either) == "4"
    with tifffile.TiffFile(out) as file:
        assert len(file.imagej_metadata["Overlays"]) == 4
