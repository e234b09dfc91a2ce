"""Measure a checkpoint on skin of another generator; writes docs/unseen.md and docs/images/unseen.jpg.

    PYTHONPATH=tests python -m unseen.measure [OUT] [--per-kind 10] [--seed 901] [--checkpoint default]

Each tomogram is segmented twice: with the pixel size that its file states, and as a file that states none.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure

from skinoct.checkpoint import Checkpoint, open_checkpoint
from skinoct.errors import SkinoctError
from skinoct.overlay import to_gray
from skinoct.predictor import Predictor
from skinoct.segmentation import LabelArray
from skinoct.tomogram import read_tomogram
from skinoct_training.baselines import constant_thickness, mean_thickness, skin_surface
from skinoct_training.files import complete_or_absent, write_text
from skinoct_training.metrics import Figures, bootstrap, column_errors, dej_center, summarize
from skinoct_training.run_folder import environment

from .generate import BAND_UM, KINDS, Kind, write_samples

ROOT = Path(__file__).parents[2]
CHOSEN_ON = 900
"""The seed that settings were chosen on; its figures flatter."""
LARGEST_PICTURE = 250_000
"""Bytes."""
SHOWN = 2
"""B-scans of each instrument in the picture."""
NAMES: dict[Kind, str] = {
    "immersion": "full-field in immersion",
    "confocal": "line-field confocal",
    "handheld": "coarse, with hairs and a maker's filters",
    "swept": "swept-source",
    "aged": "any of these on old skin",
}


@dataclass(frozen=True)
class Measured:
    """One tomogram."""

    kind: Kind
    pixel_um: float
    figures: Figures
    """Errors in um: ``calibrated``, ``uncalibrated``, ``surface``."""
    annotated: LabelArray
    """(Z, Y, X)."""
    bscan: npt.NDArray[Any]
    """(Y, X), the slice in the middle."""
    dej_px: npt.NDArray[np.float64]
    """(2, X) rows of its DEJ, true and found; NaN where there is none."""


def measure_tomogram(predictor: Predictor, kind: Kind, folder: Path) -> Measured:
    """Segment a tomogram with and without its pixel size and compare it with the truth."""
    tomogram = read_tomogram(folder / "tomogram.tif")
    annotated = read_tomogram(folder / "labels.tif").voxels[:]
    assert tomogram.pixel_size_um is not None
    um = tomogram.pixel_size_um.y
    found = predictor.segment(tomogram).labels()
    bare = predictor.segment(replace(tomogram, pixel_size_um=None)).labels()
    figures = {
        "calibrated": column_errors(found, annotated, um).score_um,
        "uncalibrated": column_errors(bare, annotated, um).score_um,
        "surface": surface_error(found, annotated, um),
    }
    middle = len(annotated) // 2
    lines = [dej_center(labels[middle : middle + 1], whole=False)[0] for labels in (annotated, found)]
    return Measured(kind, um, figures, annotated, tomogram.voxels[middle : middle + 1][0], np.array(lines))


def surface_error(found: LabelArray, annotated: LabelArray, pixel_um: float) -> float:
    """Return the mean error of the skin surface in um; one that was not found counts as at the edge of the image."""
    truth, guess = skin_surface(annotated), skin_surface(found)
    worst = np.minimum(truth, annotated.shape[1] - truth)
    error = np.where(np.isnan(guess), worst, np.abs(guess - truth))
    return float(np.nanmean(error) * pixel_um)


def with_oracle(tomograms: Sequence[Measured]) -> list[Figures]:
    """Return the figures of one instrument's tomograms, with the ``oracle``: its mean thickness everywhere."""
    thickness_um = np.nanmean([mean_thickness(t.annotated) * t.pixel_um for t in tomograms])
    rows = []
    for tomogram in tomograms:
        um = tomogram.pixel_um
        drawn = constant_thickness(tomogram.annotated, float(thickness_um) / um, BAND_UM / um)
        rows.append({**tomogram.figures, "oracle": column_errors(drawn, tomogram.annotated, um).score_um})
    return rows


