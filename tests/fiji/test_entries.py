"""The other entries under Plugins > Skin, in a real ImageJ window."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import tifffile

from skinoct.tomogram import read_tomogram

from .fake_server import answer

pytestmark = pytest.mark.imagej

OURS = "[r for r in (img.getOverlay().toArray() if img.getOverlay() else []) if r.getProperty('skinoct')]"


def open_stack(session, slices=6, calibrated=True):
    session(f"img = ij.IJ.createImage('skin', '8-bit ramp', 128, 100, {slices}); img.show()")
    if calibrated:
        session("c = img.getCalibration(); c.setUnit('um'); c.pixelWidth = c.pixelHeight = c.pixelDepth = 0.9")


def run(session, command, options):
    code = f'run("{command}", "{options}"); return "done";'
    assert session(f"str(ij.IJ.runMacro({code!r}))") == "done"


def table(session, title):
    kind = "JClass('ij.measure.ResultsTable').getResultsTable"
    names = session(f"[str(n) for n in {kind}({title!r}).getHeadings()]")
    count = session(f"{kind}({title!r}).size()")
    return [
        {name: session(f"str({kind}({title!r}).getStringValue({name!r}, {row}))") for name in names}
        for row in range(count)
    ]


def test_export_adds_light_polygons_behind_the_users_own(either, fake):
    open_stack(either)
    either("manager = ij.RoiManager.getRoiManager(); manager.addRoi(JClass('ij.gui.Roi')(1, 1, 5, 5))")
    run(either, "Export layers to ROI Manager", f"server={fake.url}")
    rois = either("[[str(r.getName()), r.getPosition(), r.getTypeAsString() + ''] for r in manager.getRoisAsArray()]")
    assert len(rois) == 7
    assert rois[1] == ["dej-0001", 1, "Polygon"]
    assert rois[6] == ["dej-0006", 6, "Polygon"]
    assert either("manager.getRoisAsArray()[3].getFloatPolygon().npoints") == 4
    run(either, "Export layers to ROI Manager", f"server={fake.url} layers=all outline=exact slices=2-3")
    assert either("manager.getCount()") == 7 + 2 * 4
    assert len(fake.bodies) == 2  # other slices are another question


def test_an_image_is_sent_once_and_again_when_its_pixels_change(either, fake):
    open_stack(either)
    run(either, "Segment skin", f"server={fake.url}")
    run(either, "Measure DEJ", f"server={fake.url}")
    assert len(fake.bodies) == 1
    either("img.getStack().getProcessor(3).set(5, 5, 77)")
    run(either, "Measure DEJ", f"server={fake.url}")
    assert len(fake.bodies) == 2


def test_an_image_is_sent_again_when_its_calibration_is_corrected(either, fake):
    """Pixels are as before, lengths are not."""
    open_stack(either)
    run(either, "Measure DEJ", f"server={fake.url}")
    either("ij.IJ.run(img, 'Properties...', 'unit=um pixel_width=0.5 pixel_height=0.6 voxel_depth=0.9')")
    run(either, "Measure DEJ", f"server={fake.url}")
    run(either, "Measure DEJ", f"server={fake.url}")
    assert len(fake.bodies) == 2
    size = read_tomogram(fake.bodies[1]).pixel_size_um
    assert (size.x, size.y, size.z) == pytest.approx((0.5, 0.6, 0.9))


def test_measure_fills_tables_maps_and_csv(either, fake, tmp_path):
    open_stack(either)
    path = tmp_path / "measures.csv"
    run(either, "Measure DEJ", f"server={fake.url} maps csv={path}")
    (whole,) = table(either, "DEJ measurements")
    assert whole["image"] == "skin"
    assert float(whole["thickness_mean_um"]) == pytest.approx(35 * 0.9)
    assert float(whole["interdigitation_index"]) == pytest.approx(1)
    assert whole["model"] == "phantom-v1"
    assert float(whole["smoothing_um"]) == 2.0
    slices = table(either, "DEJ per slice of skin")
    assert [row["slice"] for row in slices] == ["1", "2", "3", "4", "5", "6"]
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert float(rows[0]["thickness_mean_um"]) == pytest.approx(35 * 0.9)
    either("maps = ij.WindowManager.getImage('skin maps')")
    assert either("maps.getStack().getSliceLabel(1)") == "epidermal thickness (um)"
    assert either("maps.getStack().getSliceLabel(2)") == "DEJ depth (um)"
    fire = "JClass('ij.process.LUT')(JClass('ij.plugin.LutLoader').getLut('fire'), 0.0, 1.0)"
    assert either("[int(b) for b in maps.getProcessor().getLut().getBytes()]") == either(
        f"[int(b) for b in {fire}.getBytes()]"
    )
    assert either("str(maps.getCalibration().getUnit())") in ("micron", "µm")
    assert either("maps.getStack().getProcessor(1).getf(4, 4)") == pytest.approx(35 * 0.9)
    code = f'run("Measure DEJ", "server={fake.url} csv={path}");'
    sentence = either(f"str(JClass('ij.macro.Interpreter')().eval({code!r}))")
    assert "exists and is not overwritten" in " ".join(sentence.split())


def test_csv_that_cannot_be_written_is_said(either, fake, tmp_path):
    open_stack(either)
    code = f'run("Measure DEJ", "server={fake.url} csv=[{tmp_path / ("x" * 300)}]");'
    sentence = " ".join(either(f"str(JClass('ij.macro.Interpreter')().eval({code!r}))").split())
    assert "cannot be read or written" in sentence
    assert "give another folder" in sentence
    assert list(tmp_path.iterdir()) == []


def test_part_of_a_stack_is_counted_as_in_the_whole(either, fake, tmp_path):
    open_stack(either)
    path = tmp_path / "part.csv"
    run(either, "Measure DEJ", f"server={fake.url} slices=3-5 profile csv={path}")
    assert [row["slice"] for row in table(either, "DEJ per slice of skin")] == ["3", "4", "5"]
    assert [row["slice"] for row in csv.DictReader(path.read_text().splitlines())] == ["3", "4", "5"]
    either("plot = ij.WindowManager.getImage('Epidermis of skin').getWindow().getPlot()")
    assert either("[float(x) for x in plot.getXValues()]") == [3, 4, 5]
    assert either("[float(y) for y in plot.getYValues()]") == pytest.approx([31.5] * 3)
    assert either("str(plot.getLabel('y'))") == "mean thickness (um)"


def test_profile_of_an_image_without_pixel_size_says_pixels(either, fake):
    fake.um = None
    open_stack(either, calibrated=False)
    run(either, "Measure DEJ", f"server={fake.url} profile")
    either("plot = ij.WindowManager.getImage('Epidermis of skin').getWindow().getPlot()")
    assert either("[float(y) for y in plot.getYValues()]") == pytest.approx([35] * 6)
    assert either("str(plot.getLabel('y'))") == "mean thickness (pixels)"
    assert table(either, "DEJ measurements")[0]["thickness_mean_um"] == ""
    assert "pixel size is unknown" in either("str(ij.IJ.getLog())")


def test_slices_are_offered_for_review_the_least_certain_first(either, fake):
    fake.confidence = (0.9, 0.2, 0.7, 0.4, 0.8, 0.6)
    open_stack(either)
    run(either, "Export layers to ROI Manager", f"server={fake.url}")
    rows = table(either, "DEJ of skin: slices to review first")
    assert [row["slice"] for row in rows] == ["2", "4", "6", "3", "5", "1"]
    assert [float(row["confidence"]) for row in rows] == pytest.approx([0.2, 0.4, 0.6, 0.7, 0.8, 0.9])


def test_dots_per_inch_are_no_pixel_size_and_the_cure_can_be_followed(either, fake):
    """Of a picture at 300 dpi: in the dialog, in a macro and under Image > Properties."""
    open_stack(either)
    either("ij.IJ.run(img, 'Properties...', 'unit=inch pixel_width=0.0033333 pixel_height=0.0033333 voxel_depth=1')")
    for command in ("Segment skin", "Measure DEJ", "Export layers to ROI Manager"):
        code = f'run("{command}", "server={fake.url}");'
        sentence = " ".join(either(f"str(JClass('ij.macro.Interpreter')().eval({code!r}))").split())
        assert "The calibration of 'skin' says that a pixel is 84.67 um wide" in sentence
        assert "0.1 to 10 um" in sentence
        assert "Image > Properties" in sentence
        assert "pixel_size=0.9 " in sentence
    assert fake.bodies == []
    run(either, "Segment skin", f"server={fake.url} pixel_size=0.9")
    assert "pixel_size_um=0.9" in fake.queries[-1]
    for command, done in (
        ("Segment skin", f"len({OURS}) == 6 and 'done' in status()"),
        ("Measure DEJ", "'measured' in status()"),
    ):
        either("ij.IJ.selectWindow('skin'); img.setOverlay(None)")
        either.choose("Plugins", "Skin", command)
        either.until(f"any('84.67 um' in t for t in window({command!r}) and texts({command!r}) or ())")
        either.type(command, "Pixel size", "0.8")
        either.ok(command)
        either.until(done)
    assert "pixel_size_um=0.8" in fake.queries[-1]
    either("ij.IJ.run(img, 'Properties...', 'unit=um pixel_width=0.9 pixel_height=0.9 voxel_depth=0.9')")
    run(either, "Export layers to ROI Manager", f"server={fake.url}")


def test_label_stack_and_confidence_open_beside_the_image(either, fake):
    open_stack(either)
    run(either, "Segment skin", f"server={fake.url} show=[label stack]")
    either("layers = ij.WindowManager.getImage('skin layers')")
    assert either("layers.getStackSize()") == 6
    assert either("layers.getStack().getProcessor(2).get(10, 55)") == 4
    assert either("str(layers.getCalibration().getUnit())") in ("micron", "µm")
    either("ij.IJ.selectWindow('skin')")
    run(either, "Segment skin", f"server={fake.url} show=confidence")
    assert either("ij.WindowManager.getImage('skin maps').getProcessor().getf(3, 3)") == pytest.approx(0.8)
    assert either("img.getOverlay()") is None


def test_segment_can_measure_at_once(either, fake):
    open_stack(either)
    run(either, "Segment skin", f"server={fake.url} measure")
    assert float(table(either, "DEJ measurements")[0]["thickness_mean_um"]) == pytest.approx(31.5)
    assert either(f"len({OURS})") == 6


def test_display_changes_and_hides_only_our_layers(either, fake):
    open_stack(either)
    either("img.setOverlay(JClass('ij.gui.Overlay')(JClass('ij.gui.Roi')(5, 5, 20, 20)))")
    run(either, "Segment skin", f"server={fake.url} show=[all layers]")
    run(either, "Layer display...", "style=filled color=yellow opacity=80")
    assert either(f"{OURS}[0].getFillColor().getRGB() & 0xffffff") == 0xFFDD33
    assert either(f"{OURS}[0].getFillColor().getAlpha()") == 204
    run(either, "Layer display...", "style=outlines width=3")
    assert either(f"{OURS}[0].getStrokeWidth()") == 3
    assert either(f"{OURS}[0].getFillColor()") is None
    run(either, "Layer display...", "style=hidden")
    assert either(f"{OURS}[0].getStrokeColor().getAlpha()") == 0
    assert either("img.getOverlay().size()") == 1 + 24
    assert either("img.getOverlay().get(0).getFillColor()") is None


def test_overlay_is_saved_in_the_tiff_and_known_again(either, fake, tmp_path):
    open_stack(either)
    run(either, "Segment skin", f"server={fake.url}")
    path = tmp_path / "saved.tif"
    either(f"ij.IJ.saveAs(img, 'Tiff', {str(path)!r})")
    either(f"img = ij.IJ.openImage({str(path)!r}); img.show()")
    assert either(f"[r.getPosition() for r in {OURS}]") == [1, 2, 3, 4, 5, 6]
    run(either, "Layer display...", "color=cyan")
    assert either(f"{OURS}[0].getFillColor().getRGB() & 0xffffff") == 0x3CDCFF
    assert path.stat().st_size < 6 * 128 * 100 + 20_000


def test_dialog_shows_changes_at_once_and_cancel_takes_them_back(either, fake):
    """With the mouse and the keyboard, while the image can be scrolled."""
    open_stack(either)
    run(either, "Segment skin", f"server={fake.url} color=cyan opacity=50")
    either.choose("Plugins", "Skin", "Layer display...")
    either.until("window('Layer display...') is not None")
    either.press("Layer display...", "50")
    either.xdotool("key", "End", "BackSpace", "BackSpace")
    either.xdotool("type", "80")
    either.until(f"{OURS}[5].getFillColor().getAlpha() == 204")
    assert either(f"{OURS}[0].getFillColor().getRGB() & 0xffffff") == 0x3CDCFF  # it began as it looked
    either("img.setSlice(4)")
    either.press("Layer display...", "filled")
    either.xdotool("key", "Down", "Return")
    either.until(f"{OURS}[5].getFillColor() is None")
    assert either(f"{OURS}[5].getStrokeColor().getAlpha()") == 204
    either.press("Layer display...", "Cancel")
    either.until(f"{OURS}[5].getFillColor() is not None")
    assert either(f"{OURS}[5].getFillColor().getAlpha()") == 128


def test_overlay_is_recolored_thinned_and_hidden_by_what_the_dialog_calls(quiet, fake):
    open_stack(quiet)
    run(quiet, "Segment skin", f"server={fake.url}")
    quiet("from skinoct_fiji.commands import layers")
    look = {"style": "outlines", "color": "yellow", "opacity": 80.0, "width": 3.0}
    quiet(f"layers.restyle(img, {look})")
    assert quiet(f"[r.getStrokeWidth() for r in {OURS}]") == [3.0] * 6
    assert quiet(f"{OURS}[0].getStrokeColor().getRGB() & 0xffffff") == 0xFFDD33
    quiet(f"layers.restyle(img, {look | {'opacity': 'half typed'}})")
    quiet(f"layers.restyle(img, {look | {'style': 'hidden'}})")
    assert quiet(f"{OURS}[0].getStrokeColor().getAlpha()") == 0
    quiet(f"layers.restyle(img, {look | {'style': 'filled', 'color': 'by layer', 'opacity': 40.0}})")
    assert quiet(f"{OURS}[0].getFillColor().getRGB() & 0xffffff") == 0xFF40A0


def test_439_slices_appear_within_two_seconds_and_save_in_few_megabytes(quiet, fake, tmp_path):
    """Time of the thread, which is time on a clock wherever a core is free."""
    shape, fake.wave = (439, 224, 512), 12.0
    path = tmp_path / "dej.zip"
    path.write_bytes(answer(fake, shape, "application/vnd.skinoct.dej+zip"))
    quiet("img = ij.IJ.createImage('skin', '8-bit black', 512, 224, 439); img.show()")
    quiet(f"""
