"""What real desks have: blanks and umlauts, other languages, odd titles, single slices, channels, Undo, Quit."""

from __future__ import annotations

import io
import time

import numpy as np
import pytest
import tifffile

from skinoct.tomogram import read_tomogram

from .fake_server import answer

pytestmark = pytest.mark.imagej

OURS = "[r for r in (img.getOverlay().toArray() if img.getOverlay() else []) if r.getProperty('skinoct')]"
NAMES = {"labels.tif", "RoiSet.zip", "measurements.csv", "input.json", "measurements.json"}


def open_stack(session, slices=6, kind="8-bit ramp"):
    session(f"img = ij.IJ.createImage('skin', '{kind}', 128, 100, {slices}); img.show()")
    session("c = img.getCalibration(); c.setUnit('um'); c.pixelWidth = c.pixelHeight = c.pixelDepth = 0.9")


def run(session, command, options):
    code = f'run("{command}", "{options}"); return "done";'
    assert session(f"str(ij.IJ.runMacro({code!r}))") == "done"


@pytest.fixture
def speaking(either):
    """Let Java speak another language; numbers then have commas, and small letters may differ."""

    def speak(language):
        either(f"JClass('java.util.Locale').setDefault(JClass('java.util.Locale')({language!r}))")

    yield speak
    speak("en")


def test_single_slice_is_a_tomogram_too(either, fake):
    open_stack(either, slices=1)
    either.choose("Plugins", "Skin", "Segment skin")
    either.until("window('Segment skin') is not None")
    either.ok("Segment skin")
    either.until(f"len({OURS}) == 1")
    either.until("'1 slice of' in status()")
    run(either, "Measure DEJ", f"server={fake.url} maps profile")
    either("ij.IJ.selectWindow('skin')")  # the curve is in front
    run(either, "Export layers to ROI Manager", f"server={fake.url}")
    assert either("ij.RoiManager.getInstance2().getCount()") == 1
    assert tifffile.imread(io.BytesIO(fake.bodies[-1])).shape == (100, 128)


def test_nothing_found_is_said(either, fake):
    fake.no_dej = True
    open_stack(either)
    either.choose("Plugins", "Skin", "Segment skin")
    either.until("window('Segment skin') is not None")
    either.ok("Segment skin")
    either.until("\"no DEJ was found in 6 slices of 'skin'\" in status()")
    assert either(f"len({OURS})") == 0


def test_blanks_and_umlauts_in_folders_and_names(either, fake, make_tiff, tmp_path):
    folder = tmp_path / "Häute von Frau Müller, links"
    folder.mkdir()
    path = folder / "Übung 1 (µm).tif"
    path.write_bytes(make_tiff(3, 40, 60))
    either(f"img = ij.IJ.openImage({str(path)!r}); img.show()")
    run(either, "Segment skin", f"server={fake.url} save=[{folder / 'für später'}]")
    assert {file.name for file in (folder / "für später" / path.name).iterdir()} == NAMES
    code = f'run("Segment skin", "server={fake.url} save=[{folder}]");'  # where the image itself has that name
    assert "Give another folder" in " ".join(either(f"str(JClass('ij.macro.Interpreter')().eval({code!r}))").split())
    assert path.is_file()
    run(either, "Measure DEJ", f"server={fake.url} csv=[{folder / 'Maße.csv'}]")
    assert (folder / "Maße.csv").read_bytes() == answer(fake, (3, 40, 60), "text/csv")
    run(either, "Export layers to ROI Manager", f"server={fake.url}")
    either("_r = ij.RoiManager.getInstance2().getRoi(0); _r.setLocation(_r.getXBase(), _r.getYBase() + 2.0)")
    run(either, "Save correction for training...", f"folder=[{folder}] name=[Frau Müller]")
    assert (folder / "Frau Müller" / "RoiSet.zip").exists()
    run(either, "Segment folder...", f"folder=[{folder}] out=[{folder / 'große Maße'}] server={fake.url}")
    assert {file.name for file in (folder / "große Maße" / path.name).iterdir()} == NAMES


