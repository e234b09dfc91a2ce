"""The table of an ablation, as a Markdown page that says by itself what was compared, where and how."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from skinoct_training.ablation import (
    WAYS,
    Cell,
    Part,
    Plan,
    Result,
    Variant,
    Way,
    families,
    of_first_family,
    results,
)
from skinoct_training.dataset import Case, find_cases
from skinoct_training.fit import make_config
from skinoct_training.metrics import Figures, summarize
from skinoct_training.run_folder import environment

COLUMNS = {
    "dej.mae_with_gaps_um": "DEJ error, um",
    "dej.thickness_ratio": "band thickness / annotated",
    "dej.dice": "DEJ Dice",
    "classes.dej.recall": "DEJ recall",
    "dej.islands_per_slice": "islands per slice",
    "dej.gap_fraction": "columns without DEJ",
    "order_violations": "columns out of order",
}
"""Figures that are shown."""
ERROR = "dej.mae_with_gaps_um"
COSTS = {"parameters": "parameters", "gflop": "GFLOP a B-scan", "milliseconds": "ms a B-scan"}
PARTS: tuple[Part, ...] = ("recipe", "network", "paper")
NETWORK_WORDS = (
    "The default recipe with another U-Net: channels of its levels, and rows and columns that its stem folds into "
    "channels (ours, above: 24 40 64 96 128 with a stem of 2x4). Time is that of a B-scan of 224 x 512 on the engine "
    "that this machine uses."
)


@dataclass(frozen=True)
class Row:
    """A variant, read in one way, with all its seeds."""

    variant: Variant
    way: Way
    seeds: list[Result]

    def spread(self, figure: Callable[[Result], float]) -> str:
        """Return mean and standard deviation over the seeds."""
        values = np.array([figure(result) for result in self.seeds])
        values = values[np.isfinite(values)]
        if not values.size:
            return "-"
        mean = f"{values.mean():.3g}"
        return f"{mean} ± {values.std(ddof=1):.2g}" if values.size > 1 else mean

    def mean(self, key: str, kinds: Collection[str] | None = None) -> str:
        """Return a figure, the mean over the held-out tomograms of some families or of all, with its spread."""
        return self.spread(lambda result: average(result.tomograms(self.way, kinds), key))

    def cost(self, key: str) -> str:
        """Return what the network costs, the median of the seeds."""
        value = float(np.median([result.content["network"][key] for result in self.seeds]))
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def average(tomograms: Sequence[Figures], key: str) -> float:
    """Return the mean of one figure over tomograms."""
    return summarize(tomograms).get(key, float("nan")) if tomograms else float("nan")


def rows(found: Sequence[Result]) -> list[Row]:
    """Gather finished cells by variant and way, in the order of their first appearance."""
    gathered: dict[tuple[str, Way], Row] = {}
    for result in found:
        for way in result.cell.variant.ways:
            row = gathered.setdefault((result.cell.variant.name, way), Row(result.cell.variant, way, []))
            row.seeds.append(result)
    return list(gathered.values())


def page(plan: Plan, cells: Sequence[Cell], command: str) -> str:
    """Return the whole page for what is finished."""
    found = rows(list(results(cells)))
    ours, networks, paper = ([row for row in found if row.variant.part == part] for part in PARTS)
    whole = [row for row in ours if row.variant.name == "whole" and row.way == "ordered"]
    parts = ["# What each part of the training gives", introduction(plan, cells)]
    if ours:
        parts += ["## Our recipe and what happens without its parts", table(plan, ours)]
    if networks:
        parts += ["## Other networks", NETWORK_WORDS, table(plan, [*whole, *networks], costs=True)]
    if paper:
        parts += ["## The paper's recipe", paper_words(plan), table(plan, [*whole, *paper])]
    parts += ["## Where", where(command)]
    return "\n\n".join(parts) + "\n"


def introduction(plan: Plan, cells: Sequence[Cell]) -> str:
    """Say what was compared, and that the trainings are short."""
    train, held_out = (find_cases(folder, plan.labels.source) for folder in (plan.data, plan.held_out))
    synthetic = "Synthetic tomograms (phantoms) only. " if families([*train, *held_out]) else ""
    config = make_config(plan.settings_of(Variant("", "", {}), 0))
    done, steps = sum(cell.file.is_file() for cell in cells), plan.images // config.batch
    usual, others = count_of(train)
    trained_on = f"{usual}; *of every family* also from {others}" if others else usual
    usual, others = count_of(held_out)
    elsewhere = f" The last column is the error on {others}." if others else ""
    return (
        f"{synthetic}**Short trainings**: every network starts from random weights and sees {plan.images} crops of "
        f"{config.crop[0]} x {config.crop[1]} pixels ({steps} steps of {config.batch}) from {trained_on}. A checkpoint "
        "for use sees many times as many: the figures say what a part gives at this length, not what the recipe can "
        f"reach. Measured on {usual} that no network saw; each figure is the mean over them, then mean ± standard "
        "deviation over the seeds. Where no DEJ was found, the error is the distance to the edge of the image."
        f"{elsewhere} {done} of {len(cells)} trainings are finished."
    )


def count_of(cases: Sequence[Case]) -> tuple[str, str]:
    """Return words for the tomograms of the first family and for all others, empty where there are none."""
    usual, kinds = of_first_family(cases), families(cases)
    words = f"{len(usual)} tomogram{'s' * (len(usual) > 1)}" + (f" of the family `{kinds[0]}`" if kinds else "")
    others = f"{len(cases) - len(usual)} of {', '.join(f'`{kind}`' for kind in kinds[1:])}" if kinds[1:] else ""
    return words, others


def paper_words(plan: Plan) -> str:
    """Say how the paper's recipe was trained."""
    config = make_config({"recipe": "paper"})
    weights = ", ".join(f"{weight:g}" for weight in config.loss.class_weights)
    return (
        f"Single B-scans of {config.crop[0]} x {config.crop[1]}, six filters in the last layer, cross-entropy with "
        f"weights {weights} for glass, glycerol, epidermis, DEJ and dermis, no augmentation, argmax; trained with the "
        f"same number of images, and with {plan.longer} times as many. Its images are whole B-scans, larger than our "
        "crops. Ours stands above it."
    )


def table(plan: Plan, found: Sequence[Row], *, costs: bool = False) -> str:
    """Return the rows; where the held-out tomograms are of several families, figures are those of the first."""
    kinds = families(find_cases(plan.held_out, plan.labels.source))
    usual, others = kinds[:1], kinds[1:]
    heads = ["", "images", "seeds", *COLUMNS.values()]
    heads += [f"{COLUMNS[ERROR]}, on other families"] if others else []
    heads += list(COSTS.values()) if costs else []
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in found:
        title = f"{row.variant.title}, {WAYS[row.way]}" if len(row.variant.ways) > 1 else row.variant.title
        cells = [title, str(plan.images_of(row.variant)), str(len(row.seeds))]
        cells += [row.mean(key, usual if others else None) for key in COLUMNS]
        cells += [row.mean(ERROR, others)] if others else []
        cells += [row.cost(key) for key in COSTS] if costs else []
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def where(command: str) -> str:
    """Return machine, versions and command."""
    return "\n".join(facts(command))


def facts(command: str) -> Iterator[str]:
    """Yield one line of a list for each fact."""
    yield f"- Command: `{command}`"
    for name, value in environment().items():
        yield f"- {name}: {value}"
