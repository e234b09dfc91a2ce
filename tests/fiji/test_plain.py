"""What needs no Java: options, client, folders, installer, doctor."""

from __future__ import annotations

import csv
import re
import zipfile
from dataclasses import fields
from importlib import resources

import pytest

from skinoct import grid, labels
from skinoct.errors import Cancelled, OptionError
from skinoct.labels import CLASSES, label_from_name
from skinoct_fiji import __version__
from skinoct_fiji.app import ENTRIES
from skinoct_fiji.batch import segment_folder, target_of
from skinoct_fiji.bridge import images
from skinoct_fiji.bridge.jvm import find_installation
from skinoct_fiji.cli import main
from skinoct_fiji.client import Request, ServerClient, UnreachableError, Watcher
from skinoct_fiji.commands import correction, folder, layers, measure, segment
from skinoct_fiji.doctor import examine
from skinoct_fiji.failures import FijiError
from skinoct_fiji.installer import install, installed, scripts, uninstall
from skinoct_fiji.options import ExportOptions, MeasureOptions, SegmentOptions, parse_macro


@pytest.mark.parametrize(
    "options",
    [
        SegmentOptions(),
        SegmentOptions(server="https://lab.example:8443", opacity=75, show="all layers", measure=True),
        SegmentOptions(model="[odd] name", color="yellow", slices="3-9", pixel_size=0.85, selection=True),
    ],
)
def test_macro_text_says_all_options(options):
    assert SegmentOptions.from_macro(options.to_macro()) == options


def test_plain_options_are_the_documented_line():
    assert SegmentOptions().to_macro() == "server=http://127.0.0.1:8000 opacity=40"


def test_macro_text_as_imagej_writes_it():
    text = "server=x show=[DEJ band] path='a b' selection opacity=40 "
    expected = {"server": "x", "show": "DEJ band", "path": "a b", "selection": True, "opacity": "40"}
    assert parse_macro(text) == expected


@pytest.mark.parametrize("text", ["opacity=1000", "slices=x", "=3", "opacity"])
def test_options_that_cannot_be_used_are_refused(text):
    with pytest.raises(OptionError):
        SegmentOptions.from_macro(text).slice_range(5)


@pytest.fixture
def tomogram_folder(tmp_path, make_tiff):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.tif").write_bytes(make_tiff(4, 40, 60))
    (folder / "b.tif").write_bytes(b"not a TIFF")
    (folder / "c.tif").write_bytes(make_tiff(3, 40, 60))
    (folder / "notes.txt").write_text("no tomogram")
    return folder


def test_folder_is_segmented_once_and_a_bad_file_does_not_stop_it(live_server, tomogram_folder, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["segment", str(tomogram_folder), "--out", str(out), "--server", live_server.url]
    assert main(arguments) == 1
    assert {path.name for path in (out / "a.tif").iterdir()} == {
        "labels.tif",
        "RoiSet.zip",
        "measurements.csv",
        "input.json",
        "measurements.json",
    }
    rows = {row["tomogram"]: row for row in csv.DictReader((out / "summary.csv").read_text().splitlines())}
    assert [rows[name]["state"] for name in ("a.tif", "b.tif", "c.tif")] == ["done", "failed", "done"]
    assert "b.tif" in rows["b.tif"]["detail"] or "TIFF" in rows["b.tif"]["detail"]
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.name != "summary.csv"}
    assert main(arguments) == 1
    rows = {row["tomogram"]: row for row in csv.DictReader((out / "summary.csv").read_text().splitlines())}
    assert rows["a.tif"]["state"] == "skipped"
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert "2 of 3 tomograms" in capsys.readouterr().out


def test_folder_gives_the_bytes_of_the_server(live_server, tomogram_folder, tmp_path):
    with ServerClient(live_server.url) as client:
        segment_folder(client, tomogram_folder, tmp_path / "out")
        answer = client.segment(tomogram_folder / "a.tif", Request(accept="image/tiff"))
    assert (tmp_path / "out" / "a.tif" / "labels.tif").read_bytes() == answer.content
    assert answer.model == "tiny"


def test_cancelled_request_is_cancelled_on_the_server(fake, make_tiff):
    fake.reset()
    fake.slices_per_second = 0.1
    asked = []
    watch = Watcher(asked.append, lambda: any(progress.stage == "slices" for progress in asked))
    with ServerClient(fake.url) as client, pytest.raises(Cancelled):
        client.segment(make_tiff(4, 40, 60), Request(), watch)
    assert len(fake.deleted) == 1


