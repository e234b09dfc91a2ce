"""Train the paper's recipe and ours on the same few tomograms, side by side; writes docs/paper.md.

    python tests/e2e/paper.py [--minutes 20] [--threads 2] [--dry]

As in the paper there are four tomograms of one microscope, a share of whose slices is held out. The paper's recipe is
read twice: on those slices, whose neighbors it was trained on, as the paper did, and on tomograms that it never saw.
Data and checkpoints are kept in runs/paper; what is there is not made again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skinoct.checkpoint import load_checkpoint
from skinoct.labels import CLASSES
from skinoct_training.cli import main as skinoct_train
from skinoct_training.run_folder import environment

ROOT = Path(__file__).parents[2]
PAGE, PICTURE = ROOT / "docs" / "paper.md", ROOT / "docs" / "images" / "paper.png"
WORK = ROOT / "runs" / "paper"
PHANTOMS = {
    "train": ["--tomograms", "4", "--slices", "48", "--seed", "91"],
    "unseen": ["--tomograms", "10", "--slices", "8", "--seed", "92"],
}
ROWS = {
    "dej.mae_um": "DEJ error, um",
    "dej.bias_um": "bias, um",
    "dej.thickness_ratio": "band thickness / annotated",
    "dej.dice": "DEJ Dice",
    "dej.islands_per_slice": "islands per slice",
    "dej.gap_fraction": "columns without DEJ",
    "order_violations": "columns out of order per slice",
    "dej.jitter_um": "jitter from slice to slice, um",
    "epidermis.thickness_error_um": "epidermal thickness error, um",
    **{f"classes.{c.name}.recall": f"recall {c.name}" for c in CLASSES},
}


@dataclass(frozen=True)
class Column:
    """One column of the table."""

    title: str
    report: dict[str, Any]
    """As in ``report.json``, or one of its baselines."""


def run(*words: str | Path) -> None:
    """Run a command of ``skinoct-train``."""
    if skinoct_train([str(word) for word in words]) != 0:
        sys.exit(1)


def prepare(options: argparse.Namespace) -> None:
    """Draw the phantoms and train both recipes, where that was not done before."""
    for name, words in PHANTOMS.items():
        if not (WORK / name).exists():
            shutil.rmtree(WORK / f"{name}.partial", ignore_errors=True)
            run("phantom", WORK / f"{name}.partial", *words)
            (WORK / f"{name}.partial").rename(WORK / name)
    common = ["--minutes", f"{options.minutes:g}", "--threads", str(options.threads), "--split", "by-slice"]
    for name, recipe in (("papers", ["--recipe", "paper"]), ("ours", [])):
        if not (WORK / name).exists():
            run("fit", WORK / "train", "--out", WORK / name, "--run", WORK / f"{name}-run", *common, *recipe)


def evaluate(checkpoint: str | Path, data: str, out: str, *words: str) -> dict[str, Any]:
    """Measure a checkpoint, with the paper's as a baseline, and return the report."""
    folder = WORK / out
    shutil.rmtree(folder, ignore_errors=True)
    run("evaluate", checkpoint, WORK / data, "--out", folder, "--paper", WORK / "papers", *words)
    content: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return content


def measure(threads: int) -> list[Column]:
    """Measure everything."""
    few = ["--threads", str(threads)]
    leaking = evaluate(WORK / "ours", "train", "by-slice", "--split", "by-slice", *few)
    ours = evaluate(WORK / "ours", "unseen", "unseen-ours", *few)
    ordered = evaluate(WORK / "papers", "unseen", "unseen-papers", *few)
    shipped = evaluate("default", "unseen", "unseen-shipped", *few)
    return [
        Column("paper's recipe, slices between those it was trained on", leaking["baselines"]["paper_recipe"]),
        Column("paper's recipe, unseen tomograms", ours["baselines"]["paper_recipe"]),
        Column("the same network, ordered decoding", ordered),
        Column("our recipe on the same four tomograms", ours),
        Column(f"the shipped `{shipped['checkpoint']}`", shipped),
    ]


