"""How far a segmentation is from the annotation: micrometers first, then pixels.

Everything here compares two label stacks (Z, Y, X), 0 in the annotation meaning "not known", and needs no
network. ``score`` returns every figure of one tomogram by its key in ``report.json``; ``summarize``
averages tomograms, each with the same weight because each is one subject.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree

from skinoct.labels import CLASSES, NUM_CLASSES, Label

LabelArray = npt.NDArray[np.uint8]
Columns = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Figures = dict[str, float]
"""Figures by dotted key, such as ``dej.mae_um``; NaN where a tomogram says nothing about one."""

NAN = float("nan")
FEWEST = 5
"""Tomograms that an interval needs: of fewer it would look far surer than it is."""
_TOUCHING = np.ones((3, 3), np.bool_)


@dataclass(frozen=True)
class ColumnErrors:
    """Vertical DEJ errors of all columns in which the annotation has a whole DEJ."""

    signed_um: Floats
    """(n,) predicted minus annotated center, positive is too deep; NaN where nothing was predicted."""
    worst_um: Floats
    """(n,) distance of the annotated DEJ from the edge of the image: what a missing prediction counts as."""

    @property
    def found(self) -> Floats:
        """Signed errors of the columns where something was predicted."""
        return self.signed_um[np.isfinite(self.signed_um)]

    @property
    def gap_fraction(self) -> float:
        """Share of columns without a predicted DEJ."""
        return float(np.isnan(self.signed_um).mean()) if self.signed_um.size else NAN

    @property
    def mae_um(self) -> float:
        """Mean absolute error where something was predicted."""
        return float(np.abs(self.found).mean()) if self.found.size else NAN

    @property
    def bias_um(self) -> float:
        """Mean signed error where something was predicted; positive is too deep."""
        return float(self.found.mean()) if self.found.size else NAN

    @property
    def p95_um(self) -> float:
        """95th percentile of the absolute error where something was predicted."""
        return float(np.percentile(np.abs(self.found), 95)) if self.found.size else NAN

    @property
    def score_um(self) -> float:
        """Mean absolute error with a missing DEJ counted as lying at the edge of the image."""
        errors = np.where(np.isnan(self.signed_um), self.worst_um, np.abs(self.signed_um))
        return float(errors.mean()) if errors.size else NAN


def dej_center(labels: LabelArray, *, whole: bool) -> Floats:
    """Return the row of the DEJ's center in each column of (Z, Y, X), shape (Z, X), NaN without DEJ.

    Parameters
    ----------
    labels : uint8, shape (Z, Y, X)
    whole : bool
        Leave out columns whose band is cut by the edge of the image or by pixels that nobody knows: its center is not
        known.
    """
    dej = labels == Label.DEJ
    found = dej.any(axis=1)
    if whole:
        found &= ~dej[:, 0] & ~dej[:, -1] & ~_cut_by_unknown(labels, dej)
    rows = np.arange(labels.shape[1], dtype=np.float32) + np.float32(0.5)
    total = np.tensordot(dej.astype(np.float32), rows, axes=(1, 0))
    return np.where(found, total / np.maximum(dej.sum(axis=1), 1), np.nan)


def _cut_by_unknown(labels: LabelArray, dej: npt.NDArray[np.bool_]) -> Columns:
    """Tell the columns (Z, X) in which an unlabeled pixel lies next to the DEJ: the band may go on there.

    Where nothing but the DEJ is labeled, nothing is cut: only the band was drawn.
    """
    unknown = labels == 0
    touching = (dej[:, 1:] & unknown[:, :-1]) | (dej[:, :-1] & unknown[:, 1:])
    return np.asarray(touching.any(axis=1) & ~(dej | unknown).all(axis=1))


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


def confusion(predicted: LabelArray, annotated: LabelArray) -> npt.NDArray[np.int64]:
    """Count known pixels by annotated class (rows) and predicted class (columns), shape (5, 5)."""
    known = annotated > 0
    pairs = (annotated[known].astype(np.int64) - 1) * NUM_CLASSES + predicted[known].astype(np.int64) - 1
    counts = np.bincount(pairs, minlength=NUM_CLASSES**2)[: NUM_CLASSES**2]
    return np.asarray(counts.reshape(NUM_CLASSES, NUM_CLASSES), np.int64)


def class_figures(counts: npt.NDArray[np.int64]) -> Figures:
    """Return Dice and recall of every class from a confusion matrix; NaN for a class that is nowhere."""
    figures: Figures = {}
    for k, item in enumerate(CLASSES):
        hit, annotated, predicted = counts[k, k], counts[k].sum(), counts[:, k].sum()
        figures[f"classes.{item.name}.dice"] = _ratio(2 * hit, annotated + predicted)
        figures[f"classes.{item.name}.recall"] = _ratio(hit, annotated)
    figures["accuracy"] = _ratio(np.trace(counts), counts.sum())
    return figures


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else NAN


def normal_distance(
    predicted: LabelArray, annotated: LabelArray, um: tuple[float, float], columns: Columns | None = None
) -> float:
    """Return the mean distance between the two DEJ center lines in um.

    Each point is measured to the nearest point of the other line, both ways, in the columns where the annotation
    has a whole DEJ: elsewhere nobody knows how far the predicted line is off.

    Parameters
    ----------
    predicted, annotated : uint8, shape (Z, Y, X)
    um : (depth, width) of a pixel in micrometers
    columns : bool, shape (Z, X), optional
        Measure only the points of these.
    """
    truth, guess = dej_center(annotated, whole=True), dej_center(predicted, whole=False)
    measured = np.isfinite(truth) & (True if columns is None else columns)
    distances = []
    for z in range(len(truth)):
        there = _nearest(np.where(measured[z], guess[z], np.nan), truth[z], um)
        back = _nearest(np.where(measured[z], truth[z], np.nan), guess[z], um)
        if there.size and back.size:
            distances.append((there.mean() + back.mean()) / 2)
    return float(np.mean(distances)) if distances else NAN


def _nearest(points: Floats, line: Floats, um: tuple[float, float]) -> Floats:
    """Return how far each point of one line (X,) is from the nearest of another (X,); nothing where one is empty."""
    start, end = _points(points, um), _points(line, um)
    return np.asarray(cKDTree(end).query(start)[0]) if len(start) and len(end) else np.zeros(0)


def _points(center: Floats, um: tuple[float, float]) -> Floats:
    columns = np.flatnonzero(np.isfinite(center))
    return np.column_stack([center[columns] * um[0], columns * um[1]])


def thickness_ratio(predicted: LabelArray, annotated: LabelArray) -> float:
    """Return DEJ pixels predicted over DEJ pixels annotated, in the columns where both have a DEJ.

    Only pixels whose annotation is known count.
    """
    guess, truth = (predicted == Label.DEJ) & (annotated > 0), annotated == Label.DEJ
    both = guess.any(axis=1) & ~np.isnan(dej_center(annotated, whole=True))
    return _ratio(guess.sum(axis=1)[both].sum(), truth.sum(axis=1)[both].sum())


def epidermis_error(predicted: LabelArray, annotated: LabelArray, pixel_um: float) -> Figures:
    """Compare the thickness of the epidermis, column by column, where surface and DEJ are both annotated.

    The thickness of a column is its number of epidermis pixels, so that a single wrong pixel counts as one.
    """
    epidermis = (annotated == Label.EPIDERMIS).sum(axis=1)
    outside_in_view = (annotated[:, 0] > 0) & (annotated[:, 0] < Label.EPIDERMIS)
    whole = outside_in_view & ~np.isnan(dej_center(annotated, whole=True)) & (annotated > 0).all(axis=1)
    known = (epidermis > 0) & whole
    error = ((predicted == Label.EPIDERMIS).sum(axis=1) - epidermis)[known] * pixel_um
    if error.size == 0:
        return {"epidermis.thickness_error_um": NAN, "epidermis.thickness_bias_um": NAN}
    return {
        "epidermis.thickness_error_um": float(np.abs(error).mean()),
        "epidermis.thickness_bias_um": float(error.mean()),
    }


def islands_per_slice(predicted: LabelArray, annotated: LabelArray, columns: Columns | None = None) -> float:
    """Return how many DEJ components a slice has beyond those annotated (at least one is allowed).

    The largest ones are the DEJ, the others islands; with ``columns`` (Z, X), only those whose middle lies in one.
    Where nobody knows the DEJ of a column (``ignore``, say), it counts as if it ran through unbroken, in both.
    """
    extra = []
    for z, (guess, truth) in enumerate(zip(predicted, annotated, strict=True)):
        dej = truth == Label.DEJ
        bridge = ~dej.any(axis=0) & (truth == 0).any(axis=0)
        want = len(_component_columns(dej, bridge))
        if want:
            middles = _component_columns(guess == Label.DEJ, bridge)[want:]
            extra.append(len(middles) if columns is None else int(columns[z, middles].sum()))
    return float(np.mean(extra)) if extra else NAN


def _component_columns(mask: npt.NDArray[np.bool_], bridge: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """Return the middle column of every connected piece of a mask (Y, X), the largest piece first.

    Pieces on both sides of ``bridge`` (X,) hang together; what lies within it alone is no piece.
    """
    pieces = ndimage.label(mask | bridge, _TOUCHING)[0]
    pieces[:, bridge] = 0
    sizes = np.bincount(pieces.ravel())
    found = [
        (size, (part[1].start + part[1].stop - 1) // 2)
        for size, part in zip(sizes[1:], ndimage.find_objects(pieces), strict=True)
        if part is not None
    ]
    return np.array([middle for _, middle in sorted(found, key=lambda item: -item[0])], np.intp)


def order_violations(predicted: LabelArray, columns: Columns | None = None) -> float:
    """Count columns in which a class lies above one that belongs above it; only some with ``columns`` (Z, X)."""
    wrong = (np.diff(predicted.astype(np.int8), axis=1) < 0).any(axis=1)
    return float((wrong if columns is None else wrong & columns).sum())


def jitter(predicted: LabelArray, annotated: LabelArray, slices: npt.NDArray[np.intp], pixel_um: float) -> float:
    """Return how much the DEJ error changes from one slice to the next, mean absolute, in um.

    Real motion of the tissue between two frames is in the annotation too and cancels. ``slices`` are the
    0-based positions of the compared slices; only true neighbors are compared.
    """
    error = dej_center(predicted, whole=False) - dej_center(annotated, whole=True)
    steps = np.diff(error, axis=0)[np.diff(slices) == 1]
    steps = steps[np.isfinite(steps)]
    return float(np.abs(steps).mean() * pixel_um) if steps.size else NAN


def score(
    predicted: LabelArray,
    annotated: LabelArray,
    *,
    um: tuple[float, float],
    slices: npt.NDArray[np.intp] | None = None,
    columns: Columns | None = None,
) -> Figures:
    """Return every figure of one tomogram, or of some of its columns.

    Parameters
    ----------
    predicted, annotated : uint8, shape (Z, Y, X)
        The annotated slices of one tomogram.
    um : (depth, width) of a pixel in micrometers
    slices : int, shape (Z,), optional
        Their 0-based positions in the tomogram; consecutive when None.
    columns : bool, shape (Z, X), optional
        Count only these.
    """
    whole = annotated
    if columns is not None:
        annotated = np.where(columns[:, None, :], annotated, 0).astype(np.uint8)
    where = np.arange(len(annotated)) if slices is None else slices
    errors = column_errors(predicted, annotated, um[0])
    figures = class_figures(confusion(predicted, annotated))
    figures |= {
        "dej.mae_um": errors.mae_um,
        "dej.bias_um": errors.bias_um,
        "dej.p95_um": errors.p95_um,
        "dej.mae_with_gaps_um": errors.score_um,
        "dej.normal_distance_um": normal_distance(predicted, whole, um, columns),
        "dej.thickness_ratio": thickness_ratio(predicted, annotated),
        "dej.dice": figures["classes.dej.dice"],
        "dej.islands_per_slice": islands_per_slice(predicted, whole, columns),
        "dej.gap_fraction": errors.gap_fraction,
        "dej.jitter_um": jitter(predicted, annotated, where, um[0]),
        "order_violations": order_violations(predicted, columns),
    }
    return figures | epidermis_error(predicted, annotated, um[0])


def brightness_strata(images: npt.NDArray[np.float32], annotated: LabelArray) -> npt.NDArray[np.int8]:
    """Sort columns by how bright the tissue around the annotated DEJ is.

    Parameters
    ----------
    images : float, shape (Z, Y, X)
    annotated : uint8, shape (Z, Y, X)

    Returns
    -------
    int8, shape (Z, X)
        0 dark, 1 middle, 2 bright thirds of this tomogram's columns; -1 without DEJ.
    """
    center = dej_center(annotated, whole=True)
    known = ~np.isnan(center)
    strata = np.full(center.shape, -1, np.int8)
    if not known.any():
        return strata
    rows = np.arange(annotated.shape[1])[None, :, None]
    near = np.abs(rows + 0.5 - np.nan_to_num(center, nan=-1e6)[:, None, :]) <= 15
    brightness = (images * near).sum(axis=1) / np.maximum(near.sum(axis=1), 1)
    limits = np.quantile(brightness[known], [1 / 3, 2 / 3])
    strata[known] = np.searchsorted(limits, brightness[known], side="right").astype(np.int8)
    return strata


def calibration(
    confidence: npt.NDArray[np.float32],
    predicted: LabelArray,
    annotated: LabelArray,
    pixel_um: float,
    tolerance_um: float,
    bins: int = 10,
) -> npt.NDArray[np.float64]:
    """Count columns by claimed confidence and truth.

    Returns
    -------
    float64, shape (bins, 3)
        Per bin of confidence: columns, sum of confidence, columns whose error is within ``tolerance_um``.
    """
    truth = dej_center(annotated, whole=True)
    known = ~np.isnan(truth)
    error = np.abs(dej_center(predicted, whole=False) - truth)[known] * pixel_um
    claimed = np.asarray(confidence, np.float64)[known]
    index = np.clip((claimed * bins).astype(int), 0, bins - 1)
    good = np.nan_to_num(error, nan=np.inf) <= tolerance_um
    columns = [np.bincount(index, weights, bins) for weights in (np.ones_like(claimed), claimed, good)]
    return np.column_stack(columns)


def summarize(tomograms: Sequence[Figures]) -> Figures:
    """Average each figure over the tomograms that have it."""
    keys = list(dict.fromkeys(key for figures in tomograms for key in figures))
    return {key: _mean([figures.get(key, NAN) for figures in tomograms]) for key in keys}


def _mean(values: Sequence[float]) -> float:
    array = np.asarray(values, float)
    finite = array[np.isfinite(array)]
    return float(finite.mean()) if finite.size else NAN


def bootstrap(
    tomograms: Sequence[Figures], *, rounds: int = 2000, seed: int = 0, level: float = 0.95
) -> dict[str, tuple[float, float]]:
    """Return an interval for each average by drawing tomograms anew, with replacement.

    Percentile bootstrap (Efron, *Bootstrap Methods: Another Look at the Jackknife*, Annals of Statistics
    1979). Tomograms are drawn, not slices or pixels, because those of one subject are not independent. The
    interval is too narrow for few tomograms: of 95 %, it holds the truth in about 80 % of all cases with 5 and
    in 88 % with 10. Of fewer than ``FEWEST`` that have a figure it is NaN.
    """
    rng = np.random.default_rng(seed)
    draws = rng.integers(len(tomograms), size=(rounds, len(tomograms)))
    tail = (1 - level) / 2
    intervals = {}
    for key in summarize(tomograms):
        single = np.array([figures.get(key, NAN) for figures in tomograms])
        if np.isfinite(single).sum() < FEWEST:
            intervals[key] = (NAN, NAN)
            continue
        values = single[draws]
        weight = np.isfinite(values)
        sums, counts = np.where(weight, values, 0).sum(axis=1), weight.sum(axis=1)
        low, high = np.quantile(sums[counts > 0] / counts[counts > 0], [tail, 1 - tail])
        intervals[key] = (float(low), float(high))
    return intervals


def nest(figures: Mapping[str, object]) -> dict[str, object]:
    """Turn dotted keys into nested dictionaries, as they stand in ``report.json``; NaN becomes None."""
    tree: dict[str, object] = {}
    for key, value in figures.items():
        *path, leaf = key.split(".")
        node: dict[str, object] = tree
        for part in path:
            child = node.setdefault(part, {})
            assert isinstance(child, dict)
            node = child
        node[leaf] = None if isinstance(value, float) and np.isnan(value) else value
    return tree
