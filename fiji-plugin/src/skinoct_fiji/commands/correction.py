"""*Save correction for training...*: the ROI Manager's ROIs as a dataset that ``skinoct-train`` reads."""

from __future__ import annotations

import io
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import compress, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from skinoct.errors import OptionError, RoiError
from skinoct.labels import IGNORE_NAME, Label, label_from_name
from skinoct.rois import Paths, Roi, read_roi_set, roi_mask, write_roi_set
from skinoct_fiji.bridge import dialogs, overlays
from skinoct_fiji.bridge.images import Stack
from skinoct_fiji.commands import work
from skinoct_fiji.failures import Declined, ImageError
from skinoct_fiji.front import Run
from skinoct_fiji.options import from_macro, parse_macro, to_macro

LABEL = "Save correction for training..."


@dataclass(frozen=True)
class CorrectionOptions:
    """Options of *Save correction for training...*; a field's name is its key in a macro."""

    folder: str = ""
    """Dataset folder; the tomogram gets a folder of its own in it."""
    name: str = ""
    """Name of that folder; empty: the image's title."""
    roi_class: str = "dej"
    """Class of ROIs whose name tells none."""
    interpolate: bool = False
    """Draw the DEJ of slices between two corrected ones by linear interpolation."""
    untouched: bool = False
    """Train on slices that are as the model drew them, too."""


@dataclass(frozen=True)
class Drawn:
    """One ROI of the ROI Manager."""

    index: int
    """Slice, 0-based."""
    label: Label
    corrected: bool
    """False while it is as the model drew it."""
    shape: str
    """Changes when somebody moves a corner."""
    exported: str | None
    """Shape that the model drew; None when somebody drew this one."""
    content: bytes
    """As a .roi file."""


def save(run: Run) -> None:
    """Run the entry."""
    stack = Stack(run.call.image)
    options = _options(run, stack)
    target = _target(options, stack)
    drawn = _drawn(stack, options)
    corrected = [roi for roi in drawn if roi.corrected]
    if not corrected and not options.untouched:
        raise ImageError(
            "No ROI in the ROI Manager was corrected. Edit some (and press Update), or choose to train on "
            "untouched slices, too."
        )
    between = interpolated(corrected, (stack.height, stack.width)) if options.interpolate else []
    replaced = {roi.slice_index for roi in between}
    taken = [roi.corrected or (options.untouched and roi.index not in replaced) for roi in drawn]
    left = [roi for roi, take in zip(drawn, taken, strict=True) if not take]
    run.status("writing the tomogram", 0.3)
    with _complete_or_nothing(target) as partial:
        work.write(partial / "tomogram.tif", stack, stack.whole())
        _write(partial / "RoiSet.zip", list(compress(drawn, taken)), between)
        if left:
            _write(partial / "model-output.zip", left, [])
    run.status(f"{len(corrected)} corrected and {len(between)} interpolated ROIs are in {target}", 1.0)


