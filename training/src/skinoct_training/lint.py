"""Mistakes in a training folder, found before anyone trains on it; each with file, ROI and slice.

Errors are what ``fit`` would refuse or what would spoil its result silently; warnings are what a person
should look at on the contact sheet.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from skinoct.errors import DatasetError, InputError, RoiError
from skinoct.labels import CLASSES, Label
from skinoct.rois import Roi, paint_slice, read_roi_set, required_slice, roi_mask
from skinoct.tomogram import Tomogram
from skinoct_training.annotation import LabelArray, slice_thickness
from skinoct_training.dataset import (
    CALIBRATE,
    Case,
    LabelOptions,
    case_of,
    most_band_um,
    open_image,
    pixel_um_of,
    prepared_rois,
    read_labels,
    tomogram_folders,
    which_wins,
    with_both,
    with_class,
)
from skinoct_training.exchanged import Outline, exchanged, outline

BAND_UM = (3.0, 8.0)
"""Mean thickness of a DEJ in a slice that is taken for the doctors' 5 um band."""
FULL_WIDTH = 0.98
"""Share of the columns that a complete DEJ covers."""
LEAST_WHOLE = 0.8
"""Share of the columns with a layer above the skin and a DEJ that are labeled from top to bottom."""
SURFACE_ROWS = (2, 10)
"""Nearest and farthest row on either side of the drawn skin surface that is compared."""
LEAST_STEP = 0.1
"""Difference over sum of the brightness that counts as a skin surface."""
LEAST_SURFACE = 0.6
"""Share of columns that show one where it is drawn: at least 0.78 in phantoms of the default family; with the set of
another phantom mostly below 0.4, and more only where both surfaces happen to be alike."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or looks wrong."""

    tomogram: str
    message: str
    """With ROI and slice, and what to do where it is not obvious."""
    error: bool = False
    slice_index: int | None = None
    """0-based; None when it concerns the whole tomogram."""

    def __str__(self) -> str:
        """Line for a person."""
        where = "" if self.slice_index is None else f", slice {self.slice_index + 1}"
        return f"{'ERROR' if self.error else 'warning'}: {self.tomogram}{where}: {self.message}"


@dataclass
class Lint:
    """Result of checking a folder."""

    findings: list[Finding] = field(default_factory=list)
    samples: list[tuple[str, int, npt.NDArray[Any], LabelArray]] = field(default_factory=list)
    """Slices for the contact sheet: tomogram, 0-based slice, image (Y, X), labels (Y, X)."""
    tomograms: int = 0
    """Folders that were looked at."""

    @property
    def errors(self) -> int:
        """Number of findings that must be mended before training."""
        return sum(f.error for f in self.findings)


def lint(data: str | Path, options: LabelOptions) -> Lint:
    """Check every tomogram and ROI set of a training folder.

    Raises
    ------
    DatasetError
        When there is nothing to check at all.
    """
    result = Lint()
    seen_files: dict[str, str] = {}
    seen_slices: dict[bytes, tuple[str, int]] = {}
    classes: Counter[int] = Counter()
    outlines: list[Outline] = []
    cases = list(_cases(data, options, result))
    for case in cases:
        result.findings += _shared_file(case, seen_files)
        try:
            tomogram = open_image(case)
            pixel_um_of(tomogram)
            if tomogram.pixel_size_um is None:
                result.findings.append(Finding(case.name, f"{case.image.name} has no pixel size: {CALIBRATE}."))
            result.findings += duplicated_slices(case, tomogram, seen_slices)
        except InputError as error:
            result.findings.append(Finding(case.name, str(error), error=True))
            continue
        labels = _annotation(case, tomogram, options, result)
        if labels is not None:
            classes.update({int(v): 1 for v in np.unique(labels)})
            _sample(result, case, tomogram, labels)
            outlines += [found] if (found := outline(case.name, tomogram, labels)) else []
    result.findings += whole_set(cases, classes)
    result.findings += exchanged_sets(outlines)
    if options.source == "auto" and (both := with_both(cases)):
        result.findings.append(Finding("all", which_wins(both, len(cases))))
    return result


def _cases(data: str | Path, options: LabelOptions, result: Lint) -> Iterator[Case]:
    """Yield what can be checked; a folder without tomogram or annotation is a finding, not the end."""
    for folder in tomogram_folders(data):
        result.tomograms += 1
        try:
            yield case_of(folder, options.source)
        except DatasetError as error:
            result.findings.append(Finding(folder.name, str(error), error=True))