def table(tomograms: Sequence[Measured]) -> list[str]:
    """Return the lines of the table: each instrument, then all of them."""
    lines = [
        "| instrument | tomograms | pixel, um | DEJ error, um | median | DEJ error without pixel size, um | median | "
        "skin surface, um | constant thickness, um |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    everything: list[Figures] = []
    for kind, name in NAMES.items():
        group = [t for t in tomograms if t.kind == kind]
        if group:
            figures = with_oracle(group)
            everything += figures
            lines.append(table_row(f"{name} (`{kind}`)", group, figures))
    return [*lines, table_row("all", tomograms, everything)]


def table_row(name: str, tomograms: Sequence[Measured], figures: Sequence[Figures]) -> str:
    """Return one line: means with their intervals, and medians."""
    mean, interval = summarize(figures), bootstrap(figures)

    def spread(key: str) -> str:
        low, high = interval[key]
        return f"{mean[key]:.1f} ({low:.1f} to {high:.1f})" if np.isfinite(low) else f"{mean[key]:.1f} (-)"

    def median(key: str) -> str:
        return f"{np.nanmedian([row[key] for row in figures]):.1f}"

    sizes = [t.pixel_um for t in tomograms]
    pixel = f"{min(sizes):.2g}" if max(sizes) - min(sizes) < 0.01 else f"{min(sizes):.2f} to {max(sizes):.2f}"
    cells = [name, str(len(tomograms)), pixel, spread("calibrated"), median("calibrated"), spread("uncalibrated")]
    cells += [median("uncalibrated"), spread("surface"), spread("oracle")]
    return f"| {' | '.join(cells)} |"


def page(tomograms: Sequence[Measured], checkpoint: Checkpoint, seed: int, command: str, picture: str) -> str:
    """Return the page."""
    card = checkpoint.card
    if seed == CHOSEN_ON:
        chosen = f"This run shows seed {CHOSEN_ON} itself: its figures flatter and are not to be reported."
    else:
        chosen = f"So another seed is reported here, {seed}."
    facts = ", ".join(f"{name} {value}" for name, value in environment().items())
    return "\n".join(
        [
            "# Skin of another generator",
            "",
            f"Synthetic tomograms only. They are drawn by a third generator (`tests/unseen`) of which `{card.name}` "
            "and every other network here never saw anything: it shares no code with those of the training, "
            "builds skin from cells, fibers and beams, and sees it with four instruments of its own, and "
            "old skin with any of them. It measures how "
            "well a network trained on one kind of synthetic skin does on another kind, **not its accuracy on real "
            "skin**.",
            "",
            f"Which weights are shipped was decided on tomograms of this generator, those of seed {CHOSEN_ON} "
            f"(ADR 12). {chosen}",
            "",
            *table(tomograms),
            "",
            "Mean over tomograms of the mean vertical error, in parentheses the 95 % interval when tomograms are drawn "
            "anew, then the median tomogram. Where no DEJ or no surface was found, the error is the distance to the "
            "edge of the image. *DEJ error* and *skin surface* use the pixel size that the file states; *without "
            "pixel size* the same voxels are segmented as from a file without calibration. *Constant thickness* knows "
            "the true skin surface and the mean thickness of all tomograms of that instrument, and puts the DEJ there: "
            "a network that does not beat it has learned nothing about the DEJ.",
            "",
            f"![B-scans of the four instruments and of old skin, with the true and the found DEJ]({picture})",
            "",
            "The first tomograms of each instrument, the slice in the middle, at the pixel size of the file: true DEJ "
            "cyan, found DEJ pink. Synthetic.",
            "",
            f"Checkpoint `{card.name}`, SHA-256 of the weights {card.weights_sha256}. Machine and versions: {facts}. "
            f"Command: `{command}`.",
            "",
        ]
    )


def draw_picture(tomograms: Sequence[Measured], path: Path) -> None:
    """Show two B-scans of each instrument, each at its own scale, with the true and the found DEJ."""
    kinds = [kind for kind in KINDS if any(t.kind == kind for t in tomograms)]
    figure = Figure(figsize=(10, 3.1 * len(kinds)), layout="constrained")
    axes = figure.subplots(len(kinds), SHOWN, squeeze=False)
    for row, kind in zip(axes, kinds, strict=True):
        group = [t for t in tomograms if t.kind == kind][:SHOWN]
        for axis in row:
            axis.set_axis_off()
        for axis, tomogram in zip(row, group, strict=False):
            draw_bscan(axis, tomogram)
    path.parent.mkdir(parents=True, exist_ok=True)
    with complete_or_absent(path) as partial:
        for quality in (85, 75, 65, 55, 45, 35):
            figure.savefig(partial, dpi=100, pil_kwargs={"quality": quality, "optimize": True})
            if partial.stat().st_size <= LARGEST_PICTURE:
                break


def draw_bscan(axis: Any, tomogram: Measured) -> None:
    """Draw a B-scan and its two lines, with a bar of 100 um."""
    rows, columns = tomogram.bscan.shape
    axis.imshow(to_gray(tomogram.bscan), cmap="gray", extent=(0, columns, rows, 0))
    middles = np.arange(columns) + 0.5
    for line, color in zip(tomogram.dej_px, ("cyan", "hotpink"), strict=True):
        axis.plot(middles, line, color=color, linewidth=1.2)
    bar = 100 / tomogram.pixel_um
    axis.plot([columns - 8 - bar, columns - 8], [rows - 8, rows - 8], color="white", linewidth=3)
    title = f"{NAMES[tomogram.kind]}, {tomogram.pixel_um:.2f} um; DEJ error {tomogram.figures['calibrated']:.1f} um"
    axis.set_title(title, fontsize=9)


def measure(options: argparse.Namespace) -> str:
    """Draw, segment, compare; writes the picture and returns the page."""
    checkpoint = open_checkpoint(options.checkpoint)
    predictor = Predictor(checkpoint, threads=options.threads)
    tomograms = []
    for kind, folder in write_samples(options.out, options.per_kind, options.seed, options.kinds):
        tomograms.append(measure_tomogram(predictor, kind, folder))
        figures = ", ".join(f"{name} {value:.1f}" for name, value in tomograms[-1].figures.items())
        print(f"{folder.name}: {figures} um", file=sys.stderr, flush=True)
    picture = options.page.parent / "images" / f"{options.page.stem}.jpg"
    draw_picture(tomograms, picture)
    return page(tomograms, checkpoint, options.seed, command_line(), f"images/{picture.name}")


def command_line() -> str:
    """Return the command that this is."""
    return " ".join(["PYTHONPATH=tests python -m unseen.measure", *sys.argv[1:]])


def main() -> int:
    """Measure and write the page; a failure is one sentence and status 1."""
    parser = argparse.ArgumentParser(prog="python -m unseen.measure", description=(__doc__ or "").splitlines()[0])
    data, written = ROOT / "data" / "unseen", ROOT / "docs" / "unseen.md"
    parser.add_argument("out", type=Path, nargs="?", default=data, help="where to draw (default: data/unseen)")
    parser.add_argument("--per-kind", type=int, default=10, help="tomograms of each instrument (default: 10)")
    parser.add_argument("--seed", type=int, default=CHOSEN_ON + 1, help="of the skin (default: %(default)s)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="instruments (default: all)")
    parser.add_argument("--checkpoint", default="default", help="name or folder (default: default)")
    parser.add_argument("--threads", type=int, help="of the processor (default: all)")
    parser.add_argument("--page", type=Path, default=written, help="page to write (default: docs/unseen.md)")
    options = parser.parse_args()
    if options.per_kind < 1 or options.seed < 0 or (options.threads or 1) < 1:
        parser.error("--per-kind and --threads must be 1 or more, --seed 0 or more")
    if options.threads:
        torch.set_num_threads(options.threads)  # what resamples images, too
    try:
        text = measure(options)
    except SkinoctError as error:
        print(f"unseen: {error}", file=sys.stderr)
        return 1
    write_text(options.page, text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
