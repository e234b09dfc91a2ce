"""New windows of ImageJ: images from TIFF bytes, tables, plots."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jpype import JArray, JClass, JDouble

from skinoct_fiji.failures import FijiError


def open_tiff(content: bytes, title: str, *, show: bool = True) -> Any:
    """Open the bytes of a TIFF as an image of a title that no other window has; return the ``ImagePlus``."""
    with tempfile.TemporaryDirectory(prefix="skinoct-") as folder:
        path = Path(folder) / "result.tif"
        path.write_bytes(content)
        image = JClass("ij.io.Opener")().openImage(str(path))
    if image is None:
        raise FijiError("ImageJ could not open what the server sent. Update server and plugin together.")
    image.setTitle(JClass("ij.WindowManager").makeUniqueName(title))
    info = image.getOriginalFileInfo()
    if info is not None:
        info.directory = None  # the temporary file is gone
    if show:
        image.show()
    return image


def show_maps(content: bytes, title: str, front: int = 0) -> Any:
    """Show en-face maps with a lookup table that prints well; ``front`` is the map in view, from 0."""
    image = open_tiff(content, title, show=False)
    colors = JClass("ij.plugin.LutLoader").getLut("fire")
    image.setLut(JClass("ij.process.LUT")(colors, 0.0, 1.0))
    image.setSlice(front + 1)
    image.resetDisplayRange()
    image.show()
    return image


def table(title: str, rows: Sequence[Mapping[str, Any]]) -> Any:
    """Show a table; numbers that are not known stay empty."""
    result = JClass("ij.measure.ResultsTable")()
    _fill(result, rows)
    result.show(title)
    return result


def append_row(title: str, row: Mapping[str, Any]) -> None:
    """Add a row to the table of a title, which is opened when there is none."""
    kind = JClass("ij.measure.ResultsTable")
    result = kind.getResultsTable(title)
    if result is None:
        result = kind()
    _fill(result, [row])
    result.show(title)


def _fill(result: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    result.setPrecision(3)
    for row in rows:
        result.incrementCounter()
        for name, value in row.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                result.addValue(name, float(value))
            else:
                result.addValue(name, "" if value is None else str(value))


def plot(title: str, x_label: str, y_label: str, values: Sequence[float], first: int = 1) -> None:
    """Show a curve over slice numbers, which begin at ``first``."""
    chart = JClass("ij.gui.Plot")(title, x_label, y_label)
    numbers = JArray(JDouble)([float(n) for n in range(first, first + len(values))])
    chart.addPoints(numbers, JArray(JDouble)(list(values)), 2)  # 2: a line
    chart.show()
