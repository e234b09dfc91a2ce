"""Every command block of README.md runs here; what opens a window or never ends is held to its own `--help`."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from skinoct.rois import read_roi_set

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS: list[str] = re.findall(r"^```sh\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
COMMANDS = [line.split("  #")[0].strip() for block in BLOCKS for line in block.splitlines() if line.strip()]
BIN = Path(sys.executable).parent
SCRIPTS = ("skinoct-server", "skinoct-train", "skinoct-fiji")
NEVER_ENDS = ("skinoct-server serve", "skinoct-fiji launch", "skinoct-fiji install")
"""Run in tests of their own part: tests/server, tests/fiji."""
TINY = {
    "network": {"in_slices": 3, "stem": [2, 2], "widths": [8, 12]},
    "crop": [48, 48],
    "epoch_images": 8,
    "batch": 4,
    "val_slices": 2,
}


def words(command: str) -> list[str]:
    """Split a command; a console script is the one beside this Python."""
    found = shlex.split(command)
    return [str(BIN / Path(found[0]).name), *found[1:]] if found[0].startswith(".venv/bin/") else found


def starting(*texts: str) -> list[str]:
    return [command for command in COMMANDS if command.removeprefix(".venv/bin/").startswith(texts)]


def test_every_block_is_a_command_that_this_module_knows() -> None:
    assert TEXT.count("```") == 2 * len(BLOCKS)
    known = starting("make ", "curl ", *SCRIPTS)
    assert known == COMMANDS
    assert {"make demo", "make test", "make serve"} <= set(COMMANDS)


@pytest.mark.parametrize("command", starting("make "))
def test_make_targets_exist(command: str) -> None:
    done = subprocess.run([*shlex.split(command), "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", starting(*SCRIPTS))
def test_console_scripts_have_these_options(command: str) -> None:
    script, subcommand, *options = words(command)
    said = subprocess.run([script, subcommand, "--help"], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    for option in (word for word in options if word.startswith("--")):
        assert re.search(rf"{option}\b", said.stdout), f"{option} is not in {script} {subcommand} --help"


def test_curl_gets_what_the_readme_says(live_server, make_tiff: Callable[..., bytes], tmp_path: Path) -> None:
    if not shutil.which("curl"):
        (pytest.fail if os.environ.get("CI") else pytest.skip)("needs curl")
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "tomogram.tif").write_bytes(make_tiff(4, 64, 96))
    commands = starting("curl ")
    assert len(commands) == 3
    for command in commands:
        here = words(command.replace("http://127.0.0.1:8000", live_server.url))
        done = subprocess.run([*here, "-sS", "--noproxy", "*"], cwd=tmp_path, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr + done.stdout
    labels = tifffile.imread(tmp_path / "labels.tif")
    assert labels.shape == (4, 64, 96)
    assert set(np.unique(labels)) <= {1, 2, 3, 4, 5}
    assert read_roi_set(tmp_path / "RoiSet.zip")
    assert json.loads((tmp_path / "measurements.json").read_text())


def test_training_commands_run_one_after_the_other(tmp_path: Path) -> None:
    (tmp_path / "tiny.json").write_text(json.dumps(TINY))
    (tmp_path / "tune.json").write_text(json.dumps({k: v for k, v in TINY.items() if k != "network"}))
    fewer = {
        "phantom": ["--tomograms", "2", "--slices", "3"],
        "fit": ["--epochs", "1", "--config", "tiny.json"],
        "fit --from": ["--minutes", "0.02", "--config", "tune.json"],
    }
    commands = sorted(starting("skinoct-train"), key=lambda c: "skinoct-train phantom" not in c)
    kinds = [c.split()[1] + (" --from" if "--from" in c else "") for c in commands]
    assert kinds == ["phantom", "check", "fit", "fit --from"]
    for command, kind in zip(commands, kinds, strict=True):
        line = [*words(command.replace("my-phantoms", "my-tomograms")), *fewer.get(kind, [])]
        done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    for name in ("my-skin", "my-fine-tuned-skin"):
        assert (tmp_path / "my-models" / name / "card.json").exists()


def test_nothing_is_left_out() -> None:
    """Each command is run above, or is one of the few that open a window or never end."""
    run = starting("make ", "curl ", "skinoct-train")
    assert [c for c in COMMANDS if c not in run] == starting(*NEVER_ENDS)
