"""How far a segmentation is from the annotation: micrometers first, then pixels.

Everything here compares two label stacks (Z, Y, X), 0 in the annotation meaning "not known", and needs no
network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skinoct.labels import Label

LabelArray = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ColumnErrors:
    """Vertical DEJ errors of all columns in which the annotation has a DEJ."""

    signed_um: Floats
    """(n,) predicted minus annotated center, positive is too deep; NaN where nothing was predicted."""
    worst_um: Floats
    """(n,) distance of the annotated DEJ from the edge of the image: what a missing prediction counts as."""

    @property
    def gap_fraction(self) -> float:
        """Share of columns without a predicted DEJ."""
        return float(np.isnan(self.signed_um).mean()) if self.signed_um.size else float("nan")

    @property
    def mae_um(self) -> float:
        """Mean absolute error where something was predicted."""
        return (
            float(np.nanmean(np.abs(self.signed_um))) if np.isfinite(self.signed_um).any() else float("nan")
        )

    @property
    def bias_um(self) -> float:
        """Mean signed error where something was predicted; positive is too deep."""
        return float(np.nanmean(self.signed_um)) if np.isfinite(self.signed_um).any() else float("nan")

    @property
    def p95_um(self) -> float:
        """95th percentile of the absolute error where something was predicted."""
        found = np.abs(self.signed_um[np.isfinite(self.signed_um)])
        return float(np.percentile(found, 95)) if found.size else float("nan")

    @property
    def score_um(self) -> float:
        """Mean absolute error with a missing DEJ counted as lying at the edge of the image."""
        errors = np.where(np.isnan(self.signed_um), self.worst_um, np.abs(self.signed_um))
        return float(errors.mean()) if errors.size else float("nan")


def dej_center(labels: LabelArray, *, whole: bool) -> Floats:
    """Return the row of the DEJ's center in each column of (Z, Y, X), shape (Z, X), NaN without DEJ.

    Parameters
    ----------
    labels : uint8, shape (Z, Y, X)
    whole : bool
        Leave out columns whose band is cut by the edge of the image: its center is not known.
    """
    dej = labels == Label.DEJ
    found = dej.any(axis=1)
    if whole:
        found &= ~dej[:, 0] & ~dej[:, -1]
    rows = np.arange(labels.shape[1], dtype=np.float64) + 0.5
    count = dej.sum(axis=1)
    center = np.einsum("zyx,y->zx", dej, rows) / np.maximum(count, 1)
    return np.where(found, center, np.nan)


def column_errors(predicted: LabelArray, annotated: LabelArray, pixel_um: float) -> ColumnErrors:
    """Compare the DEJ of two label stacks (Z, Y, X) column by column."""
    truth = dej_center(annotated, whole=True)
    known = ~np.isnan(truth)
    signed = (dej_center(predicted, whole=False) - truth)[known]
    worst = np.minimum(truth[known], annotated.shape[1] - truth[known])
    return ColumnErrors(signed * pixel_um, worst * pixel_um)


def join_errors(parts: Sequence[ColumnErrors]) -> ColumnErrors:
    """Put the columns of several tomograms together."""
    empty = np.zeros(0)
    return ColumnErrors(
        np.concatenate([p.signed_um for p in parts] or [empty]),
        np.concatenate([p.worst_um for p in parts] or [empty]),
    )
