"""``skinoct-train evaluate``: measure a checkpoint on annotated tomograms."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from skinoct_training.commands.options import add_label_options, label_options, positive, red


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("checkpoint", help="checkpoint folder, or name of a shipped one, or default")
    parser.add_argument("data", type=Path, help="folder of tomogram folders that training never saw")
    parser.add_argument("--out", type=Path, required=True, help="folder for report.json, report.html and figures")
    parser.add_argument("--paper", metavar="CHECKPOINT", help="a checkpoint of --recipe paper, to compare with")
    parser.add_argument("--card", action="store_true", help="also write the figures into the checkpoint's card")
    parser.add_argument("--explain", action="store_true", help="also show what the filters respond to")
    parser.add_argument(
        "--split",
        choices=("by-tomogram", "by-slice"),
        default="by-tomogram",
        help=("by-slice examines the slices that fit --split by-slice held out; it exists only to show the leak"),
    )
    parser.add_argument("--threads", type=positive, help="CPU threads (default: all)")
    add_label_options(parser)


def run(args: argparse.Namespace) -> None:
    """Evaluate and say the figures that matter."""
    from skinoct.checkpoint import open_checkpoint
    from skinoct.checkpoint_write import save_checkpoint
    from skinoct.errors import OptionError
    from skinoct.predictor import Predictor
    from skinoct_training.dataset import find_cases
    from skinoct_training.evaluate import EvaluationOptions, card_figures, evaluate, report
    from skinoct_training.paper import is_papers
    from skinoct_training.report import ROWS, look_up, new_folder, number, write_report

    checkpoint = open_checkpoint(args.checkpoint)
    cases = find_cases(args.data, args.labels)
    paper = open_checkpoint(args.paper) if args.paper else None
    if paper is not None and not is_papers(paper.card.class_weights):
        raise OptionError(f"{paper.card.name} was not trained with --recipe paper, so --paper cannot be it.")
    options = EvaluationOptions(
        labels=label_options(args),
        by_slice=args.split == "by-slice",
        paper=paper,
    )
    folder = new_folder(args.out)
    predictor = Predictor(checkpoint, threads=args.threads)
    outcome = evaluate(
        checkpoint,
        cases,
        options,
        predictor=predictor,
        progress=lambda name: print(f"measuring {name}", file=sys.stderr),
    )
    content = report(outcome, checkpoint, options)
    extra = {}
    if args.explain:
        from skinoct_training.explain import explain

        extra = {"What the filters respond to": explain(checkpoint, folder / "filters.png")}
    write_report(content, outcome, folder, extra)
    if args.card and checkpoint.folder is not None:
        metrics = {**checkpoint.card.metrics, "evaluation": card_figures(content)}
        card = checkpoint.card.model_copy(update={"metrics": metrics})
        save_checkpoint(checkpoint.folder, card, checkpoint.weights, overwrite=True)
    for warning in content["warnings"]:
        print(red(warning, sys.stdout))
    for key, title, _ in ROWS[:12]:
        others = ", ".join(
            f"{name.replace('_', ' ')} {number(look_up(b, key))}" for name, b in content["baselines"].items()
        )
        print(f"{title}: {number(look_up(content, key))} ({others})")
    print(f"Report: {folder / 'report.html'}")
