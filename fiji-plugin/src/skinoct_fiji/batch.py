"""Segment every tomogram of a folder: one folder of results each, a summary, and no file written twice."""

from __future__ import annotations

import csv
import json
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from skinoct.errors import Cancelled, OptionError, SkinoctError
from skinoct_fiji.client import (
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
LAST = "measurements.json"
SUMMARY = "summary.csv"


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

    A tomogram that was finished earlier is skipped, one that cannot be segmented is told in the summary.

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
    if finished(target):
        return Outcome(file.name, "skipped", "finished earlier", _measures(target))
    watch = Watcher(lambda progress: tell(*count, file.name, progress), cancelled)
    try:
        _segment(client, file, target, request, watch)
        return Outcome(file.name, "done", str(target), _measures(target))
    except (Cancelled, UnreachableError, WrongKeyError):
        raise
    except SkinoctError as error:
        return Outcome(file.name, "failed", str(error), {})
    except OSError as error:
        return Outcome(file.name, "failed", f"{error.filename}: {error.strerror}", {})


def _segment(client: ServerClient, file: Path, target: Path, request: Request, watch: Watcher) -> None:
    first, *others = RESULTS
    answer = client.segment(file, replace(request, accept=RESULTS[first]), watch)
    contents = {first: answer.content}
    for name in others:
        if answer.job is not None:
            contents[name] = client.result(answer.job, RESULTS[name]).content
        else:
            contents[name] = client.segment(file, replace(request, accept=RESULTS[name]), watch).content
    store(target, contents)


def target_of(out: Path, title: str) -> Path:
    """Return the folder that a tomogram's results get; a title may hold what would be another folder."""
    name = title.replace("/", "_").replace("\\", "_")
    return out / ("image" if name in ("", ".", "..") else name)


def finished(target: Path) -> bool:
    """Whether a folder holds the results of a tomogram already."""
    return (target / LAST).exists()


def store(target: Path, contents: Mapping[str, bytes]) -> None:
    """Write the results of one tomogram, in the order of ``RESULTS``."""
    target.mkdir(parents=True, exist_ok=True)
    for name in RESULTS:
        write_new(target / name, contents[name])


def write_new(path: Path, content: bytes) -> None:
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


def _measures(target: Path) -> dict[str, Any]:
    """Return the single values of a result that is on disk; none when somebody has damaged it since."""
    try:
        values = json.loads((target / LAST).read_bytes())
    except (OSError, ValueError):
        return {}
    if not isinstance(values, dict):
        return {}
    return {name: value for name, value in values.items() if isinstance(value, int | float | str)}


def _write_summary(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Write the table anew: it is made from the results, and is ours."""
    try:
        _write_rows(path.with_suffix(".partial"), outcomes)
        path.with_suffix(".partial").replace(path)
    except OSError as error:
        raise OptionError(
            f"{path} cannot be written ({error.strerror}). Close it where it is open, then try again; "
            "what is finished will be skipped."
        ) from error


def _write_rows(path: Path, outcomes: Sequence[Outcome]) -> None:
    names = list(dict.fromkeys(name for outcome in outcomes for name in outcome.measures))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["tomogram", "state", "detail", *names])
        for outcome in outcomes:
            values = [outcome.measures.get(name, "") for name in names]
            writer.writerow([outcome.name, outcome.state, outcome.detail, *values])
