"""A set of ROIs painted into a label stack, with every contradiction named instead of settled by chance."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from skinoct.errors import RoiError
from skinoct.labels import Label
from skinoct.roi_fill import Mask, roi_mask
from skinoct.roi_types import Roi, required_label, required_slice

LabelArray = npt.NDArray[np.uint8]

_CORE = np.ones((3, 3), np.bool_)
"""Two areas contradict each other where their overlap holds a block of this size."""


def rasterize(rois: Iterable[Roi], shape: tuple[int, int, int], *, default: Label | None = None) -> LabelArray:
    """Paint ROIs into a label stack, pixel for pixel as ImageJ fills them.

    DEJ, the thin class, is painted over the others, and ``ignore`` over everything: doctors draw both on top.
    Where areas of two other classes overlap by no more than two pixels across, as borders drawn by hand do,
    the pixels are left unlabeled, since nobody knows whose they are; a larger overlap is an error.

    Parameters
    ----------
    rois : iterable of Roi
        See ``read_roi_set``. A set that does not tell slices fits a stack of one slice only.
    shape : (Z, Y, X)
        Of the tomogram.
    default : Label, optional
        Label of pixels in no ROI; unlabeled (0) when not given.

    Returns
    -------
    uint8, shape (Z, Y, X)

    Raises
    ------
    RoiError
        Naming ROI and slice: kinds ``unknown-class``, ``unknown-slice``, ``slice-out-of-range``,
        ``outside-image``, ``overlapping-classes``.
    """
    background = Label.UNLABELED if default is None else default
    labels = np.full(shape, background, np.uint8)
    by_slice: defaultdict[int, list[Roi]] = defaultdict(list)
    for roi in rois:
        required_label(roi)
        by_slice[required_slice(roi, shape[0])].append(roi)
    for index, in_slice in sorted(by_slice.items()):
        paint_slice(labels[index], in_slice, index)
    return labels


def paint_slice(image: LabelArray, rois: Sequence[Roi], index: int) -> None:
    """Paint the ROIs of slice ``index`` into (Y, X), as ``rasterize`` does.

    Raises
    ------
    RoiError
        Naming ROI and slice: kinds ``unknown-class``, ``outside-image``, ``overlapping-classes``.
    """
    height, width = image.shape
    masks = [_visible_mask(roi, (height, width), index) for roi in rois]
    areas = [(roi, mask) for roi, mask in zip(rois, masks, strict=True) if not _is_on_top(roi)]
    contested = np.zeros((height, width), np.bool_)
    painted = np.zeros((height, width), np.bool_)
    for roi, mask in areas:
        label = required_label(roi)
        contested |= mask & painted & (image != label)
        painted |= mask
        image[mask] = label
    on_top = [(roi, mask) for roi, mask in zip(rois, masks, strict=True) if _is_on_top(roi)]
    for _, mask in on_top:
        contested &= ~mask
    if contested.any():
        _refuse_large_overlap(areas, contested, index)
        image[contested] = Label.UNLABELED
    for roi, mask in sorted(on_top, key=lambda item: -required_label(item[0])):  # ignore after DEJ
        image[mask] = required_label(roi)


def _is_on_top(roi: Roi) -> bool:
    return roi.label in (Label.DEJ, Label.UNLABELED)


def _visible_mask(roi: Roi, shape: tuple[int, int], index: int) -> Mask:
    mask = roi_mask(roi, shape)
    if not mask.any():
        raise RoiError(
            f"{roi} (slice {index + 1}) covers no pixel of the image, which has {shape[0]} rows and "
            f"{shape[1]} columns. Check that the ROI set belongs to this tomogram, or delete the ROI.",
            kind="outside-image",
        )
    return mask


def _refuse_large_overlap(areas: Sequence[tuple[Roi, Mask]], contested: Mask, index: int) -> None:
    core = ndimage.binary_erosion(contested, _CORE)
    if not core.any():
        return
    y, x = np.argwhere(core)[0]
    one, *others = [roi for roi, mask in areas if mask[y, x]]
    other = next(roi for roi in others if roi.label != one.label)
    raise RoiError(
        f"{one} and ROI {other.name} overlap in slice {index + 1} around x={x}, y={y}, but are of different "
        f"classes ({required_label(one).name.lower()}, {required_label(other).name.lower()}). "
        "Correct one of them in ImageJ.",
        kind="overlapping-classes",
    )
