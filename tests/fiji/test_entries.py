"""The other entries under Plugins > Skin, in a real ImageJ window."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import tifffile

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


def test_export_adds_light_polygons_behind_the_users_own(quiet, fake):
    open_stack(quiet)
    quiet("manager = ij.RoiManager.getRoiManager(); manager.addRoi(JClass('ij.gui.Roi')(1, 1, 5, 5))")
    run(quiet, "Export layers to ROI Manager", f"server={fake.url}")
    rois = quiet("[[str(r.getName()), r.getPosition(), r.getTypeAsString() + ''] for r in manager.getRoisAsArray()]")
    assert len(rois) == 7
    assert rois[1] == ["dej-0001", 1, "Polygon"]
    assert rois[6] == ["dej-0006", 6, "Polygon"]
    assert quiet("manager.getRoisAsArray()[3].getFloatPolygon().npoints") == 4
    run(quiet, "Export layers to ROI Manager", f"server={fake.url} layers=all outline=exact slices=2-3")
    assert quiet("manager.getCount()") == 7 + 2 * 4
    assert len(fake.bodies) == 2  # other slices are another question


def test_an_image_is_sent_once_and_again_when_its_pixels_change(quiet, fake):
    open_stack(quiet)
    run(quiet, "Segment skin", f"server={fake.url}")
    run(quiet, "Measure DEJ", f"server={fake.url}")
    assert len(fake.bodies) == 1
    quiet("img.getStack().getProcessor(3).set(5, 5, 77)")
    run(quiet, "Measure DEJ", f"server={fake.url}")
    assert len(fake.bodies) == 2


def test_measure_fills_tables_maps_and_csv(quiet, fake, tmp_path):
    open_stack(quiet)
    path = tmp_path / "measures.csv"
    run(quiet, "Measure DEJ", f"server={fake.url} maps csv={path}")
    (whole,) = table(quiet, "DEJ measurements")
    assert whole["image"] == "skin"
    assert float(whole["thickness_mean_um"]) == pytest.approx(35 * 0.9)
    assert float(whole["interdigitation_index"]) == pytest.approx(1)
    assert whole["model"] == "phantom-v1"
    assert float(whole["smoothing_um"]) == 2.0
    slices = table(quiet, "DEJ per slice of skin")
    assert [row["slice"] for row in slices] == ["1", "2", "3", "4", "5", "6"]
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert float(rows[0]["thickness_mean_um"]) == pytest.approx(35 * 0.9)
    quiet("maps = ij.WindowManager.getImage('skin maps')")
    assert quiet("maps.getStack().getSliceLabel(1)") == "epidermal thickness (um)"
    assert quiet("str(maps.getCalibration().getUnit())") in ("micron", "µm")
    assert quiet("maps.getStack().getProcessor(1).getf(4, 4)") == pytest.approx(35 * 0.9)
    code = f'run("Measure DEJ", "server={fake.url} csv={path}");'
    sentence = quiet(f"str(JClass('ij.macro.Interpreter')().eval({code!r}))")
    assert "exists and is not overwritten" in sentence


def test_label_stack_and_confidence_open_beside_the_image(quiet, fake):
    open_stack(quiet)
    run(quiet, "Segment skin", f"server={fake.url} show=[label stack]")
    quiet("layers = ij.WindowManager.getImage('skin layers')")
    assert quiet("layers.getStackSize()") == 6
    assert quiet("layers.getStack().getProcessor(2).get(10, 55)") == 4
    assert quiet("str(layers.getCalibration().getUnit())") in ("micron", "µm")
    quiet("ij.IJ.selectWindow('skin')")
    run(quiet, "Segment skin", f"server={fake.url} show=confidence")
    assert quiet("ij.WindowManager.getImage('skin maps').getProcessor().getf(3, 3)") == pytest.approx(0.8)
    assert quiet("img.getOverlay()") is None


def test_segment_can_measure_at_once(quiet, fake):
    open_stack(quiet)
    run(quiet, "Segment skin", f"server={fake.url} measure")
    assert float(table(quiet, "DEJ measurements")[0]["thickness_mean_um"]) == pytest.approx(31.5)
    assert quiet(f"len({OURS})") == 6


def test_display_changes_and_hides_only_our_layers(quiet, fake):
    open_stack(quiet)
    quiet("img.setOverlay(JClass('ij.gui.Overlay')(JClass('ij.gui.Roi')(5, 5, 20, 20)))")
    run(quiet, "Segment skin", f"server={fake.url} show=[all layers]")
    run(quiet, "Layer display...", "style=filled color=yellow opacity=80")
    assert quiet(f"{OURS}[0].getFillColor().getRGB() & 0xffffff") == 0xFFDD33
    assert quiet(f"{OURS}[0].getFillColor().getAlpha()") == 204
    run(quiet, "Layer display...", "style=outlines")
    assert quiet(f"{OURS}[0].getFillColor()") is None
    run(quiet, "Layer display...", "style=hidden")
    assert quiet(f"{OURS}[0].getStrokeColor().getAlpha()") == 0
    assert quiet("img.getOverlay().size()") == 1 + 24
    assert quiet("img.getOverlay().get(0).getFillColor()") is None


def test_overlay_is_saved_in_the_tiff_and_known_again(quiet, fake, tmp_path):
    open_stack(quiet)
    run(quiet, "Segment skin", f"server={fake.url}")
    path = tmp_path / "saved.tif"
    quiet(f"ij.IJ.saveAs(img, 'Tiff', {str(path)!r})")
    quiet(f"img = ij.IJ.openImage({str(path)!r}); img.show()")
    assert quiet(f"[r.getPosition() for r in {OURS}]") == [1, 2, 3, 4, 5, 6]
    run(quiet, "Layer display...", "color=cyan")
    assert quiet(f"{OURS}[0].getFillColor().getRGB() & 0xffffff") == 0x3CDCFF
    assert path.stat().st_size < 6 * 128 * 100 + 20_000


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
def test_connection_is_told_apart(quiet, fake, state, words):
    quiet(f"ij.remember({{'server': {fake.url!r}, 'key': ''}})")
    fake.__dict__.update(state)
    quiet.choose("Plugins", "Skin", "Server settings...")
    quiet.press("Server settings", "Test connection")
    quiet.until(f"any({words!r} in t.replace('  ', ' ') for t in texts('Server settings'))")
    quiet.ok("Server settings")


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


def test_help_says_what_to_do(quiet, fake):
    quiet.choose("Plugins", "Skin", "Help on Skin")
    assert "not for clinical use" in quiet.message("skinoct 0.1.0")


def test_entries_without_an_image_say_so(quiet, fake):
    for command in ("Measure DEJ", "Export layers to ROI Manager", "Layer display..."):
        code = f'run("{command}", "x");'
        assert "No image is open" in quiet(f"str(JClass('ij.macro.Interpreter')().eval({code!r}))")


def test_float_image_and_temporary_files(quiet, fake, tmp_path):
    path = tmp_path / "f.tif"
    tifffile.imwrite(path, np.random.default_rng(0).random((3, 40, 50), np.float32), imagej=True)
    quiet(f"img = ij.IJ.openImage({str(path)!r}); img.show()")
    run(quiet, "Segment skin", f"server={fake.url}")
    assert quiet(f"len({OURS})") == 3
