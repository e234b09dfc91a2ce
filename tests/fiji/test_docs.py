"""The macros and command lines of docs/fiji.md are run as they stand, but for addresses and paths."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import tifffile

pytestmark = pytest.mark.imagej

PAGE = Path(__file__).parents[2] / "docs" / "fiji.md"
NAMES = {"labels.tif", "RoiSet.zip", "measurements.csv", "input.json", "measurements.json"}


def blocks() -> list[str]:
    """Return the indented blocks of the page."""
    found = re.findall(r"(?:^    .*\n|^\n(?=    ))+", PAGE.read_text(), re.MULTILINE)
    return [
        "".join(line.removeprefix("    ") for line in block.strip("\n").splitlines(keepends=True)) for block in found
    ]


def block(about: str) -> str:
    """Return the one block that is about something."""
    (found,) = (text for text in blocks() if about in text)
    return found


@pytest.fixture
def data(tmp_path, make_tiff):
    """Stand for /data: tomograms among what else lies in a folder."""
    folder = tmp_path / "data" / "tomograms"
    (folder / "old").mkdir(parents=True)
    (tmp_path / "data" / "layers").mkdir()
    (folder / "notes.txt").write_text("no tomogram")
    for name, slices in (("a.tif", 3), ("B.TIF", 2)):
        (folder / name).write_bytes(make_tiff(slices, 40, 60))
    return tmp_path / "data"


def here(text, fake, data):
    """Put this server and this folder in place of the page's."""
    return text.replace("http://127.0.0.1:8000", fake.url).replace("/data/", f"{data}/")


def test_macro_that_saves_images_with_their_layers(either, fake, data):
    code = here(block("saveAs("), fake, data)
    assert either(f"str(ij.IJ.runMacro({code!r}))") == "None"
    assert sorted(path.name for path in (data / "layers").iterdir()) == ["B.tif", "a.tif"]
    with tifffile.TiffFile(data / "layers" / "a.tif") as file:
        assert len(file.imagej_metadata["Overlays"]) == 3


def test_lines_that_stand_alone(either, fake, data):
    """Every line of a macro that needs only an image."""
    (data.parent / "home" / "me").mkdir(parents=True)
    lines = [text for text in blocks() if text.startswith("run(")]
    assert len(lines) >= 3
    either(f"img = ij.IJ.openImage({str(data / 'tomograms' / 'a.tif')!r}); img.show()")
    for line in lines:
        either("ij.IJ.selectWindow('a.tif')")
        if "Save correction" in line:
            code = f'run("Export layers to ROI Manager", "server={fake.url}");'
            either(f"ij.IJ.runMacro({code!r})")
            either("_r = ij.RoiManager.getInstance2().getRoi(0); _r.setLocation(_r.getXBase(), _r.getYBase() + 2.0)")
        code = here(line, fake, data).replace("/home/me/", f"{data.parent}/home/me/") + 'return "done";'
        assert either(f"str(ij.IJ.runMacro({code!r}))") == "done", line
    assert (data.parent / "home" / "me" / "measures.csv").exists()
    assert (data / "ours" / "patient-07" / "RoiSet.zip").exists()


def written(fake, data):
    """Write the loop as a file; return its name on the page."""
    (data / "loop.ijm").write_text(here(block("getArgument()"), fake, data))
    return str(data / "loop.ijm")


def check_results(data, output):
    assert sorted(path.name for path in (data / "results").iterdir()) == ["B.TIF", "a.tif"], output
    for folder in (data / "results").iterdir():
        assert {path.name for path in folder.iterdir()} == NAMES


def test_loop_on_the_command_line(fake, data, imagej_jar):
    fake.reset()
    line = here(block("skinoct-fiji macro"), fake, data).replace("/path/to/Fiji.app", str(imagej_jar))
    command = shlex.split(line.replace("loop.ijm", written(fake, data)))
    environment = {name: value for name, value in os.environ.items() if name != "DISPLAY"}
    environment["JAVA_TOOL_OPTIONS"] = f"-Duser.home={data}"
    done = subprocess.run(
        [sys.executable, "-m", "skinoct_fiji.cli", *command[1:]],
        capture_output=True, text=True, env=environment, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    check_results(data, done.stdout + done.stderr)


@pytest.mark.fiji
def test_loop_by_fiji_alone(headless_fiji, fake, data):
    fake.reset()
    line = here(block("--headless"), fake, data).replace("loop.ijm", written(fake, data))
    _, headless, *arguments = shlex.split(line)
    assert headless == "--headless"
    check_results(data, headless_fiji(*arguments))