def _shared_file(case: Case, seen: dict[str, str]) -> Iterator[Finding]:
    with case.annotation.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    other = seen.setdefault(digest, case.name)
    if other != case.name:
        yield Finding(
            case.name,
            f"{case.annotation.name} is the same file as that of {other}; it can belong to one of them only.",
            error=True,
        )


def duplicated_slices(case: Case, tomogram: Tomogram, seen: dict[bytes, tuple[str, int]]) -> Iterator[Finding]:
    """Find slices that occur twice; in two tomograms they leak when a split comes between the two.

    A blank frame, as before the shutter opens, shows no skin and leaks nothing.
    """
    for z in range(tomogram.voxels.shape[0]):
        image = np.ascontiguousarray(tomogram.voxels[z : z + 1])
        if image.min() == image.max():
            continue
        digest = hashlib.blake2b(image.tobytes(), digest_size=16).digest()
        name, first = seen.setdefault(digest, (case.name, z))
        if (name, first) != (case.name, z):
            elsewhere = f"slice {first + 1}" + ("" if name == case.name else f" of {name}")
            yield Finding(case.name, f"is the same image as {elsewhere}.", name != case.name, z)


def _annotation(case: Case, tomogram: Tomogram, options: LabelOptions, result: Lint) -> LabelArray | None:
    """Read the annotation, adding what is wrong with it; None when it cannot be read."""
    shape, um = tomogram.voxels.shape, pixel_um_of(tomogram)[0]
    rois: list[Roi] = []
    if case.is_roi_set:
        try:
            rois = read_roi_set(case.annotation, name=case.annotation_name)
        except RoiError as error:
            result.findings.append(Finding(case.name, str(error), error=True))
            return None
        bad = {id(roi): list(bad_roi(case, roi, shape, options)) for roi in rois}
        wrong = [finding for findings in bad.values() for finding in findings]
        wrong += contradictions(case, [roi for roi in rois if not bad[id(roi)]], shape, options, um)
        result.findings += wrong
        if wrong:
            return None
    try:
        labels = read_labels(case, shape, options, um)
    except DatasetError as error:
        result.findings.append(Finding(case.name, str(error), error=True))
        return None
    result.findings += doubtful_labels(case, labels, um, _by_slice(prepared_rois(rois, options, um), shape[0]))
    result.findings += doubtful_surface(case, tomogram, labels)
    return labels


def bad_roi(case: Case, roi: Roi, shape: tuple[int, int, int], options: LabelOptions) -> Iterator[Finding]:
    """Say that an ROI is without class, without slice, past the last slice or off the image."""
    try:
        with_class(roi, options)
    except RoiError as error:
        yield Finding(case.name, str(error), error=True, slice_index=roi.slice_index)
    try:
        required_slice(roi, shape[0])
    except RoiError as error:
        yield Finding(case.name, str(error), error=True)
        return
    if not roi_mask(roi, (shape[1], shape[2])).any():
        yield Finding(
            case.name,
            f"{roi} covers no pixel of the image ({shape[1]} rows, {shape[2]} columns); the set seems to belong to "
            "another tomogram.",
            error=True,
            slice_index=roi.slice_index,
        )


def contradictions(
    case: Case, rois: Sequence[Roi], shape: tuple[int, int, int], options: LabelOptions, pixel_um: float
) -> Iterator[Finding]:
    """Name the ROIs that contradict each other, in every slice and not only in the first."""
    for z, in_slice in sorted(_by_slice(rois, shape[0]).items()):
        try:
            paint_slice(np.zeros(shape[1:], np.uint8), prepared_rois(in_slice, options, pixel_um), z)
        except RoiError as error:
            yield Finding(case.name, str(error), error=True)


def _by_slice(rois: Sequence[Roi], slices: int) -> dict[int, list[Roi]]:
    """Sort ROIs by their 0-based slice."""
    found: defaultdict[int, list[Roi]] = defaultdict(list)
    for roi in rois:
        found[required_slice(roi, slices)].append(roi)
    return found


