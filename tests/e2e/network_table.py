"""Print size, arithmetic and speed of U-Nets, and the accuracy of those that were trained.

python tests/e2e/network_table.py [--repeat 5] [--checkpoints FOLDER ...] [STEM:WIDTHS ...]

``2x4:24,40,64,96,128`` folds 2 rows and 4 columns into channels and has five levels. A network without a checkpoint has
random weights, which run as fast as trained ones; its accuracy is a dash. To fill it, train that network and evaluate
it, each with the same data, seed and number of images, and give its folder after ``--checkpoints``::

    skinoct-train fit DATA --config NETWORK.json --out FOLDER
    skinoct-train evaluate FOLDER HELD_OUT --out REPORT --card

where NETWORK.json holds ``{"network": {"stem": [2, 4], "widths": [24, 40, 64, 96, 128]}}``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from skinoct.checkpoint import Architecture, Card, Checkpoint, load_checkpoint
from skinoct.engines import make_engine
from skinoct.engines.torch_engine import build_network
from skinoct.errors import SkinoctError
from skinoct.unet import UNet, UNetConfig
from skinoct_training.network_cost import gflop, milliseconds, parameters

NETWORKS = (
    "2x4:24,40,64,96,128",
    "2x4:16,24,40,64,96",
    "2x4:32,56,88,128,176",
    "2x4:24,40,64,96",
    "2x2:16,24,40,64,96",
    "2x2:24,40,64,96,128",
    "4x4:32,56,88,128",
    "1x2:16,32,64,128,256",
)
"""Around the shipped network, which is the first: narrower, wider, less deep, finer and coarser stems."""


@dataclass(frozen=True)
class Row:
    """One network."""

    name: str
    checkpoint: Checkpoint

    def cells(self, repeat: int) -> Iterator[str]:
        """Yield the cells of its row of the table."""
        network = build_network(self.checkpoint)
        config = network.config
        yield self.name
        yield f"{config.stem[0]}x{config.stem[1]}"
        yield " ".join(map(str, config.widths))
        yield f"{parameters(network) / 1e3:.0f}"
        yield f"{gflop(network):.2f}"
        engine = make_engine(self.checkpoint)
        times = milliseconds(engine, config.in_slices, repeat)
        yield f"{statistics.median(times):.1f} ({min(times):.1f}-{max(times):.1f})"
        yield engine.name
        evaluation = self.checkpoint.card.metrics.get("evaluation", {})
        yield f"{evaluation['dej']['mae_um']:.2f}" if evaluation else "-"
        yield f"{evaluation['classes']['dej']['recall']:.3f}" if evaluation else "-"


HEADER = (
    "network",
    "stem",
    "widths",
    "1,000 parameters",
    "GFLOP",
    "ms a B-scan (range)",
    "engine",
    "DEJ error, um",
    "DEJ recall",
)


def untrained(text: str) -> Row:
    """Return a network with random weights.

    Raises
    ------
    ValueError
        When ``text`` is not ``STEM:WIDTHS``.
    """
    stem, widths = text.split(":")
    rows, columns = map(int, stem.split("x"))
    config = UNetConfig(stem=(rows, columns), widths=tuple(map(int, widths.split(","))))
    torch.manual_seed(0)
    architecture: dict[str, Any] = config.model_dump(mode="json")
    card = Card(
        name=text,
        created="2026-01-01T00:00:00Z",
        architecture=Architecture(config=architecture),
        pixel_size_um=0.9,
        band_thickness_um=5.0,
    )
    return Row("untrained", Checkpoint(card, UNet(config).state_dict()))


def main() -> int:
    """Print the table; a failure is one sentence and status 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", metavar="STEM:WIDTHS", help="untrained networks (default: eight)")
    parser.add_argument("--checkpoints", type=Path, nargs="+", default=[], help="trained ones")
    parser.add_argument("--repeat", type=int, default=5, help="runs of each (default: 5)")
    options = parser.parse_args()
    try:
        rows = [Row(folder.name, load_checkpoint(folder)) for folder in options.checkpoints]
        rows += [untrained(text) for text in options.networks or ([] if rows else NETWORKS)]
    except ValueError:
        parser.error("a network is written like 2x4:24,40,64,96,128")
    except SkinoctError as error:
        print(f"network-table: {error}", file=sys.stderr)
        return 1
    for line in (HEADER, ["---"] * len(HEADER)):
        print(f"| {' | '.join(line)} |")
    for row in rows:
        print(f"| {' | '.join(row.cells(options.repeat))} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
