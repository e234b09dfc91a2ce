"""Segment every tomogram of a folder: one folder of results each, a summary, and no file written twice."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from skinoct.errors import Cancelled, OptionError, SkinoctError
from skinoct_fiji.client import (
    Answer,
    Progress,
    Request,
    ServerClient,
    UnreachableError,
    Watcher,
    WrongKeyError,
)

SUFFIXES = (".tif", ".tiff", ".npy")
RESULTS = {
    "labels.tif": "image/tiff",
    "RoiSet.zip": "application/zip",
    "measurements.csv": "text/csv",
    "measurements.json": "application/json",
}
"""Files of a result and how to ask for them; the last one is written last, so it marks a finished result."""
INPUT = "input.json"
"""Says what a result was made from, so that another tomogram of the same name never gets it."""
LAST = "measurements.json"
SUMMARY = "summary.csv"
SUMMARY_HEAD = ("tomogram", "state", "detail")
"""First cells of a summary; a table that begins otherwise is not ours."""


@dataclass(frozen=True)
class Source:
    """What a result is made from."""

    sha256: str
    """Of the tomogram's file, or of the voxels of an image that is no file as a whole."""
    model: str | None = None
    """None: the server's default."""
    pixel_size_um: tuple[float, float] | None = None
    """Height and width that are asked for; None: what the file says."""


@dataclass(frozen=True)
class Outcome:
    """What became of one tomogram."""

    name: str
    state: str
    """``done``, ``skipped`` (finished earlier) or ``failed``."""
    detail: str
    measures: dict[str, Any]
    """Of the whole tomogram; empty when it failed."""


Tell = Callable[[int, int, str, Progress | None], None]
"""Called with number from 1, count, name, and the progress of that tomogram or None at its start."""


def tomograms(folder: Path) -> list[Path]:
    """Return the tomograms of a folder in the order of their names.

    Raises
    ------
    OptionError
        When there is no such folder, or none in it.
    """
    if not folder.is_dir():
        raise OptionError(f"There is no folder {folder}. Give the folder that holds the tomograms.")
    # A folder that a Mac has seen holds ._skin.tif beside skin.tif, which is no image.
    named = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")]
    found = sorted(path for path in named if path.is_file())
    if not found:
        raise OptionError(f"{folder} holds no tomogram ({', '.join(SUFFIXES)}). Give another folder.")
    return found


