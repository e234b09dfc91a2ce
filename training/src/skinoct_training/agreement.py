"""How far two annotations of one tomogram are apart: the error that a model may be forgiven."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skinoct.errors import DatasetError
from skinoct.labels import CLASSES
from skinoct_training.dataset import CALIBRATE, Case, LabelOptions, open_image, pixel_um_of, read_labels
from skinoct_training.metrics import (
    Figures,
    class_figures,
    column_errors,
    confusion,
    nest,
    normal_distance,
    thickness_ratio,
)

NO_COMMON_DEJ = (
    "not compared, because no column has a whole one in both; name its ROIs dej, or give --roi-class dej where nobody "
    "named them"
)


@dataclass(frozen=True)
class Agreement:
    """What two annotations have in common."""

    slices: int
    """Number of slices that both annotated."""
    figures: Figures
    """As in ``metrics.score``, the first annotation taken as the truth."""
    warnings: tuple[str, ...] = ()
    """Sentences to read before the figures."""

    def lines(self) -> Iterator[tuple[str, str]]:
        """Yield titles and figures for people."""
        f = self.figures
        yield "Slices that both annotated", str(self.slices)
        if np.isfinite(f["dej.mae_um"]):
            yield from self._dej_lines()
        else:
            yield "DEJ", NO_COMMON_DEJ
        for item in CLASSES:
            value = f[f"classes.{item.name}.dice"]
            if np.isfinite(value):
                yield f"Dice, {item.name}", f"{value:.3f}"

    def _dej_lines(self) -> Iterator[tuple[str, str]]:
        f = self.figures
        yield "DEJ, mean distance in depth", f"{f['dej.mae_um']:.2f} um"
        yield "DEJ, second minus first", f"{f['dej.bias_um']:+.2f} um"
        yield "DEJ, 95 % of columns within", f"{f['dej.p95_um']:.2f} um"
        yield "DEJ, mean distance to the nearest point", f"{f['dej.normal_distance_um']:.2f} um"
        yield "DEJ, band thickness second / first", f"{f['dej.thickness_ratio']:.2f}"

    def content(self) -> dict[str, Any]:
        """Return everything for a JSON file."""
        return {"slices": self.slices, "warnings": list(self.warnings), **nest(self.figures)}


def folder_name(path: Path) -> str:
    """Return the name of the folder that a file lies in, which tells two RoiSet.zip apart."""
    return path.resolve().parent.name


def agreement(first: Path, second: Path, tomogram: Path, options: LabelOptions) -> Agreement:
    """Compare two annotations where both say something.

    Only pixels that both know are compared.

    Raises
    ------
    DatasetError
        When a file cannot be used or no slice is annotated in both.
    """
    image = open_image(Case(folder_name(tomogram), tomogram, first))
    um = pixel_um_of(image)
    shape = image.voxels.shape
    one, other = (
        read_labels(Case(folder_name(path), tomogram, path), shape, options, um[0]) for path in (first, second)
    )
    both = np.flatnonzero(one.any(axis=(1, 2)) & other.any(axis=(1, 2)))
    if both.size == 0:
        raise DatasetError(f"{first} and {second} have no annotated slice in common, so nothing can be compared.")
    one, other = one[both], other[both]
    known = (one > 0) & (other > 0)
    errors = column_errors(other, one, um[0])
    figures = {
        **class_figures(confusion(np.where(known, other, one), np.where(known, one, 0).astype(np.uint8))),
        "dej.mae_um": errors.mae_um,
        "dej.bias_um": errors.bias_um,
        "dej.p95_um": errors.p95_um,
        "dej.gap_fraction": errors.gap_fraction,
        "dej.normal_distance_um": normal_distance(other, one, um),
        "dej.thickness_ratio": thickness_ratio(other, one),
    }
    warnings = () if image.pixel_size_um else (f"{tomogram} has no pixel size: {CALIBRATE}.",)
    return Agreement(int(both.size), figures, warnings)
