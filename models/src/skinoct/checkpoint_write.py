"""Saving checkpoints (``skinoct.checkpoint``): whole or not at all, with the network's answer for the golden slice."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch

from skinoct.checkpoint import CARD_FILE, GOLDEN_FILE, WEIGHTS_FILE, Card, Checkpoint, Golden
from skinoct.engines.torch_engine import build_network, compute_golden
from skinoct.errors import CheckpointError, OptionError
from skinoct.golden import FloatArray
from skinoct.weights import Weights

README_FILE = "README.md"
LONG_LIST = 12
"""Longer lists are abbreviated on the page for people; the card has them in full."""


def save_checkpoint(folder: str | Path, card: Card, weights: Weights, *, overwrite: bool = False) -> Checkpoint:
    """Write a checkpoint so that ``folder`` is either complete or absent, whatever happens meanwhile.

    Parameters
    ----------
    folder : path
        Where it shall be; parents are made.
    card : Card
        Its ``weights_sha256`` is replaced by that of the written file. The answer for the golden slice is
        computed, unless this skinoct cannot run the network.
    weights : mapping of str to Tensor
        Saved as they are, moved to the CPU.
    overwrite : bool
        Replace a checkpoint of the same folder; any other existing path is refused either way.

    Raises
    ------
    OptionError
        When ``folder`` exists and must not be replaced.
    CheckpointError
        When a weight is not finite, or the disk refuses the files, for example because it is full; nothing is left
        behind then.
    """
    folder = Path(folder)
    if folder.exists() and not (overwrite and (not folder.is_dir() or (folder / CARD_FILE).is_file())):
        raise OptionError(f"{folder} exists already and is never overwritten; choose another name or move it away.")
    if broken := [name for name, value in weights.items() if not bool(value.isfinite().all())]:
        raise CheckpointError(
            f"The weights of {card.name} are not finite numbers (in {broken[0]}), so they were not saved; the training "
            "diverged. Begin a new run with a lower learning_rate."
        )
    partial = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
    blob = safetensors.torch.save({k: v.detach().cpu().contiguous() for k, v in weights.items()})
    card = card.model_copy(update={"weights_sha256": hashlib.sha256(blob).hexdigest()})
    golden = _compute_golden(Checkpoint(card, weights))
    try:
        partial.mkdir(parents=True)
        _write_durably(partial / WEIGHTS_FILE, blob)
        _write_durably(partial / CARD_FILE, (card.model_dump_json(indent=2) + "\n").encode())
        if golden is not None:
            tops = tuple(tuple(round(float(top), 4) for top in row) for row in golden)
            stored = Golden(weights_sha256=card.weights_sha256, layer_tops_px=tops)
            _write_durably(partial / GOLDEN_FILE, (stored.model_dump_json() + "\n").encode())
        _write_durably(partial / README_FILE, describe(card).encode())
        _exchange(partial, folder)
    except OSError as error:
        raise CheckpointError(
            f"The checkpoint {folder} could not be saved ({error.strerror or error}); make room or choose "
            "another folder. Nothing half-written was left."
        ) from None
    finally:  # also after Ctrl-C; once it is in its place, there is nothing to remove
        shutil.rmtree(partial, ignore_errors=True)
    return Checkpoint(card, weights, folder, golden)


def _compute_golden(checkpoint: Checkpoint) -> FloatArray | None:
    """Return the answer for the golden slice; None for a network that no engine here can run, or that gives none."""
    try:
        tops = compute_golden(build_network(checkpoint))
    except CheckpointError:
        return None
    return tops if np.isfinite(tops).all() else None


def _write_durably(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _exchange(new: Path, folder: Path) -> None:
    """Put ``new`` in the place of ``folder``.

    A folder cannot be renamed over a full one, so the old one steps aside first: both versions are complete
    on disk in the moment between the two renames.
    """
    if not folder.exists():
        new.rename(folder)
        return
    old = folder.with_name(f".{folder.name}.old-{os.getpid()}")
    try:
        folder.rename(old)
        new.rename(folder)
    finally:
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:  # Ctrl-C or an error between the two renames: the old one comes back
            old.rename(folder)


def recover_checkpoint(folder: str | Path) -> None:
    """Clear up after a save that was killed: the old checkpoint comes back unless the new one is in its place."""
    folder = Path(folder)
    if not folder.parent.is_dir():
        return
    names = tuple(f".{folder.name}.{part}-" for part in ("old", "partial"))
    left = sorted(p for p in folder.parent.iterdir() if p.name.startswith(names) and p.is_dir())
    for old in left:
        if not folder.exists() and old.name.startswith(names[0]) and (old / CARD_FILE).is_file():
            old.rename(folder)
        else:
            shutil.rmtree(old, ignore_errors=True)


def describe(card: Card) -> str:
    """Return the card as a Markdown page for people."""

    def text(value: Any) -> str:
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return "-"
        if isinstance(value, float):
            return f"{value:.4g}"
        if isinstance(value, list | tuple) and len(value) > LONG_LIST:
            return f"{', '.join(str(v) for v in value[:3])} ... {value[-1]} ({len(value)} in all)"
        return ", ".join(str(v) for v in value) if isinstance(value, list | tuple) else str(value)

    def lines(values: dict[str, Any], prefix: str = "") -> list[str]:
        rows: list[str] = []
        for key, value in values.items():
            if isinstance(value, dict) and len(value) > LONG_LIST and prefix == "" and key == "files":
                rows.append(f"| `{key}` | {len(value)} tomograms; their hashes are in {CARD_FILE} |")
            elif isinstance(value, dict):
                rows += lines(value, f"{prefix}{key}.")
            else:
                rows.append(f"| `{prefix}{key}` | {text(value)} |")
        return rows

    parts = [f"# {card.name}", card.description or "A skinoct checkpoint."]
    parts += [f"**Intended use.** {card.intended_use}"]
    if card.limits:
        parts += [f"**Limits.** {card.limits}"]
    parts += [
        f"Created {card.created}, license {card.license}. Works at {card.pixel_size_um:g} um per pixel, "
        "draws the DEJ "
        f"as a band of {card.band_thickness_um:.2f} um."
    ]
    for title, values in (("Figures", card.metrics), ("Recipe", card.recipe), ("Data", card.data)):
        if values:
            parts += [f"## {title}", "\n".join(["| | |", "|---|---|", *lines(values)])]
    return "\n\n".join(parts) + "\n"
