"""``skinoct-train ablate``: measure what each part of the recipe gives."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skinoct_training.commands.options import add_label_options, label_options, positive, read_config

if TYPE_CHECKING:
    from skinoct_training.ablation import Cell, Part, Plan

PARTS = ("recipe", "network", "paper", "all")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("data", type=Path, help="folder of tomogram folders to train on")
    parser.add_argument("--held-out", type=Path, required=True, help="folder of tomogram folders to measure on")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for the table; the same command goes on with it"
    )
    parser.add_argument(
        "--images", type=positive, default=4096, help="crops that each network is trained with (default 4096)"
    )
    parser.add_argument("--longer", type=positive, default=2, help="times as many for the paper's recipe (default 2)")
    parser.add_argument("--seeds", type=positive, default=3, help="trainings of each variant (default 3)")
    parser.add_argument("--network-seeds", type=positive, default=1, help="trainings of each other network (default 1)")
    parser.add_argument("--paper-seeds", type=positive, default=1, help="trainings of the paper's recipe (default 1)")
    parser.add_argument("--part", choices=PARTS, default="all", help="only one section of the table")
    parser.add_argument("--config", type=Path, help="JSON file with settings that differ from the defaults")
    parser.add_argument(
        "--crop", type=int, nargs=2, default=(224, 128), metavar=("ROWS", "COLUMNS"), help="size of a crop"
    )
    parser.add_argument("--batch", type=positive, default=4, help="crops per step (default 4)")
    parser.add_argument("--threads", type=positive, help="CPU threads (default: all)")
    add_label_options(parser)


def run(args: argparse.Namespace) -> None:
    """Train what is missing, cell by cell, and write the table after each."""
    import torch

    from skinoct_training.ablation import VARIANTS, Plan, choose_cells, prepare

    if args.threads:
        torch.set_num_threads(args.threads)
    settings: dict[str, Any] = {**read_config(args.config), "crop": list(args.crop), "batch": args.batch}
    plan = Plan(
        data=args.data,
        held_out=args.held_out,
        out=args.out,
        labels=label_options(args),
        settings=settings,
        images=args.images,
        longer=args.longer,
        threads=args.threads,
    )
    seeds: dict[Part, int] = {"recipe": args.seeds, "network": args.network_seeds, "paper": args.paper_seeds}
    cells = choose_cells(plan, VARIANTS, seeds)
    wanted = [cell for cell in cells if args.part in ("all", cell.variant.part)]
    prepare(plan)
    train_missing(plan, cells, [cell for cell in wanted if not cell.file.is_file()])
    print(f"Table: {args.out / 'ablation.md'}")


def train_missing(plan: Plan, cells: list[Cell], missing: list[Cell]) -> None:
    """Train cells, say how long it will take, and write the table of all that is finished."""
    from skinoct_training.ablation import expected_seconds, run_cell
    from skinoct_training.ablation_table import page
    from skinoct_training.files import write_text

    command = "skinoct-train " + " ".join(sys.argv[1:])
    expected = expected_seconds(missing)
    total = sum(expected.values())
    print(f"{len(missing)} trainings to do, about {total / 60:.0f} minutes and the measuring.", file=sys.stderr)
    start, done = time.monotonic(), 0.0
    for number, cell in enumerate(missing, 1):
        print(f"{number} of {len(missing)}: {cell.variant.title}, seed {cell.seed}", file=sys.stderr)
        run_cell(cell)
        done += expected[cell.name]
        left = (time.monotonic() - start) * (total / done - 1)
        print(f"about {left / 60:.0f} minutes left", file=sys.stderr)
        write_text(plan.out / "ablation.md", page(plan, cells, command))
    if not missing:
        write_text(plan.out / "ablation.md", page(plan, cells, command))
