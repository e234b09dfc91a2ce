"""``report.json``, ``report.html`` and figures of an evaluation."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skinoct.errors import OptionError
from skinoct.labels import CLASSES
from skinoct_training.evaluate import Outcome
from skinoct_training.figures import draw_all
from skinoct_training.files import write_text

NO_PAPER = (
    "The recipe of the paper is not among them: train it on the same tomograms (skinoct-train fit DATA --recipe paper "
    "--out PAPER) and give --paper PAPER."
)
Row = tuple[str, str, str]
ROWS: tuple[Row, ...] = (
    ("dej.mae_um", "DEJ error, mean absolute (um)", "as small as possible"),
    ("dej.bias_um", "DEJ bias (um, positive is too deep)", "0"),
    ("dej.p95_um", "DEJ error, 95th percentile (um)", "as small as possible"),
    ("dej.mae_with_gaps_um", "DEJ error, gaps counted as the image's edge (um)", "as small as possible"),
    ("dej.normal_distance_um", "DEJ distance to the nearest point (um)", "as small as possible"),
    ("dej.thickness_ratio", "band thickness, predicted / annotated", "1"),
    ("dej.dice", "DEJ Dice", "1"),
    ("dej.islands_per_slice", "DEJ islands per slice", "0"),
    ("dej.gap_fraction", "columns without DEJ", "0"),
    ("dej.jitter_um", "slice-to-slice jitter (um)", "0"),
    ("epidermis.thickness_error_um", "epidermal thickness error (um)", "as small as possible"),
    ("order_violations", "columns with layers out of order", "0"),
    *((f"classes.{c.name}.recall", f"recall, {c.name}", "1") for c in CLASSES),
    *((f"classes.{c.name}.dice", f"Dice, {c.name}", "1") for c in CLASSES),
    ("accuracy", "pixels right", "1"),
)
"""Key, title and ideal of every line of the table."""

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 1em 0 }
td, th { padding: .25em .8em; border-bottom: 1px solid #ddd }
th { text-align: left; vertical-align: bottom }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
.warning { color: #fff; background: #c00; padding: .6em 1em; font-weight: bold }
img { max-width: 100% }
.note { color: #666 }
"""


def new_folder(folder: Path) -> Path:
    """Make the folder of a report.

    Raises
    ------
    OptionError
        When something is there already.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OptionError(f"{folder} exists already and is never overwritten; give --out another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_report(
    content: dict[str, Any], outcome: Outcome, folder: Path, extra: Mapping[str, Path] | None = None
) -> None:
    """Write everything into ``folder``; ``extra`` are further figures by title."""
    write_text(folder / "report.json", json.dumps(content, indent=2) + "\n")
    figures = {**draw_all(outcome, folder), **(extra or {})}
    write_text(folder / "report.html", page(content, figures))


def look_up(tree: Mapping[str, Any], key: str) -> Any:
    """Follow a dotted key; None where it ends early."""
    node: Any = tree
    for part in key.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node


def number(value: Any) -> str:
    """Format a figure for people."""
    return "-" if value is None else f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def page(content: Mapping[str, Any], figures: Mapping[str, Path]) -> str:
    """Return the report as one HTML file, figures inside."""
    baselines: Mapping[str, Any] = content["baselines"]
    count = len(content["tomograms"])
    parts = [
        f"<h1>{html.escape(content['checkpoint'])}</h1>",
        *(f"<p class=warning>{html.escape(text)}</p>" for text in content["warnings"]),
        f"<p>{count} tomogram{'s' if count != 1 else ''}; every figure is the mean over tomograms, in brackets its "
        f"interval when tomograms are drawn anew. Intervals: {html.escape(content['interval_method'])}.</p>",
        comparison(content, baselines),
        *([] if "paper_recipe" in baselines else [f"<p class=note>{NO_PAPER}</p>"]),
        "<h2>By brightness of the tissue around the DEJ</h2>",
        strata(content),
        *(f"<h2>{html.escape(title)}</h2>{embedded(path)}" for title, path in figures.items()),
        f"<p class=note>Weights {content['weights_sha256']}. Research only, not for clinical use.</p>",
    ]
    title = f"skinoct: {html.escape(content['checkpoint'])}"
    return f"<!doctype html><meta charset=utf-8><title>{title}</title><style>{STYLE}</style>{''.join(parts)}\n"


def comparison(content: Mapping[str, Any], baselines: Mapping[str, Any]) -> str:
    """Return the table of the model beside its baselines."""
    heads = [html.escape(content["checkpoint"]), *(b.replace("_", " ") for b in baselines)]
    lines = ["<table><tr><th></th><th>ideal</th>" + "".join(f"<th class=n>{h}</th>" for h in heads) + "</tr>"]
    for key, title, ideal in ROWS:
        interval = look_up(content["intervals"], key)
        spread = f"{number(interval[0])}, {number(interval[1])}" if interval else "-"
        cells = [f"<b>{number(look_up(content, key))}</b> [{spread}]"]
        cells += [number(look_up(b, key)) for b in baselines.values()]
        numbers = "".join(f"<td class=n>{c}</td>" for c in cells)
        lines.append(f"<tr><td>{title}</td><td class=note>{ideal}</td>{numbers}</tr>")
    return "".join([*lines, "</table>"])


def strata(content: Mapping[str, Any]) -> str:
    """Return the table of the model's figures by brightness."""
    found: Mapping[str, Any] = content["strata"]
    lines = ["<table><tr><th></th>" + "".join(f"<th class=n>{name}</th>" for name in found) + "</tr>"]
    for key, title, _ in ROWS:
        values = [look_up(stratum, key) for stratum in found.values()]
        if any(value is not None for value in values):
            cells = "".join(f"<td class=n>{number(v)}</td>" for v in values)
            lines.append(f"<tr><td>{title}</td>{cells}</tr>")
    return "".join([*lines, "</table>"])


def embedded(path: Path) -> str:
    """Return an image tag that holds a PNG file."""
    return f'<img alt="{path.stem}" src="data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}">'
