"""The dialogs, as a person uses them: by mouse and keyboard, with what they remember and what the Recorder writes."""

from __future__ import annotations

import io

import pytest
import tifffile

from skinoct_fiji.commands.correction import CorrectionOptions
from skinoct_fiji.commands.folder import FolderOptions
from skinoct_fiji.commands.layers import DisplayOptions
from skinoct_fiji.options import ExportOptions, MeasureOptions, SegmentOptions, to_macro

pytestmark = pytest.mark.imagej

OURS = "[r for r in (img.getOverlay().toArray() if img.getOverlay() else []) if r.getProperty('skinoct')]"
CONNECTION = {
    "no server": ({}, "No skinoct server answers", "skinoct-server serve"),
    "no https": ({}, "speaks no https that can be trusted", "Try http:// in its place"),
    "wrong key": ({"key": "secret"}, "does not accept this API key", "Ask whoever runs it"),
    "not ours": ({"html": True}, "not a skinoct server", "Check the address"),
    "other version": ({"api_version": 99}, "speaks version 99", "Update the plugin"),
    "busy": ({"full": True}, "is busy or starting", ""),
    "connected": ({}, "Connected to skinoct-server 0.1.0", ""),
}


def open_stack(session, calibrated=True):
    session("img = ij.IJ.createImage('skin', '8-bit ramp', 128, 100, 6); img.show()")
    if calibrated:
        session("c = img.getCalibration(); c.setUnit('um'); c.pixelWidth = c.pixelHeight = c.pixelDepth = 0.9")


def open_dialog(session, label):
    session.choose("Plugins", "Skin", label)
    session.until(f"window({label.removesuffix('...')!r}) is not None or window({label!r}) is not None")


def test_connection_has_a_sentence_of_its_own_for_each_state(either, fake):
    """All of them in one dialog that stays open, as somebody would who looks for the fault."""
    title, sentences = "Server settings", {}
    open_dialog(either, "Server settings...")
    for name, (state, words, cure) in CONNECTION.items():
        fake.reset()
        fake.__dict__.update(state)
        address = {"no server": "http://127.0.0.1:9", "no https": fake.url.replace("http:", "https:")}
        either.type(title, "Server", address.get(name, fake.url))
        either.press(title, "Test connection")
        either.until(f"any({words!r} in ' '.join(t.split()) for t in texts({title!r}))")
        found = [" ".join(text.split()) for text in either(f"texts({title!r})")]
        (sentences[name],) = (text for text in found if words in text)
        assert cure in sentences[name]
        assert "Exception" not in sentences[name]
    assert len(set(sentences.values())) == len(CONNECTION)
    either.cancel(title)


def test_address_and_key_that_are_typed_are_used(either, fake):
    fake.key = "secret"
    either("ij.remember({'server': 'http://127.0.0.1:9'})")
    open_dialog(either, "Server settings...")
    either.type("Server settings", "Server", fake.url)
    either.type("Server settings", "API key", "secret")
    either.ok("Server settings")
    open_stack(either)
    open_dialog(either, "Segment skin")
    assert either("str(field('Segment skin', 'Server').getText())") == fake.url
    either.ok("Segment skin")
    either.until(f"len({OURS}) == 6")


def choose_options(session):
    """Fill *Segment skin* with something else than it began with, and press OK."""
    open_dialog(session, "Segment skin")
    session.pick("Segment skin", "Model", "phantom-v1")
    session.pick("Segment skin", "Show", "layer outlines")
    session.pick("Segment skin", "Color", "cyan")
    session.type("Segment skin", "Opacity", "70")
    session.press("Segment skin", "Measure the DEJ")
    session.ok("Segment skin")


def remembered(session):
    """Return what *Segment skin* offers at once."""
    open_dialog(session, "Segment skin")
    lists = [f"str(field('Segment skin', {label!r}).getSelectedItem())" for label in ("Model", "Show", "Color")]
    found = [session(each) for each in lists]
    found.append(float(session("str(field('Segment skin', 'Opacity').getText())")))
    found.append(session("bool(window('Segment skin').getCheckboxes().lastElement().getState())"))
    session.cancel("Segment skin")
    return found


CHOSEN = ["phantom-v1", "layer outlines", "cyan", 70.0, True]


def test_options_of_the_dialog_are_used_and_remembered(either, fake):
    open_stack(either)
    choose_options(either)
    either.until(f"len({OURS}) == 24")  # four layers that can be seen
    assert either(f"{OURS}[0].getFillColor()") is None
    assert either(f"{OURS}[0].getStrokeColor().getRGB() & 0xffffff") == 0x3CDCFF
    assert "model=phantom-v1" in fake.queries[-1]
    either.until("ij.ResultsTable.getResultsTable('DEJ measurements') is not None")
    assert remembered(either) == CHOSEN
    kept = (either.folder / ".imagej" / "IJ_Prefs.txt").read_text()
    assert all(word in kept for word in ("layer outlines", "cyan", "opacity", "measure"))


