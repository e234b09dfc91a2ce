"""Cross-validation: every tomogram is examined once, by a network that never saw it.

OUT/plan.json           what all folds share; other options need another folder
    runs/NAME/          the training without NAME, to resume from
    checkpoints/NAME/   its network
    folds/NAME.json     figures of NAME; it is there once the fold is finished
    crossval.json       all folds together
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from skinoct.checkpoint import open_checkpoint
from skinoct.errors import Cancelled, DatasetError, OptionError
from skinoct_training.dataset import Case, find_cases, fingerprint
from skinoct_training.evaluate import EvaluationOptions, evaluate
from skinoct_training.files import write_text
from skinoct_training.fit import FitOptions, fit, make_config, reading_options
from skinoct_training.leaks import find_leaks, known
from skinoct_training.metrics import Figures, nest, summarize
from skinoct_training.preparation import say_assumptions
from skinoct_training.report import new_folder
from skinoct_training.run_folder import difference

SHOWN = (
    "dej.mae_um",
    "dej.mae_with_gaps_um",
    "dej.bias_um",
    "dej.p95_um",
    "dej.thickness_ratio",
    "dej.dice",
    "dej.gap_fraction",
    "epidermis.thickness_error_um",
)


@dataclass(frozen=True)
class Fold:
    """What was measured on one tomogram."""

    figures: Figures
    """As of ``metrics.score``."""
    warnings: list[str]
    """That the network knew the tomogram, under another name."""


def prepare(folder: Path, options: FitOptions, settings: dict[str, Any]) -> None:
    """Make the folder, or with ``options.resume`` see that it holds the same cross-validation.

    Raises
    ------
    OptionError
        When it holds anything else, or the checkpoint to fine-tune knows the tomograms.
    DatasetError
        When there are fewer than two tomograms.
    """
    cases = find_cases(options.data.folder, options.data.labels.source)
    if len(cases) < 2:
        raise DatasetError(f"{options.data.folder} holds one tomogram only; leaving it out leaves nothing to train on.")
    content = {
        "start": refuse_start_that_knows(cases, options.start),
        **reading_options(options.data),
        "duration": asdict(options.duration),
        "config": make_config(settings).model_dump(mode="json"),
        "data": fingerprint(cases),
    }
    file = folder / "plan.json"
    if not file.is_file():
        if options.resume:
            raise OptionError(f"There is nothing to resume in {folder}; leave --resume away.")
        new_folder(folder)
        write_text(file, json.dumps(content, indent=1) + "\n")
        return
    if not options.resume:
        raise OptionError(f"{folder} holds a cross-validation; give --resume to go on with it, or another --out.")
    changed = difference(json.loads(file.read_text(encoding="utf-8")), content)
    if changed is not None:
        what, old, new = changed
        raise OptionError(
            f"The cross-validation in {folder} was begun with other options or data ({what}: {old}, now {new}); repeat "
            "its own, or give another --out."
        )


def refuse_start_that_knows(cases: list[Case], start: str | None) -> str | None:
    """Return the hash of the weights to start from, if any.

    Raises
    ------
    OptionError
        When they know one of the tomograms: leaving it out would measure nothing.
    """
    if start is None:
        return None
    card = open_checkpoint(start).card
    leaks = find_leaks(cases, known(card))
    if leaks:
        names = ", ".join(leaks.trained_on + leaks.chose)
        raise OptionError(
            f"The checkpoint {card.name} was trained or chosen on {names}, so leaving them out measures nothing; give "
            "--from a checkpoint that never saw these tomograms, or leave --from away."
        )
    return card.weights_sha256


def folds(options: FitOptions, settings: dict[str, Any], folder: Path) -> Iterator[tuple[str, Fold]]:
    """Train without each tomogram in turn and measure on it; what is finished already is read again.

    The last averaged weights of a fold are measured, not the best: choosing by the error on the examined
    tomogram would flatter.

    Yields
    ------
    name : str
        The tomogram left out.
    fold : Fold

    Raises
    ------
    Cancelled
        When the user stopped it; the rest is left for ``--resume``.
    """
    cases = find_cases(options.data.folder, options.data.labels.source)
    if not all(fold_file(folder, case).is_file() for case in cases):
        say_assumptions(cases, options.data.labels)  # once, not for every fold
    for number, case in enumerate(cases, 1):
        file = fold_file(folder, case)
        if not file.is_file():
            print(f"Fold {number} of {len(cases)}: without {case.name}", file=sys.stderr)
            fold = run_fold(case, options, settings)
            file.parent.mkdir(exist_ok=True)
            write_fold(file, fold)
        yield case.name, read_fold(file)


def fold_file(folder: Path, case: Case) -> Path:
    """Return where the figures of a fold go."""
    return folder / "folds" / f"{case.name}.json"


def run_fold(case: Case, options: FitOptions, settings: dict[str, Any]) -> Fold:
    """Train without a tomogram, or go on with that training, and measure on it."""
    run = options.run / case.name
    fold = replace(
        options,
        data=replace(options.data, exclude=(case.name,), held_out=0, quiet=True),
        out=options.out / case.name,
        run=run,
        resume=run.is_dir() and any(run.iterdir()),
    )
    checkpoint, standing = fit(fold, settings)
    if checkpoint is None or standing.interrupted:
        raise Cancelled("Stopped, as asked; the same command with --resume goes on with the folds that are missing.")
    outcome = evaluate(checkpoint, [case], EvaluationOptions(labels=options.data.labels))
    return Fold(outcome.figures["model"][0], outcome.leaks.warnings())


def write_fold(file: Path, fold: Fold) -> None:
    """Write a finished fold; a figure that could not be measured is null."""
    figures = {key: value if math.isfinite(value) else None for key, value in fold.figures.items()}
    write_text(file, json.dumps({"figures": figures, "warnings": fold.warnings}, indent=1) + "\n")


def read_fold(file: Path) -> Fold:
    """Read a finished fold."""
    content = json.loads(file.read_text(encoding="utf-8"))
    figures = {key: math.nan if value is None else value for key, value in content["figures"].items()}
    return Fold(figures, content["warnings"])


def spread(figures: Mapping[str, Figures]) -> dict[str, Any]:
    """Return folds, their mean, of how many it is, and their spread, ready for JSON.

    The spread is standard deviation, least and largest.
    """
    rows = list(figures.values())
    mean = summarize(rows)
    found = {key: finite(rows, key) for key in mean}
    return {
        "folds": {name: nest(row) for name, row in figures.items()},
        "mean": nest(mean),
        "folds_in_mean": nest({key: values.size for key, values in found.items()}),
        "standard_deviation": nest(deviation(rows)),
        "least": nest({key: float(v.min()) if v.size else math.nan for key, v in found.items()}),
        "largest": nest({key: float(v.max()) if v.size else math.nan for key, v in found.items()}),
    }


def deviation(rows: list[Figures]) -> Figures:
    """Return the standard deviation of every figure over folds; NaN where fewer than two have it."""
    found = {key: finite(rows, key) for key in summarize(rows)}
    return {key: float(v.std(ddof=1)) if v.size > 1 else float("nan") for key, v in found.items()}


def finite(rows: list[Figures], key: str) -> npt.NDArray[np.float64]:
    """Return one figure of all folds that have it."""
    values = np.array([row.get(key, np.nan) for row in rows], np.float64)
    return values[np.isfinite(values)]


def table(figures: Mapping[str, Figures]) -> Iterator[str]:
    """Yield the lines of a table for people; each mean says of how many folds it is."""
    width = max(len(name) for name in [*figures, "deviation"])
    folds_all = list(figures.values())
    means = summarize(folds_all)
    counts = {key: f" ({finite(folds_all, key).size} of {len(folds_all)})" for key in SHOWN}
    yield " ".join([" " * width, *(f"{key.split('.')[-1]:>18}" for key in SHOWN)])
    for name, row in figures.items():
        yield " ".join([f"{name:<{width}}", *cells(row)])
    yield " ".join([f"{'mean':<{width}}", *cells(means, counts)])
    yield " ".join([f"{'deviation':<{width}}", *cells(deviation(folds_all))])


def cells(row: Figures, after: Mapping[str, str] | None = None) -> Iterator[str]:
    """Yield the cells of one line, each with what stands after it."""
    for key in SHOWN:
        value = row.get(key, math.nan)
        text = f"{value:.3f}" if math.isfinite(value) else "-"
        yield f"{text + (after[key] if after else ''):>18}"


def results_file(folder: Path) -> Path:
    """Return where the figures go."""
    return folder / "crossval.json"
