"""Checkpoints on disk: what they are, and reading them. ``checkpoint_write`` saves them.

A checkpoint is a folder that describes itself completely::

    <name>/model.safetensors    weights, nothing else
           card.json            everything that gives the weights a meaning (class ``Card``)
           golden.json          the answer for the golden slice when it was saved (class ``Golden``)
           README.md            the card for people, written from it

Nothing in it is ever executed: weights are read by safetensors, the card is JSON. The weights' sha256
stands in the card and is verified on every load, so that a half-copied folder cannot give a wrong answer
that looks right. Folders of earlier versions without ``golden.json`` are read as well.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, field_serializer

from skinoct.decode_config import DecodeConfig
from skinoct.errors import CheckpointError, UnknownModelError
from skinoct.golden import SHAPE, FloatArray
from skinoct.intensity import IntensityConfig
from skinoct.labels import CLASSES
from skinoct.segmentation import ModelIdentity
from skinoct.weights import StoredWeights, Weights

FORMAT_VERSION: Literal[1] = 1
WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "card.json"
GOLDEN_FILE = "golden.json"
GOLDEN_VERSION: Literal[2] = 2
"""Of the golden slice and of what is kept of its answer."""
DEFAULT = "default"
"""Name that stands for the default checkpoint, so that nobody need know which version that is."""
_DECIDING = {
    "architecture", "intensity", "decode", "pixel_size_um", "slice_step_um", "band_thickness_um", "class_weights",
    "weights_sha256",
}  # fmt: skip
"""What of a card decides an answer."""


class Architecture(BaseModel):
    """Which network the weights belong to."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str = "unet"
    """Name of the network class."""
    config: dict[str, Any]
    """Arguments that build it: the fields of ``skinoct.unet.UNetConfig``."""


class Card(BaseModel):
    """What a checkpoint is, how it was made and what it must not be used for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format_version: Literal[1] = FORMAT_VERSION
    """Version of this format; raised when an older reader would misunderstand the folder."""
    name: str
    """Name of the checkpoint, also when its folder is renamed."""
    created: str
    """Time of creation, ISO 8601 in UTC."""
    description: str = ""
    """One sentence for a list of models."""
    architecture: Architecture
    """Which network, and the arguments that build it."""
    classes: tuple[str, ...] = tuple(c.name for c in CLASSES)
    """Names of the output channels, in order."""
    intensity: IntensityConfig = Field(default_factory=IntensityConfig)
    """Gray value normalization."""
    decode: DecodeConfig = Field(default_factory=DecodeConfig)
    """Ordered decoding; only what differs from the defaults is written."""
    pixel_size_um: float = Field(gt=0)
    """Pixel size in micrometers at which the network works, the same in depth and width."""
    slice_step_um: float | None = Field(default=None, gt=0)
    """Distance in micrometers from one of the slices that the network sees to the next; None for the next slice,
    whatever its distance."""
    band_thickness_um: float = Field(gt=0)
    """Vertical thickness in micrometers of the DEJ band as the annotators draw it."""
    class_weights: tuple[float, ...] = (1.0,) * len(CLASSES)
    """Weights of the classes in the training loss; ``pixel`` decoding divides them out again."""
    recipe: dict[str, Any] = Field(default_factory=dict)
    """How it was trained: command, seed, configuration, versions."""
    data: dict[str, Any] = Field(default_factory=dict)
    """What it was trained on: names and hashes of the tomograms and ROI sets."""
    metrics: dict[str, Any] = Field(default_factory=dict)
    """Figures of its evaluation and the data they hold for."""
    weights_sha256: str = ""
    """SHA-256 of ``model.safetensors``; filled in when the checkpoint is saved."""
    license: str = "BSD-3-Clause"
    """License of the weights."""
    intended_use: str = "Research. Not for clinical use."
    """What the checkpoint is for."""
    limits: str = ""
    """Where it is known, or must be expected, to fail."""

    @field_serializer("decode")
    def _differences(self, decode: DecodeConfig) -> dict[str, Any]:
        return decode.model_dump(mode="json", exclude_defaults=True)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that decides an answer: the weights, and what the card says of how to use them.

        Checkpoints with the same weights answer differently when their lines are drawn in another way.
        """
        deciding = self.model_dump(mode="json", include=_DECIDING)
        return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()


class Golden(BaseModel):
    """What the network answered for the golden slice (``skinoct.golden``) when the checkpoint was saved."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format_version: Literal[1, 2] = GOLDEN_VERSION
    """Raised when slice or answer change their meaning; 1 was another slice."""
    weights_sha256: str
    """The weights that gave the answer."""
    layer_tops_px: tuple[tuple[FiniteFloat, ...], ...]
    """``golden.layer_tops``: rows in which glycerol, epidermis, DEJ and dermis begin, for each column."""


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint."""

    card: Card
    weights: Weights
    folder: Path | None = None
    """Where it was read from; None for one that was never saved."""
    golden: FloatArray | None = None
    """Answer (4, W) for the golden slice when it was saved; None for checkpoints older than that slice."""

    @property
    def identity(self) -> ModelIdentity:
        """Name and hash that answers carry."""
        return ModelIdentity(self.card.name, self.card.fingerprint)


