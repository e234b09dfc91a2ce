"""From the server's answer to what is seen in ImageJ."""

from __future__ import annotations

from skinoct_fiji.bridge import overlays
from skinoct_fiji.bridge.images import Region, Stack
from skinoct_fiji.client import Answer
from skinoct_fiji.options import COLORS, SegmentOptions


def show(stack: Stack, region: Region, options: SegmentOptions, answer: Answer) -> str:
    """Put an answer over its image, or beside it; return a sentence for the status bar."""
    style = overlays.Style(options.opacity, COLORS[options.color], filled=options.show != "layer outlines")
    classes = ("dej",) if options.show == "DEJ band" else None
    rois = (overlays.place(roi, stack, region) for roi in overlays.decode(answer.content, classes))
    count = overlays.paint(stack, rois, style)
    slices = region.last - region.first
    if count == 0:
        return f"no DEJ was found in {slices} slices of '{stack.title}' (model {answer.model})"
    return f"{slices} slices of '{stack.title}' done (model {answer.model})"
