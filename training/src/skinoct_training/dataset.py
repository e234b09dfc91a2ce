"""Training data: a folder of tomogram folders, each with a tomogram and what doctors drew on it.

    DATA/
      patient-01/tomogram.tif   the stack
                 RoiSet.zip     ImageJ ROIs, or
                 labels.tif     a label stack (0 unlabeled, 1 glass ... 5 dermis); wins when both are there
      patient-02/...

Everything is read once. Voxels are normalized as the predictor does (``skinoct.intensity``), brought to one
pixel size and kept as one byte each, in memory or, when that is short, in a temporary file. The root in the
normalization makes the byte's steps finer than the shot noise at every brightness.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import psutil
from scipy.stats import trim_mean

from skinoct.errors import DatasetError, RoiError, TomogramError
from skinoct.grid import PLAUSIBLE_UM, network_size, resize
from skinoct.intensity import IntensityConfig, measure_intensity, normalize, sample_indices
from skinoct.labels import Label
from skinoct.rois import Roi, lines_to_bands, rasterize, read_roi_set, required_slice, roi_mask
from skinoct.tomogram import Tomogram, Voxels, read_tomogram
from skinoct_training.annotation import LabelArray, band_runs, derive_layers, slice_thickness

LabelSource = Literal["auto", "labels", "rois"]
IMAGE_NAMES = ("tomogram.tif", "tomogram.tiff", "tomogram.npy")
"""Names of a tomogram in its folder, in small or capital letters."""
STACK_SUFFIXES = (".tif", ".tiff", ".npy")
DEFAULT_PIXEL_UM = 0.9
CALIBRATE = f"all micrometers assume {DEFAULT_PIXEL_UM:g} um a pixel; set the size in ImageJ (Image > Properties)"
"""What follows from a missing pixel size, and the cure: the end of a sentence."""
DRAWN_BAND_UM = 5.0
"""Thickness that a DEJ drawn as a single thin line stands for."""
THICKEST_BAND_UM = 15.0
"""A DEJ drawn thicker than this, on average over a slice, is another layer: doctors draw about 5 um."""
THICKEST_BAND_PX = 3
"""But so many pixels may be drawn whatever they measure."""
BLOCK = 16
"""Slices read at a time."""


@dataclass(frozen=True)
class Case:
    """One tomogram of a training folder, not read yet."""

    name: str
    """Name of its folder: the subject."""
    image: Path
    annotation: Path
    """``labels.tif`` or ``RoiSet.zip``."""

    @property
    def annotation_name(self) -> str:
        """Name of the annotation for people, with its folder."""
        return f"{self.name}/{self.annotation.name}"

    @property
    def is_roi_set(self) -> bool:
        """Whether ImageJ ROIs are the annotation, and not a label stack."""
        return self.annotation.suffix.lower() in (".zip", ".roi")


@dataclass(frozen=True)
class LabelOptions:
    """How annotations become labels."""

    source: LabelSource = "auto"
    """``auto`` takes labels.tif where it exists, else RoiSet.zip."""
    roi_class: Label | None = None
    """Class of ROIs that have neither a name of their own nor a group; None to refuse them."""


@dataclass(frozen=True)
class Volume:
    """One tomogram at the network's pixel size, ready for training."""

    name: str
    images: npt.NDArray[np.uint8]
    """(Z, Y, X), normalized, 255 is 1.0."""
    labels: LabelArray
    """(Z, Y, X), 0 is ignored."""
    annotated: npt.NDArray[np.intp]
    """Slices (0-based) that hold any label."""
    band_um: float
    """Vertical thickness of the DEJ as drawn, in micrometers; NaN where no whole band is."""
    pixel_um: float
    """Height of a pixel of ``images``."""
    z_um: float | None = None
    """Distance of slices; None where nobody knows."""


def find_cases(data: str | Path, source: LabelSource = "auto") -> list[Case]:
    """List the tomograms of a training folder, sorted by name.

    Raises
    ------
    DatasetError
        When the folder holds none, or one of them lacks its stack or its annotation.
    """
    return [case_of(folder, source) for folder in tomogram_folders(data)]


def tomogram_folders(data: str | Path) -> list[Path]:
    """List the folders of a training folder that stand for a tomogram, sorted by name.

    A folder counts when it holds a stack or an ROI set, whatever their names: one without tomogram.tif must not be
    passed over silently. Hidden folders (.Trash-1000) are nobody's.

    Raises
    ------
    DatasetError
        When there is none.
    """
    folder = Path(data)
    if not folder.is_dir():
        raise DatasetError(f"There is no folder {folder}; give the folder that holds one folder per tomogram.")
    visible = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    found = [sub for sub in visible if _stacks_and_sets(sub)]
    if not found:
        raise DatasetError(
            f"{folder} holds no tomogram folders; each needs tomogram.tif and RoiSet.zip (or labels.tif), "
            f"as in {folder / 'patient-01' / 'tomogram.tif'}."
        )
    return found


