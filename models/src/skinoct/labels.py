"""The five classes of a skin tomogram: values, names and colors, defined here and nowhere else.

Values grow from the top of the image to its bottom, so the labels of an ordered segmentation never decrease
down a column. Value 0 is *unlabeled*: never predicted, ignored in training.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt


class Label(IntEnum):
    """Value of a pixel in a label stack."""

    UNLABELED = 0
    GLASS = 1
    GLYCEROL = 2
    EPIDERMIS = 3
    DEJ = 4
    DERMIS = 5


RGB = tuple[int, int, int]


@dataclass(frozen=True)
class LayerClass:
    """One class as people see it."""

    label: Label
    name: str
    """Name used for ROIs, in JSON and in reports."""
    color: RGB
    """Color in label stacks and figures, after figure 3 of the paper."""
    overlay_color: RGB
    """Color of a translucent overlay: one that shows on gray."""


CLASSES: tuple[LayerClass, ...] = (
    LayerClass(Label.GLASS, "glass", (255, 221, 51), (255, 221, 51)),
    LayerClass(Label.GLYCEROL, "glycerol", (152, 223, 138), (152, 223, 138)),
    LayerClass(Label.EPIDERMIS, "epidermis", (44, 160, 44), (60, 220, 90)),
    LayerClass(Label.DEJ, "dej", (0, 0, 139), (255, 64, 160)),
    LayerClass(Label.DERMIS, "dermis", (70, 130, 230), (70, 150, 255)),
)
"""The predicted classes, top to bottom. ``CLASSES[k]`` is channel ``k`` of a network and label ``k + 1``."""

NUM_CLASSES = len(CLASSES)
IGNORE_NAME = "ignore"
"""ROI name of regions that training ignores (label 0)."""

_ALIASES = {
    **{c.name: c.label for c in CLASSES},
    IGNORE_NAME: Label.UNLABELED,
    "unlabeled": Label.UNLABELED,
    "unlabelled": Label.UNLABELED,
    "dermal epidermal junction": Label.DEJ,
    "dermis epidermis junction": Label.DEJ,
    "junction": Label.DEJ,
    "medium": Label.GLYCEROL,
    "gel": Label.GLYCEROL,
    "glycerin": Label.GLYCEROL,
    "coverslip": Label.GLASS,
    "epiderm": Label.EPIDERMIS,
    "derm": Label.DERMIS,
    # French
    "verre": Label.GLASS,
    "lamelle": Label.GLASS,
    "glycerine": Label.GLYCEROL,
    "epiderme": Label.EPIDERMIS,
    "jonction": Label.DEJ,
    "jde": Label.DEJ,
    "jonction derme epiderme": Label.DEJ,
    "derme": Label.DERMIS,
    "ignorer": Label.UNLABELED,
    # German
    "glas": Label.GLASS,
    "deckglas": Label.GLASS,
    "glyzerin": Label.GLYCEROL,
    "glyzerol": Label.GLYCEROL,
    "oberhaut": Label.EPIDERMIS,
    "junktion": Label.DEJ,
    "junktionszone": Label.DEJ,
    "dermis epidermis grenze": Label.DEJ,
    "lederhaut": Label.DERMIS,
    "ignorieren": Label.UNLABELED,
}
"""Words for the classes, without accents; of several words all must be there and nothing else."""


def layer(label: int) -> LayerClass:
    """Return the class with this label value (1 to 5).

    Raises
    ------
    ValueError
        When ``label`` is not one of the five classes.
    """
    if not 1 <= label <= NUM_CLASSES:
        raise ValueError(f"{label} is not a label; labels are 1 to {NUM_CLASSES}")
    return CLASSES[label - 1]


def label_from_name(name: str) -> Label | None:
    """Read the class from an ROI name such as ``dej``, ``DEJ-0012``, ``left epidermis`` or ``Épiderme 1``.

    Returns None when the name holds no class or more than one (``0012-0100-0256``, ``epidermis/dermis``).
    """
    words = " ".join(re.findall(r"[a-z]+", without_accents(name).lower()))
    if words in _ALIASES:
        return _ALIASES[words]
    found = {_ALIASES[word] for word in words.split() if word in _ALIASES}
    return found.pop() if len(found) == 1 else None


def without_accents(text: str) -> str:
    """Return letters without their accents, however a file composes the two."""
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))


def color_table(overlay: bool = False) -> npt.NDArray[np.uint8]:
    """Return a lookup table of shape (256, 3), uint8 RGB, indexed by label value; other values are black."""
    table = np.zeros((256, 3), np.uint8)
    for item in CLASSES:
        table[item.label] = item.overlay_color if overlay else item.color
    return table
