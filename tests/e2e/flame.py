"""Draw where the time of one tomogram goes, as a flame graph: docs/images/flame.svg.

python tests/e2e/flame.py [--slices 128]

py-spy samples the engine without a server, from the TIFF on disk to the label TIFF, native frames included. Folders of
this machine are taken out of the picture, so that it can be shown to others.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from bench_parts import DIFFERENT, write_file

ROOT = Path(__file__).resolve().parents[2]
PICTURE = ROOT / "docs" / "images" / "flame.svg"

_FOLDERS = re.compile(r"(?<![\w.])(?:[A-Za-z]:)?[/\\](?:[^\s()<>/\\]+[/\\])+")
"""Of a path that begins at the root: everything before the file's name."""
_WORDS = re.compile(r"(<(?:title|text)\b[^>]*>)([^<]*)")


def without_folders(picture: str) -> str:
    """Return an SVG whose words name files, and not the folders in which this machine keeps them."""
    return _WORDS.sub(lambda found: found[1] + _FOLDERS.sub("", found[2]), picture)


def main() -> int:
    """Draw it; returns py-spy's status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=128, help="B-scans of the tomogram (default: 128)")
    parser.add_argument("--models", type=Path, help="folder of checkpoints (default: the shipped ones)")
    parser.add_argument("--out", type=Path, default=PICTURE, help="picture to write (default: docs/images/flame.svg)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="skinoct-flame-") as name:
        path = Path(name) / "full.tif"
        write_file(path, options.slices)
        write_file(path.with_name("short.tif"), min(options.slices, DIFFERENT))
        part = [sys.executable, str(Path(__file__).with_name("bench_parts.py")), "predictor", "--file", str(path)]
        part += ["--models", str(options.models)] if options.models else []
        spy = [str(Path(sys.executable).with_name("py-spy")), "record", "--native", "--rate", "50"]
        raw = Path(name) / "flame.svg"
        status = subprocess.run([*spy, "--output", str(raw), "--", *part], check=False).returncode
        if status == 0:
            options.out.write_text(without_folders(raw.read_text(encoding="utf-8")), encoding="utf-8")
        return status


if __name__ == "__main__":
    sys.exit(main())
