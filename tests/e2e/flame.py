"""Draw where the time of one tomogram goes, end to end, as a flame graph: docs/images/flame.svg.

python tests/e2e/flame.py [--slices 439]

py-spy samples this process, which posts a TIFF to a server and receives the label TIFF, and the server's processes,
native frames included. The codec's children live shorter than py-spy needs to find them, and are missing. Folders of
this machine are taken out of the picture, so that it can be shown to others.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench_parts import DIFFERENT, write_file
from running import Failure, post, running_server

ROOT = Path(__file__).resolve().parents[2]
PICTURE = ROOT / "docs" / "images" / "flame.svg"

ATTACH_SECONDS = 2.0
"""Until py-spy has found all processes."""

_FOLDERS = re.compile(r"(?<![\w.])(?:[A-Za-z]:)?[/\\](?:[^\s()<>/\\]+[/\\])+")
"""Of a path that begins at the root: everything before the file's name."""
_WORDS = re.compile(r"(<(?:title|text)\b[^>]*>)([^<]*)")


def without_folders(picture: str) -> str:
    """Return an SVG whose words name files, and not the folders in which this machine keeps them."""
    return _WORDS.sub(lambda found: found[1] + _FOLDERS.sub("", found[2]), picture)


def record(raw: Path, path: Path, options: tuple[str, ...]) -> int:
    """Sample this process and a server while it segments ``path``; returns py-spy's status."""
    spy = [str(Path(sys.executable).with_name("py-spy")), "record", "--native", "--subprocesses", "--rate", "50"]
    with running_server(*options) as (url, _):
        post(url, path.with_name("short.tif"), "image/tiff")
        watcher = subprocess.Popen([*spy, "--output", str(raw), "--pid", str(os.getpid())], stdin=subprocess.DEVNULL)
        time.sleep(ATTACH_SECONDS)
        post(url, path, "image/tiff")
        watcher.send_signal(signal.SIGINT)
        return watcher.wait()


def main() -> int:
    """Draw it; returns py-spy's status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=439, help="B-scans of the tomogram (default: 439)")
    parser.add_argument("--models", type=Path, help="folder of checkpoints (default: the shipped ones)")
    parser.add_argument("--out", type=Path, default=PICTURE, help="picture to write (default: docs/images/flame.svg)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="skinoct-flame-") as name:
        path, raw = Path(name) / "full.tif", Path(name) / "flame.svg"
        write_file(path, options.slices)
        write_file(path.with_name("short.tif"), min(options.slices, DIFFERENT))
        try:
            status = record(raw, path, ("--models", str(options.models)) if options.models else ())
        except Failure as failure:
            print(failure, file=sys.stderr)
            return 1
        if status == 0:
            options.out.write_text(without_folders(raw.read_text(encoding="utf-8")), encoding="utf-8")
        return status


if __name__ == "__main__":
    sys.exit(main())
