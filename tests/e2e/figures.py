"""Draw the figures of README.md and docs/phantom.md.

python tests/e2e/figures.py [--only overview|phantoms] [--models DIR]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image

from skinoct.checkpoint import find_checkpoint, load_checkpoint
from skinoct.labels import CLASSES, Label, color_table
from skinoct.overlay import overlay, to_gray
from skinoct.predictor import Predictor
from skinoct.tomogram import read_tomogram, write_tomogram
from skinoct_training.families import FAMILIES, Family, make_synthetic
from skinoct_training.phantom.make import make_phantom
from skinoct_training.synthetic import Synthetic

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
LIMIT = 600_000
"""Bytes that a figure may have."""
SLICES = 5
"""B-scans of a phantom of which the middle one is shown; the network looks at neighbors."""
OVERVIEW_SEED = (2026, 2)
Picture = npt.NDArray[np.uint8]


def segment(phantom: Synthetic, models: Path | None, folder: Path) -> npt.NDArray[np.uint8]:
    """Return the label stack (Z, Y, X) by the shipped checkpoint."""
    path = folder / "tomogram.tif"
    write_tomogram(path, phantom.voxels, pixel_size_um=phantom.pixel_size_um, overwrite=True)
    predictor = Predictor(load_checkpoint(find_checkpoint(None, models)))
    return predictor.segment(read_tomogram(path)).labels()


def draw_overview(models: Path | None) -> Path:
    """Show a B-scan, the DEJ over it and all layers, side by side."""
    phantom = make_phantom(OVERVIEW_SEED, SLICES, "ffoct")
    with tempfile.TemporaryDirectory() as name:
        labels = segment(phantom, models, Path(name))[SLICES // 2]
    image = phantom.voxels[SLICES // 2]
    panels: dict[str, Picture] = {
        "tomogram (one B-scan, synthetic)": np.repeat(to_gray(image)[..., None], 3, axis=2),
        "DEJ over it, as Fiji shows it": overlay(image, labels, opacity=0.7, show=(Label.DEJ,)),
        "layers": color_table()[labels],
    }
    figure = Figure(figsize=(15, 2.75), layout="constrained")
    axes = figure.subplots(1, 3)
    for axis, (title, picture) in zip(axes, panels.items(), strict=True):
        axis.imshow(picture, interpolation="nearest")
        axis.set_title(title, fontsize=11)
        axis.set_axis_off()
    _scale_bar(axes[0], image.shape, phantom.pixel_size_um.x)
    handles = [Patch(color=np.array(item.color) / 255, label=item.name) for item in CLASSES]
    axes[2].legend(handles=handles, loc="lower center", ncols=5, fontsize=7, framealpha=0.85)
    path = IMAGES / "overview.png"
    figure.savefig(path, dpi=100)
    return path


def _scale_bar(axis: Any, shape: tuple[int, ...], um: float) -> None:
    """Draw 100 um in the lower right corner."""
    length, y = 100 / um, shape[0] - 14
    axis.plot([shape[1] - 14 - length, shape[1] - 14], [y, y], color="white", linewidth=3)
    axis.text(shape[1] - 14 - length / 2, y - 8, "100 um", color="white", ha="center", va="bottom", fontsize=8)


def draw_phantoms(family: Family) -> Path:
    """Show ten B-scans of a family, seeds 0 to 9, with the true DEJ over their right halves; large ones in part."""
    rows, columns, gap = 5, 2, 6
    height, width = 224, 512
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for number in range(rows * columns):
        phantom = make_synthetic((0, number), SLICES, family)
        image, labels = phantom.voxels[SLICES // 2], phantom.labels[SLICES // 2].copy()
        labels[:, : labels.shape[1] // 2] = 0
        picture = overlay(image, labels, opacity=0.6, show=(Label.DEJ,))[:height, :width]
        top, left = (number // columns) * (height + gap), (number % columns) * (width + gap)
        sheet[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    path = IMAGES / f"phantom-{family}.jpg"
    for quality in (85, 75, 65, 55):
        Image.fromarray(sheet).save(path, quality=quality, optimize=True)
        if path.stat().st_size <= LIMIT:
            break
    return path


def main() -> None:
    """Draw what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("overview", "phantoms"), help="draw only these (default: both)")
    parser.add_argument("--models", type=Path, help="folder of checkpoints (default: the shipped ones)")
    options = parser.parse_args()
    IMAGES.mkdir(parents=True, exist_ok=True)
    what = [options.only] if options.only else ["overview", "phantoms"]
    paths: list[Path] = []
    if "phantoms" in what:
        paths += [draw_phantoms(family) for family in FAMILIES]
    if "overview" in what:
        paths.append(draw_overview(options.models))
    for path in paths:
        print(f"{path.name}: {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
