"""*Export layers to ROI Manager* and *Layer display...*: polygons to edit, and how the overlay looks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from skinoct_fiji.bridge import dialogs, overlays, windows
from skinoct_fiji.bridge.images import Stack
from skinoct_fiji.client import parse_json
from skinoct_fiji.commands import work
from skinoct_fiji.commands.segment import server_models
from skinoct_fiji.failures import Declined, ImageError
from skinoct_fiji.front import Run
from skinoct_fiji.options import (
    COLORS,
    DEFAULT_MODEL,
    ExportOptions,
    from_macro,
    parse_macro,
    to_macro,
)
from skinoct_fiji.settings import remembered

EXPORT = "Export layers to ROI Manager"
DISPLAY = "Layer display..."
STYLES = ("filled", "outlines", "hidden")


def export(run: Run) -> None:
    """Add the layers as ROIs to the ROI Manager, behind what is there already."""
    stack = Stack(run.call.image)
    options = _export_options(run)
    segmentation = options.segmentation()
    region = work.region_of(stack, segmentation)
    exact = work.DEJ if options.layers == "dej" else work.ROIS
    accept = work.LIGHT if options.outline == "light" else exact
    answer, measures = work.obtain(run, stack, region, segmentation, [accept, work.JSON])
    if stack.closed():
        run.status(f"'{stack.title}' was closed meanwhile, so its layers were dropped", 1.0)
        return
    run.status("filling the ROI Manager", 0.98)
    classes = ("dej",) if options.layers == "dej" else None
    rois = (overlays.place(roi, stack, region) for roi in overlays.decode(answer.content, classes))
    count = overlays.to_manager(rois)
    _offer_review(stack, region.first, parse_json(measures))
    run.status(f"{count} ROIs of '{stack.title}' are in the ROI Manager", 1.0)


def _offer_review(stack: Stack, first: int, measures: dict[str, Any]) -> None:
    """List slices in the order in which they need a human eye: those the image decided least come first."""
    rows = [
        {"slice": first + n, "confidence": row["confidence"], "gap_fraction": row["gap_fraction"]}
        for n, row in enumerate(measures.get("slices", []), 1)
        if row.get("confidence") is not None
    ]
    if rows:
        rows.sort(key=lambda row: (row["confidence"], -row["gap_fraction"]))
        windows.table(f"DEJ of {stack.title}: slices to review first", rows)


def _export_options(run: Run) -> ExportOptions:
    last = remembered(run.ij)
    if run.call.options is not None:
        return from_macro(ExportOptions, run.call.options, ExportOptions(server=last.server))
    models, note = server_models(run.ij, last.server)
    fields: list[dialogs.Field] = [
        dialogs.Text("server", "Server", last.server),
        dialogs.Choice("model", "Model", last.model if last.model in models else DEFAULT_MODEL, models),
        dialogs.Choice("layers", "Layers", "dej", ("dej", "all")),
        dialogs.Choice("outline", "Outline", "light", ("light", "exact")),
        dialogs.Text("slices", "Slices (all, or 10-40)", "all", 10),
    ]
    if note:
        fields.append(dialogs.Note(note))
    values = dialogs.ask(EXPORT, fields)
    if values is None:
        raise Declined("")
    options = replace(ExportOptions(), **values)
    run.ij.record(EXPORT, parse_macro(to_macro(options, always=("server",))))
    return options


@dataclass(frozen=True)
class DisplayOptions:
    """Options of *Layer display...*."""

    style: str = "filled"
    """``filled``, ``outlines`` or ``hidden``."""
    color: str = "by layer"
    """One of ``COLORS``."""
    opacity: int = 40
    """Percent."""


def display(run: Run) -> None:
    """Restyle the overlay; in the dialog every change shows at once, and Cancel takes it back."""
    image = run.call.image
    if image is None:
        raise ImageError("No image is open. Open one that was segmented, then try again.")
    mine = overlays.ours(image.getOverlay())
    if not mine:
        raise ImageError(f"'{image.getTitle()}' shows no layers. Run Plugins > Skin > Segment skin on it first.")
    if run.call.options is not None:
        overlays.restyle(image, _style(from_macro(DisplayOptions, run.call.options, DisplayOptions())))
        return
    before = overlays.snapshot(image)
    fields: list[dialogs.Field] = [
        dialogs.Choice("style", "Style", "filled", STYLES),
        dialogs.Choice("color", "Color", "by layer", tuple(COLORS)),
        dialogs.Slider("opacity", "Opacity (%)", 40),
    ]
    values = dialogs.ask(DISPLAY, fields, changed=lambda now: overlays.restyle(image, _style(_display_options(now))))
    if values is None:
        overlays.restore(image, before)
        return
    options = _display_options(values)
    overlays.restyle(image, _style(options))
    run.ij.record(DISPLAY, parse_macro(to_macro(options, always=("style", "opacity"))))


def _display_options(values: dialogs.Values) -> DisplayOptions:
    opacity = values["opacity"]
    return DisplayOptions(
        str(values["style"]), str(values["color"]), 40 if isinstance(opacity, str) else round(opacity)
    )


def _style(options: DisplayOptions) -> overlays.Style | None:
    if options.style == "hidden":
        return None
    return overlays.Style(options.opacity, COLORS.get(options.color), filled=options.style == "filled")