def test_server_that_is_not_there_is_said_in_a_sentence(capsys):
    with ServerClient("127.0.0.1:9") as client, pytest.raises(UnreachableError, match="skinoct-server serve"):
        client.check()
    assert main(["segment", "/nowhere", "--out", "x", "--server", "127.0.0.1:9"]) == 1
    error = capsys.readouterr().err
    assert "There is no folder" in error
    assert "Traceback" not in error


@pytest.fixture
def empty_fiji(tmp_path):
    fiji = tmp_path / "Fiji.app"
    (fiji / "jars").mkdir(parents=True)
    (fiji / "jars" / "ij-1.54p.jar").write_bytes(b"")
    return fiji


def test_install_and_uninstall_leave_other_files_alone(empty_fiji):
    foreign = empty_fiji / "scripts" / "Plugins" / "Skin" / "mine.bsh"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("// something else")
    files = install(empty_fiji)
    assert installed(empty_fiji)
    assert {path.name for path in files} == {script.target.name for script in scripts()}
    assert install(empty_fiji) == files
    assert sorted(uninstall(empty_fiji)) == sorted(files)
    assert foreign.read_text() == "// something else"
    assert not (empty_fiji / "lib" / "skinoct").exists()


def test_the_scripts_know_the_words_of_the_classes():
    """Names of ROIs mean the same in both ways in."""
    text = (resources.files("skinoct_fiji") / "scripts" / "lib" / "layers.bsh").read_text(encoding="utf-8")
    words = dict(re.findall(r'"([a-z ]+)=([a-z]+)"', text))
    assert words
    for word, name in words.items():
        assert (label_from_name(word), word) == (label_from_name(name), word)
    assert set(words) | {item.name for item in CLASSES} == set(labels._ALIASES)


def test_uninstall_leaves_a_fiji_as_it_was(empty_fiji, capsys):
    (empty_fiji / "scripts" / "Image").mkdir(parents=True)
    (empty_fiji / "scripts" / "Image" / "theirs.ijm").write_text("// not ours")
    before = sorted(empty_fiji.rglob("*"))
    assert main(["install", "--fiji", str(empty_fiji)]) == 0
    assert len(sorted(empty_fiji.rglob("*"))) > len(before)
    assert main(["uninstall", "--fiji", str(empty_fiji)]) == 0
    assert sorted(empty_fiji.rglob("*")) == before
    assert main(["uninstall", "--fiji", str(empty_fiji)]) == 0
    assert "0 files were removed" in capsys.readouterr().out
    assert main(["uninstall", "--fiji", str(empty_fiji / "jars")]) == 1
    assert "There is no Fiji at" in capsys.readouterr().err


def test_zip_unpacked_in_a_fiji_is_what_install_makes(empty_fiji, tmp_path, capsys):
    path = tmp_path / "skinoct-fiji.zip"
    assert main(["zip", str(path)]) == 0
    with zipfile.ZipFile(path) as archive:
        archive.extractall(empty_fiji)
    assert installed(empty_fiji)
    assert len(uninstall(empty_fiji)) == len(scripts())
    assert main(["zip", str(path)]) == 1
    assert "cannot be made" in capsys.readouterr().err


def test_server_offers_the_scripts_of_this_version():
    """Made by ``skinoct-fiji zip``; the server never imports the plugin, so a copy lies in it."""
    packed = resources.files("skinoct_server") / "fiji" / "skinoct-fiji.zip"
    with packed.open("rb") as file, zipfile.ZipFile(file) as archive:
        offered = {name: archive.read(name) for name in archive.namelist()}
    ours = {str(script.target): script.content for script in scripts()}
    cure = "rm server/src/skinoct_server/fiji/skinoct-fiji.zip; skinoct-fiji zip that"
    assert offered == ours, f"the scripts have changed since they were packed; pack them again: {cure}"


