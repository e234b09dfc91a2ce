"""Every example of docs/server.md is run as it stands, but for the server's address; Ray's in tests/contract."""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from skinoct_server.formats import FORMATS

PAGE = Path(__file__).parents[2] / "docs" / "server.md"
IMAGEJ = Path("/usr/share/java/ij.jar")
NAMES = {"our-skin-v2": "tiny"}
"""What the page calls by an example's name."""


def curl_lines() -> list[str]:
    """Indented lines that begin with curl."""
    return [line.strip() for line in PAGE.read_text().splitlines() if line.startswith("    curl ")]


def words(line: str, url: str, job: str) -> list[str]:
    line = line.split(" # ")[0].replace("http://127.0.0.1:8000", url).replace("/ID", f"/{job}")
    for example, real in NAMES.items():
        line = line.replace(example, real)
    return shlex.split(line)


def example(language: str, about: str, url: str) -> str:
    """The one block of a language that is about something."""
    blocks = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.S)
    (code,) = (block for block in blocks if about in block)
    assert "http://127.0.0.1:8000" in code
    return code.replace("http://127.0.0.1:8000", url)


@pytest.fixture
def folder(tmp_path, make_tiff, make_tomogram):
    (tmp_path / "tomogram.tif").write_bytes(make_tiff(2, 40, 48))
    np.save(tmp_path / "tomogram.npy", make_tomogram(2, 40, 48))
    return tmp_path


def test_every_curl_line_of_the_page(live_server, folder, post_job, follow, make_tiff):
    assert shutil.which("curl"), "curl is missing; .ci/run installs it"
    lines = curl_lines()
    assert len(lines) >= 9
    for line in lines:
        job = post_job(live_server.http, make_tiff(2, 40, 48))
        follow(live_server.http, job.id)
        command = words(line, live_server.url, job.id)
        assert "--fail-with-body" in command, line
        done = subprocess.run([*command, "-sS", "--max-time", "60"], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        if "-o" in command:
            answer = folder / command[command.index("-o") + 1]
            assert answer.stat().st_size > 0, line
            answer.unlink()
        else:
            assert done.stdout or "DELETE" in line, line


def test_every_kind_of_answer_is_shown():
    """The table of answer formats is that of the server, and the examples are in it."""
    text = PAGE.read_text()
    shown = set(re.findall(r"^\| `([a-z]+/[\w.+-]+)`", text, re.M))
    assert shown == {form.media_type for form in FORMATS}
    assert set(re.findall(r'Accept: ([\w/.+-]+)"', text)) <= shown


def test_the_python_example_runs(live_server, folder, monkeypatch):
    code = example("python", "ServerClient", live_server.url)
    monkeypatch.chdir(folder)
    exec(compile(code, str(PAGE), "exec"), {})
    assert (folder / "RoiSet.zip").read_bytes()[:2] == b"PK"


def macro(folder: Path, url: str, tell: str) -> str:
    """Run the page's macro in an ImageJ without any plugin of ours; returns what it prints."""
    missing = [tool for tool in ("java", "xvfb-run", "curl") if shutil.which(tool) is None]
    if missing or not IMAGEJ.exists():
        (pytest.fail if os.environ.get("CI") else pytest.skip)("needs Java, Xvfb and ImageJ (package libij-java)")
    lines = PAGE.read_text().split("ImageJ macro")[1].split("MATLAB")[0].splitlines()
    code = "\n".join(line.strip() for line in lines if line.startswith("    "))
    code = code.replace("http://127.0.0.1:8000", url)
    file = folder / "page.ijm"
    file.write_text(f'path = "{folder / "tomogram.tif"}";\n{code}\n{tell}\n')
    command = ["xvfb-run", "-a", "java", f"-Duser.home={folder}", "-cp", str(IMAGEJ), "ij.ImageJ", "-batch", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    return done.stdout + done.stderr


@pytest.mark.imagej
def test_the_imagej_macro_runs(live_server, folder):
    tell = 'getStatistics(area, mean, min, max); print("" + nSlices + " " + getTitle() + " " + (min > 0 && max < 6));'
    assert macro(folder, live_server.url, tell).split() == ["2", "tomogram.tif-labels.tif", "1"]


@pytest.mark.imagej
def test_the_imagej_macro_ends_with_the_sentence_of_the_server(live_server, folder):
    (folder / "tomogram.tif").write_bytes((folder / "tomogram.tif").read_bytes()[:100])
    sentence = live_server.http.post("/segment", content=(folder / "tomogram.tif").read_bytes()).json()["detail"]
    told = macro(folder, live_server.url, 'print("went on");')
    assert sentence in told
    assert "went on" not in told
    assert "no server" in macro(folder, "http://127.0.0.1:1", 'print("went on");')


def middle_of_dej(labels: np.ndarray) -> np.ndarray:
    """Rows (Z, X), counted from 1 as MATLAB does; NaN where a column has no DEJ."""
    middle = np.full((labels.shape[0], labels.shape[2]), np.nan)
    for z, x in np.argwhere((labels == 4).any(axis=1)):
        middle[z, x] = 1 + np.flatnonzero(labels[z, :, x] == 4).mean()
    return middle


@pytest.mark.elsewhere
def test_the_matlab_example_runs_in_octave(start_server, shipped_models, skin_tiff, tmp_path):
    if not shutil.which("octave-cli") or not shutil.which("curl"):
        pytest.fail("needs GNU Octave and curl (Debian packages octave and curl)")
    server = start_server("--models", str(shipped_models), "--device", "auto")
    code = example("matlab", "imread", server.url)
    (tmp_path / "page_example.m").write_text(code + "dlmwrite('depth.csv', depth, 'precision', 17);\n")

    def octave() -> subprocess.CompletedProcess[str]:
        command = ["octave-cli", "--norc", "page_example.m"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)

    (tmp_path / "tomogram.tif").write_bytes(skin_tiff)
    done = octave()
    assert done.returncode == 0, done.stdout + done.stderr
    labels = server.http.post("/segment", content=skin_tiff, headers={"Accept": "application/x-npy"})
    expected = middle_of_dej(np.load(io.BytesIO(labels.content)))
    assert np.isfinite(expected).any()
    np.testing.assert_allclose(np.loadtxt(tmp_path / "depth.csv", delimiter=","), expected, rtol=1e-12)

    (tmp_path / "tomogram.tif").write_bytes(skin_tiff[:100])
    failed = octave()
    assert failed.returncode != 0
    assert server.http.post("/segment", content=skin_tiff[:100]).json()["detail"] in failed.stderr
