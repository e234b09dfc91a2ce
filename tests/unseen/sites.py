"""Skin of face, arm, back and hand, young and old, drawn at random."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .recipe import Rng, Skin

Range = tuple[float, float]


@dataclass(frozen=True)
class _Site:
    corneum_um: Range
    epidermis_um: Range
    pitch_um: Range
    papilla_um: Range
    furrows_per_mm: Range
    furrow_um: Range


_SITES = (
    _Site((6, 14), (42, 70), (70, 120), (6, 22), (2, 8), (8, 30)),  # face
    _Site((8, 18), (45, 80), (80, 120), (15, 40), (3, 9), (10, 35)),  # arm
    _Site((8, 16), (50, 85), (85, 120), (20, 50), (2, 7), (8, 30)),  # back
    _Site((12, 26), (60, 105), (80, 120), (20, 55), (3, 9), (15, 50)),  # hand
)


def draw_skin(rng: Rng, reverse: float) -> Skin:
    """Return skin of some site; ``reverse`` is the chance of a dermis brighter than the epidermis."""
    site = _SITES[rng.integers(len(_SITES))]
    faint = rng.random() < 1 / 3
    step = rng.uniform(1.0, 1.15) if faint else rng.uniform(1.2, 2.2)
    dermis = step if rng.random() < reverse else 1 / step
    dark_line = rng.random() < 0.2 and not faint
    return Skin(
        corneum_um=rng.uniform(*site.corneum_um),
        epidermis_um=rng.uniform(*site.epidermis_um),
        pitch_um=rng.uniform(*site.pitch_um),
        papilla_um=rng.uniform(*site.papilla_um),
        elongation=1 + rng.gamma(1.0, 0.6),
        furrows_per_mm=rng.uniform(*site.furrows_per_mm),
        furrow_um=rng.uniform(*site.furrow_um),
        roughness_um=rng.uniform(1, 6),
        follow=rng.uniform(0.2, 0.8),
        cell_um=rng.uniform(8.5, 12.5),
        nucleus_contrast=rng.uniform(0.85, 0.97) if faint else rng.uniform(0.6, 0.96),
        membrane_contrast=rng.uniform(-0.3, 0.6),
        corneum_gain=rng.uniform(1.8, 5.0),
        basal_gain=rng.uniform(0.55, 0.8) if dark_line else rng.uniform(1.3 if faint else 1.0, 2.0),
        dermis_gain=dermis,
        fiber_contrast=rng.uniform(0.5, 0.85),
        vessels_per_mm=rng.uniform(1, 9),
        follicles=int(rng.random() < 0.15),
        hairs=int(rng.random() < 0.12),
    )


def age(rng: Rng, skin: Skin) -> Skin:
    """Return ``skin`` made old by years or sun."""
    actinic = rng.random() < 0.75
    bright = rng.random() < 0.55
    gain = rng.uniform(1.3, 2.3) if bright else rng.uniform(0.45, 0.75)
    return replace(
        skin,
        corneum_um=skin.corneum_um * rng.uniform(0.9, 1.6),
        epidermis_um=rng.uniform(30, 55),
        papilla_um=rng.uniform(1, 9),
        furrows_per_mm=rng.uniform(3, 10),
        furrow_um=rng.uniform(20, 60),
        roughness_um=rng.uniform(3, 9),
        follow=rng.uniform(0.5, 0.95),
        elastosis_gain=gain if actinic else 1.0,
        elastosis_um=rng.uniform(50, 160) if actinic else 0.0,
    )
