"""What each part of a recipe gives: variants trained alike from nothing, measured on the same unseen tomograms.

A cell is one variant with one seed. Every finished cell lies in a file of its own, so that an interrupted table is
continued by the same command; cells are trained seed by seed, so that it can be read from the first seed on.

    OUT/plan.json                   what all cells share; another plan needs another folder
        cells/VARIANT-SEED.json     figures of every held-out tomogram
        checkpoints/VARIANT-SEED/   the network
        ablation.md                 the table, written anew after each cell
"""

from __future__ import annotations

import json
import math
import shutil
import statistics
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from skinoct.checkpoint import Checkpoint
from skinoct.engines import Engine, make_engine
from skinoct.engines.torch_engine import build_network
from skinoct.errors import Cancelled, OptionError
from skinoct.predictor import Predictor
from skinoct_training.dataset import Case, LabelOptions, find_cases, fingerprint, native_pixel_um
from skinoct_training.evaluate import EvaluationOptions, pick, read_subject, unweighted
from skinoct_training.families import FAMILIES
from skinoct_training.files import write_text
from skinoct_training.fit import FitOptions, fit, make_config
from skinoct_training.loop import Duration
from skinoct_training.metrics import Figures, score
from skinoct_training.network_cost import gflop, milliseconds, parameters
from skinoct_training.paper import UNCHANGED
from skinoct_training.preparation import DataOptions
from skinoct_training.report import new_folder

Part = Literal["recipe", "network", "paper"]
"""Sections of the table."""
Way = Literal["ordered", "divided", "argmax"]
"""How probabilities become labels: ordered decoding, or the likeliest class of each pixel, with or without dividing by
the class weights of the training."""
WAYS: dict[Way, str] = {
    "ordered": "ordered decoding",
    "divided": "argmax of probabilities divided by the loss weights",
    "argmax": "argmax",
}
FACTS_FILE = "phantom.json"
"""Beside a synthetic tomogram; says which family it is of."""


@dataclass(frozen=True)
class Variant:
    """A recipe that differs from the default one in a single part, or a network that differs in one number."""

    name: str
    title: str
    settings: dict[str, Any]
    """Fields of ``TrainConfig``; dictionaries are merged into those of the plan."""
    ways: tuple[Way, ...] = ("ordered",)
    part: Part = "recipe"
    """``paper`` is the paper's recipe, with its own crop."""
    longer: bool = False
    """Whether it gets more images than all others."""
    every_family: bool = False
    """Whether it is trained on phantoms of every family, all others being trained on the first alone."""

    @property
    def paper(self) -> bool:
        """Whether it is the paper's recipe."""
        return self.part == "paper"


def _network(name: str, title: str, **shape: tuple[int, ...]) -> Variant:
    return Variant(name, title, {"network": shape}, part="network")


VARIANTS = (
    Variant("whole", "the default recipe", {}, ("ordered", "argmax")),
    # At its own rate, that of ADR 15; Muon's is not its best.
    Variant("adamw", "AdamW at a rate of 0.004 instead of Muon", {"optimizer": "adamw", "learning_rate": 4e-3}),
    Variant("single-slices", "2-D: no neighboring slices", {"network": {"in_slices": 1}}),
    Variant("no-dice", "without the Dice loss", {"loss": {"dice": 0.0}}),
    Variant("surface", "with the surface loss, weight 0.02", {"loss": {"surface": 0.02}}),
    Variant("no-augmentation", "without augmentation", {"augment": UNCHANGED}),
    Variant("no-average", "without the running average of the weights", {"ema_decay": 0.0}),
    Variant("every-family", "trained on phantoms of every family", {}, every_family=True),
    _network("half-width", "half as wide: 12 20 32 48 64", widths=(12, 20, 32, 48, 64)),
    _network("narrower", "narrower: 16 24 40 64 96", widths=(16, 24, 40, 64, 96)),
    _network("wider", "wider: 32 56 88 128 176", widths=(32, 56, 88, 128, 176)),
    _network("less-deep", "four levels: 24 40 64 96", widths=(24, 40, 64, 96)),
    _network("coarser-stem", "stem 4x4", stem=(4, 4)),
    _network("finer-stem", "stem 2x2", stem=(2, 2)),
    Variant("five-slices", "five slices instead of three", {"network": {"in_slices": 5}}, part="network"),
    Variant("paper", "the paper's recipe", {}, ("argmax", "divided", "ordered"), "paper"),
    Variant("paper-longer", "the paper's recipe", {}, ("argmax", "divided", "ordered"), "paper", longer=True),
)
"""Rows of the table."""


