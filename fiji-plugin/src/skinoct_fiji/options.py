"""Options of the entries under Plugins > Skin, and the macro text that carries them.

One list for the dialog, the Recorder and ``run("Segment skin", "server=... opacity=40")``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Self, TypeVar, get_args, get_type_hints

from skinoct.errors import OptionError
from skinoct_fiji.client import DEFAULT_SERVER

Show = Literal["DEJ band", "all layers", "layer outlines", "label stack", "confidence"]
SHOWS: tuple[str, ...] = get_args(Show)
COLORS: dict[str, tuple[int, int, int] | None] = {
    "by layer": None,
    "magenta": (255, 64, 160),
    "yellow": (255, 221, 51),
    "cyan": (60, 220, 255),
    "green": (60, 220, 90),
    "red": (255, 60, 50),
    "white": (255, 255, 255),
}
"""Name to RGB; ``by layer`` takes the colors of ``skinoct.labels``."""
DEFAULT_MODEL = "default"
T = TypeVar("T")


@dataclass(frozen=True)
class SegmentOptions:
    """Options of *Segment skin*; a field's name is its key in a macro."""

    server: str = DEFAULT_SERVER
    """Address of the server."""
    model: str = DEFAULT_MODEL
    """Name of a model, or ``default`` for the one that the server prefers."""
    show: str = "DEJ band"
    """What to put over the image; one of ``SHOWS``."""
    opacity: int = 40
    """Percent: 0 cannot be seen, 100 hides the image."""
    color: str = "by layer"
    """One of ``COLORS``."""
    slices: str = "all"
    """``all``, or a range such as ``10-40``, or one slice; counted from 1 as ImageJ does."""
    pixel_size: float = 0.0
    """Micrometers; 0 takes the image's calibration; without one the scale at which the network is surest is used, and
    no lengths are measured."""
    selection: bool = False
    """Segment only the selected rectangle."""
    measure: bool = False
    """Write measurements of the DEJ into a results table, too."""
    save: str = ""
    """Folder that gets a folder of results, as *Segment folder...* makes it; one that is finished is skipped."""

    def __post_init__(self) -> None:
        one_of("show", self.show, SHOWS)
        one_of("color", self.color, tuple(COLORS))
        if not 0 <= self.opacity <= 100:
            raise OptionError(f"opacity={self.opacity} is not a percentage. Give a number from 0 to 100.")
        if not 0 <= self.pixel_size < 1000:
            raise OptionError(f"pixel_size={self.pixel_size} is no pixel size in um. Give one such as 0.9.")

    @classmethod
    def from_macro(cls, text: str, remembered: SegmentOptions | None = None) -> Self:
        """Read a macro's option text; absent keys have their default (the server: the remembered one).

        Raises
        ------
        OptionError
            When a value cannot be used or a key is unknown.
        """
        return from_macro(cls, text, cls(server=remembered.server) if remembered else cls())

    def slice_range(self, count: int) -> tuple[int, int]:
        """Return the slices to segment as a half-open 0-based range of a stack of ``count`` slices.

        Raises
        ------
        OptionError
            When ``slices`` is not a range of the stack.
        """
        text = self.slices.strip().lower()
        if text in ("", "all"):
            return 0, count
        match = re.fullmatch(r"(\d+)(?:\s*-\s*(\d+))?", text)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= first <= last <= count:
            raise OptionError(
                f"slices={self.slices} is not a range of this stack of {count} slices. "
                f"Give all, or first-last such as 1-{count}."
            )
        return first - 1, last

    def to_macro(self) -> str:
        """Return the text that the Recorder writes: server, opacity and all that is not default."""
        return to_macro(self, always=("server", "opacity"))


@dataclass(frozen=True)
class MeasureOptions:
    """Options of *Measure DEJ*; a field's name is its key in a macro."""

    server: str = DEFAULT_SERVER
    """Address of the server."""
    model: str = DEFAULT_MODEL
    """Name of a model, or ``default``."""
    slices: str = "all"
    """``all``, or a range such as ``10-40``."""
    pixel_size: float = 0.0
    """Micrometers; 0 takes the image's calibration."""
    maps: bool = False
    """Show maps of thickness, DEJ depth and confidence from above."""
    profile: bool = False
    """Plot the thickness over the slices."""
    csv: str = ""
    """File to write the measures of each slice to; never overwritten."""

    def segmentation(self) -> SegmentOptions:
        """Return what to ask the server for."""
        return SegmentOptions(server=self.server, model=self.model, slices=self.slices, pixel_size=self.pixel_size)


