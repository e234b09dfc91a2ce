"""*Measure DEJ*: what clinicians read off the layers, as tables, CSV, maps and a curve."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from skinoct.errors import OptionError
from skinoct.maps import THICKNESS
from skinoct_fiji.bridge import dialogs, windows
from skinoct_fiji.bridge.images import Stack
from skinoct_fiji.client import parse_json
from skinoct_fiji.commands import results, work
from skinoct_fiji.commands.segment import server_models
from skinoct_fiji.failures import Declined
from skinoct_fiji.front import Run
from skinoct_fiji.options import DEFAULT_MODEL, MeasureOptions, from_macro, parse_macro, to_macro
from skinoct_fiji.settings import remembered

LABEL = "Measure DEJ"


def measure(run: Run) -> None:
    """Run the entry."""
    stack = Stack(run.call.image)
    options = _options(run, stack)
    csv = _new_file(options.csv) if options.csv else None
    segmentation = options.segmentation()
    region = work.region_of(stack, segmentation)
    calibrated = bool(stack.pixel_size_um() or options.pixel_size)
    accepts = [work.JSON]
    accepts += [work.CSV] if csv else []
    accepts += [work.MAPS] if options.maps or (options.profile and not calibrated) else []
    answers = dict(zip(accepts, work.obtain(run, stack, region, segmentation, accepts), strict=True))
    if csv is not None:
        with csv.open("xb") as file:
            file.write(_counted_from(answers[work.CSV].content, region.first))
    values = parse_json(answers[work.JSON])
    rows = list(values.get("slices", []))
    results.tables(run.ij, stack, values, answers[work.JSON].model, first=region.first)
    if options.maps:
        windows.show_maps(answers[work.MAPS].content, f"{stack.title} maps")
    if options.profile:
        _plot(stack, region.first, rows, None if calibrated else answers[work.MAPS].content)
    warning = "" if calibrated else "; the image has no pixel size, so nothing is in um"
    run.status(f"'{stack.title}' measured{warning}", 1.0)


def _plot(stack: Stack, first: int, rows: list[dict[str, Any]], maps: bytes | None) -> None:
    """Plot the mean thickness of each slice: in micrometers, or in the pixels of ``maps`` without a pixel size."""
    if maps is None:
        known = [row.get("thickness_mean_um") for row in rows]
        values = [float("nan") if value is None else float(value) for value in known]
    else:
        thickness = np.ma.masked_invalid(tifffile.imread(io.BytesIO(maps)).reshape(3, len(rows), -1)[THICKNESS])
        values = [float(value) for value in thickness.mean(axis=1).filled(np.nan)]
    unit = "um" if maps is None else "pixels"
    windows.plot(f"Epidermis of {stack.title}", "slice", f"mean thickness ({unit})", values, first + 1)


def _counted_from(csv: bytes, first: int) -> bytes:
    """Return the server's CSV with slices counted as in the whole image."""
    if first == 0:
        return csv
    head, *rows = csv.decode().splitlines(keepends=True)
    moved = (row.partition(",") for row in rows)
    return "".join([head, *(f"{int(number) + first}{comma}{rest}" for number, comma, rest in moved)]).encode()


def _new_file(path: str) -> Path:
    file = Path(path).expanduser()
    if file.exists():
        raise OptionError(f"{file} exists and is not overwritten. Give another name for the CSV file.")
    if not file.parent.is_dir():
        raise OptionError(f"There is no folder {file.parent}. Make it, or give another name for the CSV file.")
    return file


def _options(run: Run, stack: Stack) -> MeasureOptions:
    last = remembered(run.ij)
    if run.call.options is not None:
        return from_macro(MeasureOptions, run.call.options, MeasureOptions(server=last.server))
    models, note = server_models(run.ij, last.server)
    fields: list[dialogs.Field] = [
        dialogs.Text("server", "Server", last.server),
        dialogs.Choice("model", "Model", last.model if last.model in models else DEFAULT_MODEL, models),
        dialogs.Text("slices", "Slices (all, or 10-40)", "all", 10),
        dialogs.Check("maps", "Show maps of thickness, depth and confidence", True),
        dialogs.Check("profile", "Plot thickness over slices", False),
        dialogs.Text("csv", "CSV file (empty: none)", "", 28),
    ]
    fields += work.pixel_size_fields(stack, "without one nothing can be told in micrometers")
    if note:
        fields.append(dialogs.Note(note))
    values = dialogs.ask(LABEL, fields)
    if values is None:
        raise Declined("")
    if isinstance(values.get("pixel_size"), str):
        raise OptionError(f"'{values['pixel_size']}' is not a number. Give the pixel size in um.")
    options = replace(MeasureOptions(), **values)
    run.ij.record(LABEL, parse_macro(to_macro(options, always=("server",))))
    run.ij.remember({"server": options.server})
    return options
