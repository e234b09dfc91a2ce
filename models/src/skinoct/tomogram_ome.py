"""What OME-XML says of a stack: which axis its slices lie along, their order and the pixel size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element, ParseError, fromstring

from skinoct.errors import TomogramError
from skinoct.tiff_structure import MOST_SLICES
from skinoct.tomogram_types import SliceAxis


@dataclass(frozen=True)
class OmeStack:
    """One stack of an OME-TIFF."""

    axis: SliceAxis
    directories: list[int]
    """Index of the TIFF directory of each slice, in the order of the slices."""
    pixels: Mapping[str, Any]
    """Attributes of the ``Pixels`` element."""


def read_ome(description: str, name: str) -> OmeStack:
    """Read the OME-XML in a TIFF's description.

    Raises
    ------
    TomogramError
        Kinds ``damaged-tiff``, ``multi-channel``, ``dimensions``, ``several-files``.
    """
    try:
        root = fromstring(description.encode())
    except (ParseError, ValueError):
        raise TomogramError(
            f"The OME-XML in {name} is damaged. Open it in Fiji and save it as a TIFF.", kind="damaged-tiff"
        ) from None
    if (whole := root.find("{*}BinaryOnly")) is not None:
        raise TomogramError(
            f"{name} is one file of several, described in {whole.get('MetadataFile', 'another one')}. Open that in "
            "Fiji and save one TIFF stack.",
            kind="several-files",
        )
    images = root.findall("{*}Image/{*}Pixels")
    if len(images) != 1:
        raise TomogramError(
            f"{name} holds {len(images)} OME images. Save the tomogram alone in a file.", kind="dimensions"
        )
    pixels = images[0]
    sizes = {axis: _integer(pixels, f"Size{axis}", name, 1) for axis in "ZCT"}
    if sizes["C"] > 1:
        raise TomogramError(
            f"{name} has more than one channel. Save the channel that holds the OCT signal alone.",
            kind="multi-channel",
        )
    if sizes["Z"] > 1 and sizes["T"] > 1:
        raise TomogramError(
            f"{name} has {sizes['Z']} slices at {sizes['T']} times. Save one tomogram per file.",
            kind="dimensions",
        )
    axis: SliceAxis = "T" if sizes["T"] > 1 else "Z"
    return OmeStack(axis, _directories(pixels, axis, sizes[axis], name), pixels.attrib)


def _directories(pixels: Element, axis: SliceAxis, count: int, name: str) -> list[int]:
    """Follow the ``TiffData`` elements; without any, slices are stored in order."""
    if not 0 < count <= MOST_SLICES:
        raise TomogramError(f"{name} announces {count} slices.", kind="dimensions")
    found: dict[int, int] = {}
    blocks = pixels.findall("{*}TiffData")
    uuids = {element.get("FileName") for element in pixels.findall("{*}TiffData/{*}UUID")} - {None}
    if len(uuids) > 1:
        raise TomogramError(
            f"The slices of {name} lie in {len(uuids)} files. Open them in Fiji and save one TIFF stack.",
            kind="several-files",
        )
    for block in blocks[: count + 1]:
        directory = _integer(block, "IFD", name, 0)
        first = _integer(block, f"First{axis}", name, 0)
        planes = _integer(block, "PlaneCount", name, 1 if block.get("IFD") is not None else count)
        if planes > count - len(found):
            break  # some slice twice, or one too many
        found.update((first + offset, directory + offset) for offset in range(planes))
    if not blocks:
        return list(range(count))
    if sorted(found) != list(range(count)) or len(blocks) > count:
        raise TomogramError(
            f"The OME-XML in {name} does not say where all of its {count} slices are. Open it in Fiji "
            "and save it as a TIFF.",
            kind="damaged-tiff",
        )
    return [found[index] for index in range(count)]


def _integer(element: Element, key: str, name: str, default: int) -> int:
    try:
        value = int(element.get(key, default))
    except ValueError:
        value = -1
    if value < 0:
        raise TomogramError(
            f"The OME-XML in {name} has no number in {key}. Open it in Fiji and save it as a TIFF.",
            kind="damaged-tiff",
        )
    return value
