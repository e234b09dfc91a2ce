"""A training from folder to checkpoint: read, train, keep the best, write its card."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from skinoct.checkpoint import CARD_FILE, Architecture, Card, Checkpoint, load_checkpoint, open_checkpoint
from skinoct.checkpoint_write import recover_checkpoint, save_checkpoint
from skinoct.engines.torch_engine import build_network
from skinoct.errors import OptionError
from skinoct.unet import UNet
from skinoct_training.augment import GENTLE
from skinoct_training.config import TrainConfig
from skinoct_training.dataset import Volume
from skinoct_training.distributed import process_group, rank
from skinoct_training.follow import Picture, make_picture
from skinoct_training.grow import can_grow, grow
from skinoct_training.heap import keep_freed_memory
from skinoct_training.leaks import known
from skinoct_training.loop import Duration, Standing, Trainer
from skinoct_training.metrics import ColumnErrors
from skinoct_training.preparation import DataOptions, TrainingSet, read, select
from skinoct_training.rehearsal import TOMOGRAMS, MixedSampler, draw_rehearsal
from skinoct_training.run_folder import RunFolder, environment
from skinoct_training.sampling import Sampler
from skinoct_training.validation import validate, windows

INTENDED_USE = "Research on full-field OCT tomograms of skin. Not for clinical use."
LIMITS = (
    "Knows only skin like that of its training tomograms; check it on annotated tomograms of your own "
    "microscope "
    "(skinoct-train evaluate) and retrain on your own ROI sets (skinoct-train fit --from)."
)


KEPT_BYTES = 2**30
"""Freed memory that a training keeps: a few batches."""
FINE_TUNE_RATE = 0.25
"""Share of the learning rate that a fine-tune gets: what is known should not be shaken out."""


@dataclass(frozen=True)
class FitOptions:
    """What to train on, for how long, and where everything goes."""

    data: DataOptions
    out: Path
    """Checkpoint folder to write."""
    run: Path
    """Run folder."""
    duration: Duration
    resume: bool = False
    threads: int | None = None
    start: str | None = None
    """Checkpoint to fine-tune, a folder or a name; ``default`` is the shipped one."""
    description: str = ""
    """One sentence for the card."""
    command: str = ""
    """Command line, for the card."""


def make_config(settings: dict[str, Any]) -> TrainConfig:
    """Build a configuration from the settings that differ from the defaults.

    Raises
    ------
    OptionError
        When one of them does not exist or has a value that is not possible.
    """
    settings = dict(settings)
    if settings.pop("recipe", "default") == "paper":
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

    The checkpoint is None when the user stopped before there was one, and in all but the first process under
    ``torchrun``.

    Parameters
    ----------
    options : FitOptions
    settings : dict
        Fields of ``TrainConfig`` that differ from the defaults, and perhaps ``recipe``.

    Raises
    ------
    DatasetError, OptionError, CheckpointError
        Before any training, when data, options or the checkpoint to start from cannot be used; the last two also when
        the training diverges.
    """
    with process_group() as device:
        return fit_on(device, options, settings)


def fit_on(device: torch.device, options: FitOptions, settings: dict[str, Any]) -> tuple[Checkpoint | None, Standing]:
    """Do what ``fit`` says, on one device."""
    require_place(options.out, resume=options.resume)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    keep_freed_memory(KEPT_BYTES)
    base = open_checkpoint(options.start) if options.start is not None else None
    config = adopt(make_config(settings), base, settings)
    selection = select(options.data, config.seed, fine_tune=base is not None)
    run = RunFolder(options.run, resume=options.resume, writing=rank() == 0)
    if options.resume and rank() == 0:
        recover_checkpoint(options.out)
    recipe = {
        "command": options.command,
        "config": config.model_dump(mode="json"),
        "options": reading_options(options.data),
        "environment": environment(),
    }
    if base is not None:
        recipe["start"] = {"name": base.card.name, "weights_sha256": base.card.weights_sha256}
    data = selection.describe(options.data.by_slice)
    if base is not None:
        data["start"] = known(base.card).content()
    rehearse = base is not None and config.rehearsal > 0 and knows_phantoms(base.card)
    if rehearse:
        data["rehearsed"] = TOMOGRAMS
    run.write_json("config.json", recipe)
    run.write_json("data.json", data)

    material = read(selection, options.data, config.intensity, base.card.pixel_size_um if base else None)
    kept: list[Checkpoint] = []

    def keep(weights: dict[str, Tensor], standing: Standing) -> None:
        card = make_card(options, config, material, recipe, data, standing)
        kept[:] = [save_checkpoint(options.out, card, weights, overwrite=True)]

    network = start_network(config, base).to(device)
    sampler = make_sampler(material, config, device, rehearse=rehearse)
    measure, picture = followers(material, config)
    trainer = Trainer(network, sampler, config, options.duration, run, measure, keep, picture)
    standing = trainer.run()
    if not kept and options.resume and options.out.exists():
        return load_checkpoint(options.out), standing  # nothing better came since
    return (kept[0] if kept else None), standing


