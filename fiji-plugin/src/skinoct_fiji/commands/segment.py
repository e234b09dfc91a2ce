"""*Segment skin*: send the image in front to the server and lay the layers over it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from skinoct.errors import OptionError
from skinoct_fiji import batch
from skinoct_fiji.bridge import dialogs
from skinoct_fiji.bridge.gateway import Gateway
from skinoct_fiji.bridge.images import Region, Stack
from skinoct_fiji.client import Answer, ServerClient, ServerError, parse_json
from skinoct_fiji.commands import results, work
from skinoct_fiji.failures import Declined, ImageError
from skinoct_fiji.front import Run
from skinoct_fiji.options import COLORS, DEFAULT_MODEL, SHOWS, SegmentOptions, parse_macro
from skinoct_fiji.settings import api_key, connection_sentence, remembered

LABEL = "Segment skin"
FORMATS = {
    "DEJ band": work.DEJ,
    "all layers": work.ROIS,
    "layer outlines": work.ROIS,
    "label stack": work.LABELS,
    "confidence": work.MAPS,
}
"""Media type to ask for, by what is shown."""
ON_DISK = {
    "DEJ band": "RoiSet.zip",
    "all layers": "RoiSet.zip",
    "layer outlines": "RoiSet.zip",
    "label stack": "labels.tif",
}
"""File of a saved result that holds the same; maps of confidence are not saved."""


def segment(run: Run) -> None:
    """Run the entry: from the dialog or the macro's options to the overlay."""
    stack = Stack(run.call.image)
    options = options_of(run, stack)
    region = work.region_of(stack, options)
    work.check_scale(stack, options)
    target = batch.target_of(Path(options.save).expanduser(), stack.title) if options.save else None
    source = work.source_of(stack, region, options) if target else None
    if target and source and batch.finished(target, source, f"'{stack.title}'") and options.show in ON_DISK:
        _show_finished(run, stack, region, options, target)
        return
    saved = list(batch.RESULTS.values()) if target else []
    accepts = [FORMATS[options.show], *([work.JSON] if options.measure else []), *saved]
    try:
        answers = work.obtain(run, stack, region, options, accepts)
    except ImageError:
        if not stack.closed():
            raise
    if stack.closed():
        run.status(f"'{stack.title}' was closed meanwhile, so its result was dropped", 1.0)
        return
    sentence = results.show(stack, region, options, answers[0])
    if options.measure:
        results.tables(run.ij, stack, parse_json(answers[1]), answers[1].model, first=region.first)
    if target and source:
        _save(target, answers[-len(saved) :], source)
    run.status(sentence, 1.0)


def _show_finished(run: Run, stack: Stack, region: Region, options: SegmentOptions, target: Path) -> None:
    """Show a result that was saved earlier, as if it came from the server."""
    try:
        results.show(stack, region, options, batch.stored(target, ON_DISK[options.show]))
        if options.measure:
            answer = batch.stored(target, batch.LAST)
            results.tables(run.ij, stack, parse_json(answer), answer.model, first=region.first)
    except (OSError, ValueError, BadZipFile) as error:
        raise OptionError(f"The results in {target} cannot be read. Move it away to have them made again.") from error
    run.status(f"'{stack.title}' was finished earlier, see {target}", 1.0)


def _save(target: Path, answers: list[Answer], source: batch.Source) -> None:
    try:
        batch.store(target, dict(zip(batch.RESULTS, answers, strict=True)), source)
    except OSError as error:
        raise OptionError(f"{target} cannot be written ({error.strerror}). Give another folder.") from error


def options_of(run: Run, stack: Stack) -> SegmentOptions:
    """Return the options of the macro line, else ask for them; the Recorder gets its line."""
    if run.call.options is not None:
        return SegmentOptions.from_macro(run.call.options, remembered(run.ij))
    options = _dialog(run.ij, stack, remembered(run.ij))
    run.ij.record(LABEL, parse_macro(options.to_macro()))
    run.ij.remember({"server": options.server, "options": replace(options, slices="all").to_macro()})
    return options


def _dialog(ij: Gateway, stack: Stack, last: SegmentOptions) -> SegmentOptions:
    models, note = server_models(ij, last.server)
    fields: list[dialogs.Field] = [
        dialogs.Text("server", "Server", last.server),
        dialogs.Button("Test connection", lambda values: connection_sentence(str(values["server"]), api_key(ij)), note),
        dialogs.Choice("model", "Model", last.model if last.model in models else DEFAULT_MODEL, models),
        dialogs.Choice("show", "Show", last.show, SHOWS),
        dialogs.Choice("color", "Color", last.color, tuple(COLORS)),
        dialogs.Slider("opacity", "Opacity (%)", last.opacity),
        dialogs.Text("slices", "Slices (all, or 10-40)", "all", 10),
    ]
    if stack.rectangle() is not None:
        fields.append(dialogs.Check("selection", "Only the selected rectangle", True))
    fields += work.pixel_size_fields(stack, "with 0 the network chooses a scale, and no lengths are measured")
    fields.append(dialogs.Check("measure", "Measure the DEJ", last.measure))
    values = dialogs.ask(LABEL, fields)
    if values is None:
        raise Declined("")
    return _from_values(values)


def _from_values(values: dict[str, Any]) -> SegmentOptions:
    for key in ("opacity", "pixel_size"):
        if isinstance(values.get(key), str):
            name = key.replace("_", " ")
            raise OptionError(f"'{values[key]}' is not a number. Give a number for the {name}.")
    if "opacity" in values:
        values["opacity"] = round(values["opacity"])
    return replace(SegmentOptions(), **values)


def server_models(ij: Gateway, server: str) -> tuple[list[str], str]:
    """Ask the server for its models; one that does not answer must not keep the dialog from opening."""
    try:
        with ServerClient(server, api_key(ij), patience=0) as client:
            names = [model.name for model in client.models()]
    except (ServerError, OptionError) as error:
        return [DEFAULT_MODEL], str(error)
    return [DEFAULT_MODEL, *names], ""
