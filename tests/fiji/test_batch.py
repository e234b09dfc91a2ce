"""All ways to do many tomograms give the same files: the entry, the command line, macros with and without a window."""

from __future__ import annotations

import csv
import os
import subprocess
import sys

import numpy as np
import pytest

from skinoct.tomogram import PixelSize, write_tomogram
from skinoct_fiji.cli import main
from skinoct_fiji.commands.folder import FolderOptions
from skinoct_fiji.options import to_macro

pytestmark = pytest.mark.imagej

NAMES = {"labels.tif", "RoiSet.zip", "measurements.csv", "input.json", "measurements.json"}
LOOP = """
setBatchMode(true);
folder = "{folder}/";
files = getFileList(folder);
for (i = 0; i < files.length; i++) {{
    open(folder + files[i]);
    run("Segment skin", "server={url} save=[{out}]");
    close();
}}
return "" + files.length;
"""


@pytest.fixture
def folder(tmp_path, make_tomogram):
    """8 and 16 bit, with odd pixel sizes and none, slices and frames."""
    path = tmp_path / "in"
    path.mkdir()
    write_tomogram(path / "a.tif", make_tomogram(4, 40, 60), pixel_size_um=PixelSize(0.853, 0.9, 1.0))
    write_tomogram(path / "b.tif", make_tomogram(3, 48, 64, seed=1).astype(np.uint16) * 200)
    size = PixelSize(1 / 1.1, 0.77, None)
    write_tomogram(path / "c.tif", make_tomogram(3, 40, 70, seed=2), pixel_size_um=size, axis="T")
    return path


