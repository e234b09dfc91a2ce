"""The overlay over an image: ours is added, replaced, recolored and taken away; the user's own stays."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from jpype import JArray, JByte, JClass

from skinoct.labels import CLASSES, label_from_name, layer
from skinoct_fiji.bridge.images import Region, Stack

TAG = "skinoct"
"""Property that marks an ROI of an overlay as ours; it is saved inside the TIFF. Its value is the class."""
POLYGON, TRACED = 2, 4
LINES = (5, 6, 7)
"""Types of ``ij.gui.Roi``; lines are straight, segmented or free."""
EXPORTED = "skinoct-model"
"""Property that an exported ROI keeps while it is as the model drew it."""


@dataclass(frozen=True)
class Style:
    """How an overlay looks."""

    opacity: int
    """Percent."""
    color: tuple[int, int, int] | None = None
    """None: each layer has its own."""
    filled: bool = True
    width: float | None = None
    """Pixels of an outline; None leaves it as it is."""

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
            content = JArray(JByte)(_without_group(archive.read(name)))
            roi = decoder.openFromByteArray(content)
            if roi is not None:
                roi.setName(name.removesuffix(".roi"))
                yield roi


def _without_group(content: bytes) -> bytes:
    """Clear the group (byte 30 of the second header): an ImageJ without Glasbey.lut complains of each."""
    second = int.from_bytes(content[60:64])
    if not 64 <= second <= len(content) - 32:
        return content
    return content[: second + 30] + b"\0" + content[second + 31 :]


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


def paint(stack: Stack, region: Region, rois: Iterable[Any], style: Style) -> int:
    """Lay ROIs over a region in place of our earlier ones; return how many. All appear at once."""
    image = stack.image
    old = image.getOverlay()
    fresh = JClass("ij.gui.Overlay")() if old is None else old.create()
    for roi in _beside(old, stack, region):
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


def _beside(overlay: Any, stack: Stack, region: Region) -> Iterator[Any]:
    """Yield what stays of an overlay when a region is segmented: the user's own, and ours beside the region."""
    box = JClass("java.awt.Rectangle")(region.x, region.y, region.width, region.height)
    for roi in _rois(overlay):
        if roi.getProperty(TAG) is None or not _on_slices(roi, stack, region) or not roi.getBounds().intersects(box):
            yield roi
        elif (rest := _cut(roi, box)) is not None:
            yield rest


def _on_slices(roi: Any, stack: Stack, region: Region) -> bool:
    """Whether an ROI is seen on a slice of a region."""
    place = place_of(roi, stack)
    index = stack.index_of(place)
    if index is None:
        return True
    here = zip(place, stack.position(index), strict=True)
    return region.first <= index < region.last and all(own in (0, shown) for own, shown in here)


def _cut(roi: Any, box: Any) -> Any:
    """Return an ROI of ours without what lies in a rectangle; None when nothing is left."""
    shape = JClass("ij.gui.ShapeRoi")
    rest = shape(roi).not_(shape(JClass("ij.gui.Roi")(box)))
    if rest is None or rest.getBounds().isEmpty():
        return None
    rest.setProperty(TAG, roi.getProperty(TAG))
    return _like(rest, roi)


def dress(roi: Any, style: Style) -> None:
    """Give an ROI of ours its color."""
    color = JClass("java.awt.Color")
    red, green, blue = style.rgb(str(roi.getProperty(TAG)))
    alpha = (255 * style.opacity + 50) // 100  # whole numbers: as the scripts of a stock Fiji round
    if style.filled:
        roi.setFillColor(color(red, green, blue, alpha))
        roi.setStrokeColor(None)
    else:
        roi.setFillColor(None)
        roi.setStrokeColor(color(red, green, blue, max(alpha, 1)))
        if style.width is not None:
            roi.setStrokeWidth(float(style.width))


def restyle(image: Any, style: Style | None) -> None:
    """Change how our ROIs look; None hides them. The user's own stay as they are."""
    for roi in ours(image.getOverlay()):
        if style is None:
            roi.setFillColor(None)
            roi.setStrokeColor(JClass("java.awt.Color")(0, 0, 0, 0))
        else:
            dress(roi, style)
    image.draw()


def look(image: Any) -> Style | None:
    """Return how our overlay looks; None when it is hidden."""
    mine = ours(image.getOverlay())
    fill, stroke = mine[0].getFillColor(), mine[0].getStrokeColor()
    shown = stroke if fill is None else fill
    if shown is None or int(shown.getAlpha()) == 0:
        return None
    width = float(mine[0].getStrokeWidth())
    opacity = round(int(shown.getAlpha()) / 2.55)
    colors = {_rgb(roi.getStrokeColor() if fill is None else roi.getFillColor()) for roi in mine}
    plain = Style(opacity, None, fill is not None, width)
    by_layer = colors == {plain.rgb(str(roi.getProperty(TAG))) for roi in mine}
    return plain if by_layer or len(colors) > 1 else replace(plain, color=colors.pop())