def test_options_are_remembered_when_imagej_is_started_again(launch, imagej_jar, fake):
    fake.reset()
    first = launch(imagej_jar, fake.url)
    open_stack(first)
    choose_options(first)
    first.until(f"len({OURS}) == 24")
    first.process.kill()  # nothing is left to be written at the end
    first.process.wait(20)
    again = launch(imagej_jar, fake.url, first.folder)
    open_stack(again)
    assert remembered(again) == CHOSEN
    again.process.kill()
    again.process.wait(20)


def test_pixel_size_is_asked_for_and_taken_with_a_comma(either, fake):
    open_stack(either, calibrated=False)
    open_dialog(either, "Segment skin")
    assert any("no pixel size" in text for text in either("texts('Segment skin')"))
    either.type("Segment skin", "Pixel size", "0,8")
    either.ok("Segment skin")
    either.until(f"len({OURS}) == 6")
    assert "pixel_size_um=0.8" in fake.queries[-1]


def test_calibrated_image_is_not_asked_for_its_pixel_size(either, fake):
    open_stack(either)
    open_dialog(either, "Segment skin")
    assert not any("ixel size" in text for text in either("texts('Segment skin')"))
    either.cancel("Segment skin")


def test_number_that_is_none_is_said(either, fake):
    open_stack(either)
    open_dialog(either, "Segment skin")
    either.type("Segment skin", "Opacity", "much")
    either.ok("Segment skin")
    assert "'much' is not a number" in either.message()
    assert either("img.getOverlay()") is None


def test_rectangle_in_the_dialog(either, fake):
    open_stack(either)
    either("img.setRoi(20, 10, 40, 30)")
    open_dialog(either, "Segment skin")
    either.type("Segment skin", "Slices", "2-3")
    assert either("bool(window('Segment skin').getCheckboxes().firstElement().getState())")
    either.ok("Segment skin")
    either.until(f"len({OURS}) == 2")
    assert tifffile.imread(io.BytesIO(fake.bodies[-1])).shape == (2, 30, 40)
    assert either("(lambda b: [b.x, b.y, b.width, b.height])(img.getRoi().getBounds())") == [20, 10, 40, 30]


def test_cancel_changes_nothing(either, fake):
    open_stack(either)
    either("img.setRoi(20, 10, 40, 30)")
    open_dialog(either, "Segment skin")
    either.cancel("Segment skin")
    assert either("img.getOverlay()") is None
    assert either("str(img.getRoi().getTypeAsString())") == "Rectangle"
    assert fake.bodies == []
    assert [title for title in either.windows() if "ImageJ" not in title] == ["skin"]


def test_every_dialog_records_the_line_of_its_options(either, fake, make_tiff, tmp_path):
    """The same line in both ways: what the Recorder writes is what the options are in a macro."""
    folder, out = f"{tmp_path / 'in'}/", f"{tmp_path / 'out'}/"
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "skin.tif").write_bytes(make_tiff(3, 40, 60))
    open_stack(either)
    either(f"ij.remember({{'folder': {folder!r}, 'out': {out!r}, 'dataset': {f'{tmp_path}/'!r}}})")
    either("ij.IJ.run('Record...')")
    either.until("bool(ij.Recorder.record)")
    lines = {
        "Segment skin": (SegmentOptions(server=fake.url), ("server", "opacity")),
        "Layer display...": (DisplayOptions(), ("style", "opacity")),
        "Measure DEJ": (MeasureOptions(server=fake.url, maps=True), ("server",)),
        "Export layers to ROI Manager": (ExportOptions(server=fake.url), ("server",)),
        "Segment folder...": (FolderOptions(folder, out, fake.url), ("folder", "out", "server")),
        "Save correction for training...": (CorrectionOptions(f"{tmp_path}/", "skin"), ("folder", "name")),
    }
    for label, (options, always) in lines.items():
        if label.startswith("Save"):
            either("_r = ij.RoiManager.getInstance2().getRoi(1); _r.setLocation(_r.getXBase(), _r.getYBase() + 5.0)")
        either("ij.IJ.selectWindow('skin')")
        open_dialog(either, label)
        either.ok(label if either(f"window({label!r}) is not None") else label.removesuffix("..."))
        either.until(f"'run(\"{label}\"' in str(ij.Recorder.getInstance().getText())")
        line = f'run("{label}", "{to_macro(options, always=always)}");'
        assert line in either("str(ij.Recorder.getInstance().getText())").splitlines()
        either.until("JClass('java.lang.System').getProperty('skinoct.busy') is None")
        either.until("not [t for t in __import__('threading').enumerate() if t.name.startswith('skinoct ')]")


@pytest.mark.parametrize("label", ["Segment skin", "Measure DEJ", "Export layers to ROI Manager"])
def test_click_on_a_color_image_is_answered(either, fake, label):
    either("img = ij.IJ.createImage('c', 'RGB white', 20, 20, 2); img.show()")
    either.choose("Plugins", "Skin", label)
    assert "is a color image. Turn it into a gray one" in either.message()
    assert fake.bodies == []


def test_click_without_an_image_is_answered(either, fake):
    either.choose("Plugins", "Skin", "Segment skin")
    assert "No image is open" in either.message()


def test_help_is_shown(either, fake):
    either.choose("Plugins", "Skin", "Help on Skin")
    title = either.until("next((t for t in ('skinoct', 'skinoct 0.1.0') if window(t) is not None), None)")
    assert "not for clinical use" in either.message(title)