def files(out):
    found = {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    found.pop("summary.csv", None)
    return found


def summary(out):
    """Return the table's cells; a path with a comma is in quotes, and the paths differ."""
    rows = csv.reader((out / "summary.csv").read_text().splitlines())
    return [[cell.replace(str(out), "OUT") for cell in row] for row in rows]


def by_command_line(folder, out, url):
    assert main(["segment", str(folder), "--out", str(out), "--server", url]) == 0
    return files(out)


def test_entry_and_macro_loop_give_the_files_of_the_command_line(either, live_server, folder, tmp_path):
    expected = by_command_line(folder, tmp_path / "line", live_server.url)
    assert len(expected) == 3 * len(NAMES)
    code = f'run("Segment folder...", "folder=[{folder}] out=[{tmp_path / "entry"}] server={live_server.url}");'
    either(f"ij.IJ.runMacro({code!r})")
    assert files(tmp_path / "entry") == expected
    assert summary(tmp_path / "entry") == summary(tmp_path / "line")
    loop = LOOP.format(folder=folder, url=live_server.url, out=tmp_path / "loop")
    assert either(f"str(ij.IJ.runMacro({loop!r}))") == "3"
    assert files(tmp_path / "loop") == expected
    for name in ("loop", "line"):  # what was finished by whatever way is finished
        loop = LOOP.format(folder=folder, url=live_server.url, out=tmp_path / name)
        before = {path: path.stat().st_mtime_ns for path in (tmp_path / name).rglob("*.*")}
        assert either(f"str(ij.IJ.runMacro({loop!r}))") == "3"
        assert {path: path.stat().st_mtime_ns for path in (tmp_path / name).rglob("*.*")} == before
    either(f"ij.IJ.runMacro({code.replace(str(tmp_path / 'entry'), str(tmp_path / 'loop'))!r})")
    assert [row[1] for row in summary(tmp_path / "loop")[1:]] == ["skipped"] * 3


OURS = "[r for r in (img.getOverlay().toArray() if img.getOverlay() else []) if r.getProperty('skinoct')]"


def open_image(session, path):
    session(f"img = ij.IJ.openImage({str(path)!r}); img.show()")


def run(session, command, options):
    code = f'run("{command}", "{options}"); return "done";'
    assert session(f"str(ij.IJ.runMacro({code!r}))") == "done"


def sentence(session, command, options):
    """Return the error that a macro ends with, however it is broken into lines."""
    code = f'run("{command}", "{options}");'
    return " ".join(session(f"str(JClass('ij.macro.Interpreter')().eval({code!r}))").split())


@pytest.fixture
def patients(tmp_path, make_tiff):
    """Two recordings of one name, size and scanner."""
    for seed, name in enumerate(("p1", "p2"), 1):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tomogram.tif").write_bytes(make_tiff(4, 40, 60, seed=seed))
    return tmp_path / "p1" / "tomogram.tif", tmp_path / "p2" / "tomogram.tif"


def test_no_patient_gets_the_results_of_another(either, fake, patients, tmp_path):
    one, other = patients
    out = tmp_path / "out"
    open_image(either, one)
    run(either, "Segment skin", f"server={fake.url} save=[{out}]")
    before = files(out)
    either("img.close()")
    open_image(either, other)
    words = sentence(either, "Segment skin", f"server={fake.url} save=[{out}]")
    assert f"{out / 'tomogram.tif'} holds the results of another image than 'tomogram.tif'" in words
    assert "Give another folder for the results" in words
    assert either("img.getOverlay()") is None
    assert files(out) == before
    code = f"folder=[{other.parent}] out=[{out}] server={fake.url}"
    run(either, "Segment folder...", code)
    (row,) = csv.DictReader((out / "summary.csv").read_text().splitlines())
    assert row["state"] == "failed"
    assert f"holds the results of another image than {other}" in row["detail"]
    assert files(out) == before
    assert len(fake.bodies) == 1


def test_finished_results_are_shown_without_a_server(either, fake, patients, tmp_path):
    open_image(either, patients[0])
    run(either, "Segment skin", f"server={fake.url} save=[{tmp_path / 'out'}]")
    either("img.close()")
    open_image(either, patients[0])
    nowhere = f"server=http://127.0.0.1:9 save=[{tmp_path / 'out'}]"
    run(either, "Segment skin", nowhere)
    assert either(f"[r.getPosition() for r in {OURS}]") == [1, 2, 3, 4]
    either.until("'finished earlier' in status()")
    run(either, "Segment skin", f"{nowhere} show=[all layers] measure")
    assert either(f"len({OURS})") == 16
    assert either("JClass('ij.measure.ResultsTable').getResultsTable('DEJ measurements').size()") == 1
    either("ij.IJ.selectWindow('tomogram.tif')")
    run(either, "Segment skin", f"{nowhere} show=[label stack]")
    assert either("ij.WindowManager.getImage('tomogram.tif layers').getStackSize()") == 4
    (tmp_path / "out" / "tomogram.tif" / "RoiSet.zip").unlink()
    either("ij.IJ.selectWindow('tomogram.tif')")
    words = sentence(either, "Segment skin", nowhere)
    assert f"The results in {tmp_path / 'out' / 'tomogram.tif'} cannot be read. Move it away" in words


OTHERS = {
    "part": ("slices=1-2", "another image than 'tomogram.tif'"),
    "model": ("model=other", "of the model phantom-v1, and other is asked for"),
    "pixel size": ("pixel_size=0.5", "at a pixel size of 0.9 um, and 0.5 um is asked for"),
}


@pytest.mark.parametrize(("options", "words"), OTHERS.values(), ids=OTHERS)
def test_finished_results_of_another_question_are_said(either, fake, patients, tmp_path, options, words):
    open_image(either, patients[0])
    out = f"server={fake.url} save=[{tmp_path / 'out'}]"
    run(either, "Segment skin", out)
    assert words in sentence(either, "Segment skin", f"{out} {options}")
    run(either, "Segment skin", out)
    assert len(fake.bodies) == 1


def test_finished_results_of_an_image_that_was_edited_are_said(either, fake, patients, tmp_path):
    """Of a file, and of an image that is none."""
    open_image(either, patients[0])
    for out in (tmp_path / "file", tmp_path / "duplicate"):
        run(either, "Segment skin", f"server={fake.url} save=[{out}]")
        run(either, "Segment skin", f"server={fake.url} save=[{out}]")
        either("ij.IJ.run(img, 'Add...', 'value=1 stack')")
        assert "another image than" in sentence(either, "Segment skin", f"server={fake.url} save=[{out}]")
        either(
            "_copy = img.duplicate(); img.changes = False; img.close(); img = _copy; img.setTitle('copy'); img.show()"
        )
    assert len(fake.bodies) == 2


def test_result_is_never_put_together_from_two(either, fake, patients, tmp_path):
    """As when somebody removed the measures of one model, and another one is the default now."""
    target = tmp_path / "out" / "tomogram.tif"
    options = f"folder=[{patients[0].parent}] out=[{tmp_path / 'out'}] server={fake.url}"
    run(either, "Segment folder...", options)
    whole = files(tmp_path / "out")
    (target / "measurements.json").unlink()
    run(either, "Segment folder...", options)  # a process that was killed: what it had written is kept
    assert files(tmp_path / "out") == whole
    for name in ("measurements.csv", "measurements.json"):
        (target / name).unlink()
    (target / "labels.tif").write_bytes(b"of another model")
    run(either, "Segment folder...", options)
    (row,) = csv.DictReader((tmp_path / "out" / "summary.csv").read_text().splitlines())
    assert row["state"] == "failed"
    assert f"{target / 'labels.tif'} is there already and is of another result. Move {target} away" in row["detail"]
    assert (target / "labels.tif").read_bytes() == b"of another model"
    assert not (target / "measurements.csv").exists()
    assert not (target / "measurements.json").exists()


@pytest.mark.parametrize("content", [b"patient,age\n7,55\n", b""])
def test_table_of_the_users_is_not_overwritten(either, fake, patients, tmp_path, content):
    table = tmp_path / "out" / "summary.csv"
    table.parent.mkdir()
    table.write_bytes(content)
    (table.parent / "summary.partial").write_bytes(content)
    options = f"folder=[{patients[0].parent}] out=[{table.parent}] server={fake.url}"
    words = sentence(either, "Segment folder...", options)
    assert f"{table} is not a summary of skinoct and is not overwritten" in words
    assert fake.bodies == []
    table.rename(table.with_suffix(".txt"))
    for _ in range(2):
        run(either, "Segment folder...", options)
    assert table.read_text().startswith("tomogram,state,detail")
    assert (table.parent / "summary.partial").read_bytes() == content
    assert sorted(path.name for path in table.parent.iterdir()) == [
        "summary.csv",
        "summary.partial",
        "summary.txt",
        "tomogram.tif",
    ]


def test_macro_without_a_window_gives_the_files_of_the_command_line(live_server, folder, tmp_path, imagej_jar):
    expected = by_command_line(folder, tmp_path / "line", live_server.url)
    macro = tmp_path / "loop.ijm"
    macro.write_text(LOOP.format(folder=folder, url=live_server.url, out='" + getArgument() + "'))
    command = [sys.executable, "-m", "skinoct_fiji.cli", "macro", str(macro), str(tmp_path / "quiet")]
    environment = {name: value for name, value in os.environ.items() if name != "DISPLAY"}
    environment["JAVA_TOOL_OPTIONS"] = f"-Duser.home={tmp_path}"
    done = subprocess.run(
        [*command, "--fiji", str(imagej_jar)], capture_output=True, text=True, env=environment, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "3"
    assert files(tmp_path / "quiet") == expected


def test_macro_without_a_window_fails_in_a_sentence(live_server, tmp_path, imagej_jar):
    macro = tmp_path / "bad.ijm"
    macro.write_text('run("Segment skin", "server=http://127.0.0.1:9"); return "went on";')
    environment = {name: value for name, value in os.environ.items() if name != "DISPLAY"}
    environment["JAVA_TOOL_OPTIONS"] = f"-Duser.home={tmp_path}"
    done = subprocess.run(
        [sys.executable, "-m", "skinoct_fiji.cli", "macro", str(macro), "--fiji", str(imagej_jar)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
        check=False,
    )
    assert done.returncode == 1
    assert "No image is open" in done.stderr
    assert "Traceback" not in done.stderr


def test_folder_goes_on_after_a_bad_file_and_ends_with_a_table(either, live_server, make_tiff, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.tif").write_bytes(make_tiff(3, 40, 60))
    (folder / "b.tif").write_bytes(b"no TIFF")
    (folder / "c.tif").write_bytes(make_tiff(2, 40, 60))
    code = f'run("Segment folder...", "folder=[{folder}] out=[{tmp_path / "out"}] server={live_server.url}");'
    for states in (["done", "failed", "done"], ["skipped", "failed", "skipped"]):
        either(f"ij.IJ.runMacro({code!r})")
        table = "JClass('ij.measure.ResultsTable').getResultsTable('Segmented folder')"
        assert either(f"[str({table}.getStringValue('state', n)) for n in range(3)]") == states
        rows = list(csv.DictReader((tmp_path / "out" / "summary.csv").read_text().splitlines()))
        assert [row["state"] for row in rows] == states
        either("ij.WindowManager.getWindow('Segmented folder').close(False)")
    assert {path.name for path in (tmp_path / "out" / "a.tif").iterdir()} == NAMES


@pytest.fixture
def three(tmp_path, make_tiff):
    """Return a folder of three tomograms and the length of the second, which is more than a socket holds."""
    (tmp_path / "in").mkdir()
    for name, shape in {"a.tif": (3, 40, 60), "b.tif": (8, 1024, 1024), "c.tif": (2, 40, 60)}.items():
        (tmp_path / "in" / name).write_bytes(make_tiff(*shape))
    return tmp_path / "in", (tmp_path / "in" / "b.tif").stat().st_size


@pytest.mark.parametrize("when", ["sending", "answering", "result"])
def test_folder_goes_on_when_the_connection_breaks(either, fake, three, tmp_path, when):
    folder, size = three
    fake.breaks = {size: when}
    code = f'run("Segment folder...", "folder=[{folder}] out=[{tmp_path / "out"}] server={fake.url}"); return "done";'
    assert either(f"str(ij.IJ.runMacro({code!r}))") == "done"
    rows = list(csv.DictReader((tmp_path / "out" / "summary.csv").read_text().splitlines()))
    assert [row["state"] for row in rows] == ["done", "failed", "done"]
    assert fake.url in rows[1]["detail"]
    assert "roke" in rows[1]["detail"]
    assert not (tmp_path / "out" / "b.tif").exists()
    fake.breaks = {}
    assert either(f"str(ij.IJ.runMacro({code!r}))") == "done"
    rows = list(csv.DictReader((tmp_path / "out" / "summary.csv").read_text().splitlines()))
    assert [row["state"] for row in rows] == ["skipped", "done", "skipped"]


def test_folder_ends_when_the_server_dies_while_a_file_is_sent(either, mortal, three, tmp_path):
    folder, size = three
    mortal.breaks = {size: "dying"}
    code = f'run("Segment folder...", "folder=[{folder}] out=[{tmp_path / "out"}] server={mortal.url}");'
    sentence = " ".join(either(f"str(JClass('ij.macro.Interpreter')().eval({code!r}))").split())
    assert f"No skinoct server answers at {mortal.url}" in sentence
    rows = list(csv.DictReader((tmp_path / "out" / "summary.csv").read_text().splitlines()))
    assert [(row["tomogram"], row["state"]) for row in rows] == [("a.tif", "done"), ("b.tif", "failed")]


def test_folder_passes_over_what_a_mac_leaves_behind(either, fake, make_tiff, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.tif").write_bytes(make_tiff(3, 40, 60))
    (tmp_path / "in" / "._a.tif").write_bytes(b"Mac OS X")
    code = f'run("Segment folder...", "folder=[{tmp_path / "in"}] out=[{tmp_path / "out"}] server={fake.url}");'
    either(f"ij.IJ.runMacro({code!r})")
    rows = list(csv.DictReader((tmp_path / "out" / "summary.csv").read_text().splitlines()))
    assert [(row["tomogram"], row["state"]) for row in rows] == [("a.tif", "done")]


def test_results_do_not_go_among_the_tomograms(either, fake, make_tiff, tmp_path):
    (tmp_path / "a.tif").write_bytes(make_tiff(3, 40, 60))
    code = f'run("Segment folder...", "folder=[{tmp_path}] out=[{tmp_path}/] server={fake.url}");'
    sentence = " ".join(either(f"str(JClass('ij.macro.Interpreter')().eval({code!r}))").split())
    assert "Give another folder for the results" in sentence
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]
    assert fake.bodies == []


def test_table_that_cannot_be_written_is_said_and_results_stay(either, fake, make_tiff, tmp_path):
    """As when it is open in a spreadsheet."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.tif").write_bytes(make_tiff(3, 40, 60))
    (tmp_path / "out" / "summary.csv" / "full").mkdir(parents=True)
    code = f'run("Segment folder...", "folder=[{tmp_path / "in"}] out=[{tmp_path / "out"}] server={fake.url}");'
    sentence = " ".join(either(f"str(JClass('ij.macro.Interpreter')().eval({code!r}))").split())
    assert "summary.csv cannot be written" in sentence
    assert "Close it where it is open" in sentence
    assert {path.name for path in (tmp_path / "out" / "a.tif").iterdir()} == NAMES


def test_result_that_was_damaged_since_does_not_stop_the_folder(either, fake, make_tiff, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.tif").write_bytes(make_tiff(3, 40, 60))
    (tmp_path / "out" / "a.tif").mkdir(parents=True)
    (tmp_path / "out" / "a.tif" / "measurements.json").write_bytes(b"")
    code = f'run("Segment folder...", "folder=[{tmp_path / "in"}] out=[{tmp_path / "out"}] server={fake.url}");'
    either(f"ij.IJ.runMacro({code!r})")
    rows = list(csv.DictReader((tmp_path / "out" / "summary.csv").read_text().splitlines()))
    assert [(row["tomogram"], row["state"]) for row in rows] == [("a.tif", "skipped")]


def test_folder_ends_when_no_tomogram_can_be_done(either, fake, make_tiff, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.tif").write_bytes(make_tiff(3, 40, 60))
    fake.key = "secret"
    code = f'run("Segment folder...", "folder=[{tmp_path / "in"}] out=[{tmp_path / "out"}] server={fake.url}");'
    sentence = either(f"str(JClass('ij.macro.Interpreter')().eval({code!r}))")
    assert "does not accept this API key" in " ".join(sentence.split())


def test_folder_by_mouse_and_keyboard_gives_the_files_of_the_command_line(either, live_server, folder, tmp_path):
    """The dialog, with folders that have blanks in their names; it offers them again next time."""
    expected = by_command_line(folder, tmp_path / "line", live_server.url)
    source, out = tmp_path / "of today", tmp_path / "results of today"
    folder.rename(source)
    either("ij.remember({'folder': '', 'out': ''})")
    either("ij.IJ.run('Record...')")
    either.until("bool(ij.Recorder.record)")
    either.choose("Plugins", "Skin", "Segment folder...")
    either.type("Segment folder", "Tomograms in", str(source))
    either.type("Segment folder", "Results to", str(out))
    either.type("Segment folder", "Server", live_server.url)
    either.ok("Segment folder")
    table = "JClass('ij.measure.ResultsTable').getResultsTable('Segmented folder')"
    either.until(f"{table} is not None", 60)
    assert either(f"[str({table}.getStringValue('state', n)) for n in range(3)]") == ["done"] * 3
    assert files(out) == expected
    assert "3 of 3 tomograms" in either.until("status() if 'tomograms are in' in status() else ''")
    options = FolderOptions(str(source), str(out), live_server.url)
    line = f'run("Segment folder...", "{to_macro(options, always=("folder", "out", "server"))}");'
    either.until(f"{line!r} in str(ij.Recorder.getInstance().getText()).splitlines()")
    either.choose("Plugins", "Skin", "Segment folder...")
    for label, path in (("Tomograms in", source), ("Results to", out)):
        either.until("window('Segment folder') is not None")
        assert either(f"str(field('Segment folder', {label!r}).getText())").rstrip("/") == str(path)
    either.cancel("Segment folder")


def test_escape_stops_a_folder_and_what_was_done_stays_done(either, fake, make_tiff, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.tif").write_bytes(make_tiff(3, 40, 60))
    by_command_line(tmp_path / "in", tmp_path / "out", fake.url)
    (tmp_path / "in" / "b.tif").write_bytes(make_tiff(3, 40, 60))
    either("img = ij.IJ.createImage('other', '8-bit black', 50, 50, 1); img.show()")
    either.choose("Plugins", "Skin", "Segment folder...")
    either.type("Segment folder", "Tomograms in", str(tmp_path / "in"))
    either.type("Segment folder", "Results to", str(tmp_path / "out"))
    fake.slices_per_second = 0.1
    either.ok("Segment folder")
    either.until("'2 of 2, b.tif: slice 0 of 3' in status()")
    either.focus("other")
    either.xdotool("key", "Escape")
    either.until("'stopped' in status()")
    assert len(fake.deleted) == 1
    assert {path.name for path in (tmp_path / "out" / "a.tif").iterdir()} == NAMES
    assert not (tmp_path / "out" / "b.tif").exists()
    rows = list(csv.DictReader((tmp_path / "out" / "summary.csv").read_text().splitlines()))
    assert [(row["tomogram"], row["state"]) for row in rows] == [("a.tif", "skipped")]


WITHOUT_A_WINDOW = (
    LOOP.partition("return")[0]
    + """
run("Segment folder...", "folder=[{folder}] out=[{out}, the folder] server={url}");
print("files: " + files.length);
call("ij.Prefs.set", "skinoct.server", "{other}");
open(folder + files[0]);
run("Segment skin");
print("overlay: " + Overlay.size);
close();
run("Segment skin", "server={url}");
print("went on");
"""
)


@pytest.mark.fiji
def test_scripts_without_a_window_and_without_python(headless_fiji, live_server, fake, folder, tmp_path):
    """``Fiji --headless -macro``: the same files by a loop and by the folder, and an error that ends the macro."""
    fake.reset()
    expected = by_command_line(folder, tmp_path / "line", live_server.url)
    macro = tmp_path / "loop.ijm"
    out = '" + getArgument() + "'
    macro.write_text(WITHOUT_A_WINDOW.format(folder=folder, url=live_server.url, other=fake.url, out=out))
    output = headless_fiji("-macro", str(macro), str(tmp_path / "quiet"))
    assert files(tmp_path / "quiet") == expected, output
    assert files(tmp_path / "quiet, the folder") == expected, output
    assert summary(tmp_path / "quiet, the folder") == summary(tmp_path / "line")
    assert "files: 3" in output
    assert "overlay: 4" in output  # where nobody can be asked, options have their defaults
    assert "No image is open" in " ".join(output.split())
    assert "went on" not in output
    assert "at skinMain" not in output  # no trace of the scripts
    assert "Exception" not in output.partition("files: 3")[2]
