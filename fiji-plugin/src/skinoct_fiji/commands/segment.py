"""*Segment skin*: send the image in front to the server and lay the layers over it."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from skinoct.errors import OptionError
from skinoct.labels import CLASSES
from skinoct.tomogram import PixelSize
from skinoct_fiji import results
from skinoct_fiji.bridge import dialogs, overlays
from skinoct_fiji.bridge.gateway import Gateway
from skinoct_fiji.bridge.images import Region, RegionVoxels, Stack
from skinoct_fiji.client import Answer, Progress, Request, ServerClient, ServerError, Watcher
from skinoct_fiji.failures import Declined
from skinoct_fiji.front import Run
from skinoct_fiji.options import COLORS, DEFAULT_MODEL, SHOWS, SegmentOptions, parse_macro
from skinoct_fiji.settings import api_key, connection_sentence, remembered

LABEL = "Segment skin"
FORMATS = {"label stack": "image/tiff"}
"""Media type to ask for, by what is shown; an overlay needs ROIs."""


def segment(run: Run) -> None:
    """Run the entry: from the dialog or the macro's options to the overlay."""
    stack = Stack(run.call.image)
    options = _options(run, stack)
    region = _region(stack, options)
    answer = _ask_server(run, stack, region, options)
    if stack.closed():
        run.status(f"'{stack.title}' was closed meanwhile, so its result was dropped", 1.0)
        return
    run.status(results.show(stack, region, options, answer), 1.0)


def _options(run: Run, stack: Stack) -> SegmentOptions:
    if run.call.options is not None:
        return SegmentOptions.from_macro(run.call.options, remembered(run.ij))
    options = _dialog(run.ij, stack, remembered(run.ij))
    run.ij.record(LABEL, parse_macro(options.to_macro()))
    run.ij.remember({"server": options.server, "options": options.to_macro()})
    return options


def _dialog(ij: Gateway, stack: Stack, last: SegmentOptions) -> SegmentOptions:
    models, note = _models(ij, last.server)
    calibration = stack.pixel_size_um()
    fields: list[dialogs.Field] = [
        dialogs.Text("server", "Server", last.server),
        dialogs.Button("Test connection", lambda values: connection_sentence(values["server"], api_key(ij))),
        dialogs.Choice("model", "Model", last.model if last.model in models else DEFAULT_MODEL, models),
        dialogs.Choice("show", "Show", last.show, SHOWS),
        dialogs.Choice("color", "Color", last.color, tuple(COLORS)),
        dialogs.Slider("opacity", "Opacity (%)", last.opacity),
        dialogs.Text("slices", "Slices (all, or 10-40)", "all", 10),
    ]
    if stack.rectangle() is not None:
        fields.append(dialogs.Check("selection", "Only the selected rectangle", True))
    if calibration is None:
        fields.append(dialogs.Note("This image has no pixel size. Give it, or leave 0 for the model's own."))
        fields.append(dialogs.Number("pixel_size", "Pixel size", 0.0, 3, "um"))
    fields.append(dialogs.Check("measure", "Measure the DEJ", last.measure))
    if note:
        fields.append(dialogs.Note(note))
    values = dialogs.ask(LABEL, fields)
    if values is None:
        raise Declined("")
    return _from_values(values)


def _from_values(values: dict[str, Any]) -> SegmentOptions:
    for key in ("opacity", "pixel_size"):
        if isinstance(values.get(key), str):
            raise OptionError(f"'{values[key]}' is not a number. Give a number for {key.replace('_', ' ')}.")
    if "opacity" in values:
        values["opacity"] = round(values["opacity"])
    return replace(SegmentOptions(), **values)


def _models(ij: Gateway, server: str) -> tuple[list[str], str]:
    """Ask the server for its models; a server that does not answer must not keep the dialog from opening."""
    try:
        with ServerClient(server, api_key(ij), patience=0) as client:
            names = [model.name for model in client.models()]
    except (ServerError, OptionError) as error:
        return [DEFAULT_MODEL], str(error)
    return [DEFAULT_MODEL, *names], ""


def _region(stack: Stack, options: SegmentOptions) -> Region:
    first, last = options.slice_range(stack.count)
    region = replace(stack.whole(), first=first, last=last)
    if not options.selection:
        return region
    rectangle = stack.rectangle()
    if rectangle is None:
        raise OptionError(
            f"'{stack.title}' has no rectangle selected. Draw one with the rectangle tool, or leave out "
            f"'selection'."
        )
    x, y, width, height = rectangle
    return replace(region, x=x, y=y, width=width, height=height)


def _ask_server(run: Run, stack: Stack, region: Region, options: SegmentOptions) -> Answer:
    def show(progress: Progress) -> None:
        run.status(progress.text() + " (Escape stops)", progress.fraction)

    request = Request(
        model=None if options.model == DEFAULT_MODEL else options.model,
        pixel_size_um=options.pixel_size or None,
        accept=FORMATS.get(options.show, "application/zip"),
    )
    watch = Watcher(show, run.cancelled)
    run.status("reading the image", 0.01)
    with tempfile.TemporaryDirectory(prefix="skinoct-") as folder:
        file = Path(folder) / "tomogram.tif"
        write(file, stack, region)
        with ServerClient(options.server, api_key(run.ij)) as client:
            client.hello()
            return client.segment(file, request, watch)


def write(file: Path, stack: Stack, region: Region) -> None:
    """Write a region of an image as the TIFF that the server reads."""
    from skinoct.tomogram import write_tomogram

    write_tomogram(file, RegionVoxels(stack, region), pixel_size_um=stack.pixel_size_um(), axis="Z")


def classes_shown(show: str) -> tuple[str, ...]:
    """Return the names of the classes that a choice of *Show* puts over the image."""
    return ("dej",) if show == "DEJ band" else tuple(item.name for item in CLASSES)


__all__ = ["LABEL", "PixelSize", "classes_shown", "overlays", "segment", "write"]