def test_both_ways_have_the_same_entries_and_options():
    """Door A's entries are Python, door B's are scripts; each script says its options in its third line."""
    texts = {script.target.stem.replace("_", " "): script.content.decode() for script in scripts()}
    entries = {
        segment.LABEL: SegmentOptions,
        folder.LABEL: folder.FolderOptions,
        measure.LABEL: MeasureOptions,
        layers.EXPORT: ExportOptions,
        layers.DISPLAY: layers.DisplayOptions,
        correction.LABEL: correction.CorrectionOptions,
    }
    assert {script.target.stem.replace("_", " ") for script in scripts() if "Plugins" in str(script.target)} == {
        *ENTRIES
    }
    for label, kind in entries.items():
        known = re.search(r"^// Options: (.+)$", texts[label], re.MULTILINE)
        assert known is not None, label
        assert known[1].split() == [field.name for field in fields(kind)], label


def test_install_never_replaces_somebody_elses_file(empty_fiji):
    foreign = empty_fiji / "scripts" / "Plugins" / "Skin" / "Segment_skin.bsh"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("// something else")
    with pytest.raises(FijiError, match="not overwritten"):
        install(empty_fiji)
    assert foreign.read_text() == "// something else"
    assert not (empty_fiji / "lib").exists()


def test_scripts_of_others_that_speak_of_skinoct_stay(empty_fiji):
    install(empty_fiji)
    menu = empty_fiji / "scripts" / "Plugins" / "Skin"
    (menu / "My_loop.bsh").write_text("// runs Segment skin of skinoct on all open images\n")
    (menu / "folder.bsh").mkdir()
    uninstall(empty_fiji)
    assert sorted(path.name for path in menu.iterdir()) == ["My_loop.bsh", "folder.bsh"]


def test_fiji_that_cannot_be_changed_is_said(empty_fiji, capsys, monkeypatch):
    """Of somebody else, or open on a computer that keeps files of open programs."""

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    install(empty_fiji)
    monkeypatch.setattr("pathlib.Path.unlink", refuse)
    assert main(["uninstall", "--fiji", str(empty_fiji)]) == 1
    assert "cannot be removed (Permission denied). Close Fiji" in capsys.readouterr().err


@pytest.mark.parametrize("key", ["\u201csecret\u201d", "schl\u00fcssel", "se\rcret"])
def test_key_that_can_be_none_is_said(fake, tmp_path, make_tiff, monkeypatch, capsys, key):
    fake.reset()
    (tmp_path / "a.tif").write_bytes(make_tiff(3, 40, 60))
    monkeypatch.setenv("SKINOCT_API_KEY", key)
    assert main(["segment", str(tmp_path), "--out", str(tmp_path / "out"), "--server", fake.url]) == 1
    assert "no key has, such as curly quotes" in capsys.readouterr().err
    *_, finding = examine(None, fake.url, key)
    assert not finding.good
    assert "SKINOCT_API_KEY" in finding.text


def test_blanks_around_a_key_do_not_count(fake):
    fake.reset()
    fake.key = "secret"
    with ServerClient(fake.url, " secret\r\n") as client:
        client.check()
    fake.reset()


@pytest.mark.parametrize("address", ["127.0.0.1:99999", "127.0.0.1:0", "127.0.0.1:80OO", "http://:8000", "ftp://a", ""])
def test_address_that_can_be_none_is_said(address):
    with pytest.raises(OptionError, match="is not the address of a server"):
        ServerClient(address)


def test_server_without_https_is_said(fake):
    address = fake.url.replace("http:", "https:")
    with ServerClient(address) as client, pytest.raises(UnreachableError, match="Try http:// in its place"):
        client.check()


def test_escape_works_while_a_server_is_away(fake):
    asked = []
    watch = Watcher(cancelled=lambda: bool(asked) or asked.append(1))
    with ServerClient("127.0.0.1:9") as client, pytest.raises(Cancelled):
        client.wait("gone", watch)


def test_what_is_no_imagej_is_said(tmp_path):
    with pytest.raises(FijiError, match="no Fiji and no ImageJ"):
        find_installation(tmp_path)
    jar = tmp_path / "x.jar"
    jar.write_bytes(b"no jar")
    with pytest.raises(FijiError, match="not an ImageJ jar"):
        find_installation(jar)


