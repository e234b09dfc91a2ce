"""Measure fine-tunes on one annotated tomogram; writes docs/fine-tuning.md.

    python tests/e2e/finetune.py [--minutes 8] [--seed 81] [--from CHECKPOINT] [--dry]

The look (optics, brightness, pixel size) is one of the family ``wide`` that the checkpoint never saw; every tomogram
has it and is another patch of skin, like patients under one microscope. The doctor annotates as many slices in two
ways: neighboring ones, and every tenth of a whole tomogram. The RoiSet.zip is trained on, the exact labels are compared
with. Ends with 1 when a fine-tune took longer than 15 minutes, or the DEJ error did not fall with every tenth slice.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import numpy as np

from skinoct.checkpoint import Checkpoint, open_checkpoint
from skinoct.rois import read_roi_set, write_roi_set
from skinoct_training.ablation import examine
from skinoct_training.commands.phantom import write_phantom
from skinoct_training.dataset import LabelOptions, find_cases
from skinoct_training.metrics import dej_center
from skinoct_training.phantom import make
from skinoct_training.phantom.draw import draw_spec
from skinoct_training.phantom.make import make_phantom
from skinoct_training.phantom.spec import Family, Spec
from skinoct_training.run_folder import environment

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "fine-tuning.md"
LONGEST_MINUTES = 15.0
APART = (1, 10)
"""Slices from one that is annotated to the next."""
LEAST_IN_VIEW = 0.5
"""Share of the columns that must show the whole DEJ; nobody annotates a tomogram without one."""
ROWS = {
    "dej.mae_with_gaps_um": "DEJ error, um (a missing DEJ counts as at the edge of the image)",
    "dej.bias_um": "bias, um",
    "dej.p95_um": "95th percentile, um",
    "dej.dice": "DEJ Dice",
    "dej.thickness_ratio": "band thickness / annotated",
    "epidermis.thickness_error_um": "epidermal thickness error, um",
    "dej.islands_per_slice": "islands per slice",
}


def write_alike(out: Path, seed: int, first: int, count: int, slices: int) -> None:
    """Write ``count`` phantoms of one look, each another patch of skin with its DEJ in view; ``first`` numbers them."""
    look = draw_spec(np.random.default_rng((seed, 0)), "wide", slices)

    def alike(rng: np.random.Generator, family: Family, slices: int) -> Spec:
        other = draw_spec(rng, family, slices)
        grid = replace(look.grid, shape=(slices, *look.grid.shape[1:]))
        return replace(other, grid=grid, look=look.look, optics=look.optics)

    out.mkdir(parents=True)
    with mock.patch.object(make, "draw_spec", alike):
        for number in itertools.count(first):
            sample = make_phantom((seed, number), 1, "wide").labels
            if np.isfinite(dej_center(sample, whole=True)).mean() > LEAST_IN_VIEW:
                write_phantom(out, seed, slices, "wide", number)
                count -= 1
            if count == 0:
                break


def keep_every(data: Path, apart: int) -> None:
    """Leave annotation on one slice in ``apart``."""
    for case in find_cases(data, "rois"):
        rois = [roi for roi in read_roi_set(case.annotation) if (roi.slice_index or 0) % apart == apart // 2]
        case.annotation.unlink()
        write_roi_set(case.annotation, rois)


def measure(checkpoint: Checkpoint, data: Path) -> dict[str, list[float]]:
    """Return every figure of each tomogram against the exact labels."""
    found = examine(checkpoint, find_cases(data, "labels"), LabelOptions(source="labels"), "ordered").values()
    keys = {key for figures in found for key in figures}
    return {key: [value for figures in found if (value := figures.get(key)) is not None] for key in keys}


def fine_tune(options: argparse.Namespace, data: Path, out: Path) -> list[str]:
    """Run the command that a lab would run; returns it."""
    words = [
        "fit",
        str(data),
        "--labels",
        "rois",
        "--from",
        options.start,
        "--out",
        str(out),
        "--run",
        str(out) + "-run",
    ]
    words += ["--minutes", f"{options.minutes:g}", "--seed", "1"]
    if options.config:
        words += ["--config", str(options.config)]
    subprocess.run([sys.executable, "-m", "skinoct_training.cli", *words], check=True)
    return ["skinoct-train", *words]


def page(
    options: argparse.Namespace,
    seconds: dict[int, float],
    before: dict[str, list[float]],
    after: dict[int, dict[str, list[float]]],
) -> str:
    """Return the page."""
    base = open_checkpoint(options.start).card
    longest = max(seconds.values()) / 60
    titles = [f"after, {options.slices} slices {'side by side' if n == 1 else f'{n} apart'}" for n in after]
    lines = [
        "# A fine-tune on one annotated tomogram",
        "",
        f"Synthetic tomograms only. `{base.name}` ({base.weights_sha256[:12]}) was fine-tuned for {options.minutes:g} "
        f"minutes on one phantom with the ROI set of a doctor, of a look (`wide`, seed {options.seed}) that it was not "
        f"trained on; once with {options.slices} neighboring slices, once with every tenth slice of a phantom of "
        f"{options.slices * max(APART)}: as much work for the doctor. From the command to the checkpoint: "
        f"{longest:.1f} minutes at most (target: {LONGEST_MINUTES:g} on two cores). Measured on {options.held_out} "
        f"other patches of that look, {options.held_out_slices} slices each: mean, and in brackets the least and the "
        "largest tomogram.",
        "",
        "| | before | " + " | ".join(titles) + " |",
        "|---|---" + "|---" * len(after) + "|",
    ]
    for key, title in ROWS.items():
        cells = [spread(figures.get(key, [])) for figures in (before, *after.values())]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    facts = ", ".join(f"{name} {value}" for name, value in environment().items())
    command = " ".join(["python tests/e2e/finetune.py", *sys.argv[1:]])
    lines += ["", f"Machine and versions: {facts}. Command: `{command}`.", ""]
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    """Return mean, least and largest."""
    return f"{np.mean(values):.3g} ({min(values):.3g} to {max(values):.3g})" if values else "-"


def main() -> int:
    """Measure, write the page, and return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=8.0, help="of each training (default 8)")
    parser.add_argument("--seed", type=int, default=81, help="of the look and the skin (default 81)")
    parser.add_argument("--slices", type=int, default=32, help="annotated (default 32)")
    parser.add_argument("--held-out", type=int, default=4, help="tomograms to measure on (default 4)")
    parser.add_argument("--held-out-slices", type=int, default=4, help="slices of each (default 4)")
    parser.add_argument("--from", dest="start", default="default", metavar="CHECKPOINT", help="what to fine-tune")
    parser.add_argument("--config", type=Path, help="settings of the training, as of skinoct-train fit")
    parser.add_argument("--dry", action="store_true", help="print the page, leave docs alone")
    options = parser.parse_args()
    print(f"About {len(APART) * (options.minutes + 2):.0f} minutes.", file=sys.stderr)
    seconds, after = dict[int, float](), dict[int, dict[str, list[float]]]()
    with TemporaryDirectory(prefix="skinoct-finetune-") as name:
        folder = Path(name)
        write_alike(folder / "held-out", options.seed, 1000, options.held_out, options.held_out_slices)
        before = measure(open_checkpoint(options.start), folder / "held-out")
        for apart in APART:
            data, mine = folder / f"train-{apart}", folder / f"mine-{apart}"
            write_alike(data, options.seed, 1, 1, options.slices * apart)
            keep_every(data, apart)
            start = time.monotonic()
            fine_tune(options, data, mine)
            seconds[apart] = time.monotonic() - start
            after[apart] = measure(open_checkpoint(mine), folder / "held-out")
    text = page(options, seconds, before, after)
    print(text)
    if not options.dry:
        PAGE.write_text(text, encoding="utf-8")
    key = "dej.mae_with_gaps_um"
    good = max(seconds.values()) <= 60 * LONGEST_MINUTES and np.mean(after[max(APART)][key]) < np.mean(before[key])
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
