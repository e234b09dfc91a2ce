"""What the tests of skinoct share."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

WORKER = Path(__file__).with_name("imagej_worker.py")
DEBIAN_JAR = Path("/usr/share/java/ij.jar")


def imagej_jar() -> Path | None:
    """Return ImageJ of a Fiji in FIJI_DIR, else the one in IJ_JAR, else Debian's."""
    fiji = os.environ.get("FIJI_DIR")
    jars = sorted(Path(fiji, "jars").glob("ij-1*.jar")) if fiji else []
    named = os.environ.get("IJ_JAR")
    for jar in [*jars, *([Path(named)] if named else []), DEBIAN_JAR]:
        if jar.exists():
            return jar
    return None


def _need(found: object, missing: str) -> None:
    """Skip where a tool is missing; in CI that is a failure."""
    if not found:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)


@pytest.fixture(scope="session")
def ask_imagej() -> Callable[..., None]:
    """Run one command of ``imagej_worker.py`` in a real ImageJ."""
    jar = imagej_jar()
    _need(jar and shutil.which("java"), "no Java or no ImageJ jar (Debian: default-jre libij-java)")

    def ask(*arguments: object, display: bool = False) -> None:
        command = [sys.executable, str(WORKER), str(jar), *map(str, arguments)]
        if display:
            _need(shutil.which("xvfb-run"), "no xvfb-run (Debian: xvfb xauth)")
            command = ["xvfb-run", "-a", *command]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr[-2000:]

    return ask