def segment_folder(
    client: ServerClient,
    folder: Path,
    out: Path,
    *,
    request: Request | None = None,
    tell: Tell = lambda *_: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> list[Outcome]:
    """Segment all tomograms of ``folder`` into ``out/<file name>/``; write ``out/summary.csv``.

    A tomogram that was finished earlier is skipped, one that cannot be segmented is told in the summary, and so is one
    whose folder holds other results.

    Raises
    ------
    OptionError
        When ``folder`` or ``out`` cannot be used.
    ServerError, Cancelled
        When no further tomogram can be segmented either.
    """
    files, out = tomograms(folder), out.absolute()
    if out.resolve() == folder.resolve():
        raise OptionError(f"{out} holds the tomograms themselves. Give another folder for the results.")
    _check_summary(out / SUMMARY)
    client.hello()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(f"{out} cannot be made ({error.strerror}). Give another folder.") from error
    outcomes: list[Outcome] = []
    try:
        for number, file in enumerate(files, 1):
            tell(number, len(files), file.name, None)
            count = (number, len(files))
            outcomes.append(_one(client, file, out / file.name, request or Request(), tell, count, cancelled))
    finally:
        _write_summary(out / SUMMARY, outcomes)
    return outcomes


def _one(
    client: ServerClient,
    file: Path,
    target: Path,
    request: Request,
    tell: Tell,
    count: tuple[int, int],
    cancelled: Callable[[], bool],
) -> Outcome:
    watch = Watcher(lambda progress: tell(*count, file.name, progress), cancelled)
    size = request.pixel_size_um
    try:
        source = Source(file_digest(file), request.model, (size, size) if size else None)
        if finished(target, source, str(file)):
            return Outcome(file.name, "skipped", "finished earlier", _measures(target))
        _segment(client, file, target, source, request, watch)
        return Outcome(file.name, "done", str(target), _measures(target))
    except (Cancelled, UnreachableError, WrongKeyError):
        raise
    except SkinoctError as error:
        return Outcome(file.name, "failed", str(error), {})
    except OSError as error:
        return Outcome(file.name, "failed", f"{error.filename}: {error.strerror}", {})


def _segment(client: ServerClient, file: Path, target: Path, source: Source, request: Request, watch: Watcher) -> None:
    first, *others = RESULTS
    answers = {first: client.segment(file, replace(request, accept=RESULTS[first]), watch)}
    job = answers[first].job
    for name in others:
        if job is not None:
            answers[name] = client.result(job, RESULTS[name])
        else:
            answers[name] = client.segment(file, replace(request, accept=RESULTS[name]), watch)
    store(target, answers, source)


def target_of(out: Path, title: str) -> Path:
    """Return the folder that a tomogram's results get; a title may hold what would be another folder."""
    name = title.replace("/", "_").replace("\\", "_")
    return out / ("image" if name in ("", ".", "..") else name)


def file_digest(file: Path) -> str:
    """Return the SHA-256 of a file."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def finished(target: Path, source: Source, what: str) -> bool:
    """Whether a folder holds the results of a tomogram already.

    Parameters
    ----------
    what : str
        Name of the tomogram, for errors.

    Raises
    ------
    OptionError
        When it holds those of another tomogram, of another model or at another pixel size.
    """
    if not (target / LAST).exists():
        return False
    made, measures = _read_json(target / INPUT), _read_json(target / LAST)
    cure = "Give another folder for the results, or move these away."
    if made.get("sha256", source.sha256) != source.sha256:
        raise OptionError(f"{target} holds the results of another image than {what}. {cure}")
    model = made.get("model", measures.get("model"))
    if model and source.model and model != source.model:
        raise OptionError(f"{target} holds results of the model {model}, and {source.model} is asked for. {cure}")
    if "pixel_size_um" in measures and source.pixel_size_um:
        _check_size(target, measures["pixel_size_um"], source.pixel_size_um, cure)
    return True


def _check_size(target: Path, made: Any, asked: tuple[float, float], cure: str) -> None:
    """Refuse results whose lengths are not those of a pixel size."""
    if made is None:
        raise OptionError(f"{target} holds results without a pixel size, and {asked[0]:.4g} um is asked for. {cure}")
    for was, now in zip((made["y"], made["x"]), asked, strict=True):
        if not math.isclose(was, now, rel_tol=1e-4):
            raise OptionError(
                f"{target} holds results at a pixel size of {was:.4g} um, and {now:.4g} um is asked for. {cure}"
            )


def stored(target: Path, name: str) -> Answer:
    """Return a file of a finished result as the answer that it was."""
    content = (target / name).read_bytes()
    return Answer(content, RESULTS[name], str(_read_json(target / INPUT).get("model", "")), "", "")


def store(target: Path, answers: Mapping[str, Answer], source: Source) -> None:
    """Write the results of one tomogram; the last file marks a finished result.

    Parameters
    ----------
    answers : mapping
        By names of ``RESULTS``.

    Raises
    ------
    OptionError
        When files are there already that differ: a result is never put together from two.
    """
    made = {"sha256": source.sha256, "model": answers[LAST].model}
    contents = {name: answers[name].content for name in RESULTS if name != LAST}
    contents |= {INPUT: f"{json.dumps(made)}\n".encode(), LAST: answers[LAST].content}
    target.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        if (target / name).exists() and (target / name).read_bytes() != content:
            raise OptionError(
                f"{target / name} is there already and is of another result. Move {target} away, or give another "
                "folder."
            )
    for name, content in contents.items():
        _write_new(target / name, content)


def _write_new(path: Path, content: bytes) -> None:
    """Write a file that appears only when it is complete; one that is there already stays."""
    if path.exists():
        return
    partial = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    partial.write_bytes(content)
    try:
        os.link(partial, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without links
        partial.rename(path)
        return
    partial.unlink()


def _read_json(path: Path) -> dict[str, Any]:
    """Return an object of JSON; an empty one when there is none, or somebody has damaged it since."""
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _measures(target: Path) -> dict[str, Any]:
    """Return the single values of a result that is on disk."""
    return {name: value for name, value in _read_json(target / LAST).items() if isinstance(value, int | float | str)}


def _check_summary(path: Path) -> None:
    """Refuse to replace a table that is not ours."""
    if not path.is_file():
        return
    head = ",".join(SUMMARY_HEAD).encode()
    try:
        with path.open("rb") as file:
            ours = file.read(len(head)) == head
    except OSError:
        ours = False
    if not ours:
        raise OptionError(
            f"{path} is not a summary of skinoct and is not overwritten. Rename it, or give another folder for the "
            "results."
        )


def _write_summary(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Write the table anew: it is made from the results, and is ours."""
    partial = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    try:
        _write_rows(partial, outcomes)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OptionError(
            f"{path} cannot be written ({error.strerror}). Close it where it is open, then try again; "
            "what is finished will be skipped."
        ) from error


def _write_rows(path: Path, outcomes: Sequence[Outcome]) -> None:
    names = list(dict.fromkeys(name for outcome in outcomes for name in outcome.measures))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*SUMMARY_HEAD, *names])
        for outcome in outcomes:
            values = [outcome.measures.get(name, "") for name in names]
            writer.writerow([outcome.name, outcome.state, outcome.detail, *values])
