"""Five instruments: what each sees of the skin, how it sees it and what its software makes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, get_args

import numpy as np

from .recipe import Light, Recipe, Rng, Scale, Screen, Skin, View
from .sites import age, draw_skin

Kind = Literal["immersion", "swept", "confocal", "handheld", "aged"]
KINDS: tuple[Kind, ...] = get_args(Kind)


def draw_recipe(rng: Rng, kind: Kind) -> Recipe:
    """Return the parameters of a tomogram of ``kind``."""
    return _DRAW[kind](rng)


def _view(rng: Rng, skin: Skin, pixel_um: float, glass_um: float, gap_um: float) -> View:
    """Return a view that reaches below most of the DEJ where the largest image allows it."""
    depth_um = glass_um + gap_um + skin.corneum_um + skin.epidermis_um + rng.uniform(20, 140)
    rows = int(np.clip(depth_um / pixel_um, 128, 420))
    return View(
        rows=rows,
        columns=int(rng.integers(256, 641)),
        slices=int(rng.integers(2, 4)),
        pixel_um=pixel_um,
        slice_um=pixel_um * float(rng.uniform(1, 2)),
        glass_um=glass_um,
        gap_um=gap_um,
        tilt=float(rng.normal(0, 0.05)),
        dome_um=float(rng.uniform(-5, 22)),
        debris=int(rng.integers(0, 16)),
    )


def _light(rng: Rng, axial_um: float, lateral_um: float, looks: tuple[int, int]) -> Light:
    """Return light of ordinary skin for an instrument of this resolution."""
    return Light(
        axial_um=axial_um,
        lateral_um=lateral_um,
        looks=int(rng.integers(looks[0], looks[1] + 1)),
        corneum_mu=rng.uniform(1, 6),
        epidermis_mu=rng.uniform(2, 7),
        dermis_mu=rng.uniform(2, 6),
        patchiness=rng.uniform(0.1, 0.5),
        spread=rng.uniform(0.02, 0.18),
        haze=rng.uniform(0.02, 0.25),
        floor=rng.uniform(0.004, 0.04),
        reflex=rng.uniform(0, 8),
        medium=rng.uniform(0, 0.01),
    )


def _screen(rng: Rng, scale: Scale, white: tuple[float, float]) -> Screen:
    """Return a display whose white lies at a percentile within ``white``."""
    return Screen(
        scale=scale,
        black_percentile=rng.uniform(0.1, 6),
        white_percentile=rng.uniform(*white),
        gamma=rng.uniform(0.8, 1.2),
        bits=16 if rng.random() < 0.2 else 8,
        vignette=rng.uniform(-0.1, 0.35),
        row_jitter=rng.uniform(0, 0.02),
    )


def _immersion(rng: Rng) -> Recipe:
    skin, pixel_um = draw_skin(rng, 0.1), rng.uniform(0.5, 1.1)
    glass_rows = rng.choice([0, 3, int(rng.integers(5, 30))], p=[0.35, 0.35, 0.3])
    above = rng.random() < 0.35 and glass_rows == 0
    gap_um = rng.uniform(-0.4, 0) * skin.epidermis_um if above else rng.uniform(0, 45)
    view = _view(rng, skin, pixel_um, float(glass_rows) * pixel_um, gap_um)
    light = _light(rng, rng.uniform(0.9, 1.6), rng.uniform(0.9, 2.4), (3, 7))
    return Recipe(skin, view, light, _screen(rng, "amplitude", (95, 99.5)))


def _swept(rng: Rng) -> Recipe:
    skin, pixel_um = draw_skin(rng, 0.5), rng.uniform(3.0, 5.5)
    glass = rng.random() < 0.2
    view = _view(rng, skin, pixel_um, glass * rng.uniform(2, 8) * pixel_um, rng.uniform(20, 260))
    rows = int(np.clip(rng.uniform(800, 1300) / pixel_um, 160, 420))
    view = replace(view, rows=rows, dome_um=float(rng.uniform(-20, 120)))
    light = _light(rng, rng.uniform(4.5, 8), rng.uniform(7, 16), (3, 7))
    light = replace(
        light,
        epidermis_mu=rng.uniform(1.5, 4),
        dermis_mu=rng.uniform(2.5, 5),
        reflex=rng.uniform(5, 60),
        floor=10 ** rng.uniform(-3.7, -2.6),
        medium=10 ** rng.uniform(-4.5, -3),
        haze=rng.uniform(0, 0.06),
        patchiness=rng.uniform(0.03, 0.2),
    )
    clear = abs(np.log(skin.dermis_gain)) > np.log(1.45)
    line = (0.15, 0.35) if rng.random() < 0.6 else (2.4, 4.0)  # no cells in sight: a basal line has to show the DEJ
    skin = replace(
        skin,
        epidermis_um=skin.epidermis_um * rng.uniform(1.0, 1.35),
        dermis_gain=skin.dermis_gain ** rng.uniform(2.5, 4.5),
        corneum_gain=rng.uniform(1.0, 4.0),
        basal_gain=skin.basal_gain ** rng.uniform(-1.5, 1) if clear else rng.uniform(*line),
    )
    screen = replace(_screen(rng, "decibel", (99.3, 99.95)), stretch=int(rng.integers(1, 4)))
    return Recipe(skin, view, light, replace(screen, black_percentile=rng.uniform(2, 20)))


def _confocal(rng: Rng) -> Recipe:
    skin, pixel_um = draw_skin(rng, 0.3), rng.uniform(0.9, 1.4)
    glass_rows = rng.choice([0, 2, 6], p=[0.4, 0.4, 0.2])
    view = _view(rng, skin, pixel_um, float(glass_rows) * pixel_um, rng.uniform(0, 25))
    view = replace(view, rows=int(np.clip(view.rows + rng.uniform(0, 140), 128, 420)))
    light = _light(rng, rng.uniform(1.0, 1.5), rng.uniform(1.1, 1.8), (2, 4))
    light = replace(light, epidermis_mu=rng.uniform(4, 9), dermis_mu=rng.uniform(4, 8), floor=rng.uniform(0.001, 0.01))
    light = replace(light, patchiness=rng.uniform(0.3, 0.6), haze=rng.uniform(0, 0.1))
    scale: Scale = "root" if rng.random() < 0.6 else "amplitude"
    return Recipe(skin, view, light, replace(_screen(rng, scale, (96, 99.5)), gamma=rng.uniform(1.0, 1.6)))


def _handheld(rng: Rng) -> Recipe:
    skin, pixel_um = draw_skin(rng, 0.15), rng.uniform(1.5, 2.0)
    skin = replace(skin, hairs=int(rng.integers(0, 3)), follicles=int(rng.random() < 0.45))
    glass_rows = rng.choice([0, 2, 3, 6], p=[0.15, 0.35, 0.35, 0.15])
    view = _view(rng, skin, pixel_um, float(glass_rows) * pixel_um, rng.uniform(4, 45))
    size = {"rows": int(rng.integers(128, 257)), "columns": int(rng.integers(256, 513))}
    view = replace(view, **size, dome_um=float(rng.uniform(0, 45)), tilt=float(rng.normal(0, 0.1)))
    light = _light(rng, rng.uniform(1.5, 2.6), rng.uniform(2.0, 3.6), (3, 7))
    screen = replace(
        _screen(rng, "amplitude", (95, 99.5)),
        bits=8,
        sharpen=rng.uniform(0.2, 1.0) if rng.random() < 0.5 else 0.0,
        median=rng.random() < 0.3,
        quantization=rng.uniform(0.02, 0.16),
    )
    return Recipe(skin, view, light, screen)


def _aged(rng: Rng) -> Recipe:
    young = (_immersion, _swept, _confocal, _handheld)[rng.integers(4)](rng)
    skin = age(rng, young.skin)
    light = replace(young.light, patchiness=min(0.6, young.light.patchiness * rng.uniform(1.2, 2)))
    return replace(young, skin=skin, light=light, screen=replace(young.screen, glare=int(rng.integers(0, 4))))


_DRAW: dict[Kind, Callable[[Rng], Recipe]] = {
    "immersion": _immersion,
    "swept": _swept,
    "confocal": _confocal,
    "handheld": _handheld,
    "aged": _aged,
}
