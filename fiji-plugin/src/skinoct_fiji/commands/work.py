"""What several entries need: an image at the server, its answers, and the answers of the last time."""

from __future__ import annotations

import hashlib
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from skinoct.errors import OptionError
from skinoct.tomogram import write_tomogram
from skinoct_fiji.batch import Source, file_digest
from skinoct_fiji.bridge import dialogs
from skinoct_fiji.bridge.images import PLAUSIBLE_UM, Region, RegionVoxels, Stack
from skinoct_fiji.client import Answer, Progress, RefusedError, Request, ServerClient, Watcher
from skinoct_fiji.failures import ImageError
from skinoct_fiji.front import Run
from skinoct_fiji.options import DEFAULT_MODEL, SegmentOptions
from skinoct_fiji.settings import api_key

LABELS = "image/tiff"
ROIS = "application/zip"
DEJ = "application/vnd.skinoct.dej+zip"
LIGHT = "application/vnd.skinoct.light+zip"
MAPS = "application/vnd.skinoct.maps+tiff"
JSON = "application/json"
CSV = "text/csv"
_PROPERTY = "skinoct job"


@dataclass(frozen=True)
class Known:
    """A finished job of an image that is still open; one whose pixels or calibration changed since is sent anew."""

    server: str
    job: str
    asked: str
    pixels: int


def region_of(stack: Stack, options: SegmentOptions) -> Region:
    """Return the part of an image that the options ask for."""
    first, last = options.slice_range(stack.count)
    region = replace(stack.whole(), first=first, last=last)
    if not options.selection:
        return region
    rectangle = stack.rectangle()
    if rectangle is None:
        raise OptionError(
            f"'{stack.title}' has no rectangle selected. Draw one with the rectangle tool, or leave out 'selection'."
        )
    x, y, width, height = rectangle
    return replace(region, x=x, y=y, width=width, height=height)


def check_scale(stack: Stack, options: SegmentOptions) -> None:
    """Refuse the calibration of a picture rather than of a tomogram, unless the options give another."""
    odd = stack.implausible_um()
    if odd is not None and not options.pixel_size:
        raise ImageError(
            f"The calibration of '{stack.title}' says that a pixel is {odd:.4g} um wide, but optical skin tomograms "
            f"have {PLAUSIBLE_UM[0]:g} to {PLAUSIBLE_UM[1]:g} um. Give the true one under Image > Properties; Segment "
            "skin and Measure DEJ also take it as their pixel size (pixel_size=0.9 in a macro, say)."
        )


def pixel_size_fields(stack: Stack, without: str) -> list[dialogs.Field]:
    """Return the fields that ask for a pixel size where an image has none, or none that a tomogram can have.

    Parameters
    ----------
    without : str
        What happens without one.
    """
    odd = stack.implausible_um()
    if stack.pixel_size_um() is not None and odd is None:
        return []
    note = f"This image has no pixel size: {without}."
    if odd is not None:
        note = f"The calibration of this image says that a pixel is {odd:.4g} um wide, which no tomogram has."
        note += " Give the true one."
    return [dialogs.Note(note), dialogs.Number("pixel_size", "Pixel size", 0.0, 3, "um")]


def obtain(run: Run, stack: Stack, region: Region, options: SegmentOptions, accepts: Sequence[str]) -> list[Answer]:
    """Return answers for a region of an image, one per media type; it is sent only if the server needs it."""
    check_scale(stack, options)
    with ServerClient(options.server, api_key(run.ij)) as client:
        client.hello()
        options = replace(options, server=client.url)  # however it was typed
        known = _recall(stack, region, options)
        if known is not None:
            try:
                return [client.result(known.job, accept) for accept in accepts]
            except RefusedError:
                pass  # the server keeps results for a while only
        first = _send(run, stack, region, options, client, accepts[0])
        if first.job is None:
            return [first, *(_send(run, stack, region, options, client, more) for more in accepts[1:])]
        _remember(stack, region, options, first.job)
        return [first, *(client.result(first.job, accept) for accept in accepts[1:])]


def _send(run: Run, stack: Stack, region: Region, options: SegmentOptions, client: ServerClient, accept: str) -> Answer:
    def show(progress: Progress) -> None:
        run.status(progress.text() + " (Escape stops)", progress.fraction)

    request = Request(
        model=None if options.model == DEFAULT_MODEL else options.model,
        pixel_size_um=options.pixel_size or None,
        accept=accept,
    )
    run.status("reading the image", 0.01)
    with tempfile.TemporaryDirectory(prefix="skinoct-") as folder:
        file = Path(folder) / f"{_safe(stack.title)}.tif"
        write(file, stack, region)
        return client.segment(file, request, Watcher(show, run.cancelled))


def write(file: Path, stack: Stack, region: Region) -> None:
    """Write a region of an image as a TIFF."""
    write_tomogram(file, RegionVoxels(stack, region), pixel_size_um=stack.pixel_size_um(), axis=stack.axis)


def source_of(stack: Stack, region: Region, options: SegmentOptions) -> Source:
    """Return what a saved result of a region is made from."""
    size = stack.pixel_size_um()
    asked = (size.y, size.x) if size else None
    if options.pixel_size:
        asked = (options.pixel_size, options.pixel_size)
    file = stack.file() if region == stack.whole() else None
    digest = _voxel_digest(stack, region) if file is None else file_digest(file)
    return Source(digest, None if options.model == DEFAULT_MODEL else options.model, asked)


def _voxel_digest(stack: Stack, region: Region) -> str:
    """Return a SHA-256 of the voxels of a region, big-endian, behind their shape and bits."""
    kind = np.dtype(stack.dtype)
    count = region.last - region.first
    code = hashlib.sha256(f"{count} {region.height} {region.width} {8 * kind.itemsize}\n".encode())
    for index in range(count):
        code.update(stack.read(index, region).astype(kind.newbyteorder(">")).tobytes())
    return code.hexdigest()


def _safe(title: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in title)[:60] or "image"


def _asked(stack: Stack, region: Region, options: SegmentOptions) -> str:
    """Say in a line all that the answer depends on but the pixels: lengths follow from the calibration."""
    return f"{region} {options.model} {options.pixel_size} {stack.pixel_size_um()} {stack.axis}"


def _pixels(stack: Stack, region: Region) -> int:
    code = 0
    for index in range(region.last - region.first):
        code = zlib.crc32(stack.read(index, region).tobytes(), code)
    return code


def _remember(stack: Stack, region: Region, options: SegmentOptions, job: str) -> None:
    text = "\n".join([options.server, job, _asked(stack, region, options), str(_pixels(stack, region))])
    stack.image.setProperty(_PROPERTY, text)


def _recall(stack: Stack, region: Region, options: SegmentOptions) -> Known | None:
    text = stack.image.getProperty(_PROPERTY)
    if text is None:
        return None
    server, job, asked, pixels = str(text).split("\n")
    known = Known(server, job, asked, int(pixels))
    fits = known.server == options.server and known.asked == _asked(stack, region, options)
    return known if fits and known.pixels == _pixels(stack, region) else None
