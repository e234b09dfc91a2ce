"""The skin itself, before anyone looks at it: surface, corneum, papillae, furrows. Lengths are micrometers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from skinoct_training.instruments.fields import Floats, Rng, Waves

Site = Literal["face", "arm", "hand"]
SITES: tuple[Site, ...] = ("face", "arm", "hand")

LEAST_LIVING_UM = 20.0
"""Living epidermis is nowhere thinner than two or three cells, not even above a papilla."""
FURROWS_APART_UM = 60.0
MEAN_PEG = 0.38
"""Mean of the papillae's profile, taken off so that higher papillae do not make the epidermis thinner on average."""


@dataclass
class Furrows:
    """Planes that cross the B-scans at an angle, cusps with rounded shoulders; each array has shape (N,)."""

    x_um: Floats
    depth_um: Floats
    width_um: Floats
    shoulder_um: Floats
    slant: Floats
    """Width that a furrow moves for each micrometer from slice to slice."""
    follow: Floats
    """Share of the depth by which the DEJ sinks below a furrow."""
    cusp: Floats
    """Share of the depth that is slit, the rest is shoulder."""
    rounding_um: Floats

    def depth(self, x_um: Floats, z_um: float) -> Floats:
        """Return how far the surface lies deeper, (X,)."""
        total = np.zeros_like(x_um)
        for k in range(len(self.x_um)):
            away = self._distance(k, x_um, z_um)
            rounding = self.rounding_um[k]
            slit = np.exp(-(np.sqrt(away * away + rounding * rounding) - rounding) / self.width_um[k])
            shoulder = np.exp(-0.5 * (away / self.shoulder_um[k]) ** 2)
            total += self.depth_um[k] * (self.cusp[k] * slit + (1 - self.cusp[k]) * shoulder)
        return total

    def dej_depth(self, x_um: Floats, z_um: float) -> Floats:
        """Return how far the DEJ lies deeper, (X,): less than the surface, and wider."""
        total = np.zeros_like(x_um)
        for k in range(len(self.x_um)):
            away = self._distance(k, x_um, z_um)
            reach_um = 0.55 * self.shoulder_um[k] + self.width_um[k]
            total += self.follow[k] * self.depth_um[k] * np.exp(-0.5 * (away / reach_um) ** 2)
        return total

    def _distance(self, k: int, x_um: Floats, z_um: float) -> Floats:
        """Return the distance from furrow ``k``, longer on one side: no furrow is symmetrical."""
        away = x_um - self.x_um[k] - self.slant[k] * z_um
        return np.asarray(np.abs(away) * (1 + 0.35 * np.sin(self.rounding_um[k] * 9) * np.sign(away)))


def draw_furrows(rng: Rng, width_um: float, site: Site, one_in_um: int) -> Furrows:
    """Draw furrows, one in so many micrometers on average; 0 means none."""
    count = rng.poisson(width_um / one_in_um) if one_in_um else 0
    kept: list[float] = []
    for x in np.sort(rng.uniform(0, width_um, count)):
        if not kept or x - kept[-1] > FURROWS_APART_UM:
            kept.append(x)
    count = len(kept)
    depth_um = rng.uniform(10, 60, count) * (0.8 if site == "arm" else 1.0)
    return Furrows(
        x_um=np.array(kept),
        depth_um=depth_um,
        width_um=np.exp(rng.uniform(np.log(2.5), np.log(11), count)) + 0.07 * depth_um,
        shoulder_um=rng.uniform(35, 90, count),
        slant=rng.normal(0, 0.4, count),
        follow=rng.uniform(0.15, 0.5, count),
        cusp=rng.uniform(0.4, 0.8, count),
        rounding_um=rng.uniform(1.5, 7, count),
    )


@dataclass
class Papillae:
    """Rounded pegs of dermis in a disordered hexagonal sheet; each array has shape (N,)."""

    x_um: Floats
    z_um: Floats
    radius_um: Floats
    height: Floats
    """Of each, 1 on average."""

    def profile(self, x_um: Floats, z_um: float) -> Floats:
        """Return how high the pegs reach, (X,), 1 at the top of a usual one."""
        squared = (x_um[:, None] - self.x_um[None]) ** 2 + (z_um - self.z_um[None]) ** 2
        highest = (self.height * np.exp(-squared / self.radius_um**2)).max(1)
        return np.asarray(ndimage.gaussian_filter1d(highest, max(1.0, 4 / (x_um[1] - x_um[0]))))


def draw_papillae(rng: Rng, width_um: float, pitch_um: float) -> Papillae:
    """Draw the pegs of three rows before and behind the first slice."""
    sheet: list[npt.NDArray[np.float64]] = []
    for row in range(-3, 4):
        count = int(width_um / pitch_um) + 5
        x_um = (np.arange(count) - 2 + 0.5 * (row % 2)) * pitch_um
        sheet.append(np.c_[x_um, np.full(count, row * pitch_um * 0.87)])
    regular = np.concatenate(sheet)
    centers_um = regular + rng.normal(0, 0.16 * pitch_um, regular.shape) + rng.uniform(0, pitch_um, 2)
    radius_um = rng.uniform(0.26, 0.40, len(regular)) * pitch_um
    height = np.clip(rng.normal(1, 0.3, len(regular)), 0.2, 1.6)
    return Papillae(centers_um[:, 0], centers_um[:, 1], radius_um, height)


