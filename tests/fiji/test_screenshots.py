"""Make the pictures of docs/fiji.md again:

SKINOCT_SCREENSHOTS=docs/images python -m pytest -m slow tests/fiji/test_screenshots.py

With SKINOCT_MODELS (default: the shipped checkpoints) and, for the last one, FIJI_DIR. Without SKINOCT_SCREENSHOTS the
story is gone through all the same, and its pictures go to a temporary folder.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from PIL import Image, ImageChops

from skinoct_fiji.app import ENTRIES

pytestmark = [pytest.mark.imagej, pytest.mark.slow]

OUT = os.environ.get("SKINOCT_SCREENSHOTS")
STILL_S = 1.5
"""How long nothing may change before a picture is taken: Java draws the parts of a window one after the other."""
CARET_PX = 100
"""A blinking caret is no movement."""


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    """A tomogram that no shipped checkpoint was trained on."""
    folder = tmp_path_factory.mktemp("phantom") / "data"
    command = [sys.executable, "-m", "skinoct_training.cli", "phantom", str(folder)]
    subprocess.run([*command, "--tomograms", "1", "--slices", "72", "--seed", "4711"], check=True, timeout=300)
    return next(folder.glob("*/tomogram.tif"))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The real server with the shipped checkpoint."""
    command = [sys.executable, "-m", "skinoct_server.cli", "serve", "--port", "0"]
    models = os.environ.get("SKINOCT_MODELS")
    process = subprocess.Popen(
        [*command, *(["--models", models] if models else [])],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    line = process.stdout.readline()
    url = next(word.rstrip("/.,") for word in line.split() if word.startswith("http"))
    end = time.monotonic() + 180
    while httpx.get(f"{url}/readyz", trust_env=False, timeout=60).status_code != 200:
        assert time.monotonic() < end, "the server does not get ready"
        time.sleep(0.2)
    yield url
    process.terminate()
    process.stdout.close()
    process.wait(30)


def picture(session, name, box, still=True):
    """Keep what the screen shows in a box (left, top, right, bottom), in few colors; wait until nothing moves there."""
    image = screen(session, name, box)
    end, since = time.monotonic() + 20, time.monotonic()
    while still and time.monotonic() < since + STILL_S:
        assert time.monotonic() < end, f"{name}: the screen does not come to rest"
        time.sleep(0.2)
        before, image = image, screen(session, name, box)
        left, top, right, bottom = ImageChops.difference(image, before).getbbox() or (0, 0, 0, 0)
        if (right - left) * (bottom - top) > CARET_PX:
            since = time.monotonic()
    few = image.quantize(240, dither=Image.Dither.NONE)
    few.save((Path(OUT) if OUT else session.folder) / f"{name}.png", optimize=True)


def screen(session, name, box):
    """Return what the screen shows in a box."""
    path = session.folder / f"{name}-screen.png"
    session.screenshot(path)
    return Image.open(path).convert("RGB").crop(box)


@pytest.fixture
def shown(imagej, phantom, server):
    """The tomogram in front, at slice 12; dialogs of other tests gone."""
    imagej(f"ij.remember({{'server': {server!r}, 'options': ''}})")
    imagej(f"img = ij.IJ.openImage({str(phantom)!r}); img.setTitle('skin.tif'); img.setSlice(12); img.show()")
    imagej("ij.IJ.setTool('rectangle')")
    time.sleep(1)
    yield imagej
    imagej("img.changes = False; img.close()")


def test_pictures_of_the_story(shown, server):
    session, wide, tall = shown, (528, 0, 1137, 345), (400, 0, 1137, 560)
    # The server tells how long it will take once it knows how fast it is: after a first, small part.
    code = f'run("Segment skin", "server={server} slices=1-8"); run("Remove Overlay");'
    session(f"ij.IJ.runMacro({code!r})")
    for depth, path in enumerate([("Plugins",), ("Plugins", "Skin")]):
        session.click(*session(f"menu_point{path!r}"))
        time.sleep(0.8 + depth)
    session.xdotool("mousemove", *session("menu_point('Plugins', 'Skin', 'Segment skin')"))
    time.sleep(0.5)
    picture(session, "fiji-menu", (528, 0, 1280, 345))
    session.xdotool("mousedown", 1, "sleep", "0.1", "mouseup", 1)
    session.until("window('Segment skin') is not None")
    session.press("Segment skin", "Test connection")
    session.until("any('Connected' in t for t in texts('Segment skin'))")
    time.sleep(0.5)
    picture(session, "fiji-dialog", tall)
    session.ok("Segment skin")
    session.until("' of 72, ' in status() and ' left (' in status()", 60)
    time.sleep(0.3)  # until the status bar has drawn what it says
    picture(session, "fiji-progress", wide, still=False)
    assert "done" not in session("status()")
    session.until("'done' in status()", 120)
    time.sleep(0.5)
    picture(session, "fiji-band", wide)
    code = f'run("Segment skin", "server={server} show=[all layers] opacity=35");'
    session(f"ij.IJ.runMacro({code!r})")
    time.sleep(0.5)
    picture(session, "fiji-layers", wide)


def test_picture_of_the_measurements(shown, server):
    session = shown
    code = f'run("Measure DEJ", "server={server} maps");'
    session(f"ij.IJ.runMacro({code!r})")
    session("_w = ij.WindowManager.getWindow('DEJ measurements'); _w.setBounds(20, 360, 1240, 110)")
    session("_w = ij.WindowManager.getWindow('DEJ per slice of skin.tif'); _w.setBounds(20, 480, 1240, 200)")
    session("_w = ij.WindowManager.getImage('skin.tif maps').getWindow(); _w.setLocation(2, 60)")
    time.sleep(1.5)
    picture(session, "fiji-measure", (0, 0, 1280, 690))
    session("ij.WindowManager.getImage('skin.tif maps').close()")
    session("""for _w in list(ij.WindowManager.getNonImageWindows()):
    if 'DEJ' in str(_w.getTitle()): _w.close(False)""")


def test_picture_of_the_roi_manager(shown, server):
    session = shown
    code = f'run("Export layers to ROI Manager", "server={server}");'
    session(f"ij.IJ.runMacro({code!r})")
    session("manager = ij.RoiManager.getInstance2(); manager.setLocation(540, 355)")
    session("""for _w in list(ij.WindowManager.getNonImageWindows()):
    if 'review' in str(_w.getTitle()): _w.setBounds(800, 355, 330, 260)""")
    session("manager.select(11)")
    time.sleep(1.5)
    picture(session, "fiji-rois", (528, 0, 1137, 640))
    session("ij.remember({'dataset': '/data/ours'})")
    session.choose("Plugins", "Skin", "Save correction for training...")
    session.until("window('Save correction for training') is not None")
    time.sleep(1)
    picture(session, "fiji-correction", (400, 0, 1137, 640))
    session.press("Save correction for training", "Cancel")
    session("manager.close()")
    session("""for _w in list(ij.WindowManager.getNonImageWindows()):
    if 'DEJ' in str(_w.getTitle()): _w.close(False)""")


def test_picture_of_a_server_that_is_not_there(shown, server):
    session = shown
    session("ij.remember({'server': 'http://127.0.0.1:9'})")
    session.choose("Plugins", "Skin", "Segment skin")
    session.until("window('Segment skin') is not None")
    session.ok("Segment skin")
    session.until("window('skinoct') is not None")
    time.sleep(0.5)
    picture(session, "fiji-no-server", (400, 0, 1137, 420))
    session.ok("skinoct")


@pytest.mark.fiji
def test_picture_of_a_stock_fiji(stock_fiji, phantom, server):
    session = stock_fiji
    session(f"img = ij.IJ.openImage({str(phantom)!r}); img.setTitle('skin.tif'); img.setSlice(12); img.show()")
    code = f'run("Segment skin", "server={server} opacity=40"); return "done";'
    session(f"ij.IJ.runMacro({code!r})")
    session.click(*session("menu_point('Plugins')"))
    time.sleep(1)
    session.click(*session("menu_point('Plugins', 'Skin')"))
    time.sleep(1)
    places = [session(f"menu_point('Plugins', 'Skin', {label!r})") for label in ENTRIES]
    assert all(places)  # all entries are on the screen
    picture(session, "fiji-stock", (528, 0, 1280, max(y for _, y in places) + 24))
    session.xdotool("key", "Escape", "Escape")