@contextmanager
def _complete_or_nothing(target: Path) -> Iterator[Path]:
    """Give a folder to fill, which gets its name when it is complete and is gone when that fails."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
        partial.chmod(0o755)
    except OSError as error:
        raise OptionError(f"{target} cannot be made ({error.strerror}). Give another folder.") from error
    try:
        yield partial
        partial.rename(target)
    except OSError as error:
        raise OptionError(f"{target} cannot be written ({error.strerror}). Give another folder.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _target(options: CorrectionOptions, stack: Stack) -> Path:
    if not options.folder:
        raise OptionError("Give folder=... for the dataset.")
    name = options.name or stack.title.rsplit(".", 1)[0]
    if not name or "/" in name or "\\" in name or name.startswith("."):
        raise OptionError(f"'{name}' cannot be the name of a folder. Give another one.")
    target = Path(options.folder).expanduser() / name
    if target.exists():
        raise OptionError(f"{target} exists and is not overwritten. Give another name.")
    return target


def _drawn(stack: Stack, options: CorrectionOptions) -> list[Drawn]:
    rois = overlays.manager_rois()
    if not rois:
        raise ImageError(
            "The ROI Manager is empty. Use Export layers to ROI Manager, correct some of them, then try again."
        )
    otherwise = label_from_name(options.roi_class)
    if otherwise is None:
        raise OptionError(f"roi_class={options.roi_class} is no class. Give one such as dej or {IGNORE_NAME}.")
    found = [drawn for roi in rois if (drawn := _read(roi, stack, otherwise)) is not None]
    if not found:
        raise ImageError(
            f"All ROIs in the ROI Manager are of other frames of '{stack.title}'. Go to the frame that they were drawn "
            "on, then try again."
        )
    return settled(found)


def settled(found: Sequence[Drawn]) -> list[Drawn]:
    """Return the ROIs that count where a slice holds a layer more than once, each with whether it was corrected.

    Who draws a layer anew replaces what the model drew in that slice; who mends one piece of it has looked at its other
    pieces. Of equal ROIs one counts, and of those that were exported twice the one that was mended.
    """
    once: dict[tuple[int, Label, str], Drawn] = {}
    for roi in found:
        once.setdefault((roi.index, roi.label, roi.shape), roi)
    redrawn = {(roi.index, roi.label) for roi in once.values() if roi.exported is None}
    mended = {(roi.index, roi.label, roi.exported) for roi in once.values() if roi.corrected}
    touched = {place[:2] for place in mended}
    return [
        replace(roi, corrected=roi.corrected or (roi.index, roi.label) in touched)
        for place, roi in once.items()
        if roi.corrected or (place not in mended and place[:2] not in redrawn)
    ]


def _read(roi: Any, stack: Stack, otherwise: Label) -> Drawn | None:
    """Return an ROI with its slice and class; None when it is of another frame, which is another tomogram."""
    name = str(roi.getName())
    place = overlays.place_of(roi, stack)
    index = stack.index_of(place)
    if index is None:
        raise RoiError(
            f"ROI {name} does not tell its slice. Go to the slice, select it, press Update in the ROI Manager."
        )
    if index >= stack.count:
        raise RoiError(
            f"ROI {name} lies on slice {index + 1}, '{stack.title}' has {stack.count}. Click on the image that it was "
            "drawn on, or delete it from the ROI Manager."
        )
    if not overlays.covers_area(roi):
        raise RoiError(
            f"ROI {name} is of type {str(roi.getTypeAsString()).lower()}, which covers no area. Delete it from the ROI "
            "Manager."
        )
    if not stack.in_frame(place):
        return None
    label = label_from_name(name)
    return Drawn(
        index,
        otherwise if label is None else label,
        (shape := str(overlays.fingerprint(roi))) != (exported := overlays.exported(roi)),
        shape,
        exported,
        overlays.encoded(roi, index),
    )


def _write(path: Path, drawn: Sequence[Drawn], between: Sequence[Roi]) -> None:
    """Write a RoiSet.zip whose names tell class, slice and origin."""
    with zipfile.ZipFile(path, "x", zipfile.ZIP_DEFLATED) as archive:
        for number, roi in enumerate(drawn):
            name = IGNORE_NAME if roi.label == Label.UNLABELED else roi.label.name.lower()
            origin = "corrected" if roi.corrected else "model"
            archive.writestr(f"{name}-{roi.index + 1:04d}-{origin}-{number:04d}.roi", roi.content)
        if between:
            made = io.BytesIO()
            write_roi_set(made, between)
            with zipfile.ZipFile(made) as source:
                for entry in source.namelist():
                    archive.writestr(entry, source.read(entry))


def interpolated(corrected: Sequence[Drawn], shape: tuple[int, int]) -> list[Roi]:
    """Return DEJ bands of the slices between corrected ones, column by column.

    A slice on which anything was drawn stays as it is.

    Parameters
    ----------
    shape : (Y, X)
        Of the image.
    """
    masks: dict[int, npt.NDArray[np.bool_]] = {}
    for roi in corrected:
        if roi.label == Label.DEJ:
            (read,) = read_roi_set(roi.content, name="the ROI Manager")
            mask = roi_mask(read, shape)
            masks[roi.index] = masks[roi.index] | mask if roi.index in masks else mask
    edges = {index: _edges(mask) for index, mask in masks.items()}
    drawn = {roi.index for roi in corrected}
    made = []
    for before, after in pairwise(sorted(edges)):
        for index in sorted(set(range(before, after)) - drawn):
            paths = _bands(((after - index) * edges[before] + (index - before) * edges[after]) / (after - before))
            if paths:
                made.append(Roi(f"dej-{index + 1:04d}-interpolated", Label.DEJ, index, Paths(paths)))
    return made


def _edges(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Return (2, X): top and bottom of a band in each column, NaN where there is none."""
    seen = mask.any(axis=0)
    top = np.where(seen, mask.argmax(axis=0), np.nan)
    bottom = np.where(seen, len(mask) - mask[::-1].argmax(axis=0), np.nan)
    return np.stack([top, bottom])


def _bands(edges: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], ...]:
    """Return a polygon for each run of columns that have a band on both sides."""
    seen = np.isfinite(edges).all(axis=0)
    steps = np.flatnonzero(np.diff(np.concatenate([[False], seen, [False]])))
    paths = []
    for first, last in zip(steps[::2], steps[1::2], strict=True):
        x = np.concatenate([[first], np.arange(first, last) + 0.5, [last]])
        top, bottom = (np.pad(edge[first:last], 1, mode="edge") for edge in edges)
        paths.append(np.concatenate([np.stack([x, top], 1), np.stack([x, bottom], 1)[::-1]]))
    return tuple(paths)


def _options(run: Run, stack: Stack) -> CorrectionOptions:
    if run.call.options is not None:
        return from_macro(CorrectionOptions, run.call.options, CorrectionOptions())
    values: dict[str, Any] | None = dialogs.ask(
        LABEL.removesuffix("..."),
        [
            dialogs.Folder("folder", "Dataset folder", run.ij.remembered("dataset", "")),
            dialogs.Text("name", "Name of this tomogram", stack.title.rsplit(".", 1)[0]),
            dialogs.Choice("roi_class", "ROIs without a class are", "dej", ("dej", "epidermis", "dermis", IGNORE_NAME)),
            dialogs.Check("interpolate", "Interpolate the DEJ between corrected slices", False),
            dialogs.Check("untouched", "Train on untouched slices of the model, too", False),
        ],
    )
    if values is None:
        raise Declined("")
    options = replace(CorrectionOptions(), **values)
    run.ij.record(LABEL, parse_macro(to_macro(options, always=("folder", "name"))))
    run.ij.remember({"dataset": options.folder})
    return options
