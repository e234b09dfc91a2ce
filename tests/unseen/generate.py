"""Write tomograms of five kinds of instruments with their labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skinoct.tomogram import PixelSize, write_labels, write_tomogram

from .display import Voxels, develop
from .instruments import KINDS, Kind, draw_recipe
from .optics import illuminate, interfere
from .recipe import Grid, Recipe
from .relief import Relief, build_relief
from .tissue import Labels, build_tissue, paint_labels

__all__ = ["BAND_UM", "KINDS", "Kind", "Sample", "draw_sample", "write_samples"]

BAND_UM = 5.0
"""Vertical thickness of the DEJ in the labels, half above the true DEJ and half below."""


@dataclass(frozen=True)
class Sample:
    """A tomogram with all that is known of it; voxels and labels have the shape (Z, Y, X)."""

    voxels: Voxels
    labels: Labels
    relief: Relief
    recipe: Recipe


def draw_sample(seed: int, kind: Kind, number: int) -> Sample:
    """Return tomogram ``number`` of ``kind``; the same arguments give the same voxels."""
    rng = np.random.default_rng([seed, KINDS.index(kind), number])
    recipe = draw_recipe(rng, kind)
    grid = Grid.of(recipe.view)
    relief = build_relief(rng, grid, recipe)
    power = illuminate(build_tissue(rng, grid, relief, recipe), grid, recipe.light)
    voxels = develop(rng, interfere(rng, power, grid, recipe.light), recipe.light, recipe.screen)
    return Sample(voxels, paint_labels(grid, relief, BAND_UM), relief, recipe)


def write_samples(out: Path, per_kind: int, seed: int, kinds: Sequence[Kind] = KINDS) -> Iterator[tuple[Kind, Path]]:
    """Write ``per_kind`` tomograms of each of ``kinds``, kinds taking turns.

    Yields
    ------
    kind, folder
        As each ``out/other-<kind>-<number>`` has got its ``tomogram.tif`` and ``labels.tif``.
    """
    for number in range(per_kind):
        for kind in kinds:
            sample = draw_sample(seed, kind, number)
            folder = out / f"other-{kind}-{number}"
            folder.mkdir(parents=True, exist_ok=True)
            view = sample.recipe.view
            size = PixelSize(y=view.pixel_um, x=view.pixel_um, z=view.slice_um)
            write_tomogram(folder / "tomogram.tif", sample.voxels, pixel_size_um=size, overwrite=True)
            shape = (view.slices, view.rows, view.columns)
            write_labels(folder / "labels.tif", [sample.labels], shape, pixel_size_um=size, overwrite=True)
            yield kind, folder