@pytest.mark.imagej
def test_doctor_names_problems_with_their_cure(live_server, imagej_jar, capsys):
    assert main(["doctor", "--fiji", str(imagej_jar), "--server", live_server.url]) == 0
    report = capsys.readouterr().out
    assert "ImageJ 1.5" in report
    assert "models: tiny" in report
    assert main(["doctor", "--fiji", "/nowhere", "--server", "127.0.0.1:9"]) == 1
    report = capsys.readouterr().out
    assert "PROBLEM" in report
    assert "skinoct-server serve" in report


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"key": "secret"}, "Ask whoever runs it for a key"),
        ({"html": True}, "Check the address"),
        ({"api_version": 99}, "Update the plugin"),
        ({"api_version": 0}, "Update the server"),
        ({"full": True}, "busy"),
        ({}, "models: phantom-v1"),
    ],
)
def test_doctor_says_the_cure_for_every_state_of_a_server(fake, state, words):
    fake.reset()
    fake.__dict__.update(state)
    *_, finding = examine(None, fake.url, None)
    fake.reset()
    assert words in finding.text
    assert finding.good == (not state)


def with_version(fiji, version):
    """Put a constant such as ``ij.ImageJ.VERSION`` where the doctor reads it."""
    with zipfile.ZipFile(fiji / "jars" / "ij-1.54p.jar", "w") as jar:
        jar.writestr("ij/ImageJ.class", b"\x01\x00" + bytes([len(version)]) + version.encode() + b"\x01")


def test_doctor_tells_scripts_of_another_version(empty_fiji, fake):
    fake.reset()
    with_version(empty_fiji, "1.54p")
    for path in install(empty_fiji)[:1]:
        path.write_text(path.read_text() + "// skinoct, older")
    texts = [finding.text for finding in examine(empty_fiji, fake.url, None)]
    assert any("ImageJ 1.54p" in text for text in texts)
    assert any("not installed or of another version" in text and "skinoct-fiji install" in text for text in texts)


JAVAS = {
    "old": ("echo 'openjdk version \"1.7.0_80\"' >&2", False, "is too old. Install Java 8 or newer"),
    "broken": ("kill -9 $$", False, "Java 8 or newer"),
    "eight": ("echo 'java version \"1.8.0_452\"' >&2", True, "Java 8 at"),
    "new": ("echo 'openjdk version \"21.0.7\" 2025-04-15' >&2", True, "Java 21 at"),
}


@pytest.mark.parametrize(("says", "good", "words"), JAVAS.values(), ids=JAVAS)
def test_doctor_knows_a_java_that_will_not_do(fake, tmp_path, monkeypatch, says, good, words):
    fake.reset()
    java = tmp_path / "bin" / "java"
    library = tmp_path / "lib" / "server" / "libjvm.so"
    for path in (java, library):
        path.parent.mkdir(parents=True)
        path.write_text(f"#!/bin/sh\n{says}\n")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    finding = list(examine(None, fake.url, None))[1]
    assert finding.good == good
    assert words in finding.text


def test_doctor_says_how_to_get_a_java(fake, tmp_path, monkeypatch):
    fake.reset()
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    finding = list(examine(None, fake.url, None))[1]
    assert not finding.good
    assert "No Java was found. Install one" in finding.text


def test_doctor_tells_both_versions(fake):
    fake.reset()
    fake.version = "9.8.7"
    first, *_, last = examine(None, fake.url, None)
    fake.reset()
    assert first.text == f"skinoct-fiji {__version__}"
    assert last.good
    assert f"skinoct-server 9.8.7 (this is {__version__}; both speak version 1)" in last.text


def test_plugin_and_network_mean_the_same_pixels():
    """The plugin cannot import the network's side, which needs torch."""
    assert images.PLAUSIBLE_UM == grid.PLAUSIBLE_UM
    source = next(script.content.decode() for script in scripts() if script.target.name == "images.bsh")
    numbers = re.search(r"SKIN_PLAUSIBLE = new double\[\] \{ (.+), (.+) \}", source)
    assert numbers is not None
    assert tuple(map(float, numbers.groups())) == grid.PLAUSIBLE_UM


def test_results_of_an_odd_title_stay_inside_their_folder(tmp_path):
    assert target_of(tmp_path, "skin 1.tif") == tmp_path / "skin 1.tif"
    for title in ("../x", "/etc/x", "a\\b", "..", ".", ""):
        assert target_of(tmp_path, title).parent == tmp_path
        assert target_of(tmp_path, title) != tmp_path


def test_doctor_says_how_to_update_an_old_fiji(empty_fiji, fake):
    fake.reset()
    with_version(empty_fiji, "1.48v")
    findings = [finding for finding in examine(empty_fiji, fake.url, None) if "1.48v" in finding.text]
    assert [finding.good for finding in findings] == [False]
    assert "Help > Update" in findings[0].text
