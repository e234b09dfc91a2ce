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


@pytest.fixture(scope="session")
def ask_imagej() -> Callable[..., None]:
    """Run one command of ``imagej_worker.py`` in a real ImageJ."""
    jar = imagej_jar()
    if jar is None or shutil.which("java") is None:
        if os.environ.get("CI"):
            pytest.fail("no Java or no ImageJ jar: install default-jre-headless and libij-java")
        pytest.skip("no Java or no ImageJ jar (Debian: libij-java)")

    def ask(*arguments: object) -> None:
        command = [sys.executable, str(WORKER), str(jar), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr[-2000:]

    return ask
