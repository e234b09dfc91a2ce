"""Find an ImageJ, start Java, open the window. Nothing here is downloaded."""

from __future__ import annotations

import os
import re
import shutil
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from skinoct_fiji.failures import FijiError


@dataclass(frozen=True)
class Installation:
    """An ImageJ on this computer."""

    path: Path
    """Folder of a Fiji, or an ImageJ 1 jar."""
    kind: Literal["imagej1", "fiji"]
    version: str
    """Of ImageJ 1 (``1.54p``), as far as the jar tells; else an empty text."""
    jar: Path


def find_installation(path: Path) -> Installation:
    """Recognize a Fiji.app folder, an ImageJ folder with ``ij.jar`` or an ``ij.jar``.

    Raises
    ------
    FijiError
        When there is none.
    """
    path = path.expanduser().resolve() if path.is_dir() else path.expanduser()
    if path.suffix == ".jar" and path.is_file():
        return Installation(path, "imagej1", _jar_version(path), path)
    jars = sorted((path / "jars").glob("ij-[0-9]*.jar"))
    if jars:
        return Installation(path, "fiji", _jar_version(jars[-1]), jars[-1])
    if (path / "ij.jar").is_file():
        return Installation(path / "ij.jar", "imagej1", _jar_version(path / "ij.jar"), path / "ij.jar")
    raise FijiError(
        f"There is no Fiji and no ImageJ at {path}. Give the folder Fiji.app (the one that holds jars/), "
        "or an ij.jar such as /usr/share/java/ij.jar."
    )


def _jar_version(jar: Path) -> str:
    """Read ``ij.ImageJ.VERSION`` from the jar: a constant of the class file, so no Java is needed."""
    try:
        with zipfile.ZipFile(jar) as archive:
            found = re.search(rb"\x01\x00.(1\.\d\d[a-z]\d*)\x01", archive.read("ij/ImageJ.class"), re.DOTALL)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise FijiError(f"{jar} is not an ImageJ jar. Give Fiji.app or an ij.jar.") from error
    return found[1].decode() if found else ""


def find_java(installation: Installation | None = None) -> Path:
    """Return a Java home: ``JAVA_HOME``, else the one that Fiji brought, else the one on the PATH.

    Raises
    ------
    FijiError
        When there is none.
    """
    homes = [Path(os.environ["JAVA_HOME"])] if os.environ.get("JAVA_HOME") else []
    if installation is not None and installation.kind == "fiji":
        homes += [library.parents[2] for library in installation.path.glob("java/*/*/lib/server/*jvm*")]
        homes += [library.parents[3] for library in installation.path.glob("java/*/*/bin/server/jvm.dll")]
    java = shutil.which("java")
    if java:
        homes.append(Path(java).resolve().parents[1])
    for home in homes:
        if _libraries(home):
            return home
    raise FijiError(
        "No Java was found. Install one (Debian: apt install default-jre; Windows and macOS: "
        "adoptium.net) or set "
        "JAVA_HOME to the one you have."
    )


def _libraries(home: Path) -> list[Path]:
    names = ("lib/server/libjvm.so", "lib/server/libjvm.dylib", "bin/server/jvm.dll", "jre/lib/**/libjvm.so")
    return [found for name in names for found in home.glob(name)]


def start(installation: Installation, *, memory: str = "2g", window: bool = True) -> None:
    """Start Java with this ImageJ in this process and open its window; only once per process.

    Raises
    ------
    FijiError
        When Java or ImageJ do not start.
    """
    os.environ["JAVA_HOME"] = str(find_java(installation))
    if window and sys.platform == "linux" and not os.environ.get("DISPLAY"):
        raise FijiError("There is no screen to open ImageJ on (DISPLAY is not set). Start this from a desktop.")
    if window and sys.platform == "darwin":
        raise FijiError(
            "On macOS Python cannot drive Fiji's windows. Use: skinoct-fiji install --fiji /Applications/Fiji.app"
        )
    try:
        if installation.kind == "fiji":
            _start_fiji(installation, memory, window)
        else:
            _start_imagej1(installation, memory, window)
    except FijiError:
        raise
    except Exception as error:  # whatever Java says becomes one sentence
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise FijiError(
            f"{installation.path} did not start: {reason}. Check it with: skinoct-fiji doctor --fiji PATH"
        ) from error


def _start_imagej1(installation: Installation, memory: str, window: bool) -> None:
    import jpype
    import scyjava

    scyjava.config.endpoints.clear()
    options = [f"-Xmx{memory}", *([] if window else ["-Djava.awt.headless=true"])]
    jpype.startJVM(_jvm_library(), *options, classpath=[str(installation.jar)])
    if window:
        jpype.JClass("ij.ImageJ")()


def _start_fiji(installation: Installation, memory: str, window: bool) -> None:
    import imagej
    import scyjava

    have = installation.path / "jars"
    if any(have.glob("imglib2-imglyb-*.jar")) and any(have.glob("imglib2-unsafe-*.jar")):
        scyjava.config.endpoints.clear()  # else it asks Maven for what lies there already
    scyjava.config.set_java_constraints(fetch="auto")
    scyjava.config.add_option(f"-Xmx{memory}")
    gateway = imagej.init(str(installation.path), mode="interactive" if window else "headless")
    if gateway is None:
        raise FijiError(f"{installation.path} is not a complete Fiji. Download it again from fiji.sc.")
    if window:
        gateway.ui().showUI()


def _jvm_library() -> str:
    libraries = _libraries(Path(os.environ["JAVA_HOME"]))
    return str(libraries[0])
