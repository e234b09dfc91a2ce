"""Weights beside each other on annotated tomograms: loss of the same crops, and mean and median DEJ error.

    python tests/e2e/compare.py CHECKPOINT [CHECKPOINT ...] --data FOLDER [FOLDER ...] [--threads 1]

To choose among stages and means of a training (ADR 11), on tomograms that nothing else is reported of. The loss is that
of a training (``skinoct_training.losses``) without augmentation, at the true pixel size, before decoding: one tomogram
with a large error does not decide it.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from skinoct.checkpoint import Checkpoint, open_checkpoint
from skinoct.engines import make_engine, network_config
from skinoct.engines.torch_engine import build_network
from skinoct.predictor import Predictor
from skinoct_training.config import TrainConfig
from skinoct_training.dataset import LabelOptions, find_cases, load_volumes, open_image, pixel_um_of, read_labels
from skinoct_training.losses import layer_loss
from skinoct_training.metrics import column_errors
from skinoct_training.sampling import Sampler

LABELS = LabelOptions("labels")
CROPS = 64
BATCH = 8
SEED = 5


@dataclass(frozen=True)
class Compared:
    """What is said of a checkpoint on a folder."""

    loss: float
    mean_um: float
    """A missing DEJ counts as lying at the edge of the image."""
    median_um: float


@torch.inference_mode()
def crop_loss(checkpoint: Checkpoint, data: Path) -> float:
    """Return the mean loss of ``CROPS`` crops, the same for every checkpoint of one pixel size."""
    card, config = checkpoint.card, TrainConfig()
    volumes = load_volumes(
        find_cases(data, "labels"), pixel_um=card.pixel_size_um, intensity=card.intensity, options=LABELS
    )
    sampler = Sampler(
        list(volumes),
        in_slices=network_config(checkpoint).in_slices,
        crop=config.crop,
        spacings=(1,),
        slice_step_um=card.slice_step_um,
        device=torch.device("cpu"),
    )
    network = build_network(checkpoint).eval()
    batches = sampler.batches(CROPS, BATCH, np.random.default_rng(SEED))
    return float(
        np.mean([float(layer_loss(network(images.float() / 255), labels, config.loss)) for images, labels in batches])
    )


def compare(checkpoint: Checkpoint, data: Path, threads: int) -> Compared:
    """Measure one checkpoint on one folder."""
    predictor = Predictor(checkpoint, engine=make_engine(checkpoint, threads=threads))
    errors = []
    for case in find_cases(data, "labels"):
        image = open_image(case)
        um = pixel_um_of(image)[0]
        labels = read_labels(case, image.voxels.shape, LABELS, um)
        errors.append(column_errors(predictor.segment(image).labels(), labels, um).score_um)
    return Compared(crop_loss(checkpoint, data), float(np.nanmean(errors)), float(np.nanmedian(errors)))


def main(arguments: list[str] | None = None) -> None:
    """Print a line for each checkpoint and folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("checkpoints", nargs="+", help="folders or names")
    parser.add_argument("--data", nargs="+", type=Path, required=True, help="folders of tomogram folders with labels")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    print("| weights | tomograms | loss | mean DEJ error, um | median |\n|---|---|---|---|---|")
    for data in options.data:
        for name in options.checkpoints:
            checkpoint = open_checkpoint(name)
            found = compare(checkpoint, data, options.threads)
            weights = (checkpoint.card.weights_sha256 or "")[:12]
            print(
                f"| {weights} | {data.name} | {found.loss:.3f} | {found.mean_um:.1f} | {found.median_um:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
