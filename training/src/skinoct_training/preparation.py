"""What happens before a training: which tomograms, at which pixel size, can they teach anything."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from skinoct.errors import DatasetError
from skinoct.intensity import IntensityConfig
from skinoct.labels import CLASSES
from skinoct_training.dataset import (
    CALIBRATE,
    Case,
    LabelOptions,
    Volume,
    find_cases,
    fingerprint,
    load_volumes,
    native_pixel_um,
    uncalibrated,
    which_wins,
    with_both,
)
from skinoct_training.distributed import rank
from skinoct_training.evaluate import SLICE_STRIDE
from skinoct_training.leaks import image_hashes
from skinoct_training.split import hold_out


@dataclass(frozen=True)
class DataOptions:
    """Which data to train on and how to read it."""

    folder: Path
    labels: LabelOptions = field(default_factory=LabelOptions)
    held_out: int | None = None
    """Tomograms to hold out for validation; None for a share."""
    exclude: tuple[str, ...] = ()
    """Tomograms that are left out altogether, as a fold of a cross-validation is."""
    by_slice: bool = False
    """Hold out every eighth slice instead of tomograms: the leaking split of the paper."""
    pixel_um: float | None = None
    """Pixel size to train at; None for that of the data, or of the checkpoint to fine-tune."""
    quiet: bool = False
    """Say nothing of what is taken for granted, because it was said of the same data before."""


@dataclass(frozen=True)
class Selection:
    """Tomograms of a training."""

    train: list[Case]
    held_out: list[Case]
    files: dict[str, dict[str, str]]
    """SHA-256 of every file, by tomogram."""

    def describe(self, by_slice: bool) -> dict[str, Any]:
        """Return names and hashes for card and run folder."""
        return {
            "split": "by-slice" if by_slice else "by-tomogram",
            "trained_on": [c.name for c in self.train],
            "held_out": [c.name for c in self.held_out],
            "files": self.files,
        }


@dataclass(frozen=True)
class TrainingSet:
    """Everything read."""

    train: list[Volume]
    held_out: list[Volume]
    pixel_um: float
    band_um: float
    """Thickness of the DEJ band as the annotators draw it."""


def select(options: DataOptions, seed: int, *, fine_tune: bool) -> Selection:
    """Decide what to train on; a fine-tune on a single tomogram goes without validation, and says so.

    Raises
    ------
    DatasetError
        When the folder cannot be used, holds too little to hold anything out, or holds a held-out tomogram twice.
    """
    cases = [c for c in find_cases(options.folder, options.labels.source) if c.name not in options.exclude]
    files = fingerprint(cases)
    if options.by_slice:
        return Selection(cases, [], files)
    if len(cases) == 1 and fine_tune and options.held_out is None:
        print(
            "There is one tomogram only, so the error on unseen skin cannot be measured; all of it is trained on.",
            file=sys.stderr,
        )
        return Selection(cases, [], files)
    selection = Selection(*hold_out(cases, options.held_out, seed), files)
    refuse_twins(selection)
    return selection


def refuse_twins(selection: Selection) -> None:
    """See that no held-out tomogram is trained on under another name.

    Raises
    ------
    DatasetError
        When one is; the sentence names both folders.
    """
    trained = {digits: case.name for case in selection.train for digits in image_hashes(selection.files[case.name])}
    for case in selection.held_out:
        for digits in image_hashes(selection.files[case.name]) & trained.keys():
            raise DatasetError(
                f"{trained[digits]} and {case.name} hold the same tomogram, but {case.name} is held out to measure "
                "the error on skin that training never saw; move one of the two folders away."
            )


def read(selection: Selection, options: DataOptions, intensity: IntensityConfig, model_um: float | None) -> TrainingSet:
    """Read all tomograms of a selection at one pixel size.

    Parameters
    ----------
    selection : Selection
    options : DataOptions
    intensity : IntensityConfig
    model_um : float, optional
        Pixel size of the checkpoint that is fine-tuned.

    Raises
    ------
    DatasetError
        When one cannot be used, or nothing can be learned from all of them.
    """
    if not options.quiet:
        say_assumptions([*selection.train, *selection.held_out], options.labels)
    pixel_um = options.pixel_um or model_um or native_pixel_um([*selection.train, *selection.held_out])
    volumes, held = (
        list(
            tqdm(
                load_volumes(cases, pixel_um=pixel_um, intensity=intensity, options=options.labels),
                total=len(cases),
                desc=title,
                unit="tomogram",
                file=sys.stderr,
                leave=False,
                disable=not cases,
            )
        )
        for cases, title in ((selection.train, "reading"), (selection.held_out, "reading held-out"))
    )
    check_classes(volumes)
    if options.by_slice:
        volumes = [without_examined_slices(volume) for volume in volumes]
        check_anything_left(volumes)
    return TrainingSet(volumes, held, pixel_um, learned_band_um(volumes))


def say_assumptions(cases: Sequence[Case], options: LabelOptions) -> None:
    """Print what is taken for granted because nobody tells it: one line for all tomograms."""
    if rank() > 0:
        return
    if names := uncalibrated(cases):
        print(f"Without a pixel size: {', '.join(names)}; {CALIBRATE}.", file=sys.stderr)
    if options.source == "auto" and (names := with_both(cases)):
        print(which_wins(names, len(cases)), file=sys.stderr)


def without_examined_slices(volume: Volume) -> Volume:
    """Leave out the slices that ``evaluate --split by-slice`` examines."""
    examined = volume.annotated % SLICE_STRIDE == SLICE_STRIDE // 2
    return replace(volume, annotated=volume.annotated[~examined])


def check_anything_left(volumes: Sequence[Volume]) -> None:
    """Refuse data of which the leaking split holds everything out.

    Raises
    ------
    DatasetError
        When no slice is left to train on.
    """
    if not any(volume.annotated.size for volume in volumes):
        raise DatasetError(
            f"--split by-slice holds out every {SLICE_STRIDE}th slice, from slice {SLICE_STRIDE // 2 + 1}, and no "
            "other is annotated; annotate others, or leave --split away."
        )


def check_classes(volumes: Sequence[Volume]) -> None:
    """Refuse data without any DEJ; name other classes that were never annotated.

    Raises
    ------
    DatasetError
        When no DEJ is annotated at all.
    """
    seen = np.zeros(256, np.int64)
    for volume in volumes:
        for z in volume.annotated:
            seen += np.bincount(volume.labels[z].ravel(), minlength=256)
    missing = [c.name for c in CLASSES if seen[c.label] == 0]
    if "dej" in missing:
        raise DatasetError(
            "No dej is annotated on any training tomogram; name its ROIs dej, or give --roi-class dej when "
            "the sets "
            "hold nothing but unnamed DEJ bands."
        )
    if missing:
        print(
            f"Never annotated: {', '.join(missing)}. The network learns nothing new about it; draw it on a "
            "few slices "
            "if you need it.",
            file=sys.stderr,
        )


def learned_band_um(volumes: Sequence[Volume]) -> float:
    """Return the median over tomograms of the DEJ's thickness in micrometers as the annotators draw it.

    Raises
    ------
    DatasetError
        When no column holds a whole band.
    """
    bands = [v.band_um for v in volumes if np.isfinite(v.band_um)]
    if not bands:
        raise DatasetError("The annotated DEJ touches the edge of the image in every column; draw it inside the image.")
    return float(np.median(bands))
