"""En-face maps of a tomogram: what a clinician sees from above, as a calibrated ImageJ stack of three images.

One row per B-scan, one column per A-scan: epidermal thickness, depth of the DEJ, confidence.
"""

from __future__ import annotations

from typing import BinaryIO

import numpy as np
import tifffile

from skinoct.measure import boundaries_from_labels
from skinoct.segmentation import DEJ_TOP, DERMIS_TOP, EPIDERMIS_TOP, FloatArray, Segmentation

THICKNESS, DEPTH, CONFIDENCE = range(3)
NAMES = ("epidermal thickness", "DEJ depth", "DEJ confidence")


def en_face(segmentation: Segmentation) -> FloatArray:
    """Return float32 (3, Z, X): thickness of the epidermis, depth of the DEJ, confidence.

    Lengths are micrometers, pixels for a tomogram without calibration. Thickness reaches from the top of the
    epidermis to the middle of the DEJ band; depth is measured from the top of the image. NaN where the DEJ is
    not in view, or for the thickness the surface of the skin.
    """
    tops = segmentation.boundaries
    if tops is None:
        tops = boundaries_from_labels(segmentation.labels())
    height = segmentation.shape[1]
    skin, top, bottom = (tops[k].astype(np.float64) for k in (EPIDERMIS_TOP, DEJ_TOP, DERMIS_TOP))
    seen = (bottom > top) & (top > 0) & (bottom < height)
    um = segmentation.pixel_size_um.y if segmentation.pixel_size_um else 1.0
    middle = (top + bottom) / 2
    thickness = np.where(seen & (skin > 0), (middle - skin) * um, np.nan)
    return np.stack([thickness, np.where(seen, middle * um, np.nan), segmentation.confidence]).astype(np.float32)


def write_maps(file: BinaryIO, segmentation: Segmentation) -> None:
    """Write the maps as an ImageJ TIFF of three labeled slices, calibrated along x and across slices.

    Not calibrated where the distance of slices is unknown: areas and distances on the map would be invented.
    """
    size = segmentation.pixel_size_um
    unit, along, across = "pixel", 1.0, 1.0
    if size is not None and size.z is not None:
        unit, along, across = "micron", size.x, size.z
    lengths = "um" if size is not None else "pixels"
    labels = [
        f"{NAMES[THICKNESS]} ({lengths})",
        f"{NAMES[DEPTH]} ({lengths})",
        f"{NAMES[CONFIDENCE]} (0 to 1)",
    ]
    maps = en_face(segmentation)
    tifffile.imwrite(
        file,
        maps[None, :, None, :, :, None],
        imagej=True,
        resolution=(1 / along, 1 / across),
        resolutionunit=1,
        metadata={"axes": "TZCYXS", "unit": unit, "Labels": labels, "mode": None},
    )
