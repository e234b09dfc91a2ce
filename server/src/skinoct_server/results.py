"""A segmentation as a file, from the engine process to the one that writes answers.

``result.npz`` holds boundaries (or is accompanied by ``labels.npy`` for ``pixel`` decoding), confidence and
overhang as arrays and everything else as JSON text. It is read with ``allow_pickle=False``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from skinoct.segmentation import ModelIdentity, Segmentation
from skinoct.tomogram import PixelSize, SliceAxis

LABELS = "pixel-labels.npy"
_BLOCK = 64


def pixel_size_to_json(size: PixelSize | None) -> list[float | None] | None:
    """Return ``[y, x, z]`` or None."""
    return None if size is None else [size.y, size.x, size.z]


def pixel_size_from_json(values: list[Any] | None) -> PixelSize | None:
    """Invert ``pixel_size_to_json``."""
    return None if values is None else PixelSize(*values)


def save_segmentation(path: Path, segmentation: Segmentation, axis: SliceAxis) -> None:
    """Write ``segmentation`` so that ``path`` appears only when everything is on disk."""
    meta = {
        "shape": segmentation.shape,
        "decode": segmentation.decode,
        "pixel_size_um": pixel_size_to_json(segmentation.pixel_size_um),
        "band_thickness_um": segmentation.band_thickness_um,
        "model": [segmentation.model.name, segmentation.model.sha256],
        "axis": axis,
    }
    arrays: dict[str, Any] = {"confidence": segmentation.confidence, "overhang": segmentation.overhang}
    if segmentation.boundaries is not None:
        arrays["boundaries"] = segmentation.boundaries
    else:
        _save_labels(path.with_name(LABELS), segmentation)
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez(file, meta=np.array(json.dumps(meta)), **arrays)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)


def _save_labels(path: Path, segmentation: Segmentation) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": tuple(segmentation.shape)}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for block in segmentation.blocks(_BLOCK):
            file.write(np.ascontiguousarray(block).data)


def load_segmentation(path: Path) -> tuple[Segmentation, SliceAxis]:
    """Read what ``save_segmentation`` wrote; labels of ``pixel`` decoding stay a memory map."""
    with np.load(path, allow_pickle=False) as file:
        meta = json.loads(str(file["meta"]))
        boundaries = file.get("boundaries")
        confidence, overhang = file["confidence"], file["overhang"]
    labels = None if boundaries is not None else np.load(path.with_name(LABELS), "r", allow_pickle=False)
    z, y, x = meta["shape"]
    segmentation = Segmentation(
        shape=(z, y, x),
        decode=meta["decode"],
        boundaries=boundaries,
        pixel_labels=labels,
        confidence=confidence,
        overhang=overhang,
        pixel_size_um=pixel_size_from_json(meta["pixel_size_um"]),
        band_thickness_um=meta["band_thickness_um"],
        model=ModelIdentity(*meta["model"]),
    )
    return segmentation, meta["axis"]