def _stacks_and_sets(folder: Path) -> list[str]:
    """Return the names of the stacks and ROI sets in a folder."""
    names = sorted(p.name for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    return [name for name in names if _is_stack(name) or _is_roi_set(name)]


def _is_stack(name: str) -> bool:
    return name.lower().endswith(STACK_SUFFIXES)


def _is_roi_set(name: str) -> bool:
    lower = name.lower()
    return lower.endswith(".roi") or (lower.endswith(".zip") and "roi" in lower)


def find_file(folder: Path, names: Sequence[str]) -> Path | None:
    """Return the first of some files that a folder holds, written in small or capital letters; None without any."""
    for name in names:
        if (folder / name).is_file():
            return folder / name
        if alike := sorted(p for p in folder.iterdir() if p.name.lower() == name.lower() and p.is_file()):
            return alike[0]
    return None


def case_of(folder: Path, source: LabelSource = "auto") -> Case:
    """Return the tomogram of one folder with its annotation.

    Raises
    ------
    DatasetError
        When either is missing.
    """
    image = find_file(folder, IMAGE_NAMES)
    if image is None:
        holds = ", ".join(_stacks_and_sets(folder)[:3])
        raise DatasetError(
            f"{folder} holds {holds or 'no stack'} but no tomogram.tif; rename its stack tomogram.tif, or move the "
            "folder away if it is not meant for training."
        )
    return Case(folder.name, image, _annotation_file(folder, source))


def _annotation_file(folder: Path, source: LabelSource) -> Path:
    wanted = {"auto": ("labels.tif", "RoiSet.zip"), "labels": ("labels.tif",), "rois": ("RoiSet.zip",)}[source]
    if (found := find_file(folder, wanted)) is not None:
        return found
    raise DatasetError(
        f"{folder} has a tomogram but no {' and no '.join(wanted)}; add the annotation or move the folder away."
    )


def pixel_um_of(tomogram: Tomogram) -> tuple[float, float]:
    """Return micrometers per pixel (depth, width); those of the paper's device when the file does not tell.

    Raises
    ------
    DatasetError
        When the file tells a size that no optical tomogram has.
    """
    size = tomogram.pixel_size_um
    if size is None:
        return DEFAULT_PIXEL_UM, DEFAULT_PIXEL_UM
    for value in (size.y, size.x):
        if not PLAUSIBLE_UM[0] <= value <= PLAUSIBLE_UM[1]:
            raise DatasetError(
                f"{tomogram.name} says that a pixel is {value:g} um, but optical skin tomograms have "
                f"{PLAUSIBLE_UM[0]:g} to {PLAUSIBLE_UM[1]:g} um; correct it in ImageJ (Image > Properties)."
            )
    return size.y, size.x


def open_image(case: Case) -> Tomogram:
    """Open the tomogram of a case, without reading its voxels.

    Raises
    ------
    DatasetError
        When the file cannot be read; the sentence names it.
    """
    try:
        return read_tomogram(case.image, name=f"{case.name}/{case.image.name}")
    except TomogramError as error:
        raise DatasetError(str(error), kind=error.kind) from None


def with_both(cases: Sequence[Case]) -> list[str]:
    """Return the names of the tomograms that are read from labels.tif although they have an ROI set as well."""
    return [case.name for case in cases if not case.is_roi_set and find_file(case.image.parent, ("RoiSet.zip",))]


def which_wins(names: Sequence[str], total: int) -> str:
    """Say that labels.tif wins over RoiSet.zip in some of ``total`` tomograms, and how to choose."""
    where = "every tomogram" if len(names) == total else ", ".join(names)
    return (
        f"labels.tif is used, not the RoiSet.zip beside it, in {where}; --labels rois takes the ROI sets instead, "
        "--labels labels says that this is meant."
    )


def uncalibrated(cases: Sequence[Case]) -> list[str]:
    """Return the names of the tomograms whose files tell no pixel size."""
    return [case.name for case in cases if open_image(case).pixel_size_um is None]


def native_pixel_um(cases: list[Case]) -> float:
    """Choose the pixel size to train at: the median depth of a pixel over all tomograms."""
    return float(np.median([pixel_um_of(open_image(case))[0] for case in cases]))


def read_labels(case: Case, shape: tuple[int, int, int], options: LabelOptions, pixel_um: float) -> LabelArray:
    """Read what was drawn and derive what geometry decides.

    Returns
    -------
    uint8, shape (Z, Y, X)
        0 where nobody knows, and everywhere on slices without annotation.

    Raises
    ------
    DatasetError
        When the annotation is unreadable or belongs to another tomogram.
    """
    try:
        if case.is_roi_set:
            return _labels_from_rois(read_roi_set(case.annotation, name=case.annotation_name), shape, options, pixel_um)
        stack = read_tomogram(case.annotation, name=case.annotation_name)
    except (RoiError, TomogramError) as error:
        named = case.annotation_name in str(error)
        raise DatasetError(str(error) if named else f"{case.annotation_name}: {error}", kind=error.kind) from None
    if stack.voxels.shape != shape:
        raise DatasetError(
            f"{case.annotation} is {_by(stack.voxels.shape)} but {case.image.name} is {_by(shape)} (slices "
            "x rows x "
            "columns); the annotation belongs to another tomogram."
        )
    labels = np.asarray(stack.voxels[0 : shape[0]])
    if labels.max() > Label.DERMIS or labels.min() < 0:
        raise DatasetError(
            f"{case.annotation} holds the value {labels.max()}; labels are 0 (unlabeled) and 1 to 5, top to "
            "bottom: "
            "glass, glycerol, epidermis, dej, dermis."
        )
    return np.asarray(labels, np.uint8)


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(str(n) for n in shape)


def _labels_from_rois(
    rois: list[Roi], shape: tuple[int, int, int], options: LabelOptions, pixel_um: float
) -> LabelArray:
    rois = prepared_rois(rois, options, pixel_um)
    labels = rasterize(rois, shape)
    slices = sorted({required_slice(roi, shape[0]) for roi in rois})
    ignored = np.zeros((len(slices), *shape[1:]), np.bool_)
    for roi in rois:
        if roi.label == Label.UNLABELED:
            ignored[slices.index(required_slice(roi, shape[0]))] |= roi_mask(roi, (shape[1], shape[2]))
    labels[slices] = derive_layers(labels[slices], ignored, pixel_um=pixel_um)
    return labels


def prepared_rois(rois: Sequence[Roi], options: LabelOptions, pixel_um: float) -> list[Roi]:
    """Give unnamed ROIs their class and turn DEJ lines into bands.

    Raises
    ------
    RoiError
        When an ROI has no class, or lines cannot be edges of a band.
    """
    return lines_to_bands([with_class(roi, options) for roi in rois], DRAWN_BAND_UM / pixel_um)


def with_class(roi: Roi, options: LabelOptions) -> Roi:
    """Return an ROI that has a class: its own, or that of ``--roi-class`` if nobody gave it a name.

    A name with letters was given by a person and means something, such as another layer in another language;
    ImageJ's own names are numbers (0012-0100-0256).

    Raises
    ------
    RoiError
        When it has neither (kind ``unknown-class``).
    """
    if roi.label is not None:
        return roi
    named = any(character.isalpha() for character in roi.name)
    if options.roi_class is not None and not named:
        return replace(roi, label=options.roi_class)
    cure = (
        "--roi-class is for ROIs without a name"
        if options.roi_class is not None
        else ("when all unnamed ROIs are DEJ bands, add --roi-class dej")
    )
    raise RoiError(
        f"{roi} does not tell its class. Rename it in the ROI Manager to glass, glycerol, epidermis, dej, dermis or "
        f"ignore (dej-0012, say), or give it the group 1 to 5; {cure}.",
        kind="unknown-class",
    )


def load_volumes(
    cases: list[Case], *, pixel_um: float, intensity: IntensityConfig, options: LabelOptions
) -> Iterator[Volume]:
    """Read tomograms one after the other at one pixel size.

    Raises
    ------
    DatasetError
        When one of them cannot be used; the sentence names it.
    """
    for case in cases:
        yield load_volume(case, pixel_um=pixel_um, intensity=intensity, options=options)


def load_volume(case: Case, *, pixel_um: float, intensity: IntensityConfig, options: LabelOptions) -> Volume:
    """Read one tomogram and its annotation, at the size at which a network with pixels of ``pixel_um`` sees it."""
    tomogram = open_image(case)
    voxels, shape = tomogram.voxels, tomogram.voxels.shape
    um_y, um_x = pixel_um_of(tomogram)
    drawn = read_labels(case, shape, options, um_y)
    if not drawn.any():
        raise DatasetError(f"{case.annotation} labels not a single pixel of {case.image.name}; draw ROIs on it first.")
    refuse_thick_bands(case, drawn, um_y)
    try:
        volume = make_volume(case.name, voxels, drawn, (um_y, um_x), pixel_um, intensity)
    except TomogramError as error:
        raise DatasetError(str(error), kind=error.kind) from None
    return replace(volume, z_um=tomogram.pixel_size_um.z if tomogram.pixel_size_um else None)


def refuse_thick_bands(case: Case, drawn: LabelArray, pixel_um: float) -> None:
    """Refuse a DEJ (Z, Y, X) that must be another layer: a network would learn it, thickness and all.

    Raises
    ------
    DatasetError
        Naming the first such slice.
    """
    thickness = slice_thickness(drawn) * pixel_um
    thick = np.flatnonzero(thickness > most_band_um(pixel_um))
    if thick.size:
        others = f" and in {thick.size - 1} more" if thick.size > 1 else ""
        raise DatasetError(
            f"{case.annotation_name}: the DEJ is {thickness[thick[0]]:.0f} um thick in slice {thick[0] + 1}{others}; "
            "doctors draw about 5 um, so this is another layer. Correct its class (skinoct-train check names the ROIs)."
        )


def most_band_um(pixel_um: float) -> float:
    """Return the mean thickness of a DEJ in a slice beyond which it is taken for another layer."""
    return max(THICKEST_BAND_UM, THICKEST_BAND_PX * pixel_um)


def make_volume(
    name: str,
    voxels: Voxels,
    drawn: LabelArray,
    size_um: tuple[float, float],
    pixel_um: float,
    intensity: IntensityConfig,
) -> Volume:
    """Normalize voxels (Z, Y, X) and bring them and what was drawn on them to the size at which a network sees them.

    Parameters
    ----------
    name : str
    voxels : array or reader of one
    drawn : uint8, shape (Z, Y, X)
        Labels; 0 where nobody knows.
    size_um : (float, float)
        Height and width of a pixel.
    pixel_um : float
        Both in the result, unless that would enlarge the image further than it is enlarged in use.
    intensity : IntensityConfig

    Raises
    ------
    TomogramError
        When the voxels cannot be used.
    """
    shape = voxels.shape
    annotated = np.flatnonzero(drawn.any(axis=(1, 2)))
    runs = band_runs(drawn[annotated])
    size = network_size((shape[1], shape[2]), size_um, pixel_um)
    images, labels = byte_store((shape[0], *size)), byte_store((shape[0], *size))
    scale = measure_intensity((voxels[z : z + 1] for z in sample_indices(shape[0], intensity)), intensity)
    for start in range(0, shape[0], BLOCK):
        block = slice(start, min(start + BLOCK, shape[0]))
        images[block] = np.rint(resize(normalize(voxels[block], scale, intensity), size) * 255)
        labels[block] = resize_labels(drawn[block], size)
    return Volume(name, images, labels, annotated, band_thickness(runs) * size_um[0], size_um[0] * shape[1] / size[0])


def band_thickness(runs: npt.NDArray[np.int32]) -> float:
    """Return the typical thickness in pixels from those of single columns; NaN without any.

    A mean without the outer tenths: pixels are whole, so a median could be off by half of one.
    """
    return float(trim_mean(runs, 0.1)) if runs.size else float("nan")


def resize_labels(labels: LabelArray, size: tuple[int, int]) -> LabelArray:
    """Resample label slices (n, Y, X) to (n, *size) by the nearest pixel."""
    rows, columns = (
        np.minimum((np.arange(new) + 0.5) * old / new, old - 1).astype(np.intp)
        for new, old in zip(size, labels.shape[1:], strict=True)
    )
    resized: LabelArray = labels[:, rows[:, None], columns[None, :]]
    return resized


def byte_store(shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Return bytes to fill: in memory, or in a temporary file where memory is getting short."""
    if int(np.prod(shape)) < 0.25 * psutil.virtual_memory().available:
        return np.empty(shape, np.uint8)
    with tempfile.TemporaryFile(prefix="skinoct-train-") as file:
        return np.memmap(file, np.uint8, "w+", shape=shape)


def fingerprint(cases: list[Case]) -> dict[str, dict[str, str]]:
    """Return the SHA-256 of every file that was trained on, by tomogram."""
    prints = {}
    for case in cases:
        files = {}
        for path in (case.image, case.annotation):
            with path.open("rb") as file:
                files[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
        prints[case.name] = files
    return prints