def require_place(out: Path, *, resume: bool) -> None:
    """See before the training that its checkpoint can be written at the end of the first epoch.

    Raises
    ------
    OptionError
        When something is there that must not be replaced, or nothing can be written there.
    """
    if out.exists() and not resume:
        raise OptionError(f"{out} exists already; choose another name, or --resume to go on with its run.")
    if out.exists() and not (out / CARD_FILE).is_file():
        raise OptionError(f"{out} exists already and is no checkpoint, so it is not replaced; choose another name.")
    parent = next(folder for folder in out.absolute().parents if folder.exists())
    if not parent.is_dir():
        raise OptionError(f"{out} cannot be written, because {parent} is a file; choose another --out.")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OptionError(f"{out} cannot be written, because {parent} does not allow it; choose another --out.")


def reading_options(options: DataOptions) -> dict[str, Any]:
    """Return the options that say how data are read, by their names on the command line, for card and run folder."""
    labels = options.labels
    return {
        "pixel-size": options.pixel_um,
        "labels": labels.source,
        "roi-class": None if labels.roi_class is None else labels.roi_class.name.lower(),
    }


def make_sampler(
    material: TrainingSet, config: TrainConfig, device: torch.device, *, rehearse: bool
) -> Sampler | MixedSampler:
    """Return what cuts the crops of a training: from its tomograms, and perhaps from phantoms beside them."""

    def sampler(volumes: list[Volume]) -> Sampler:
        network = config.network
        return Sampler(
            volumes,
            in_slices=network.in_slices,
            crop=config.crop,
            spacings=config.spacings,
            slice_step_um=config.slice_step_um,
            device=device,
        )

    if not rehearse:
        return sampler(material.train)
    phantoms = draw_rehearsal(config.seed, material.pixel_um, config.intensity)
    return MixedSampler(sampler(material.train), sampler(phantoms), config.rehearsal)


def knows_phantoms(card: Card) -> bool:
    """Return whether a checkpoint was trained on phantoms: only what was once known can be rehearsed."""
    trained_on: list[str] = card.data.get("trained_on", [])
    return bool(card.data.get("rehearsed")) or any(name.startswith("phantom-") for name in trained_on)


def adopt(config: TrainConfig, base: Checkpoint | None, settings: dict[str, Any]) -> TrainConfig:
    """Take network, normalization and decoding from the checkpoint to fine-tune; without one return ``config``.

    What ``settings`` ask for wins over the checkpoint's decoding and over gentle augmentation.

    Raises
    ------
    OptionError
        When the settings ask for a network of their own, to which that of the checkpoint cannot grow.
    """
    if base is None:
        return config
    paper = settings.get("recipe") == "paper"
    asked = paper or "network" in settings
    network = build_network(base).config
    if asked and not can_grow(network, config.network):
        raise OptionError(
            f"The checkpoint {base.card.name} holds a network that cannot grow to the one that the settings ask for: "
            "only slices may be added and levels made wider. Leave --from away to train theirs from the start, or take "
            "the network out of the settings."
        )
    network = config.network if asked else network
    return config.model_copy(
        update={
            "network": network,
            "intensity": base.card.intensity,
            "slice_step_um": config.slice_step_um if "slice_step_um" in settings else base.card.slice_step_um,
            "decode": config.decode if "decode" in settings else base.card.decode,
            "augment": config.augment if paper or "augment" in settings else GENTLE,
            "learning_rate": config.learning_rate * FINE_TUNE_RATE,
        }
    )


def start_network(config: TrainConfig, base: Checkpoint | None) -> UNet:
    """Return the network to train: random from the seed, or that of a checkpoint."""
    torch.manual_seed(config.seed)
    return grow(build_network(base), config.network) if base else UNet(config.network)


def followers(
    material: TrainingSet, config: TrainConfig
) -> tuple[Callable[[nn.Module], ColumnErrors], Picture] | tuple[None, None]:
    """Return what measures a network on the held-out tomograms and what draws one of them; None without any."""
    if not material.held_out:
        return None, None
    context = config.network.in_slices // 2
    chosen = [windows(v, config.val_slices, config.slice_step_um, context=context) for v in material.held_out]
    decode = None
    if config.decode_validation == "ordered":
        band_px = material.band_um / material.pixel_um
        decode = config.decode.model_copy(update={"band_thickness_px": band_px})

    def measure(network: nn.Module) -> ColumnErrors:
        return validate(network, [w for several in chosen for w in several], context=context, decode=decode)

    return measure, make_picture(chosen[0][0], context=context, decode=decode)


def make_card(
    options: FitOptions,
    config: TrainConfig,
    material: TrainingSet,
    recipe: dict[str, Any],
    data: dict[str, Any],
    standing: Standing,
) -> Card:
    """Write the card of a trained network."""
    trained = {"epochs": standing.epoch, "steps": standing.step, "seconds": round(standing.seconds)}
    return Card(
        name=options.out.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        description=options.description,
        architecture=Architecture(config=config.network.model_dump(mode="json")),
        intensity=config.intensity,
        decode=config.decode,
        pixel_size_um=material.pixel_um,
        slice_step_um=config.slice_step_um,
        band_thickness_um=material.band_um,
        class_weights=config.loss.class_weights,
        recipe={**recipe, "trained": trained},
        data=data,
        metrics={"held_out_dej": standing.extra} if standing.extra else {},
        intended_use=INTENDED_USE,
        limits=LIMITS,
    )
