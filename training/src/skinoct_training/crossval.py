"""Cross-validation: every tomogram is examined once, by a network that never saw it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from skinoct.errors import DatasetError, OptionError
from skinoct_training.dataset import find_cases
from skinoct_training.evaluate import EvaluationOptions, evaluate
from skinoct_training.fit import FitOptions, fit
from skinoct_training.metrics import Figures, nest, summarize

SHOWN = (
    "dej.mae_um",
    "dej.bias_um",
    "dej.p95_um",
    "dej.thickness_ratio",
    "dej.dice",
    "dej.gap_fraction",
    "epidermis.thickness_error_um",
)


def folds(options: FitOptions, settings: dict[str, Any]) -> Iterator[tuple[str, Figures]]:
    """Train without each tomogram in turn and measure on it.

    The last averaged weights of a fold are measured, not the best: choosing by the error on the examined
    tomogram would flatter.

    Yields
    ------
    name : str
        The tomogram left out.
    figures : dict
        As of ``metrics.score``.

    Raises
    ------
    DatasetError
        When there are fewer than two tomograms.
    """
    cases = find_cases(options.data.folder, options.data.labels.source)
    if len(cases) < 2:
        raise DatasetError(f"{options.data.folder} holds one tomogram only; leaving it out leaves nothing to train on.")
    for number, case in enumerate(cases, 1):
        print(f"Fold {number} of {len(cases)}: without {case.name}", file=sys.stderr)
        fold = replace(
            options,
            data=replace(options.data, exclude=(case.name,), held_out=0),
            out=options.out / case.name,
            run=options.run / case.name,
        )
        checkpoint, _ = fit(fold, settings)
        if checkpoint is None:
            raise OptionError("Stopped before the first epoch was over.")
        outcome = evaluate(checkpoint, [case], EvaluationOptions(labels=options.data.labels))
        yield case.name, outcome.figures["model"][0]


def spread(figures: dict[str, Figures]) -> dict[str, Any]:
    """Return folds, their mean, and their spread (standard deviation, least, largest), ready for JSON."""
    rows = list(figures.values())
    least, largest = {}, {}
    for key in rows[0]:
        values = finite(rows, key)
        least[key] = float(values.min()) if values.size else float("nan")
        largest[key] = float(values.max()) if values.size else float("nan")
    return {
        "folds": {name: nest(row) for name, row in figures.items()},
        "mean": nest(summarize(rows)),
        "standard_deviation": nest(deviation(rows)),
        "least": nest(least),
        "largest": nest(largest),
    }


def deviation(rows: list[Figures]) -> Figures:
    """Return the standard deviation of every figure over folds; NaN where fewer than two have it."""
    found = {key: finite(rows, key) for key in rows[0]}
    return {key: float(v.std(ddof=1)) if v.size > 1 else float("nan") for key, v in found.items()}


def finite(rows: list[Figures], key: str) -> npt.NDArray[np.float64]:
    """Return one figure of all folds that have it."""
    values = np.array([row.get(key, np.nan) for row in rows], np.float64)
    return values[np.isfinite(values)]


def table(figures: dict[str, Figures]) -> Iterator[str]:
    """Yield the lines of a table for people."""
    width = max(len(name) for name in [*figures, "deviation"])
    yield " ".join([" " * width, *(f"{key.split('.')[-1]:>18}" for key in SHOWN)])
    rows = {**figures, "mean": summarize(list(figures.values())), "deviation": deviation(list(figures.values()))}
    for name, row in rows.items():
        values = (row.get(key, float("nan")) for key in SHOWN)
        yield " ".join([f"{name:<{width}}", *(f"{v:18.3f}" if np.isfinite(v) else f"{'-':>18}" for v in values)])


def results_file(folder: Path) -> Path:
    """Return where the figures go."""
    return folder / "crossval.json"