@dataclass
class Skin:
    """A patch of skin: every line of a slice follows from it without further chance."""

    width_um: float
    site: Site
    top_um: float
    """Depth of the mean surface in the image."""
    tilt: float
    """Slope of the surface along the width."""
    mound: Waves
    mound_um: float
    rough: Waves
    rough_um: float
    corneum_um: float
    corneum_waves: Waves
    corneum_change: float
    living_um: float
    """Thickness of the living epidermis."""
    living_waves: Waves
    living_change: float
    papilla_um: float
    papillae: Papillae
    fine: Waves
    """The DEJ's own roughness: basal cells."""
    fine_um: float
    furrows: Furrows

    def lines(
        self, x_um: Floats, z_um: float, shift_um: float, lid_um: Floats | None = None
    ) -> tuple[Floats, Floats, Floats]:
        """Return the depth of surface, lower edge of the corneum and DEJ in one slice.

        Parameters
        ----------
        x_um : shape (X,)
        z_um : float
            Position of the slice.
        shift_um : float
            By which the tissue had moved when the slice was taken.
        lid_um : shape (X,), optional
            Depth of a glass that the skin cannot get past.

        Returns
        -------
        three arrays of shape (X,)
        """
        mound_um = self.mound_um * self.mound(x_um, z_um)
        base_um = self.top_um + self.tilt * (x_um - self.width_um / 2) + mound_um + shift_um
        sunk_um = self.furrows.depth(x_um, z_um)
        surface_um = base_um + sunk_um + self.rough_um * self.rough(x_um, z_um)
        if lid_um is not None:
            surface_um = np.maximum(surface_um, lid_um)
        corneum_um = self._corneum_thickness(x_um, z_um, sunk_um)
        dej_um = self._dej(x_um, z_um, base_um, surface_um + corneum_um + LEAST_LIVING_UM)
        return surface_um, surface_um + corneum_um, dej_um

    def _corneum_thickness(self, x_um: Floats, z_um: float, sunk_um: Floats) -> Floats:
        change = np.clip(1 + self.corneum_change * self.corneum_waves(x_um, z_um), 0.5, 1.7)
        return np.asarray(self.corneum_um * change * (1 - 0.35 * np.clip(sunk_um / 50, 0, 1)))

    def _dej(self, x_um: Floats, z_um: float, base_um: Floats, floor_um: Floats) -> Floats:
        """Return the DEJ (X,), bent off softly where it would come above ``floor_um``."""
        living_um = self.living_um * (1 + self.living_change * self.living_waves(x_um, z_um))
        profile = self.papillae.profile(x_um, z_um)
        sunk_um = self.furrows.dej_depth(x_um, z_um)
        fine_um = self.fine_um * self.fine(x_um, z_um)
        dej_um = base_um + sunk_um + self.corneum_um + living_um - self.papilla_um * (profile - MEAN_PEG) + fine_um
        soft_um = 5.0
        dej_um = floor_um + soft_um * np.logaddexp(0, (dej_um - floor_um) / soft_um)
        return np.asarray(ndimage.gaussian_filter1d(dej_um, max(0.5, 2.5 / (x_um[1] - x_um[0]))))


_LIVING_UM: dict[Site, tuple[float, float]] = {"face": (40, 70), "arm": (48, 85), "hand": (60, 100)}
_PAPILLA_UM: dict[Site, tuple[float, float]] = {"face": (5, 20), "arm": (8, 40), "hand": (15, 50)}


def draw_skin(
    rng: Rng, width_um: float, top_um: float, site: Site, furrow_in_um: int, highest_papilla_um: float
) -> Skin:
    """Draw a patch of skin.

    Parameters
    ----------
    width_um : float
        Of the B-scan.
    top_um : float
        Depth of the mean surface in the image.
    furrow_in_um : int
        Micrometers for one furrow on average; 0 means no furrows.
    highest_papilla_um : float
        What the image has room for.
    """
    tilt = float(np.tan(np.radians(rng.normal(0, 3.0))))
    mound, mound_um = Waves(rng, 250, 900), rng.uniform(2, 14)
    rough, rough_um = Waves(rng, 15, 70), rng.uniform(0.3, 1.1)
    corneum_um = rng.uniform(8, 15) if site == "face" else rng.uniform(10, 25)
    corneum_waves, corneum_change = Waves(rng, 60, 400), rng.uniform(0.10, 0.30)
    living_um = rng.uniform(*_LIVING_UM[site])
    living_waves, living_change = Waves(rng, 250, 800), rng.uniform(0.04, 0.10)
    papilla_um = min(rng.uniform(*_PAPILLA_UM[site]), highest_papilla_um, 0.55 * living_um)
    pitch_um = rng.uniform(98, 124)
    fine, fine_um = Waves(rng, 30, 90), rng.uniform(0.4, 1.3)
    return Skin(
        width_um=width_um,
        site=site,
        top_um=top_um,
        tilt=tilt,
        mound=mound,
        mound_um=mound_um,
        rough=rough,
        rough_um=rough_um,
        corneum_um=corneum_um,
        corneum_waves=corneum_waves,
        corneum_change=corneum_change,
        living_um=living_um,
        living_waves=living_waves,
        living_change=living_change,
        papilla_um=papilla_um,
        papillae=draw_papillae(rng, width_um, pitch_um),
        fine=fine,
        fine_um=fine_um,
        furrows=draw_furrows(rng, width_um, site, furrow_in_um),
    )


def fit_into(skin: Skin, deepest_um: float) -> None:
    """Raise and thin a patch of skin until its DEJ is on average above ``deepest_um``."""
    while skin.corneum_um + skin.living_um + skin.top_um > deepest_um:
        skin.top_um *= 0.85
        skin.living_um *= 0.97