@pytest.mark.parametrize(
    ("title", "name"), [("a/b\\c [d] = e.tif", "a_b_c [d] = e.tif"), ("..", "image"), ("50 % \"x\" 'y'", None)]
)
def test_odd_titles_stay_inside_the_folder_of_results(either, fake, tmp_path, title, name):
    open_stack(either)
    either(f"img.setTitle({title!r})")
    out = tmp_path / "a" / "out"
    run(either, "Segment skin", f"server={fake.url} measure save=[{out}]")
    assert either(f"len({OURS})") == 6
    assert [folder.name for folder in out.iterdir()] == [name or title]
    assert {file.name for file in next(out.iterdir()).iterdir()} == NAMES
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_turkish_has_another_small_i(either, fake, speaking, make_tiff, tmp_path):
    """In Turkish the small letter of I has no dot, so TIF and MICRON would be other words."""
    speaking("tr")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "A.TIF").write_bytes(make_tiff(3, 40, 60))
    run(either, "Segment folder...", f"folder=[{tmp_path / 'in'}] out=[{tmp_path / 'out'}] server={fake.url}")
    assert {file.name for file in (tmp_path / "out" / "A.TIF").iterdir()} == NAMES
    open_stack(either)
    either("c.setUnit('MICRON')")
    run(either, "Segment skin", f"server={fake.url}")
    with tifffile.TiffFile(io.BytesIO(fake.bodies[-1])) as file:
        assert file.imagej_metadata["unit"] in ("um", "micron")


def test_commas_in_numbers_change_no_file(either, fake, speaking, tmp_path):
    speaking("de")
    open_stack(either)
    run(either, "Segment skin", f"server={fake.url} pixel_size=0.85 save=[{tmp_path / 'out'}]")
    assert "pixel_size_um=0.85" in fake.queries[-1]
    run(either, "Measure DEJ", f"server={fake.url} maps profile csv=[{tmp_path / 'm.csv'}]")
    assert (tmp_path / "m.csv").read_bytes() == answer(fake, (6, 100, 128), "text/csv")
    with tifffile.TiffFile(io.BytesIO(fake.bodies[-1])) as file:
        assert file.imagej_metadata["spacing"] == pytest.approx(0.9)


def test_undo_touches_neither_pixels_nor_layers(either, fake):
    open_stack(either)
    either("img.getProcessor().set(3, 3, 77)")
    run(either, "Segment skin", f"server={fake.url}")
    either.choose("Edit", "Undo")
    time.sleep(0.5)  # nothing tells that it was done
    assert either("img.getProcessor().get(3, 3)") == 77
    assert either(f"len({OURS})") == 6
    assert [title for title in either.windows() if "ImageJ" not in title] == ["skin"]


def test_channel_in_view_is_the_one_that_is_sent(either, fake):
    either("img = ij.IJ.createHyperStack('skin', 60, 40, 2, 4, 1, 8)")
    either("for i in range(8): img.getStack().getProcessor(i + 1).add(10 + i)")
    either("img.setPosition(2, 3, 1); img.show()")
    run(either, "Segment skin", f"server={fake.url}")
    sent = tifffile.imread(io.BytesIO(fake.bodies[-1]))
    assert [int(plane[0, 0]) for plane in sent] == [11, 13, 15, 17]
    assert either(f"[[r.getCPosition(), r.getZPosition(), r.getTPosition()] for r in {OURS}]") == [
        [2, z, 1] for z in (1, 2, 3, 4)
    ]
    assert either("[img.getC(), img.getZ()]") == [2, 3]


def test_gray_values_of_a_palette_are_sent(either, fake):
    either("img = ij.IJ.createImage('skin', '8-bit ramp', 60, 40, 3); img.show()")
    either("ij.IJ.run(img, 'Fire', '')")
    run(either, "Segment skin", f"server={fake.url}")
    sent = tifffile.imread(io.BytesIO(fake.bodies[-1]))
    expected = either("[int(img.getStack().getProcessor(2).get(x, 5)) for x in range(60)]")
    np.testing.assert_array_equal(sent[1, 5], expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16])
def test_file_in_which_white_is_zero_is_sent_as_the_server_reads_it(either, fake, tmp_path, dtype):
    path = tmp_path / "skin.tif"
    voxels = np.arange(3 * 40 * 60).reshape(3, 40, 60).astype(dtype)
    tifffile.imwrite(path, voxels, photometric="miniswhite", metadata=None)
    expected = read_tomogram(path).voxels[0:3]
    either(f"img = ij.IJ.openImage({str(path)!r}); img.show()")
    assert either("img.isInvertedLut()")
    row = "[int(img.getStack().getProcessor(1).get(x, 3)) for x in range(60)]"
    before = either(row)
    run(either, "Segment skin", f"server={fake.url}")
    np.testing.assert_array_equal(tifffile.imread(io.BytesIO(fake.bodies[-1])), expected)
    either("img.setRoi(10, 5, 20, 30)")
    run(either, "Segment skin", f"server={fake.url} slices=2 selection")
    np.testing.assert_array_equal(tifffile.imread(io.BytesIO(fake.bodies[-1])), expected[1, 5:35, 10:30])
    assert either(row) == before