def read_card(folder: str | Path) -> Card:
    """Read the card alone, without touching the weights.

    Raises
    ------
    CheckpointError
        When the folder or its card is missing, damaged or of another format version.
    """
    folder = Path(folder)
    for name in (CARD_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            what = "does not exist" if not folder.is_dir() else f"has no {name}"
            raise CheckpointError(
                f"The checkpoint {folder} {what}; a checkpoint is a folder with {WEIGHTS_FILE} and "
                f"{CARD_FILE}. "
                "Give the path of such a folder, or copy it again."
            )
    try:
        content = json.loads((folder / CARD_FILE).read_text(encoding="utf-8"))
        version = content["format_version"]
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(
            f"{folder / CARD_FILE} is not a checkpoint card ({error}); copy the checkpoint again."
        ) from None
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"The checkpoint {folder} has format version {version}, this skinoct reads version "
            f"{FORMAT_VERSION}; "
            "update skinoct or train the checkpoint again."
        )
    try:
        card = Card.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise CheckpointError(
            f"{folder / CARD_FILE}: {field}: {first['msg']}. Copy the checkpoint again or update skinoct."
        ) from None
    if card.classes != tuple(c.name for c in CLASSES):
        raise CheckpointError(
            f"The checkpoint {folder} predicts {', '.join(card.classes)}, not "
            f"{', '.join(c.name for c in CLASSES)}; train it again with this skinoct."
        )
    return card


def load_checkpoint(folder: str | Path) -> Checkpoint:
    """Read a checkpoint and verify its hash.

    Raises
    ------
    CheckpointError
        When a file is missing or damaged, or the weights are not the ones that the card describes.
    """
    folder = Path(folder)
    card = read_card(folder)
    blob = (folder / WEIGHTS_FILE).read_bytes()
    if hashlib.sha256(blob).hexdigest() != card.weights_sha256:
        raise CheckpointError(
            f"{folder / WEIGHTS_FILE} is not the file that {CARD_FILE} describes (its SHA-256 differs): it "
            "was damaged "
            "or exchanged. Copy the whole checkpoint folder again."
        )
    try:
        weights = StoredWeights(blob)
    except safetensors.SafetensorError as error:
        raise CheckpointError(
            f"{folder / WEIGHTS_FILE} is not a safetensors file ({error}); copy the checkpoint folder again."
        ) from None
    return Checkpoint(card, weights, folder, _read_golden(folder, card))


def _read_golden(folder: Path, card: Card) -> FloatArray | None:
    path = folder / GOLDEN_FILE
    if not path.is_file():
        return None
    try:
        golden = Golden.model_validate_json(path.read_bytes())
        tops = np.asarray(golden.layer_tops_px, np.float32)
    except ValueError:  # also rows of different length
        tops = np.empty(0, np.float32)
    if tops.shape != (len(CLASSES) - 1, SHAPE[1]) or golden.weights_sha256 != card.weights_sha256:
        raise CheckpointError(
            f"{path} is damaged, or belongs to other weights than those beside it; copy the checkpoint folder again."
        )
    return tops if golden.format_version == GOLDEN_VERSION else None


def default_models_dir() -> Path:
    """Return the folder of checkpoints: ``$SKINOCT_MODELS``, else ``models/checkpoints`` here."""
    configured = os.environ.get("SKINOCT_MODELS")
    return Path(configured) if configured else Path(__file__).resolve().parents[2] / "checkpoints"


def list_checkpoints(models_dir: str | Path | None = None) -> list[str]:
    """Return names of the checkpoint folders in ``models_dir``, sorted, without opening their weights."""
    folder = default_models_dir() if models_dir is None else Path(models_dir)
    if not folder.is_dir():
        return []
    return sorted(p.name for p in folder.iterdir() if (p / CARD_FILE).is_file() and not p.name.startswith("."))


def default_checkpoint(models_dir: str | Path | None = None) -> str:
    """Return the name of the checkpoint to use when nobody names one.

    It is the newest ``phantom-vN``, else the only one.

    Raises
    ------
    UnknownModelError
        When there is no checkpoint, or several and no rule to choose.
    """
    folder = default_models_dir() if models_dir is None else Path(models_dir)
    names = list_checkpoints(folder)
    versions = {int(m[1]): name for name in names if (m := re.fullmatch(r"phantom-v(\d+)", name))}
    if versions:
        return versions[max(versions)]
    if len(names) == 1:
        return names[0]
    if names:
        raise UnknownModelError(f"{folder} holds several checkpoints ({', '.join(names)}); name the one to use.")
    raise UnknownModelError(f"{folder} holds no checkpoint; train one with skinoct-train fit, or copy one there.")


def find_checkpoint(name: str | None = None, models_dir: str | Path | None = None) -> Path:
    """Return the folder of a checkpoint by its name in ``models_dir``; None and ``default`` mean the default one.

    Raises
    ------
    UnknownModelError
        When there is none of that name; the sentence lists those that exist.
    """
    folder = default_models_dir() if models_dir is None else Path(models_dir)
    names = list_checkpoints(folder)
    if name is None or (name == DEFAULT and name not in names):
        return folder / default_checkpoint(folder)
    if name not in names:
        known = f"there are: {', '.join(names)}" if names else "there is none"
        raise UnknownModelError(f"There is no model {name!r} in {folder}; {known}.")
    return folder / name


def open_checkpoint(name_or_folder: str | Path, models_dir: str | Path | None = None) -> Checkpoint:
    """Load a checkpoint given as a folder, or by its name in ``models_dir``, which may be ``default``.

    Raises
    ------
    CheckpointError
        When it is neither, or damaged.
    """
    folder = Path(name_or_folder)
    if folder.exists() or len(folder.parts) > 1:
        return load_checkpoint(folder)
    return load_checkpoint(find_checkpoint(str(name_or_folder), models_dir))