@dataclass(frozen=True)
class Plan:
    """What all cells share."""

    data: Path
    held_out: Path
    out: Path
    labels: LabelOptions
    settings: dict[str, Any]
    """Fields of ``TrainConfig`` for all but the paper's recipe."""
    images: int
    """Crops that each variant is trained with."""
    longer: int
    """Times as many for ``paper-longer``."""
    threads: int | None = None

    def images_of(self, variant: Variant) -> int:
        """Return the crops that a variant is trained with."""
        return self.images * (self.longer if variant.longer else 1)

    def settings_of(self, variant: Variant, seed: int) -> dict[str, Any]:
        """Return what ``fit`` is given; the paper's recipe takes nothing but batch and arithmetic from ours."""
        merged = dict(self.settings)
        if variant.paper:
            merged = {"recipe": "paper", **{key: merged[key] for key in ("batch", "bfloat16") if key in merged}}
        for key, value in variant.settings.items():
            merged[key] = {**merged.get(key, {}), **value} if isinstance(value, dict) else value
        return {**merged, "epoch_images": self.images_of(variant), "seed": seed}


@dataclass(frozen=True)
class Cell:
    """One variant with one seed, and where its figures go."""

    variant: Variant
    seed: int
    plan: Plan

    @property
    def name(self) -> str:
        """Name of its file and checkpoint."""
        return f"{self.variant.name}-{self.seed}"

    @property
    def file(self) -> Path:
        """Where its figures are, once it is finished."""
        return self.plan.out / "cells" / f"{self.name}.json"


def family_of(case: Case) -> str | None:
    """Return the family of a phantom; None for any other tomogram."""
    facts = case.image.parent / FACTS_FILE
    if not facts.is_file():
        return None
    known = json.loads(facts.read_text(encoding="utf-8"))
    family = "processed" if "processed" in known else known.get("family")
    return family if isinstance(family, str) else None


def families(cases: Sequence[Case]) -> list[str]:
    """Return the families of phantoms among the cases, the paper's microscope first."""
    found = {family for case in cases if (family := family_of(case)) is not None}
    return sorted(found, key=[*FAMILIES, *sorted(found)].index)


def of_first_family(cases: Sequence[Case]) -> list[Case]:
    """Return what all variants but ``every-family`` are trained on; all cases where there are no families."""
    others = families(cases)[1:]
    return [case for case in cases if family_of(case) not in others]


def choose_cells(plan: Plan, variants: Sequence[Variant], seeds: Mapping[Part, int]) -> list[Cell]:
    """Return all cells of the table, seed by seed; ``every-family`` needs phantoms of two."""
    several = len(families(find_cases(plan.data, plan.labels.source))) > 1
    return [
        Cell(variant, seed, plan)
        for seed in range(max(seeds.values()))
        for variant in variants
        if seed < seeds[variant.part] and (several or not variant.every_family)
    ]


def prepare(plan: Plan) -> None:
    """Make the folder, or see that it holds the same plan.

    Raises
    ------
    OptionError
        When it holds another one, or anything else.
    """
    content = {
        "images": plan.images,
        "longer": plan.longer,
        # In full: a default, or a variant, that changed since would otherwise be mixed with what was.
        "settings": {v.name: make_config(plan.settings_of(v, 0)).model_dump(mode="json") for v in VARIANTS},
        "labels": plan.labels.source,
        "data": fingerprint(find_cases(plan.data, plan.labels.source)),
        "held_out": fingerprint(find_cases(plan.held_out, plan.labels.source)),
    }
    text = json.dumps(content, indent=1) + "\n"
    file = plan.out / "plan.json"
    if file.is_file():
        if file.read_text(encoding="utf-8") != text:
            raise OptionError(
                f"{plan.out} holds a table of other settings or tomograms; give --out another folder, or the options "
                "of that table to go on with it."
            )
        return
    new_folder(plan.out)
    write_text(file, text)