def test_inverted_lut_of_imagej_is_only_a_way_of_looking(either, fake, tmp_path):
    path = tmp_path / "skin.tif"
    voxels = np.arange(3 * 40 * 60).reshape(3, 40, 60).astype(np.uint8)
    text = "ImageJ=1.54p\nimages=3\nslices=3\nloop=false\n"
    tifffile.imwrite(path, voxels, photometric="miniswhite", description=text, metadata=None)
    np.testing.assert_array_equal(read_tomogram(path).voxels[0:3], voxels)
    either(f"img = ij.IJ.openImage({str(path)!r}); img.show()")
    assert either("img.isInvertedLut()")
    run(either, "Segment skin", f"server={fake.url}")
    np.testing.assert_array_equal(tifffile.imread(io.BytesIO(fake.bodies[-1])), voxels)


def test_queue_and_time_left_are_told_and_escape_leaves_the_queue(either, fake):
    open_stack(either)
    fake.queued, fake.slices_per_second = 3, 0.1
    either.choose("Plugins", "Skin", "Segment skin")
    either.until("window('Segment skin') is not None")
    either.ok("Segment skin")
    either.until("'waiting, number 3 in the queue, ' in status() and 's left (Escape stops)' in status()")
    fake.queued = 0
    either.until("'slice 0 of 6, ' in status() and 's left (Escape stops)' in status()")
    fake.queued = 1
    either.until("'number 1 in the queue' in status()")
    either.focus("skin")
    either.xdotool("key", "Escape")
    either.until("'stopped' in status()")
    assert len(fake.deleted) == 1
    assert either("img.getOverlay()") is None


def test_upload_is_told_and_escape_stops_it(either, fake):
    either("img = ij.IJ.createImage('skin', '16-bit ramp', 1024, 1024, 16); img.show()")
    fake.seconds_per_megabyte = 1.0
    either.choose("Plugins", "Skin", "Segment skin")
    either.until("window('Segment skin') is not None")
    either.ok("Segment skin")
    either.until("'sending the image ' in status() and '% (Escape stops)' in status()")
    either.focus("skin")
    either.xdotool("key", "Escape")
    either.until("'stopped' in status()")
    fake.seconds_per_megabyte = 0.0
    assert fake.bodies == []
    assert either("img.getOverlay()") is None


def test_quit_while_at_work_is_quiet(launch, imagej_jar, fake):
    """Nobody is told of a result that nobody waits for any more."""
    fake.reset()
    session = launch(imagej_jar, fake.url)
    open_stack(session)
    fake.slices_per_second = 3.0
    session.choose("Plugins", "Skin", "Segment skin")
    session.until("window('Segment skin') is not None")
    session.ok("Segment skin")
    session.until("' of 6' in status()")
    session("ij.IJ.run('Quit')")
    session.until("not ij.running()")
    session.until("not [t for t in __import__('threading').enumerate() if t.name.startswith('skinoct ')]")
    assert session.windows() in ([], ["skin"])  # ImageJ leaves images to the end of the process; nothing else is open
    assert "Traceback" not in session.log.read_text()
    session.process.kill()
    session.process.wait(20)
    fake.reset()


def test_quit_waits_for_the_answer_whether_to_save(launch, imagej_jar, fake):
    """Who is asked keeps the image, and ImageJ with it, until there is an answer."""
    session = launch(imagej_jar, fake.url)
    open_stack(session)
    session("img.changes = True")
    for button in ("Cancel", "Don't Save"):
        session("ij.IJ.doCommand('Quit')")
        session.until("'Save changes' in ''.join(texts('ImageJ'))")
        assert session("ij.running()")
        session.press("ImageJ", button)
        session.until("'Save changes' not in str(window('ImageJ') and texts('ImageJ'))")
        if button == "Cancel":
            session.until("not ij.IJ.getInstance().quitting()")
            assert session("ij.running()")
            assert session("img.getWindow().isShowing()")
    session.until("not ij.running()")
    session.process.kill()
    session.process.wait(20)
