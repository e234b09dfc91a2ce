"""*Segment folder...*: all tomograms of a folder, as ``skinoct-fiji segment`` does it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from skinoct.errors import OptionError
from skinoct_fiji.batch import Outcome, segment_folder
from skinoct_fiji.bridge import dialogs, windows
from skinoct_fiji.client import DEFAULT_SERVER, Progress, Request, ServerClient
from skinoct_fiji.commands.segment import server_models
from skinoct_fiji.failures import Declined
from skinoct_fiji.front import Run
from skinoct_fiji.options import DEFAULT_MODEL, from_macro, parse_macro, to_macro
from skinoct_fiji.settings import api_key, remembered

LABEL = "Segment folder..."


@dataclass(frozen=True)
class FolderOptions:
    """Options of *Segment folder...*; a field's name is its key in a macro."""

    folder: str = ""
    """Folder with the tomograms."""
    out: str = ""
    """Folder for the results."""
    server: str = DEFAULT_SERVER
    """Address of the server."""
    model: str = DEFAULT_MODEL
    """Name of a model, or ``default``."""
    pixel_size: float = 0.0
    """Micrometers; 0 takes each file's calibration."""


def segment_all(run: Run) -> None:
    """Run the entry; ends with a summary table."""
    options = _options(run)
    if not options.folder or not options.out:
        raise OptionError("Give folder=... with the tomograms and out=... for the results.")

    def tell(number: int, count: int, name: str, progress: Progress | None) -> None:
        text = f"{number} of {count}, {name}" + (f": {progress.text()}" if progress else "")
        share = progress.fraction if progress else 0.0
        run.status(f"{text} (Escape stops)", (number - 1 + share) / count)

    request = Request(
        model=None if options.model == DEFAULT_MODEL else options.model,
        pixel_size_um=options.pixel_size or None,
    )
    with ServerClient(options.server, api_key(run.ij)) as client:
        outcomes = segment_folder(
            client,
            Path(options.folder).expanduser(),
            Path(options.out).expanduser(),
            request=request,
            tell=tell,
            cancelled=run.cancelled,
        )
    windows.table("Segmented folder", [_row(outcome) for outcome in outcomes])
    failed = sum(outcome.state == "failed" for outcome in outcomes)
    run.status(f"{len(outcomes) - failed} of {len(outcomes)} tomograms are in {options.out}", 1.0)


def _row(outcome: Outcome) -> dict[str, object]:
    return {"tomogram": outcome.name, "state": outcome.state, "detail": outcome.detail, **outcome.measures}


def _options(run: Run) -> FolderOptions:
    last = remembered(run.ij)
    if run.call.options is not None:
        return from_macro(FolderOptions, run.call.options, FolderOptions(server=last.server))
    models, note = server_models(run.ij, last.server)
    fields: list[dialogs.Field] = [
        dialogs.Folder("folder", "Tomograms in", run.ij.remembered("folder", "")),
        dialogs.Folder("out", "Results to", run.ij.remembered("out", "")),
        dialogs.Text("server", "Server", last.server),
        dialogs.Choice("model", "Model", last.model if last.model in models else DEFAULT_MODEL, models),
        dialogs.Number("pixel_size", "Pixel size (0: each file's own)", 0.0, 3, "um"),
    ]
    if note:
        fields.append(dialogs.Note(note))
    values = dialogs.ask(LABEL.removesuffix("..."), fields)
    if values is None:
        raise Declined("")
    if isinstance(values["pixel_size"], str):
        raise OptionError(f"'{values['pixel_size']}' is not a number. Give the pixel size in um.")
    options = replace(FolderOptions(), **values)
    run.ij.record(LABEL, parse_macro(to_macro(options, always=("folder", "out", "server"))))
    run.ij.remember({"server": options.server, "folder": options.folder, "out": options.out})
    return options
