"""What lies between the lines: B-scans through a skin, nuclei, collagen, vessels, and the light that is lost there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from skinoct_training.instruments.anatomy import Skin
from skinoct_training.instruments.fields import Floats, Rng, Shape, blobs, unit

Mask = npt.NDArray[np.bool_]


class Stack:
    """B-scans through a skin. Row ``y`` is at the depth ``y * pixel_um``.

    Lines have shape (Z, X); distances, masks and maps (Z, Y, X), with soft edges one row wide.
    """

    def __init__(
        self,
        skin: Skin,
        rng: Rng,
        shape: Shape,
        pixel_um: float,
        slice_um: float,
        *,
        moves_px: float,
        lid_um: Floats | None = None,
    ) -> None:
        slices, rows, columns = shape
        self.skin = skin
        self.rng = rng
        self.shape = shape
        self.pixel_um = pixel_um
        self.slice_um = slice_um
        self.x_um = np.arange(columns) * pixel_um
        self.z_um = np.arange(slices) * slice_um + rng.uniform(0, 60)
        self.depth_um = (np.arange(rows) * pixel_um).astype(np.float32)[None, :, None]
        lines = []
        for z in range(slices):
            shift_um = rng.normal(0, moves_px * pixel_um)
            lines.append(skin.lines(self.x_um, self.z_um[z], shift_um, None if lid_um is None else lid_um[z]))
        self.surface_um, self.corneum_end_um, self.dej_um = np.array(lines).astype(np.float32).transpose(1, 0, 2)
        self._draw_layers()

    def _draw_layers(self) -> None:
        self.below_surface_um = self.depth_um - self.surface_um[:, None]
        self.below_corneum_um = self.depth_um - self.corneum_end_um[:, None]
        self.below_dej_um = self.depth_um - self.dej_um[:, None]
        self.skin_mask = self._soft(self.below_surface_um)
        below_corneum = self._soft(self.below_corneum_um)
        self.dermis = self._soft(self.below_dej_um)
        self.corneum = self.skin_mask * (1 - below_corneum)
        self.living = below_corneum * (1 - self.dermis)
        living_um = np.maximum((self.dej_um - self.corneum_end_um)[:, None], 1)
        self.way_to_dej = np.clip(self.below_corneum_um / living_um, 0, 1)
        """0 at the lower edge of the corneum, 1 at the DEJ."""

    def _soft(self, below_um: Floats) -> Floats:
        return np.asarray(np.clip(below_um / self.pixel_um + 0.5, 0, 1))

    @property
    def corneum_thickness_um(self) -> Floats:
        """(Z, 1, X), at least 2."""
        return np.asarray(np.maximum((self.corneum_end_um - self.surface_um)[:, None], 2))

    def blobs(self, z: float, y: float, x: float) -> Floats:
        """Return smooth noise (Z, Y, X) with structures of that many samples."""
        return blobs(self.rng, self.shape, (z, y, x))

    def within(self, first_um: float, last_um: float) -> Mask:
        """Tell what lies between two distances below the surface, (Z, Y, X)."""
        return np.asarray((self.below_surface_um > first_um) & (self.below_surface_um < last_um))


@dataclass(frozen=True)
class Layers:
    """Reflected power of each layer, (Z, Y, X)."""

    corneum: Floats
    epidermis: Floats
    dermis: Floats
    light: Floats
    """What gets there and back."""
    step: Floats
    """Local strength of the step at the DEJ, 1 on average."""


def falling(distance_um: Floats, reach_um: float) -> Floats:
    """Return what fades exponentially with a distance and is 1 where that is negative."""
    return np.asarray(np.exp(-np.clip(distance_um, 0, None) / reach_um))


def bell(distance: Floats, width: float) -> Floats:
    """Return a Gaussian of height 1."""
    return np.asarray(np.exp(-0.5 * (distance / width) ** 2))


def _inside(squared: Floats, steepness: float) -> Floats:
    """Return 1 inside and 0 outside an ellipsoid, softly; ``squared`` is 1 on its surface."""
    return np.asarray(1 / (1 + np.exp(np.clip((squared - 1) * steepness, -30, 30))))


@dataclass(frozen=True)
class Nucleus:
    """A nucleus of a keratinocyte."""

    x_um: float
    z_um: float
    way: float
    """From the corneum, 0, to the DEJ, 1."""
    radius_um: float
    """Along slice and width."""
    height_um: float
    """Half of it, in depth."""
    darkness: float
    """What is left of the brightness in its middle."""


def nuclei(stack: Stack, darkness: float, visible: float, *, rim: float, size: float) -> Floats:
    """Return brightness (Z, Y, X) of the living epidermis, 1 in cytoplasm, less in nuclei, more around them.

    Parameters
    ----------
    darkness : float
        Share of the brightness that a nucleus lacks.
    visible : float
        Share of the nuclei that show.
    rim : float
        How much brighter it is around a nucleus.
    size : float
        Of nuclei, 1 is usual.
    """
    brightness = np.ones(stack.shape, np.float32)
    living_um = (stack.dej_um - stack.corneum_end_um).mean()
    for nucleus in _draw_nuclei(stack, living_um, darkness, visible, size):
        for z in range(stack.shape[0]):
            away = (stack.z_um[z] - nucleus.z_um) / nucleus.radius_um
            if abs(away) <= 1.3:
                _paint_nucleus(stack, brightness[z], z, nucleus, away * away, rim)
    return brightness


def _draw_nuclei(stack: Stack, living_um: float, darkness: float, visible: float, size: float) -> Iterator[Nucleus]:
    """Yield nuclei stratum by stratum, from the basal cells up: cells become wider and flatter."""
    way = 1 - 4.0 / living_um
    while way > 0.03:
        across_um = 11.5 + 8 * (1 - way) ** 1.3
        height_um = 9.5 - 3.5 * (1 - way)
        for x_um, z_um in _draw_lattice(stack, across_um):
            if stack.rng.random() > visible:
                continue
            if not 2 <= round(x_um / stack.pixel_um) < stack.shape[2] - 2:
                continue
            yield Nucleus(
                x_um=x_um,
                z_um=z_um,
                way=way + stack.rng.normal(0, 0.3 * height_um / living_um),
                radius_um=size * (3.3 + 2.4 * (1 - way)) * stack.rng.uniform(0.8, 1.25),
                height_um=size * (3.3 - 1.1 * (1 - way)) * stack.rng.uniform(0.85, 1.2),
                darkness=max(0.03, 1 - darkness * stack.rng.uniform(0.7, 1.1)),
            )
        way -= height_um / living_um


def _draw_lattice(stack: Stack, across_um: float) -> Iterator[tuple[float, float]]:
    """Yield width and slice position of the cells of one stratum."""
    rng = stack.rng
    x_um = np.arange(-across_um, stack.x_um[-1] + across_um, across_um)
    z_um = np.arange(stack.z_um[0] - 6, stack.z_um[-1] + 6, across_um)
    shape = (len(z_um), len(x_um))
    moved_x_um = x_um[None] + rng.normal(0, 0.25 * across_um, shape)
    moved_z_um = z_um[:, None] + rng.uniform(-0.4 * across_um, 0.4 * across_um, shape)
    yield from zip(moved_x_um.ravel(), moved_z_um.ravel(), strict=True)


def _paint_nucleus(
    stack: Stack, image: npt.NDArray[np.float32], z: int, nucleus: Nucleus, squared_z: float, rim: float
) -> None:
    """Darken a nucleus in a slice (Y, X); its shape follows the strata halfway."""
    pixel_um, (_, rows, columns) = stack.pixel_um, stack.shape
    corneum_um, living_um = stack.corneum_end_um[z], stack.dej_um[z] - stack.corneum_end_um[z]
    column = round(nucleus.x_um / pixel_um)
    center_um = corneum_um[column] + nucleus.way * living_um[column]
    reach = int(2.2 * nucleus.radius_um / pixel_um)
    left, right = max(column - reach - 1, 0), min(column + reach + 2, columns)
    reach_um = 2.2 * nucleus.height_um
    top = int((center_um - reach_um - nucleus.radius_um) / pixel_um)
    bottom = int((center_um + reach_um + nucleus.radius_um) / pixel_um) + 2
    if top < 0 or bottom > rows:
        return
    stratum_um = corneum_um[left:right] + nucleus.way * living_um[left:right]
    middle_um = stratum_um - 0.5 * (stratum_um - center_um)
    across = ((stack.x_um[left:right] - nucleus.x_um) / nucleus.radius_um)[None] ** 2
    down = ((stack.depth_um[0, top:bottom] - middle_um[None]) / nucleus.height_um) ** 2
    squared = across + down + squared_z
    halo = rim * np.exp(-2.5 * (np.sqrt(squared) - 1.6) ** 2)
    image[top:bottom, left:right] *= (1 - (1 - nucleus.darkness) * _inside(squared, 4.5)) * (1 + halo)


def fibers(stack: Stack, length_um: float, width_um: float, slope: float, contrast: float) -> Floats:
    """Return brightness (Z, Y, X), 1 on average, of collagen: three families of wavy streaks that take turns.

    Parameters
    ----------
    length_um, width_um : float
        Of a streak.
    slope : float
        Standard deviation of the streaks' slope.
    contrast : float
        Standard deviation of the logarithm of the brightness.
    """
    _, rows, columns = stack.shape
    waviness = blobs(stack.rng, (1, rows, columns), (0, 45 / stack.pixel_um, 60 / stack.pixel_um))[0]
    bend = waviness * np.float32(9 / stack.pixel_um)
    total = np.zeros(stack.shape, np.float32)
    power = np.zeros(stack.shape, np.float32)
    for _ in range(3):
        streaks = _streaks(stack, length_um, width_um, slope, bend)
        weight = np.exp(0.9 * stack.blobs(30 / stack.slice_um, 35 / stack.pixel_um, 60 / stack.pixel_um))
        total += weight * streaks
        power = power + weight * weight
    return np.exp(contrast * total / np.sqrt(power) - 0.5 * contrast**2)


def _streaks(stack: Stack, length_um: float, width_um: float, slope: float, bend: Floats) -> Floats:
    """Return noise (Z, Y, X) drawn out along one direction and bent by ``bend`` (Y, X) rows."""
    rng, pixel_um = stack.rng, stack.pixel_um
    slices, rows, columns = stack.shape
    rise = rng.normal(0, slope)
    padded = rows + 2 * int(abs(rise) * columns / 2 + 25 / pixel_um) + 4
    length = length_um * rng.uniform(0.6, 1.3) / pixel_um
    step = max(1, int(length / 3))  # a coarser lattice along the streaks: blurring that far would be slow
    noise = rng.standard_normal((slices, padded, columns // step + 2), dtype=np.float32)
    sigma = (4 / stack.slice_um, width_um * rng.uniform(0.7, 1.4) / pixel_um, length / step)
    straight = unit(ndimage.gaussian_filter(noise, sigma, mode="wrap", truncate=3))
    y, x = np.mgrid[:rows, :columns].astype(np.float32)
    source_y = y + np.float32((padded - rows) / 2) + np.float32(rise) * (x - np.float32(columns / 2)) + bend
    source = [source_y, x / np.float32(step)]
    return np.stack([ndimage.map_coordinates(image, source, order=1, mode="wrap") for image in straight])


@dataclass(frozen=True)
class Vessel:
    """An oblique tube where it meets the first slice."""

    x_um: float
    below_dej_um: float
    radius_um: float
    elongation: float
    """Of its section, along the width."""


def vessels(
    stack: Stack, count: int, radius_um: tuple[float, float], between_um: tuple[float, float], loops: float = 0.0
) -> Floats:
    """Return where vessels are, (Z, Y, X), 0 to 1 with soft walls.

    Parameters
    ----------
    count : int
        Of vessels in the dermis.
    radius_um, between_um : (least, most)
        Radius, and depth below the DEJ.
    loops : float
        Share of the papillae in view in which a capillary shows.
    """
    occupied = np.zeros(stack.shape, np.float32)
    plexus = _draw_plexus(stack, count, radius_um, between_um)
    for vessel in [*plexus, *_draw_loops(stack, loops)]:
        drift, dip, bend = stack.rng.normal(0, 0.7), stack.rng.normal(0, 0.25), stack.rng.normal(0, 0.25)
        for z in range(stack.shape[0]):
            along_um = stack.z_um[z] - stack.z_um[0]
            _paint_vessel(stack, occupied[z], z, vessel, (drift * along_um, dip * along_um, bend))
    return occupied * stack.dermis


def _draw_plexus(
    stack: Stack, count: int, radius_um: tuple[float, float], between_um: tuple[float, float]
) -> list[Vessel]:
    rng = stack.rng
    return [
        Vessel(
            x_um=rng.uniform(0, stack.x_um[-1]),
            below_dej_um=rng.uniform(*between_um),
            radius_um=np.exp(rng.uniform(*np.log(radius_um))),
            elongation=rng.uniform(1, 3.5),
        )
        for _ in range(count)
    ]


def _draw_loops(stack: Stack, share: float) -> list[Vessel]:
    rng, papillae = stack.rng, stack.skin.papillae
    found = []
    for x_um, z_um in zip(papillae.x_um, papillae.z_um, strict=True):
        in_view = abs(z_um - stack.z_um.mean()) < 30 and 0 < x_um < stack.x_um[-1]
        if in_view and rng.random() < share:
            found.append(
                Vessel(
                    x_um=x_um + rng.normal(0, 6),
                    below_dej_um=rng.uniform(9, 22),
                    radius_um=rng.uniform(3.5, 7),
                    elongation=rng.uniform(0.7, 1.6),
                )
            )
    return found


def _paint_vessel(
    stack: Stack, image: npt.NDArray[np.float32], z: int, vessel: Vessel, course: tuple[float, float, float]
) -> None:
    """Add a vessel to a slice (Y, X); ``course`` is how far it moved along width and depth, and its bend."""
    drift_um, dip_um, bend = course
    pixel_um, (_, rows, columns) = stack.pixel_um, stack.shape
    radius_um = vessel.radius_um
    center_x_um = vessel.x_um + drift_um
    column = int(np.clip(center_x_um / pixel_um, 0, columns - 1))
    center_um = stack.dej_um[z, column] + max(vessel.below_dej_um, radius_um * 1.2 + 3) + dip_um
    half_um = radius_um * vessel.elongation * 1.6
    left = max(0, int((center_x_um - half_um) / pixel_um))
    right = min(columns, int((center_x_um + half_um) / pixel_um) + 2)
    top = max(0, int((center_um - 2 * radius_um - 0.4 * half_um) / pixel_um))
    bottom = min(rows, int((center_um + 2 * radius_um + 0.4 * half_um) / pixel_um) + 2)
    if right <= left or bottom <= top:
        return
    away_um = stack.x_um[left:right] - center_x_um
    across = (away_um / (radius_um * vessel.elongation))[None] ** 2
    down = ((stack.depth_um[0, top:bottom] - center_um - (bend * away_um)[None]) / radius_um) ** 2
    part = image[top:bottom, left:right]
    np.maximum(part, _inside(across + down, 4), out=part, casting="same_kind")


def specks(stack: Stack, count: int, where: Mask, brightness: float, size_um: float) -> Floats:
    """Return bright grains (Z, Y, X) at random places of a mask (Z, Y, X), exponentially distributed in brightness."""
    grains = np.zeros(stack.shape, np.float32)
    places = np.argwhere(where)
    if len(places):
        for z, y, x in places[stack.rng.integers(0, len(places), count)]:
            grains[z, y, x] += stack.rng.exponential(brightness)
    size = size_um / stack.pixel_um
    grains = ndimage.gaussian_filter(grains, (0.6, size, 1.3 * size))
    return np.asarray(grains * (2 * np.pi * 1.3 * size**2))


def transmission(stack: Stack, attenuation: Floats, cone_um: float) -> Floats:
    """Return the share of light (Z, Y, X) that gets to each voxel and back: Lambert and Beer.

    Parameters
    ----------
    attenuation : shape (Z, Y, X)
        In 1/um.
    cone_um : float
        Neighboring rays mix over this width: the beam is a cone, shadows have soft edges.
    """
    depth = np.cumsum(attenuation, 1, dtype=np.float32) * np.float32(stack.pixel_um)
    mixed = ndimage.gaussian_filter1d(depth, cone_um / stack.pixel_um, axis=2, mode="nearest")
    return np.asarray(np.exp(-2 * (0.4 * depth + 0.6 * mixed)))


@dataclass(frozen=True)
class Debris:
    """Hair, dust and bubbles on the skin, of which one sees the shadow."""

    mean_count: float
    optical_depth: tuple[float, float]
    width_um: tuple[float, float]
    thickness_um: float


def under_debris(stack: Stack, attenuation: Floats, debris: Debris) -> Floats:
    """Return the attenuation (Z, Y, X) with that of debris added in the uppermost skin."""
    rng = stack.rng
    for _ in range(rng.poisson(debris.mean_count)):
        strength = rng.uniform(*debris.optical_depth) / debris.thickness_um
        profile = bell(stack.x_um - rng.uniform(0, stack.x_um[-1]), rng.uniform(*debris.width_um))
        attenuation = attenuation + strength * profile * stack.within(0, debris.thickness_um)
    return attenuation


def under_furrows(stack: Stack, attenuation: Floats, strongest: float, width_um: float, thickness_um: float) -> Floats:
    """Return the attenuation (Z, Y, X) with that of furrows added: gel in them and steep walls take light away."""
    for x_um in stack.skin.furrows.x_um:
        strength = stack.rng.uniform(0, strongest)
        attenuation = attenuation + strength * bell(stack.x_um - x_um, width_um) * stack.within(0, thickness_um)
    return attenuation
