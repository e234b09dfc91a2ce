"""What the codec's children do: read one upload, or write one answer."""

from __future__ import annotations

import hashlib
import json
import math
import os
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from skinoct.errors import RoiError, TomogramError
from skinoct.labels import Label
from skinoct.measure import measure_segmentation
from skinoct.roi_types import Roi
from skinoct.rois import trace, write_roi_set
from skinoct.segmentation import Segmentation
from skinoct.tomogram import SliceAxis, iter_blocks, read_tomogram, write_labels
from skinoct_server.jobs import RESULT
from skinoct_server.results import load_segmentation, pixel_size_to_json

Json = dict[str, Any]

_MOST_RATIO = 100
"""Speckle hardly compresses: a file that grows a hundredfold holds no recording."""
_FREE_BYTES = 64 << 20
"""This much is never called a bomb, so that small synthetic images work."""


def decode(upload: str, target: str, name: str, max_bytes: int) -> Json:
    """Read an upload, check every voxel and write them as npy (Z, Y, X) to ``target``.

    Raises
    ------
    TomogramError
        When it cannot be used, or has more than ``max_bytes`` once decompressed.
    """
    tomogram = read_tomogram(upload, name=name)
    shape, dtype = tuple(int(n) for n in tomogram.shape), np.dtype(tomogram.voxels.dtype)
    _check_size(name, shape, math.prod(shape) * dtype.itemsize, max_bytes, Path(upload).stat().st_size)
    partial = Path(target).with_suffix(".partial")
    with partial.open("wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for block in iter_blocks(tomogram.voxels):
            file.write(np.ascontiguousarray(block, dtype).data)
    partial.rename(target)
    return {
        "shape": shape,
        "dtype": dtype.name,
        "pixel_size_um": pixel_size_to_json(tomogram.pixel_size_um),
        "axis": tomogram.axis,
    }


def _check_size(name: str, shape: tuple[int, ...], decoded: int, max_bytes: int, size: int) -> None:
    """Refuse a tomogram that is too large once decompressed, or that only pretends to be one."""
    what = f"{name} announces {shape[0]} slices of {shape[1]} x {shape[2]} pixels"
    if decoded > max_bytes:
        raise TomogramError(
            f"{what}, more than the {max_bytes} bytes (setting max_decoded_bytes) that this server takes "
            "once decompressed. Send fewer slices at a time.",
            kind="too-large",
        )
    if decoded > _FREE_BYTES + size * _MOST_RATIO:
        raise TomogramError(
            f"{what} in a file of {size} bytes, which no recording compresses to. Save the tomogram again.",
            kind="decompression-bomb",
        )


def _tiff(file: BinaryIO, segmentation: Segmentation, axis: SliceAxis) -> None:
    write_labels(file, segmentation.blocks(), segmentation.shape, pixel_size_um=segmentation.pixel_size_um, axis=axis)


def _npy(file: BinaryIO, segmentation: Segmentation, _axis: SliceAxis) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": tuple(segmentation.shape)}
    np.lib.format.write_array_header_1_0(file, header)
    for block in segmentation.blocks():
        file.write(np.ascontiguousarray(block).data)


def _rois(file: BinaryIO, segmentation: Segmentation, _axis: SliceAxis) -> None:
    write_roi_set(file, trace(segmentation.blocks()))


def _dej(file: BinaryIO, segmentation: Segmentation, _axis: SliceAxis) -> None:
    from skinoct.rois import trace

    _roi_set(file, trace(segmentation.blocks(), labels_to_trace=[Label.DEJ]))


def _light(file: BinaryIO, segmentation: Segmentation, _axis: SliceAxis) -> None:
    from skinoct.roi_light import light_rois

    _roi_set(file, light_rois(segmentation))


def _roi_set(file: BinaryIO, rois: Iterable[Roi]) -> None:
    """Write a set; an empty one where the class does not occur, which is an answer, too."""
    from skinoct.rois import write_roi_set

    try:
        write_roi_set(file, rois)
    except RoiError as error:
        if error.kind != "empty-roi-set":
            raise
        file.seek(0)
        file.truncate()
        zipfile.ZipFile(file, "w").close()


def _maps(file: BinaryIO, segmentation: Segmentation, _axis: SliceAxis) -> None:
    from skinoct.maps import write_maps

    write_maps(file, segmentation)


def _json(file: BinaryIO, segmentation: Segmentation, _axis: SliceAxis) -> None:
    model = {"model": segmentation.model.name, "model_sha256": segmentation.model.sha256}
    measures = measure_segmentation(segmentation).model_dump(mode="json")
    file.write(json.dumps({**model, **measures}).encode())


def _csv(file: BinaryIO, segmentation: Segmentation, _axis: SliceAxis) -> None:
    file.write(measure_segmentation(segmentation).to_csv().encode())


WRITERS: dict[str, Callable[[BinaryIO, Segmentation, SliceAxis], None]] = {
    "tiff": _tiff,
    "npy": _npy,
    "zip": _rois,
    "dej": _dej,
    "light": _light,
    "maps": _maps,
    "json": _json,
    "csv": _csv,
}


def encode(folder: str, form: str, target: str) -> Json:
    """Write the result of a job's folder as ``form`` (of ``WRITERS``) to ``target``; returns its sha256."""
    segmentation, axis = load_segmentation(Path(folder) / RESULT)
    partial = Path(f"{target}.{os.getpid()}.partial")  # two requests may want the same answer
    with partial.open("w+b") as file:
        WRITERS[form](file, segmentation, axis)
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    partial.rename(target)
    return {"sha256": digest}


TASKS: dict[str, Callable[..., Json]] = {"decode": decode, "encode": encode}
