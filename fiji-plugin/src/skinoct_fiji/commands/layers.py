"""*Export layers to ROI Manager* and *Layer display...*: polygons to edit, and how the overlay looks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from skinoct.errors import OptionError
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
    one_of,
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
    width: float = 0.0
    """Pixels of the image that an outline is wide; 0 is as thin as the screen can draw."""

    def __post_init__(self) -> None:
        one_of("style", self.style, STYLES)
        one_of("color", self.color, tuple(COLORS))
        if not 0 <= self.opacity <= 100:
            raise OptionError(f"opacity={self.opacity} is not a percentage. Give a number from 0 to 100.")
        if not 0 <= self.width <= 100:
            raise OptionError(f"width={self.width:g} is no width of a line. Give pixels, such as 2.")


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
    now = _display_of(overlays.look(image))
    fields: list[dialogs.Field] = [
        dialogs.Choice("style", "Style", now.style, STYLES),
        dialogs.Choice("color", "Color", now.color, tuple(COLORS)),
        dialogs.Slider("opacity", "Opacity (%)", now.opacity),
        dialogs.Number("width", "Line width", now.width, 1, "pixels, 0 is hair-thin"),
    ]
    values = dialogs.ask(DISPLAY, fields, changed=lambda changed: restyle(image, changed))
    if values is None:
        overlays.restore(image, before)
        return
    restyle(image, values)
    run.ij.record(DISPLAY, parse_macro(to_macro(_display_options(values), always=("style", "opacity"))))


def restyle(image: Any, values: dialogs.Values) -> None:
    """Make the overlay look as a dialog says at this moment; numbers that are half typed wait."""
    if not any(isinstance(values[key], str) for key in ("opacity", "width")):
        overlays.restyle(image, _style(_display_options(values)))


def _display_options(values: dialogs.Values) -> DisplayOptions:
    for key in ("opacity", "width"):
        if isinstance(values[key], str):
            raise OptionError(f"'{values[key]}' is not a number. Give a number for the {key}.")
    opacity = min(max(round(values["opacity"]), 0), 100)
    width = min(max(float(values["width"]), 0.0), 100.0)
    return DisplayOptions(str(values["style"]), str(values["color"]), opacity, width)


def _display_of(style: overlays.Style | None) -> DisplayOptions:
    """Return what a dialog begins with: how the overlay looks already."""
    if style is None:
        return DisplayOptions("hidden")
    color = next((name for name, rgb in COLORS.items() if rgb == style.color), "by layer")
    return DisplayOptions("filled" if style.filled else "outlines", color, style.opacity, style.width or 0.0)


def _style(options: DisplayOptions) -> overlays.Style | None:
    if options.style == "hidden":
        return None
    return overlays.Style(options.opacity, COLORS[options.color], options.style == "filled", options.width)
