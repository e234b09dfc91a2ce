"""Figures of the evaluation report, drawn with matplotlib without a screen."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from skinoct.labels import CLASSES, color_table
from skinoct_training.evaluate import Example, Outcome

NAMES = [c.name for c in CLASSES]


def draw_all(outcome: Outcome, folder: Path) -> dict[str, Path]:
    """Draw every figure into ``folder``; return their files by title."""
    drawn = {
        "Confusion matrix, rows sum to 1": ("confusion.png", draw_confusion(outcome.confusion)),
        "Image, annotation, prediction": ("triptychs.png", draw_triptychs(outcome.examples)),
        "Calibration of the confidence": ("calibration.png", draw_calibration(outcome.calibration)),
        "DEJ error of each tomogram": ("tomograms.png", draw_tomograms(outcome)),
    }
    files = {}
    for title, (name, figure) in drawn.items():
        figure.savefig(folder / name, dpi=110)
        files[title] = folder / name
    return files


def png(figure: Figure) -> bytes:
    """Return a figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def draw_confusion(confusion: dict[str, npt.NDArray[np.int64]]) -> Figure:
    """Row-normalized confusion matrices, one per method (figure 2 of the paper)."""
    figure = Figure(figsize=(4.4 * len(confusion), 4.4), layout="constrained")
    for axes, (method, counts) in zip(
        figure.subplots(1, len(confusion), squeeze=False)[0], confusion.items(), strict=True
    ):
        share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        for row, column in np.ndindex(share.shape):
            value = share[row, column]
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", color="w" if value > 0.5 else "k")
        axes.set_xticks(range(len(NAMES)), NAMES, rotation=45)
        axes.set_yticks(range(len(NAMES)), NAMES)
        axes.set(title=method.replace("_", " "), xlabel="predicted", ylabel="annotated")
    return figure


def draw_triptychs(examples: Sequence[Example], count: int = 6) -> Figure:
    """Image, annotation and prediction of slices from best to worst (figure 3 of the paper)."""
    ranked = sorted(examples, key=lambda e: e.mae_um)
    picks = sorted({round(i) for i in np.linspace(0, len(ranked) - 1, min(count, len(ranked)))})
    depth, width = ranked[0].image.shape if ranked else (1, 2)
    height = 13 / 3 * depth / width + 0.3  # of a row with its titles
    figure = Figure(figsize=(13, height * max(1, len(picks))), layout="constrained")
    for row, index in zip(figure.subplots(max(1, len(picks)), 3, squeeze=False), picks, strict=False):
        example = ranked[index]
        row[0].imshow(example.image, cmap="gray", vmin=0, vmax=1)
        row[1].imshow(color_table()[example.annotated])
        row[2].imshow(color_table()[example.predicted])
        row[0].set_title(f"{example.tomogram}, slice {example.slice_number}", fontsize=9)
        row[1].set_title("annotation", fontsize=9)
        row[2].set_title(f"prediction, DEJ error {example.mae_um:.2f} um", fontsize=9)
        for axes in row:
            axes.set_axis_off()
    return figure


def draw_calibration(counts: npt.NDArray[np.float64]) -> Figure:
    """How often the DEJ lies within one band of the truth, against the confidence that was claimed."""
    figure = Figure(figsize=(4.5, 4.2), layout="constrained")
    axes = figure.subplots()
    used = counts[counts[:, 0] > 0]
    axes.plot([0, 1], [0, 1], ":", color="gray", label="perfect")
    if len(used):
        axes.plot(used[:, 1] / used[:, 0], used[:, 2] / used[:, 0], "o-", label="measured")
    axes.set(xlabel="confidence of a column", ylabel="share within one band of the annotation")
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    axes.legend()
    return figure


def draw_tomograms(outcome: Outcome) -> Figure:
    """Mean absolute DEJ error of every tomogram, by method."""
    figure = Figure(figsize=(max(5, 0.7 * len(outcome.names) + 3), 4), layout="constrained")
    axes = figure.subplots()
    offsets = np.linspace(-0.25, 0.25, len(outcome.figures))  # so that equal errors do not hide each other
    for offset, (method, rows) in zip(offsets, outcome.figures.items(), strict=True):
        places = np.arange(len(rows)) + offset
        axes.plot(places, [row["dej.mae_um"] for row in rows], "o", label=method.replace("_", " "))
    axes.set_xticks(
        range(len(outcome.names)), outcome.names, rotation=60, fontsize=8, ha="right", rotation_mode="anchor"
    )
    axes.set(ylabel="DEJ mean absolute error in um")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8)
    return figure


def overlay(image: npt.NDArray[Any], labels: npt.NDArray[np.uint8], opacity: float = 0.35) -> npt.NDArray[np.uint8]:
    """Lay label colors (Y, X) over a gray image (Y, X) in 0..1; returns uint8 (Y, X, 3)."""
    gray = np.repeat(np.clip(image, 0, 1)[..., None] * 255, 3, axis=2)
    colors = color_table(overlay=True)[labels].astype(np.float32)
    mixed = np.where((labels > 0)[..., None], (1 - opacity) * gray + opacity * colors, gray)
    return mixed.astype(np.uint8)


def draw_contact_sheet(
    samples: Sequence[tuple[str, int, npt.NDArray[Any], npt.NDArray[np.uint8]]], columns: int = 4
) -> Figure:
    """Annotated slices with their labels over the image: (tomogram, 0-based slice, image, labels) each."""
    rows = -(-len(samples) // columns)
    figure = Figure(figsize=(4 * columns, 2.2 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, (name, z, image, labels) in zip(grid.flat, samples, strict=False):
        low, high = np.percentile(image, [0.5, 99.5])
        gray = (image.astype(np.float32) - low) / max(float(high - low), 1e-6)
        axes.imshow(overlay(np.sqrt(np.clip(gray, 0, 1)), labels))
        axes.set_title(f"{name}, slice {z + 1}", fontsize=8)
    return figure
