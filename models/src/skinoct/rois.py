"""ImageJ ROIs in and out, pixel for pixel: where others import from.

``roi_read`` and ``roi_zip`` read, ``roi_fill`` and ``roi_raster`` turn ROIs into labels, ``roi_lines`` lines
into bands, ``roi_trace`` labels into ROIs, ``roi_write`` writes.
"""

from __future__ import annotations

from skinoct.roi_fill import roi_mask
from skinoct.roi_lines import lines_to_bands
from skinoct.roi_raster import paint_slice, rasterize
from skinoct.roi_read import read_roi_set
from skinoct.roi_trace import trace, trace_mask
from skinoct.roi_types import Oval, Paths, Roi, Stroke, required_label, required_slice
from skinoct.roi_write import write_roi_set

__all__ = [
    "Oval",
    "Paths",
    "Roi",
    "Stroke",
    "lines_to_bands",
    "paint_slice",
    "rasterize",
    "read_roi_set",
    "required_label",
    "required_slice",
    "roi_mask",
    "trace",
    "trace_mask",
    "write_roi_set",
]