def doubtful_labels(
    case: Case, labels: LabelArray, pixel_um: float, by_slice: dict[int, list[Roi]]
) -> Iterator[Finding]:
    """Look for bands far from 5 um, gaps along a slice and between slices, and layers out of order."""
    annotated = np.flatnonzero(labels.any(axis=(1, 2)))
    yield from _skipped_slices(case, annotated)
    yield from _seldom_whole(case, labels[annotated], [by_slice.get(int(z), []) for z in annotated])
    for z in (int(z) for z in annotated):
        names = ", ".join(roi.name for roi in by_slice.get(z, []) if roi.label == Label.DEJ)
        who = f"{case.annotation.name}" + (f", ROI {names}" if names else "")
        dej = labels[z] == Label.DEJ
        columns = dej.any(axis=0)
        if not columns.any():
            yield Finding(case.name, f"{who}: no dej is drawn although other layers are.", slice_index=z)
            continue
        thickness = float(slice_thickness(labels[z : z + 1])[0]) * pixel_um
        if thickness > most_band_um(pixel_um):
            text = (
                f"{who}: the DEJ band is {thickness:.1f} um thick on average; that is another layer. Correct its class."
            )
            yield Finding(case.name, text, error=True, slice_index=z)
        elif not BAND_UM[0] <= thickness <= BAND_UM[1]:
            text = f"{who}: the DEJ band is {thickness:.1f} um thick on average; doctors draw about 5 um."
            yield Finding(case.name, text, slice_index=z)
        holes = np.flatnonzero(~columns & ~_out_of_view(dej) & ~_ignored_columns(by_slice.get(z, []), dej.shape))
        if holes.size > (1 - FULL_WIDTH) * columns.size:
            text = f"{who}: the DEJ is missing in {holes.size} columns, x = {holes[0]} to {holes[-1]}."
            yield Finding(case.name, text, slice_index=z)
        yield from _out_of_order(case, labels[z], z, who)


