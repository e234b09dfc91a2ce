"""The overlay over an image: ours is added, replaced, recolored and taken away; the user's own stays."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from jpype import JArray, JByte, JClass

from skinoct.labels import CLASSES, label_from_name, layer
from skinoct_fiji.bridge.images import Region, Stack

TAG = "skinoct"
"""Property that marks an ROI of an overlay as ours; it is saved inside the TIFF. Its value is the class."""


@dataclass(frozen=True)
class Style:
    """How an overlay looks."""

    opacity: int
    """Percent."""
    color: tuple[int, int, int] | None = None
    """None: each layer has its own."""
    filled: bool = True

    def rgb(self, name: str) -> tuple[int, int, int]:
        """Return the color of a class."""
        if self.color is not None:
            return self.color
        label = label_from_name(name)
        return layer(label).overlay_color if label else CLASSES[3].overlay_color


def decode(roi_set: bytes, classes: Iterable[str] | None = None) -> Iterator[Any]:
    """Yield the ``ij.gui.Roi`` of a RoiSet.zip whose name holds one of ``classes`` (None: of all)."""
    wanted = None if classes is None else {label_from_name(name) for name in classes}
    decoder = JClass("ij.io.RoiDecoder")
    with zipfile.ZipFile(io.BytesIO(roi_set)) as archive:
        for name in archive.namelist():
            if wanted is not None and label_from_name(name.removesuffix(".roi")) not in wanted:
                continue
            content = JArray(JByte)(archive.read(name))
            roi = decoder.openFromByteArray(content)
            if roi is not None:
                roi.setName(name.removesuffix(".roi"))
                yield roi


def place(roi: Any, stack: Stack, region: Region) -> Any:
    """Move an ROI of a region's tomogram to where the region lies in the image; return it."""
    index = max(int(roi.getPosition()) - 1, 0)
    if region.x or region.y:
        bounds = roi.getXBase(), roi.getYBase()
        roi.setLocation(bounds[0] + region.x, bounds[1] + region.y)
    _set_position(roi, stack, region.first + index)
    return roi


def _set_position(roi: Any, stack: Stack, index: int) -> None:
    if stack.hyperstack:
        roi.setPosition(*stack.position(index))
    else:
        roi.setPosition(stack.stack_index(index))


def paint(stack: Stack, rois: Iterable[Any], style: Style) -> int:
    """Lay ROIs over an image in place of our earlier ones; return how many. All appear at once."""
    image = stack.image
    old = image.getOverlay()
    fresh = JClass("ij.gui.Overlay")() if old is None else old.create()
    for roi in users_own(old):
        fresh.add(roi)
    count = 0
    for roi in rois:
        label = label_from_name(str(roi.getName()))
        roi.setProperty(TAG, layer(label).name if label else "dej")
        dress(roi, style)
        fresh.add(roi)
        count += 1
    image.setOverlay(fresh)
    return count


def dress(roi: Any, style: Style) -> None:
    """Give an ROI of ours its color."""
    color = JClass("java.awt.Color")
    red, green, blue = style.rgb(str(roi.getProperty(TAG)))
    alpha = round(2.55 * style.opacity)
    if style.filled:
        roi.setFillColor(color(red, green, blue, alpha))
    else:
        roi.setFillColor(None)
        roi.setStrokeColor(color(red, green, blue, max(alpha, 1)))


def users_own(overlay: Any) -> list[Any]:
    """Return the ROIs of an overlay that are not ours."""
    return [roi for roi in _rois(overlay) if roi.getProperty(TAG) is None]


def ours(overlay: Any) -> list[Any]:
    """Return the ROIs of an overlay that are ours."""
    return [roi for roi in _rois(overlay) if roi.getProperty(TAG) is not None]


def _rois(overlay: Any) -> list[Any]:
    return [] if overlay is None else list(overlay.toArray())