def _rgb(color: Any) -> tuple[int, int, int]:
    return int(color.getRed()), int(color.getGreen()), int(color.getBlue())


def snapshot(image: Any) -> list[tuple[Any, Any, float]]:
    """Return fill color, stroke color and stroke width of each of our ROIs."""
    return [(roi.getFillColor(), roi.getStrokeColor(), float(roi.getStrokeWidth())) for roi in ours(image.getOverlay())]


def restore(image: Any, looks: list[tuple[Any, Any, float]]) -> None:
    """Undo ``restyle``."""
    for roi, (fill, stroke, width) in zip(ours(image.getOverlay()), looks, strict=False):
        roi.setFillColor(fill)
        roi.setStrokeColor(stroke)
        roi.setStrokeWidth(width)
    image.draw()


def to_manager(rois: Iterable[Any]) -> int:
    """Add ROIs to the ROI Manager behind those that are there, outlined in the color of their class."""
    manager = JClass("ij.plugin.frame.RoiManager").getRoiManager()
    color = JClass("java.awt.Color")
    count = 0
    for roi in map(_with_handles, rois):
        label = label_from_name(str(roi.getName()))
        name = layer(label).name if label else "dej"
        roi.setFillColor(None)
        roi.setStrokeColor(color(*Style(100).rgb(name)))
        roi.setProperty(EXPORTED, str(fingerprint(roi)))
        manager.addRoi(roi)
        count += 1
    return count


def _with_handles(roi: Any) -> Any:
    """Return a polygon that can be dragged by its corners instead of a traced outline, which cannot."""
    if int(roi.getType()) != TRACED:
        return roi
    return _like(JClass("ij.gui.PolygonRoi")(roi.getFloatPolygon(), POLYGON), roi)


def _like(made: Any, roi: Any) -> Any:
    """Give a new ROI the name, the look and the slice of another one; return it."""
    made.setName(roi.getName())
    made.copyAttributes(roi)
    if roi.hasHyperStackPosition():
        made.setPosition(roi.getCPosition(), roi.getZPosition(), roi.getTPosition())
    else:
        made.setPosition(roi.getPosition())
    return made


def manager_rois() -> list[Any]:
    """Return the ROIs of the ROI Manager; none when it is closed."""
    manager = JClass("ij.plugin.frame.RoiManager").getInstance2()
    return [] if manager is None else list(manager.getRoisAsArray())


def place_of(roi: Any, stack: Stack) -> tuple[int, int, int]:
    """Return channel, slice and frame (1-based; 0: any) of an ROI."""
    if roi.hasHyperStackPosition():
        return int(roi.getCPosition()), int(roi.getZPosition()), int(roi.getTPosition())
    position = int(roi.getPosition())
    if position > 0:
        return stack.place_of(position)
    return (1, 1, 1) if stack.count == 1 else (0, 0, 0)


def covers_area(roi: Any) -> bool:
    """Whether an ROI is an area, or a line with a width: a point, an angle, an arrow or a text is of no layer."""
    if str(roi.getTypeAsString()) in ("Text", "Image", "Arrow"):
        return False
    return bool(roi.isArea()) or int(roi.getType()) in LINES


def exported(roi: Any) -> str | None:
    """Return the fingerprint that an ROI had when it was exported; None when somebody drew it."""
    value = roi.getProperty(EXPORTED)
    return None if value is None else str(value)


def encoded(roi: Any, index: int) -> bytes:
    """Return an ROI as a .roi file at slice ``index`` (0-based)."""
    copy = roi.clone()
    copy.setPosition(index + 1)
    return bytes(JClass("ij.io.RoiEncoder").saveAsByteArray(copy))


def fingerprint(roi: Any) -> int:
    """Return a number that changes when somebody moves a corner of an ROI."""
    return int(zlib.crc32(bytes(JClass("ij.io.RoiEncoder").saveAsByteArray(_bare(roi)))))


def _bare(roi: Any) -> Any:
    """Return a copy that has nothing but its shape: colors and names do not count."""
    bare = JClass("ij.gui.ShapeRoi")(roi)
    bare.setPosition(0)
    return bare


def ours(overlay: Any) -> list[Any]:
    """Return the ROIs of an overlay that are ours."""
    return [roi for roi in _rois(overlay) if roi.getProperty(TAG) is not None]


def _rois(overlay: Any) -> list[Any]:
    return [] if overlay is None else list(overlay.toArray())
