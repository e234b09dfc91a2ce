"""From the server's answers to what is seen in ImageJ: overlays, images, tables, plots."""

from __future__ import annotations

from typing import Any

from skinoct_fiji.bridge import overlays, windows
from skinoct_fiji.bridge.gateway import Gateway
from skinoct_fiji.bridge.images import Region, Stack
from skinoct_fiji.client import Answer
from skinoct_fiji.options import COLORS, SegmentOptions


def show(stack: Stack, region: Region, options: SegmentOptions, answer: Answer) -> str:
    """Put an answer over its image, or beside it; return a sentence for the status bar."""
    slices = region.last - region.first
    done = f"{slices} slice{'s' if slices > 1 else ''} of '{stack.title}' done (model {answer.model})"
    if options.show == "label stack":
        windows.open_tiff(answer.content, f"{stack.title} layers")
        return done
    if options.show == "confidence":
        windows.show_maps(answer.content, f"{stack.title} maps", front=2)
        return done
    style = overlays.Style(options.opacity, COLORS[options.color], filled=options.show != "layer outlines")
    classes = ("dej",) if options.show == "DEJ band" else None
    rois = (overlays.place(roi, stack, region) for roi in overlays.decode(answer.content, classes))
    if overlays.paint(stack, region, rois, style) == 0:
        return f"no DEJ was found in {slices} slices of '{stack.title}' (model {answer.model})"
    return done


def tables(ij: Gateway, stack: Stack, values: dict[str, Any], model: str, first: int = 0) -> None:
    """Show measurements: a row per tomogram and one per slice from ``first`` (0-based); say what is missing and why."""
    rows = values.pop("slices", [])
    notes = values.pop("notes", [])
    size = values.pop("pixel_size_um", None) or {}
    shape = values.pop("shape", [])
    digest = values.pop("model_sha256", None)
    whole = {"image": stack.title, **values, "model": model or values.get("model", "")}
    whole |= {f"pixel size {axis} (um)": size.get(axis) for axis in ("x", "y", "z") if size}
    whole |= {"slices": shape[0] if shape else len(rows), "model sha256": digest}
    windows.append_row("DEJ measurements", whole)
    windows.table(f"DEJ per slice of {stack.title}", [{"slice": n, **row} for n, row in enumerate(rows, first + 1)])
    for note in notes:
        ij.log(f"Measure DEJ, '{stack.title}': {note}")