def _ignored_columns(rois: Sequence[Roi], shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Tell the columns (X,) of a slice (Y, X) of which any pixel is to be ignored."""
    masks = [roi_mask(roi, shape).any(axis=0) for roi in rois if roi.label == Label.UNLABELED]
    return np.asarray(np.any([np.zeros(shape[1], np.bool_), *masks], axis=0))


def _seldom_whole(case: Case, labels: LabelArray, rois: Sequence[Sequence[Roi]]) -> Iterator[Finding]:
    """Look for pixels between the layers that nobody labeled, in annotated slices (Z, Y, X) and their ROIs.

    Columns without a layer above the skin, or without DEJ, are meant to be incomplete.
    """
    outside = (labels == Label.GLASS) | (labels == Label.GLYCEROL)
    meant = outside.any(axis=1) & (labels == Label.DEJ).any(axis=1)
    meant &= ~np.array([_ignored_columns(r, (labels.shape[1], labels.shape[2])) for r in rois]).reshape(meant.shape)
    whole = np.asarray((labels > 0).all(axis=1))[meant]
    if whole.size and whole.mean() < LEAST_WHOLE:
        yield Finding(
            case.name,
            f"{case.annotation.name}: only {100 * whole.mean():.0f} % of the columns with a layer above the skin and a "
            "DEJ are labeled from top to bottom, and only these teach the skin surface and tell the thickness of the "
            "epidermis. Draw the layers up to each other and to the upper edge of the image.",
        )


def _out_of_view(dej: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Tell the columns (X,) of a mask (Y, X) where the DEJ has left the image, at a side that it is cut at."""
    columns = dej.any(axis=0)
    cut = np.flatnonzero(dej[0] | dej[-1])
    outside = np.zeros_like(columns)
    pieces, count = ndimage.label(~columns)
    for piece in range(1, count + 1):
        where = np.flatnonzero(pieces == piece)
        outside[where] = bool(np.isin([where[0] - 1, where[-1] + 1], cut).any())
    return outside


def _out_of_order(case: Case, labels: LabelArray, z: int, who: str) -> Iterator[Finding]:
    highest = np.maximum.accumulate(labels, axis=0)
    wrong = np.flatnonzero(((labels > 0) & (labels < highest)).any(axis=0))
    if wrong.size > 2:
        text = f"{who}: layers are out of order in {wrong.size} columns, x = {wrong[0]} to {wrong[-1]}."
        yield Finding(case.name, text, slice_index=z)


def _skipped_slices(case: Case, annotated: npt.NDArray[np.intp]) -> Iterator[Finding]:
    """Name holes in a regular annotation: every slice, or every tenth."""
    steps = np.diff(annotated)
    if steps.size < 2:
        return
    usual = int(np.median(steps))
    for z, step in zip(annotated[:-1], steps, strict=True):
        if step > usual:
            every = "every slice" if usual == 1 else f"every {usual} slices"
            until = "" if step == 2 else f" from here to slice {z + step}"
            text = f"no annotation{until}, although there is one {every} otherwise."
            yield Finding(case.name, f"{case.annotation.name}: {text}", slice_index=int(z) + 1)


def doubtful_surface(case: Case, tomogram: Tomogram, labels: LabelArray) -> Iterator[Finding]:
    """Suspect an ROI set of another tomogram where it does not get brighter below the drawn skin surface."""
    steps = [
        surface_steps(np.asarray(tomogram.voxels[int(z) : int(z) + 1][0], np.float64), labels[z])
        for z in np.flatnonzero(labels.any(axis=(1, 2)))[:: max(1, labels.shape[0] // 20)]
    ]
    found = np.concatenate([np.zeros(0), *steps])
    share = float((found > LEAST_STEP).mean()) if found.size else 1.0
    if share < LEAST_SURFACE:
        yield Finding(
            case.name,
            f"{case.annotation.name}: only in {100 * share:.0f} % of the columns does the image get brighter where the "
            "skin surface is drawn; does the set belong to this tomogram?",
        )


def surface_steps(image: npt.NDArray[np.float64], labels: LabelArray) -> npt.NDArray[np.float64]:
    """Return how much brighter it is below the drawn skin surface than above.

    Parameters
    ----------
    image : float, shape (Y, X)
    labels : uint8, shape (Y, X)

    Returns
    -------
    float, shape (n,)
        Difference over sum of the means of the rows next to the surface, for each column that shows enough of both
        sides. The nearest rows are left out: a hand is not as exact as a pixel.
    """
    tissue = labels >= Label.EPIDERMIS
    top, rows = tissue.argmax(axis=0), image.shape[0]
    near, far = SURFACE_ROWS
    known = tissue.any(axis=0) & (labels[0] > 0) & (top >= far) & (top + far <= rows)
    columns = np.flatnonzero(known)
    total = np.vstack([np.zeros((1, image.shape[1])), np.cumsum(image - image.min(), axis=0)])

    def mean(first: int, last: int) -> npt.NDArray[np.float64]:
        start, end = top[columns] + first, top[columns] + last
        return np.asarray(total[end, columns] - total[start, columns]) / (last - first)

    above, below = mean(-far, -near), mean(near, far)
    return np.asarray((below - above) / np.maximum(above + below, 1e-9))


def exchanged_sets(outlines: Sequence[Outline]) -> Iterator[Finding]:
    """Suspect two sets of nothing but the DEJ of which each fits the other's tomogram."""
    for one, other in exchanged(outlines):
        yield Finding(
            one,
            f"the DEJ follows the skin surface of {other}, and that of {other} the surface of this tomogram; were the "
            "two sets exchanged?",
        )


def whole_set(cases: Sequence[Case], classes: Counter[int]) -> Iterator[Finding]:
    """Look at the folder as a whole."""
    if len(cases) == 1:
        yield Finding(cases[0].name, "is the only tomogram; none can be held out to measure the error.")
    missing = [c.name for c in CLASSES if not classes[c.label]]
    if cases and missing:
        dej = "dej" in missing
        yield Finding("all", f"never annotated: {', '.join(missing)}.", error=dej)


def _sample(result: Lint, case: Case, tomogram: Tomogram, labels: LabelArray, count: int = 4) -> None:
    """Choose slices for the contact sheet: those with findings first, then evenly spread ones."""
    suspicious = [f.slice_index for f in result.findings if f.tomogram == case.name and f.slice_index is not None]
    annotated = np.flatnonzero(labels.any(axis=(1, 2)))
    spread = annotated[np.linspace(0, len(annotated) - 1, count).round().astype(int)] if annotated.size else []
    chosen = _unique([*suspicious, *(int(z) for z in spread)])
    for z in [z for z in chosen if z < labels.shape[0]][:count]:
        image = np.asarray(tomogram.voxels[z : z + 1][0])
        result.samples.append((case.name, z, image, labels[z]))


def _unique(values: Iterable[int]) -> list[int]:
    return list(dict.fromkeys(values))
