"""Answer formats and the ``Accept`` header that picks one (RFC 9110, section 12.5.1)."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.datastructures import Headers

from skinoct_server.problems import HttpProblem


@dataclass(frozen=True)
class Format:
    """One answer format."""

    name: str
    """Of the writer in ``tasks``."""
    media_type: str
    file_name: str
    """Suggested to browsers; also the name of the cached file."""
    description: str


FORMATS: tuple[Format, ...] = (
    Format("tiff", "image/tiff", "labels.tif", "label stack that ImageJ opens with slices, calibration and LUT"),
    Format("npy", "application/x-npy", "labels.npy", "label stack as a numpy array, uint8 (Z, Y, X)"),
    Format("zip", "application/zip", "RoiSet.zip", "ROI set for ImageJ's ROI Manager"),
    Format("dej", "application/vnd.skinoct.dej+zip", "RoiSet-dej.zip", "ROI set of the DEJ band alone"),
    Format(
        "light",
        "application/vnd.skinoct.light+zip",
        "RoiSet-light.zip",
        "ROI set of polygons to edit",
    ),
    Format(
        "maps",
        "application/vnd.skinoct.maps+tiff",
        "maps.tif",
        "maps of thickness, DEJ depth and confidence",
    ),
    Format("json", "application/json", "measurements.json", "measurements of the layers"),
    Format("csv", "text/csv", "measurements.csv", "measurements of each slice as a table"),
)
"""The first one that matches wins among equals."""


def _parse(accept: str) -> list[tuple[str, float]]:
    ranges = []
    for item in accept.split(","):
        name, *parameters = (part.strip().lower() for part in item.split(";"))
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    quality = min(1.0, max(0.0, float(parameter[2:])))
                except ValueError:
                    quality = 0.0
        if name:
            ranges.append((name, quality))
    return ranges


def _quality(media_type: str, ranges: list[tuple[str, float]]) -> float:
    """Return the quality of the most specific range that matches."""
    group = media_type.split("/")[0]
    for wanted in (media_type, f"{group}/*", "*/*"):
        found = [quality for name, quality in ranges if name == wanted]
        if found:
            return max(found)
    return 0.0


def wanted(headers: Headers) -> Format:
    """Return the format that a request asks for; ``Accept`` may come in several lines.

    Raises
    ------
    HttpProblem
        ``not-acceptable``.
    """
    return choose(", ".join(headers.getlist("accept")))


def choose(accept: str | None) -> Format:
    """Return the format that an ``Accept`` header asks for; the label TIFF when it does not care.

    Raises
    ------
    HttpProblem
        ``not-acceptable`` when it asks only for others.
    """
    ranges = _parse(accept or "*/*") or [("*/*", 1.0)]
    best = max(FORMATS, key=lambda form: _quality(form.media_type, ranges))
    if _quality(best.media_type, ranges) > 0:
        return best
    offers = ", ".join(f"{form.media_type} ({form.description})" for form in FORMATS)
    raise HttpProblem(
        "not-acceptable", f"This server does not answer in {(accept or '')[:200]!r}. It offers: {offers}."
    )