import time
from skinoct_fiji.bridge.images import Stack
from skinoct_fiji.client import Answer
from skinoct_fiji.commands import results
from skinoct_fiji.options import SegmentOptions
stack, content = Stack(img), Path({str(path)!r}).read_bytes()
begin = time.thread_time()
results.show(stack, stack.whole(), SegmentOptions(), Answer(content, '', 'm', '', ''))
taken = time.thread_time() - begin""")
    assert quiet(f"len({OURS})") == 439
    assert quiet("taken") < 2.0
    saved = tmp_path / "saved.tif"
    quiet(f"ij.IJ.saveAs(img, 'Tiff', {str(saved)!r})")
    assert saved.stat().st_size - 439 * 224 * 512 < 5_000_000


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"key": "secret"}, "does not accept this API key"),
        ({"html": True}, "not a skinoct server"),
        ({"api_version": 99}, "Update the plugin"),
        ({"api_version": 0}, "Update the server"),
        ({"full": True}, "busy"),
        ({}, "Connected to skinoct-server"),
    ],
)
def test_connection_is_told_apart(either, fake, state, words):
    fake.__dict__.update(state)
    either.choose("Plugins", "Skin", "Server settings...")
    either.press("Server settings", "Test connection")
    either.until(f"any({words!r} in t.replace('  ', ' ') for t in texts('Server settings'))")
    either.ok("Server settings")


def test_key_is_sent_and_never_recorded(quiet, fake):
    fake.key = "secret"
    open_stack(quiet)
    quiet("ij.remember({'key': 'secret'})")
    run(quiet, "Segment skin", f"server={fake.url}")
    assert quiet(f"len({OURS})") == 6
    quiet("ij.remember({'key': 'wrong'})")
    code = f'run("Segment skin", "server={fake.url} slices=1-2");'
    assert "API key" in quiet(f"str(JClass('ij.macro.Interpreter')().eval({code!r}))")
    quiet("ij.remember({'key': ''})")


ODD_KEYS = {"curly quotes": "\u201csecret\u201d", "umlaut": "schl\u00fcssel", "two lines": "se\rcret"}


@pytest.mark.parametrize("key", ODD_KEYS.values(), ids=ODD_KEYS)
def test_key_that_can_be_none_is_said(either, fake, key):
    fake.key = "secret"
    open_stack(either)
    either(f"ij.Prefs.set('skinoct.key', {key!r})")
    code = f'run("Segment skin", "server={fake.url}");'
    sentence = " ".join(either(f"str(JClass('ij.macro.Interpreter')().eval({code!r}))").split())
    assert "The API key holds characters that no key has" in sentence
    assert "Server settings" in sentence
    either("ij.Prefs.set('skinoct.key', 'secret' + chr(13) + chr(10))")  # as it is copied with the end of its line
    run(either, "Segment skin", f"server={fake.url}")
    assert either(f"len({OURS})") == 6


@pytest.mark.parametrize(
    "address", ["127.0.0.1:99999", "127.0.0.1:0", "127.0.0.1:80OO", "http://:8000", "http://a b", "ftp://a"]
)
def test_address_that_can_be_none_is_said(either, fake, address):
    open_stack(either)
    code = f'run("Segment skin", "server=[{address}]");'
    sentence = " ".join(either(f"str(JClass('ij.macro.Interpreter')().eval({code!r}))").split())
    assert f"'{address}' is not the address of a server. Give one like http://127.0.0.1:8000." in sentence


def test_address_may_be_typed_in_capitals_or_with_a_slash(either, fake):
    open_stack(either)
    for address in (fake.url.replace("http", "HTTP"), fake.url.removeprefix("http://"), f" {fake.url}/ "):
        run(either, "Segment skin", f"server=[{address}]")
    assert either(f"len({OURS})") == 6
    assert len(fake.bodies) == 1


def test_help_says_what_to_do(quiet, fake):
    quiet.choose("Plugins", "Skin", "Help on Skin")
    assert "not for clinical use" in quiet.message("skinoct 0.1.0")


def test_entries_without_an_image_say_so(quiet, fake):
    for command in ("Measure DEJ", "Export layers to ROI Manager", "Layer display..."):
        code = f'run("{command}", "x");'
        assert "No image is open" in quiet(f"str(JClass('ij.macro.Interpreter')().eval({code!r}))")


def test_float_image_and_temporary_files(either, fake, tmp_path):
    path = tmp_path / "f.tif"
    tifffile.imwrite(path, np.random.default_rng(0).random((3, 40, 50), np.float32), imagej=True)
    either(f"img = ij.IJ.openImage({str(path)!r}); img.show()")
    run(either, "Segment skin", f"server={fake.url}")
    assert either(f"len({OURS})") == 3