def run_cell(cell: Cell) -> None:
    """Train and measure a cell, and write its figures.

    Raises
    ------
    Cancelled
        When the user stopped it.
    """
    plan, start = cell.plan, time.monotonic()
    unfinished = plan.out / "unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    cases = find_cases(plan.data, plan.labels.source)
    usual = of_first_family(cases)
    chosen = cases if cell.variant.every_family else usual
    options = FitOptions(
        # One pixel size for all, whatever else they are trained on.
        data=DataOptions(
            plan.data, plan.labels, 0, tuple(c.name for c in cases if c not in chosen), pixel_um=native_pixel_um(usual)
        ),
        out=unfinished / cell.name,
        run=unfinished / "run",
        duration=Duration(epochs=1),
        threads=plan.threads,
    )
    checkpoint, standing = fit(options, plan.settings_of(cell.variant, cell.seed))
    if checkpoint is None:
        raise Cancelled("Stopped, as asked; the same command goes on with the cells that are missing.")
    held_out, engine = find_cases(plan.held_out, plan.labels.source), make_engine(checkpoint, threads=plan.threads)
    content = {
        "variant": cell.variant.name,
        "seed": cell.seed,
        "images": plan.images_of(cell.variant),
        "training_seconds": round(standing.seconds, 1),
        "families": {case.name: family_of(case) for case in held_out},
        "network": network_cost(checkpoint, engine),
        "figures": {way: examine(checkpoint, held_out, plan.labels, way, engine) for way in cell.variant.ways},
    }
    content["seconds"] = round(time.monotonic() - start, 1)
    kept = plan.out / "checkpoints" / cell.name
    kept.parent.mkdir(exist_ok=True)
    shutil.rmtree(kept, ignore_errors=True)
    (unfinished / cell.name).rename(kept)
    shutil.rmtree(unfinished)
    cell.file.parent.mkdir(exist_ok=True)
    write_text(cell.file, json.dumps(content, indent=1) + "\n")


def network_cost(checkpoint: Checkpoint, engine: Engine) -> dict[str, float]:
    """Return what the network costs on this machine."""
    network = build_network(checkpoint)
    return {
        "parameters": parameters(network),
        "gflop": gflop(network),
        "milliseconds": statistics.median(milliseconds(engine, network.config.in_slices, repeat=3)),
    }


def examine(
    checkpoint: Checkpoint, cases: Sequence[Case], labels: LabelOptions, way: Way, engine: Engine | None = None
) -> dict[str, dict[str, float | None]]:
    """Return the figures of each tomogram, ready for JSON; an engine that is at hand need not be made again.

    Raises
    ------
    DatasetError
        When a tomogram or its annotation cannot be used.
    """
    predictor = Predictor(unweighted(checkpoint) if way == "argmax" else checkpoint, engine=engine)
    intensity, options = checkpoint.card.intensity, EvaluationOptions(labels=labels)
    found: dict[str, dict[str, float | None]] = {}
    for case in cases:
        subject, tomogram = read_subject(case, options, intensity)
        segmentation = predictor.segment(tomogram, decode="ordered" if way == "ordered" else "pixel")
        figures = score(pick(segmentation, subject), subject.annotated, um=subject.um, slices=subject.slices)
        found[case.name] = {key: value if math.isfinite(value) else None for key, value in figures.items()}
    return found


@dataclass(frozen=True)
class Result:
    """A finished cell."""

    cell: Cell
    content: dict[str, Any]

    def tomograms(self, way: Way, kinds: Collection[str] | None = None) -> list[Figures]:
        """Return the figures of each held-out tomogram, of some families or of all."""
        chosen = self.content["families"]
        return [
            {key: math.nan if value is None else value for key, value in figures.items()}
            for name, figures in self.content["figures"][way].items()
            if kinds is None or chosen[name] in kinds
        ]


def results(cells: Sequence[Cell]) -> Iterator[Result]:
    """Yield what is finished."""
    for cell in cells:
        if cell.file.is_file():
            yield Result(cell, json.loads(cell.file.read_text(encoding="utf-8")))


def expected_seconds(cells: Sequence[Cell]) -> dict[str, float]:
    """Measure how fast this machine trains, and return the seconds that each cell's training should take, by name."""
    from skinoct_training.benchmark import measure_speed

    speeds: dict[str, float] = {}
    for cell in cells:
        key = speed_key(cell)
        if key not in speeds:
            config = make_config(cell.plan.settings_of(cell.variant, 0))
            speeds[key] = measure_speed(config, seconds=3.0, shape=(8, 224, 512)).images_per_second
    return {cell.name: cell.plan.images_of(cell.variant) / speeds[speed_key(cell)] for cell in cells}


def speed_key(cell: Cell) -> str:
    """Return what cells that train equally fast have in common."""
    return cell.variant.name if cell.variant.part == "network" else cell.variant.part
