"""A training from folder to checkpoint: read, split, train, keep the best, write its card."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from tqdm import tqdm

from skinoct.checkpoint import Architecture, Card, Checkpoint, open_checkpoint, save_checkpoint
from skinoct.engines.torch_engine import build_network
from skinoct.errors import DatasetError, OptionError
from skinoct.labels import CLASSES
from skinoct.unet import UNet
from skinoct_training.config import TrainConfig
from skinoct_training.dataset import (
    Case,
    LabelOptions,
    Volume,
    find_cases,
    fingerprint,
    load_volumes,
    native_pixel_um,
)
from skinoct_training.loop import Duration, Standing, Trainer
from skinoct_training.metrics import ColumnErrors
from skinoct_training.run_folder import RunFolder, environment
from skinoct_training.sampling import Sampler
from skinoct_training.split import hold_out
from skinoct_training.validation import densest_window, validate

INTENDED_USE = "Research on full-field OCT tomograms of skin. Not for clinical use."
LIMITS = (
    "Knows only skin like that of its training tomograms; check it on annotated tomograms of your own "
    "microscope "
    "(skinoct-train evaluate) and retrain on your own ROI sets (skinoct-train fit --from)."
)


@dataclass(frozen=True)
class FitOptions:
    """What to train on, for how long, and where everything goes."""

    data: Path
    out: Path
    duration: Duration
    run: Path
    held_out: int | None = None
    """Tomograms to hold out; None for a share."""
    resume: bool = False
    threads: int | None = None
    labels: LabelOptions = field(default_factory=LabelOptions)
    start: str | None = None
    """Checkpoint to fine-tune."""
    pixel_um: float | None = None
    """Pixel size to train at; None for that of the data, or of the checkpoint to fine-tune."""
    description: str = ""
    command: str = ""


def make_config(settings: dict[str, Any]) -> TrainConfig:
    """Build a configuration from the settings that differ from the defaults.

    Raises
    ------
    OptionError
        When one of them does not exist or has a value that is not possible.
    """
    recipe = settings.pop("recipe", "default")
    if recipe == "paper":
        from skinoct_training.paper import PAPER_SETTINGS

        settings = {**PAPER_SETTINGS, **settings}
    try:
        return TrainConfig(**settings)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise OptionError(f"Setting {where}: {first['msg']}.") from None


def fit(options: FitOptions, settings: dict[str, Any]) -> tuple[Checkpoint | None, Standing]:
    """Train and return the best checkpoint, already written to ``options.out``, and where the training ended.

    The checkpoint is None when the user stopped before there was one.

    Raises
    ------
    DatasetError, OptionError, CheckpointError
        Before any training, when data, options or the checkpoint to start from cannot be used.
    """
    if options.out.exists() and not options.resume:
        raise OptionError(
            f"{options.out} exists already; choose another name, or --resume to go on with its run."
        )
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    base = open_checkpoint(options.start) if options.start is not None else None
    config = adopt(make_config(settings), base)
    cases = find_cases(options.data, options.labels.source)
    train_cases, val_cases = split_cases(cases, options, config.seed)
    pixel_um = options.pixel_um or (base.card.pixel_size_um if base else native_pixel_um(cases))
    run = RunFolder(options.run, resume=options.resume)
    data = {
        "trained_on": [c.name for c in train_cases],
        "held_out": [c.name for c in val_cases],
        "files": fingerprint(cases),
    }
    recipe = {
        "command": options.command,
        "config": config.model_dump(mode="json"),
        "environment": environment(),
    }
    run.write_json("config.json", recipe)
    run.write_json("data.json", data)

    volumes = read_all(train_cases, pixel_um, config, options.labels, "reading")
    held = read_all(val_cases, pixel_um, config, options.labels, "reading held-out")
    check_classes(volumes)
    band_um = learned_band_um(volumes)
    decode = config.decode.model_copy(update={"band_thickness_px": band_um / pixel_um})
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(config.seed)
    network = UNet(config.network)
    if base:
        network.load_state_dict(build_network(base).state_dict())

    windows = [densest_window(volume, config.val_slices) for volume in held]
    kept: list[Checkpoint] = []

    def measure(candidate: nn.Module) -> ColumnErrors:
        context = config.network.in_slices // 2
        return validate(candidate, windows, context=context, pixel_um=pixel_um, decode=decode)

    def keep(weights: dict[str, Tensor], standing: Standing) -> None:
        card = make_card(options, config, pixel_um, band_um, recipe, data, standing)
        kept[:] = [save_checkpoint(options.out, card, weights, overwrite=True)]

    sampler = Sampler(
        volumes,
        in_slices=config.network.in_slices,
        crop=config.crop,
        spacings=config.spacings,
        device=device,
    )
    trainer = Trainer(
        network.to(device), sampler, config, options.duration, run, measure if windows else None, keep
    )
    standing = trainer.run()
    return (kept[0] if kept else None), standing


def adopt(config: TrainConfig, base: Checkpoint | None) -> TrainConfig:
    """Take network and normalization from the checkpoint to fine-tune; without one return ``config``."""
    if base is None:
        return config
    network = build_network(base).config
    return config.model_copy(
        update={
            "network": network,
            "intensity": config.intensity.model_validate(base.card.intensity),
            "learning_rate": config.learning_rate / 4,
        }
    )


def split_cases(cases: list[Case], options: FitOptions, seed: int) -> tuple[list[Case], list[Case]]:
    """Hold tomograms out; a fine-tune on a single tomogram goes without, and says so."""
    if len(cases) == 1 and options.start is not None and options.held_out is None:
        print(
            "There is one tomogram only, so the error on unseen skin cannot be measured; all of it is "
            "trained on.",
            file=sys.stderr,
        )
        return cases, []
    return hold_out(cases, options.held_out, seed)


def read_all(
    cases: Sequence[Case], pixel_um: float, config: TrainConfig, labels: LabelOptions, title: str
) -> list[Volume]:
    """Read tomograms under a progress bar."""
    volumes = load_volumes(list(cases), pixel_um=pixel_um, intensity=config.intensity, options=labels)
    return list(tqdm(volumes, total=len(cases), desc=title, unit="tomogram", file=sys.stderr, leave=False))


def check_classes(volumes: Sequence[Volume]) -> None:
    """Refuse data without any DEJ; name other classes that were never annotated.

    Raises
    ------
    DatasetError
        When no DEJ is annotated at all.
    """
    seen = np.zeros(256, np.int64)
    for volume in volumes:
        for z in volume.annotated:
            seen += np.bincount(volume.labels[z].ravel(), minlength=256)
    missing = [c.name for c in CLASSES if seen[c.label] == 0]
    if "dej" in missing:
        raise DatasetError(
            "No dej is annotated on any training tomogram; name its ROIs dej, or give --roi-class dej when "
            "the sets "
            "hold nothing but unnamed DEJ bands."
        )
    if missing:
        print(
            f"Never annotated: {', '.join(missing)}. The network learns nothing new about it; draw it on a "
            "few slices "
            "if you need it.",
            file=sys.stderr,
        )


def learned_band_um(volumes: Sequence[Volume]) -> float:
    """Return the median over tomograms of the DEJ's thickness in micrometers as the annotators draw it.

    Raises
    ------
    DatasetError
        When no column holds a whole band.
    """
    bands = [v.band_um for v in volumes if np.isfinite(v.band_um)]
    if not bands:
        raise DatasetError(
            "The annotated DEJ touches the edge of the image in every column; draw it inside the image."
        )
    return float(np.median(bands))


def make_card(
    options: FitOptions,
    config: TrainConfig,
    pixel_um: float,
    band_um: float,
    recipe: dict[str, Any],
    data: dict[str, Any],
    standing: Standing,
) -> Card:
    """Write the card of a trained network."""
    decode = config.decode.model_dump(mode="json", exclude_defaults=True)
    decode.pop("band_thickness_px", None)
    trained = {"epochs": standing.epoch, "steps": standing.step, "seconds": round(standing.seconds)}
    return Card(
        name=options.out.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        description=options.description,
        architecture=Architecture(config=config.network.model_dump(mode="json")),
        intensity=config.intensity.model_dump(mode="json"),
        decode=decode,
        pixel_size_um=pixel_um,
        band_thickness_um=band_um,
        class_weights=config.loss.class_weights,
        recipe={**recipe, "trained": trained},
        data=data,
        metrics={"held_out_dej": standing.extra} if standing.extra else {},
        intended_use=INTENDED_USE,
        limits=LIMITS,
    )
