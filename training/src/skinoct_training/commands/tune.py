"""``skinoct-train tune``: choose the settings of ordered decoding for a checkpoint."""

from __future__ import annotations

import argparse
from pathlib import Path

from skinoct_training.commands.options import add_label_options, label_options, positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("checkpoint", help="checkpoint folder, or name of a shipped one, or default")
    parser.add_argument(
        "data",
        type=Path,
        help="folder of tomogram folders: neither trained on nor used by evaluate, which would flatter",
    )
    parser.add_argument("--write", action="store_true", help="write the settings into the checkpoint's card")
    parser.add_argument("--threads", type=positive, help="CPU threads (default: all)")
    add_label_options(parser)


def run(args: argparse.Namespace) -> None:
    """Tune, say every trial, and write the card if asked."""
    from skinoct.checkpoint import open_checkpoint
    from skinoct.checkpoint_write import save_checkpoint
    from skinoct.engines import make_engine
    from skinoct_training.dataset import find_cases
    from skinoct_training.tune import gather, tune

    checkpoint = open_checkpoint(args.checkpoint)
    card = checkpoint.card
    engine = make_engine(checkpoint, threads=args.threads)
    evidence = list(gather(checkpoint, engine, find_cases(args.data, args.labels), label_options(args)))
    start = card.decode.model_copy(update={"band_thickness_px": card.band_thickness_um / card.pixel_size_um})
    found = tune(evidence, start, lambda line: print(line, flush=True))
    settings = found.model_copy(update={"band_thickness_px": card.decode.band_thickness_px})
    print(f"Settings that differ from the defaults: {settings.model_dump(mode='json', exclude_defaults=True)}")
    if args.write and checkpoint.folder is not None:
        save_checkpoint(
            checkpoint.folder, card.model_copy(update={"decode": settings}), checkpoint.weights, overwrite=True
        )
        print(f"Written to the card of {checkpoint.folder}")
