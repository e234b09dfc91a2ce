"""What lower precision changes on trained weights, beside float32; writes docs/precision.md.

    python tests/e2e/precision.py [--checkpoint default] [--tomograms 8] [--seed 95] [--page FILE]

Draws phantoms of both families and segments them with OpenVINO in each precision, on one core.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from skinoct.checkpoint import Checkpoint, open_checkpoint
from skinoct.engines import expected_golden
from skinoct.engines.openvino_engine import WORDS, OpenVinoEngine, Precision
from skinoct.golden import MAX_DEJ_UM, dej_difference_um, golden_slice, layer_tops
from skinoct.labels import CLASSES
from skinoct.predictor import Predictor
from skinoct.segmentation import LabelArray
from skinoct.tomogram import read_tomogram
from skinoct_training.commands.phantom import write_phantom
from skinoct_training.files import write_text
from skinoct_training.run_folder import environment

PAGE = Path(__file__).parents[2] / "docs" / "precision.md"
SLICES = 8
FAMILIES = ("ffoct", "wide")
PRECISIONS: tuple[Precision, ...] = ("f32", "mixed", "bf16")


@dataclass(frozen=True)
class Answer:
    """One tomogram in one precision."""

    labels: LabelArray
    dej_um: np.ndarray[tuple[int, ...], np.dtype[np.float64]]
    """(Z, X): depth of the DEJ's center."""
    truth: LabelArray


def dice(one: LabelArray, other: LabelArray) -> list[float]:
    """Return the Dice coefficient of each class; NaN where neither has it."""
    found = []
    for label in range(1, len(CLASSES) + 1):
        a, b = one == label, other == label
        total = int(a.sum() + b.sum())
        found.append(2 * int((a & b).sum()) / total if total else np.nan)
    return found


def segment(engine: OpenVinoEngine, checkpoint: Checkpoint, folders: Sequence[Path]) -> tuple[list[Answer], float]:
    """Segment tomograms; returns answers and milliseconds of the network a B-scan."""
    predictor = Predictor(checkpoint, engine=engine)
    answers = []
    for folder in folders:
        tomogram = read_tomogram(folder / "tomogram.tif")
        truth = read_tomogram(folder / "labels.tif").voxels[:]
        found = predictor.segment(tomogram)
        assert found.boundaries is not None
        um = tomogram.pixel_size_um.y if tomogram.pixel_size_um else checkpoint.card.pixel_size_um
        answers.append(Answer(found.labels(), found.boundaries[2:].mean(axis=0) * um, truth))
    images = np.repeat(golden_slice(checkpoint.card.architecture.config["in_slices"]), 2, axis=3)
    images = np.repeat(images, engine.preferred_batch, axis=0)
    engine.probabilities(images)
    started = time.process_time()
    for _ in range(10):
        engine.probabilities(images)
    return answers, (time.process_time() - started) / (10 * len(images)) * 1000


def row(precision: Precision, golden_um: float, answers: list[Answer], exact: list[Answer], ms: float) -> str:
    """Return a line of the table."""
    moved = [float(np.abs(a.dej_um - e.dej_um).mean()) for a, e in zip(answers, exact, strict=True)]
    families = np.array_split(moved, len(FAMILIES))
    medians = ", ".join(f"{np.median(family):.3f}" for family in families)
    means = ", ".join(f"{np.mean(family):.3f}" for family in families)
    scores = np.nanmean([dice(a.labels, a.truth) for a in answers], axis=0)
    change = np.abs(scores - np.nanmean([dice(e.labels, e.truth) for e in exact], axis=0)).max()
    further = sum(um > MAX_DEJ_UM for um in moved)
    cells = [WORDS[precision], f"{golden_um:.4f}", medians, means, f"{max(moved):.3f}", str(further)]
    cells += [f"{change:.5f}", f"{ms:.1f}"]
    return f"| {' | '.join(cells)} |"


def measure(checkpoint: Checkpoint, tomograms: int, seed: int) -> list[str]:
    """Return the lines of the section."""
    lines = [
        "| precision | DEJ of the golden slice, um | decoded DEJ, median tomogram (`ffoct`, `wide`), um | mean "
        f"| largest | tomograms moved by more than {MAX_DEJ_UM:g} | Dice against the truth, largest change of a class "
        "| network, ms of processor a B-scan |",
        "|---|---|---|---|---|---|---|---|",
    ]
    with TemporaryDirectory() as name:
        for number in range(tomograms * len(FAMILIES)):
            write_phantom(Path(name), seed, SLICES, FAMILIES[number // tomograms], number)
        folders = sorted(Path(name).iterdir())
        exact: list[Answer] = []
        for precision in PRECISIONS:
            engine = OpenVinoEngine(checkpoint, threads=1, precision=precision)
            image = golden_slice(checkpoint.card.architecture.config["in_slices"])
            tops = layer_tops(engine.probabilities(image))
            golden_um = dej_difference_um(tops, expected_golden(checkpoint), checkpoint.card.pixel_size_um)
            answers, ms = segment(engine, checkpoint, folders)
            exact = exact or answers
            lines.append(row(precision, golden_um, answers, exact, ms))
    return lines


def main() -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="default")
    parser.add_argument("--tomograms", type=int, default=8, help="of each family (default: 8)")
    parser.add_argument("--seed", type=int, default=95)
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    checkpoint = open_checkpoint(options.checkpoint)
    lines = measure(checkpoint, options.tomograms, options.seed)
    where = ", ".join(f"{key} {value}" for key, value in environment().items())
    card = checkpoint.card
    text = [
        "# What precision changes",
        "",
        f"Each precision of OpenVINO beside float32, with `{card.name}` ({card.weights_sha256[:12]}) on "
        f"{options.tomograms} synthetic tomograms of each family (seed {options.seed}, {SLICES} slices each). "
        f"What moves the DEJ of the golden slice by more than {MAX_DEJ_UM:g} um is not used, and all in bfloat16 never "
        "([ADR 8](adr/0008-precision-by-part.md)).",
        "",
        *lines,
        "",
        "Where two lines are almost equally likely, any rounding may choose the other: such a place in one tomogram "
        "makes the largest value, and much of the mean.",
        "",
        f"Machine and versions: {where}. Command: `make precision`.",
    ]
    write_text(options.page, "\n".join(text) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
