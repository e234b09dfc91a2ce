"""Draw where the time of one tomogram goes, as a flame graph: docs/images/flame.svg.

python tests/e2e/flame.py [--slices 128]

py-spy samples the engine without a server, from the TIFF on disk to the label TIFF, native frames included.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from bench_parts import DIFFERENT, write_file

ROOT = Path(__file__).resolve().parents[2]
PICTURE = ROOT / "docs" / "images" / "flame.svg"


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
        return subprocess.run([*spy, "--output", str(options.out), "--", *part], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