@dataclass(frozen=True)
class ExportOptions:
    """Options of *Export layers to ROI Manager*."""

    server: str = DEFAULT_SERVER
    """Address of the server."""
    model: str = DEFAULT_MODEL
    """Name of a model, or ``default``."""
    layers: str = "dej"
    """``dej`` or ``all``."""
    outline: str = "light"
    """``light``: few corners, to edit; ``exact``: every pixel."""
    slices: str = "all"
    """``all``, or a range such as ``10-40``."""

    def __post_init__(self) -> None:
        one_of("layers", self.layers, ("dej", "all"))
        one_of("outline", self.outline, ("light", "exact"))

    def segmentation(self) -> SegmentOptions:
        """Return what to ask the server for."""
        return SegmentOptions(server=self.server, model=self.model, slices=self.slices)


def one_of(key: str, value: str, allowed: tuple[str, ...]) -> None:
    """Refuse a value that is not allowed, naming those that are."""
    if value not in allowed:
        raise OptionError(f"{key}=[{value}] is not known. Give one of: {', '.join(allowed)}.")


_OPTION = re.compile(r"\s*([A-Za-z_][A-Za-z_0-9]*)(=)?")


def parse_macro(text: str) -> dict[str, str | bool]:
    """Split ``key=value key=[two words] flag`` as ``ij.Macro.getValue`` does; flags become True.

    Raises
    ------
    OptionError
        When the text is not a list of options.
    """
    found: dict[str, str | bool] = {}
    at = 0
    text = text.strip()
    while at < len(text):
        match = _OPTION.match(text, at)
        if match is None:
            raise OptionError(f"The options '{text}' cannot be read near '{text[at : at + 20]}'. Write key=value.")
        at = match.end()
        key = match[1].lower()
        if match[2] is None:
            found[key] = True
            continue
        value, at = _value(text, at)
        found[key] = value
    return found


def _value(text: str, at: int) -> tuple[str, int]:
    if text[at : at + 1] == "'" and (end := text.find("'", at + 1)) > 0:
        return text[at + 1 : end], end + 1
    if text[at : at + 1] == "[":
        depth = 0
        for end in range(at, len(text)):
            depth += {"[": 1, "]": -1}.get(text[end], 0)
            if depth == 0:
                return text[at + 1 : end], end + 1
    end = text.find(" ", at)
    end = len(text) if end < 0 else end
    return text[at:end], end


def from_macro(kind: type[T], text: str, defaults: T) -> T:
    """Read a macro's option text into a frozen dataclass of str, int, float and bool fields."""
    types = get_type_hints(kind)
    values: dict[str, Any] = {}
    for key, value in parse_macro(text).items():
        if key not in types:
            raise OptionError(f"There is no option '{key}'. Known options: {', '.join(types)}.")
        values[key] = _convert(key, value, types[key])
    flags = {name: False for name, type_ in types.items() if type_ is bool}
    return replace(defaults, **(flags | values))  # type: ignore[type-var]


def _convert(key: str, value: str | bool, kind: type) -> object:
    if kind is bool:
        return value is True or str(value).lower() in ("true", "1", "yes")
    if value is True:
        raise OptionError(f"The option '{key}' needs a value: write {key}=...")
    try:
        return round(float(value)) if kind is int else kind(value)
    except ValueError:
        raise OptionError(f"{key}={value} is not a number.") from None


def to_macro(options: Any, always: tuple[str, ...] = ()) -> str:
    """Write options as macro text: keys in ``always`` and all that differ from their default."""
    words: list[str] = []
    for field in fields(options):
        value = getattr(options, field.name)
        if isinstance(value, bool):
            words += [field.name] if value else []
        elif field.name in always or value != field.default:
            text = f"{value:g}" if isinstance(value, float) else str(value)
            words.append(f"{field.name}={_quoted(text)}")
    return " ".join(words)


def _quoted(text: str) -> str:
    return f"[{text}]" if text == "" or " " in text or text[0] in "['" else text