def value(report: dict[str, Any], key: str) -> str:
    """Return one figure; a dash where there is none."""
    found: Any = report
    for part in key.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return "-" if found is None else f"{found:.3g}"


def page(options: argparse.Namespace, columns: list[Column]) -> str:
    """Return the page."""
    seen = {
        name: round(load_checkpoint(WORK / name).card.recipe["trained"]["steps"]) * 8 for name in ("papers", "ours")
    }
    facts = ", ".join(f"{name} {fact}" for name, fact in environment().items())
    command = " ".join(["python tests/e2e/paper.py", *sys.argv[1:]])
    lines = [
        "# The paper's recipe and ours on the same tomograms",
        "",
        "Synthetic tomograms only (`ffoct`, "
        + "; ".join(f"{name}: `skinoct-train phantom {' '.join(words)}`" for name, words in PHANTOMS.items())
        + f"). Both recipes were trained from nothing for {options.minutes:g} minutes on the same seven of every eight "
        f"slices of four tomograms: the paper's saw {seen['papers']} B-scans of 224 x 512 (in the paper 2.8 million), "
        f"ours {seen['ours']} crops of 224 x 256. As in the paper, its DEJ is the likeliest class of each pixel of a "
        "network whose loss weighs the DEJ twentyfold.",
        "",
        "| | " + " | ".join(column.title for column in columns) + " |",
        "|---|" + "---|" * len(columns),
    ]
    lines += [
        f"| {title} | " + " | ".join(value(column.report, key) for column in columns) + " |"
        for key, title in ROWS.items()
    ]
    lines += [
        "",
        "The first column is how the paper measured, and flatters: neighbors of the examined slices were trained on. "
        "The shipped network was trained on thousands of other phantoms of both families.",
        "",
        "![Image, annotation and result of the paper's recipe and of ours](images/paper.png)",
        "",
        "Unseen synthetic tomograms: B-scan, annotation, the paper's recipe, our recipe on the same four tomograms, "
        "the shipped network.",
        "",
        f"Machine and versions: {facts}. Command: `{command}`.",
        "",
    ]
    return "\n".join(lines)


def draw() -> None:
    """Draw the middle slice of three unseen tomograms beside what each network makes of it."""
    from matplotlib.figure import Figure

    from skinoct.checkpoint import open_checkpoint
    from skinoct.overlay import to_gray
    from skinoct.predictor import Predictor
    from skinoct.tomogram import read_tomogram
    from skinoct_training.evaluate import unweighted
    from skinoct_training.figures import overlay

    networks = [
        (Predictor(unweighted(load_checkpoint(WORK / "papers"))), "pixel"),
        (Predictor(load_checkpoint(WORK / "ours")), "ordered"),
        (Predictor(open_checkpoint("default")), "ordered"),
    ]
    titles = ("B-scan", "annotation", "paper's recipe", "our recipe", "shipped")
    figure = Figure(figsize=(15, 4.2), layout="constrained")
    axes = figure.subplots(3, len(titles))
    for row, folder in zip(axes, sorted((WORK / "unseen").iterdir())[:3], strict=True):
        tomogram, truth = read_tomogram(folder / "tomogram.tif"), read_tomogram(folder / "labels.tif")
        z = tomogram.voxels.shape[0] // 2
        image = tomogram.voxels[z : z + 1][0]
        gray = to_gray(image)
        labels = [truth.voxels[z : z + 1][0]]
        labels += [network.segment(tomogram, decode=decode).block(z, z + 1)[0] for network, decode in networks]
        for axis, shown in zip(row, [gray, *(overlay(gray / 255, drawn) for drawn in labels)], strict=True):
            axis.imshow(shown, cmap="gray", aspect="auto", interpolation="antialiased")
            axis.set_axis_off()
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=11)
    figure.savefig(PICTURE, dpi=70)


def main() -> None:
    """Train, measure, write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=20.0, help="of each training (default 20)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default 2)")
    parser.add_argument("--dry", action="store_true", help="print the page, leave docs alone")
    options = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    prepare(options)
    text = page(options, measure(options.threads))
    print(text)
    if not options.dry:
        draw()
        PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
