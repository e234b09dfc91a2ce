"""From class probabilities to layers.

``decode_pixel`` takes the likeliest class of each pixel. ``OrderedDecoder`` finds, for whole slices, the best lines:
in each column exactly one sequence glass, glycerol, epidermis, DEJ, dermis in that order, any of them possibly
absent, with the DEJ as a band of fixed thickness. No islands, no gaps, no order errors, by construction.

The score of a column in which the DEJ begins at row ``a`` is the sum of log probabilities of the best ordered
labeling with that DEJ. It comes from cumulative sums and running maxima alone (all rows, columns and slices at
once). Neighboring columns are tied by a price on steps of the line (a Viterbi search with a linear price, computed
as in Felzenszwalb and Huttenlocher, *Distance Transforms of Sampled Functions*, Theory of Computing 2012). The line
is the maximum of the two-sided messages, refined to a fraction of a row by a parabola.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field
from scipy import ndimage

from skinoct.errors import OptionError
from skinoct.labels import NUM_CLASSES, Label

FloatArray = npt.NDArray[np.float32]


class DecodeConfig(BaseModel):
    """How lines are drawn through probabilities; stored in a checkpoint's card."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    band_thickness_px: float = Field(default=5.6, gt=0)
    """Thickness of the annotators' DEJ band in rows of the network."""
    floor: float = Field(default=0.02, gt=0, lt=0.2)
    """No class is less probable than this, so that one certain pixel cannot overrule a column."""
    dej_step_price: float = Field(default=1.0, ge=0)
    """Price in log probability of one row of difference between neighboring columns of the DEJ."""
    surface_step_price: float = Field(default=0.3, ge=0)
    """The same for the skin surface, which has furrows."""
    glass_step_price: float = Field(default=8.0, ge=0)
    """The same for the glass, which is flat."""
    smooth_columns: float = Field(default=2.0, ge=0)
    """Standard deviation in columns of the Gaussian that smooths the found DEJ."""
    smooth_slices: float = Field(default=1.0, ge=0)
    """Standard deviation in slices of the smoothing of epidermal thickness, which unlike the DEJ itself does not
    jump when the skin moves between two frames; 0 for none."""
    slice_jump_px: float = Field(default=4.0, gt=0)
    """Neighboring slices whose thickness differs by more rows than this are not averaged."""
    temperature: float = Field(default=8.0, gt=0)
    """Divides column scores before they are read as probabilities for the confidence (rows are correlated)."""


class Surfaces(NamedTuple):
    """Result of ordered decoding."""

    boundaries: FloatArray
    """(4, Z, X) rows: tops of glycerol, epidermis, DEJ, dermis."""
    confidence: FloatArray
    """(Z, X) in 0..1: probability mass of the column's own evidence within one band of the chosen DEJ."""
    overhang: npt.NDArray[np.bool_]
    """(Z, X): dermis above epidermis in the pixel decoding of this column."""


def decode_pixel(probabilities: FloatArray, class_weights: tuple[float, ...] | None = None) -> npt.NDArray[np.uint8]:
    """Label each pixel by itself.

    Parameters
    ----------
    probabilities : float32, shape (Z, 5, Y, X)
    class_weights : five numbers, optional
        Loss weights of the training. A network trained with weight ``w`` reports ``w`` times the odds, so they are
        divided out first; otherwise a heavily weighted DEJ comes out twice too thick.

    Returns
    -------
    uint8, shape (Z, Y, X)
        Labels 1 to 5.
    """
    if class_weights is not None:
        weights = np.asarray(class_weights, np.float32).reshape(1, NUM_CLASSES, 1, 1)
        probabilities = probabilities / weights
    return np.asarray(np.argmax(probabilities, axis=1) + 1, np.uint8)


class OrderedDecoder:
    """Decodes a tomogram block by block; keeps lines, never volumes.

    Parameters
    ----------
    config : DecodeConfig
    shape : (Z, Y, X)
        Of the whole tomogram, in rows and columns of the network.
    """

    def __init__(self, config: DecodeConfig, shape: tuple[int, int, int]) -> None:
        self.config = config
        self.shape = shape
        slices, _, width = shape
        self._boundaries = np.zeros((4, slices, width), np.float32)
        self._confidence = np.zeros((slices, width), np.float32)
        self._overhang = np.zeros((slices, width), bool)
        self._done = 0

    def add(self, probabilities: FloatArray) -> None:
        """Decode the next slices.

        Parameters
        ----------
        probabilities : float32, shape (n, 5, Y, X)
            The next ``n`` slices, in order.

        Raises
        ------
        OptionError
            When the block does not continue the tomogram.
        """
        count, classes, *plane = probabilities.shape
        if classes != NUM_CLASSES or tuple(plane) != self.shape[1:] or self._done + count > self.shape[0]:
            raise OptionError(
                f"a block of shape {probabilities.shape} does not continue a tomogram of shape {self.shape} at "
                f"slice {self._done + 1}"
            )
        where = slice(self._done, self._done + count)
        self._boundaries[:, where], self._confidence[where] = decode_slices(probabilities, self.config)
        self._overhang[where] = find_overhangs(np.argmax(probabilities, axis=1))
        self._done += count

    def finish(self) -> Surfaces:
        """Smooth across slices and return all lines.

        Raises
        ------
        OptionError
            When slices are missing.
        """
        if self._done != self.shape[0]:
            raise OptionError(f"{self.shape[0] - self._done} slices were never decoded")
        boundaries = smooth_across_slices(self._boundaries, self._confidence, self.shape[1], self.config)
        return Surfaces(boundaries, self._confidence, self._overhang)


def decode_slices(probabilities: FloatArray, config: DecodeConfig) -> tuple[FloatArray, FloatArray]:
    """Find the lines of some slices, each by itself.

    Parameters
    ----------
    probabilities : float32, shape (Z, 5, Y, X)
    config : DecodeConfig

    Returns
    -------
    boundaries : float32, shape (4, Z, X)
    confidence : float32, shape (Z, X)
    """
    rows = probabilities.shape[2]
    band = max(1, round(config.band_thickness_px))
    glass, glycerol, epidermis, dej, dermis = cumulative_scores(probabilities, config.floor)
    glass -= glycerol
    above_skin = np.maximum.accumulate(glass, axis=2)
    above_skin += glycerol
    above_skin -= epidermis
    above_dej = np.maximum.accumulate(above_skin, axis=2)
    above_dej += epidermis

    score = dej_scores(above_dej, dej, dermis, band)
    dej_row, best = best_line(score, config.dej_step_price)
    confidence = column_confidence(score, best, band, config.temperature)
    # Line positions count from ``band`` rows above the image: the band may begin out of view.
    center = dej_row - band / 2
    absent = center >= rows + band / 2 - 0.5
    center = smooth_columns(center, config.smooth_columns)
    half = config.band_thickness_px / 2
    dej_top = np.where(absent, rows, center - half)
    dermis_top = np.where(absent, rows, center + half)

    skin, _ = best_line(below_limit(above_skin, np.clip(np.ceil(dej_top), 0, rows)), config.surface_step_price)
    skin = np.minimum(skin, dej_top)
    pane, _ = best_line(below_limit(glass, np.ceil(skin)), config.glass_step_price)
    lines = np.stack([np.minimum(pane, skin), skin, dej_top, dermis_top])
    lines = np.clip(np.maximum.accumulate(lines, axis=0), 0, rows)
    return np.swapaxes(lines, 1, 2).astype(np.float32), confidence.T


def cumulative_scores(probabilities: FloatArray, floor: float) -> FloatArray:
    """Sum log probabilities down the columns.

    Parameters
    ----------
    probabilities : float32, shape (Z, 5, Y, X)
    floor : float
        Least probability.

    Returns
    -------
    float32, shape (5, X, Z, Y + 1)
        Entry ``k`` of the last axis sums the rows above row ``k``. Columns come first because the search walks
        along them, rows last because everything runs down them.
    """
    slices, classes, rows, columns = probabilities.shape
    logs = np.maximum(probabilities, np.float32(floor))
    np.log(logs, out=logs)
    total = np.zeros((classes, columns, slices, rows + 1), np.float32)
    total[..., 1:] = logs.transpose(1, 3, 0, 2)
    np.cumsum(total, axis=3, out=total)
    return total


def dej_scores(above_dej: FloatArray, dej: FloatArray, dermis: FloatArray, band: int) -> FloatArray:
    """Score every row at which the DEJ band may begin.

    Parameters
    ----------
    above_dej, dej, dermis : float32, shape (X, Z, Y + 1)
        Cumulative scores; the first of the best labeling of everything above the DEJ.
    band : int
        Rows of the band.

    Returns
    -------
    float32, shape (X, Z, band + Y + 1)
        Index ``i`` is a band that begins at row ``i - band``; index 0 is a DEJ above the image, the last index a
        DEJ below it.
    """
    positions = above_dej.shape[2]
    score = np.empty((*above_dej.shape[:2], band + positions), np.float32)
    # The band begins above the image, lies within it, or leaves it at the bottom.
    score[..., :band] = 0
    np.subtract(above_dej, dej, out=score[..., band:])
    score[..., :positions] += dej - dermis
    score[..., positions:] += (dej - dermis)[..., -1:]
    return score


def best_line(score: FloatArray, step_price: float) -> tuple[FloatArray, npt.NDArray[np.intp]]:
    """Find the line of highest score, with a price on each row of step between columns.

    Parameters
    ----------
    score : float32, shape (X, Z, P)
        Of each position in each column.
    step_price : float

    Returns
    -------
    line : float32, shape (X, Z)
        Position, refined below one row.
    best : int, shape (X, Z)
        The same, not refined.
    """
    messages = score.copy()
    ramp = np.arange(score.shape[2], dtype=np.float32) * np.float32(step_price)
    for order in (range(1, len(score)), range(len(score) - 2, -1, -1)):
        carried = score[0 if order.step == 1 else -1].copy()
        for x in order:
            spread(carried, ramp)
            # Only differences matter; without this the sums of a wide image lose float32 precision.
            carried -= carried[:, :1]
            messages[x] += carried
            carried += score[x]
    best = np.argmax(messages, axis=2)
    line = best + parabola_offset(messages, best)
    return line.astype(np.float32), best


def spread(carried: FloatArray, ramp: FloatArray) -> None:
    """Let each position of (Z, P) take, in place, the best of all others less the price of the way."""
    carried += ramp
    np.maximum.accumulate(carried, axis=1, out=carried)
    carried -= 2 * ramp
    np.maximum.accumulate(carried[:, ::-1], axis=1, out=carried[:, ::-1])
    carried += ramp


def parabola_offset(messages: FloatArray, best: npt.NDArray[np.intp]) -> FloatArray:
    """Refine maxima along the last axis of (X, Z, P) by the parabola through three points; within half a row."""
    last = messages.shape[2] - 1
    if last < 2:
        return np.zeros(best.shape, np.float32)
    at = np.clip(best, 1, last - 1)[..., None]
    left, middle, right = (np.take_along_axis(messages, at + d, axis=2)[..., 0] for d in (-1, 0, 1))
    curvature = left - 2 * middle + right
    offset = np.where(curvature < -1e-6, 0.5 * (left - right) / np.minimum(curvature, -1e-6), 0.0)
    inside = (best > 0) & (best < last)
    return np.where(inside, np.clip(offset, -0.5, 0.5), 0.0).astype(np.float32)


def column_confidence(score: FloatArray, best: npt.NDArray[np.intp], band: int, temperature: float) -> FloatArray:
    """Probability, by each column's own evidence alone, that the DEJ lies within one band of the line: (X, Z).

    ``score`` has shape (X, Z, P), ``best`` (X, Z).
    """
    posterior = score - score.max(axis=2, keepdims=True)
    posterior /= np.float32(temperature)
    np.exp(posterior, out=posterior)
    mass = np.cumsum(posterior, axis=2)
    last = score.shape[2] - 1
    upper = np.take_along_axis(mass, np.minimum(best + band, last)[..., None], axis=2)[..., 0]
    lower_at = best - band - 1
    lower = np.take_along_axis(mass, np.maximum(lower_at, 0)[..., None], axis=2)[..., 0]
    inside = upper - np.where(lower_at >= 0, lower, 0.0)
    return np.asarray(np.clip(inside / mass[..., -1], 0.0, 1.0), np.float32)


def below_limit(score: FloatArray, limit: npt.NDArray[np.floating]) -> FloatArray:
    """Forbid positions past ``limit`` (X, Z) in (X, Z, P)."""
    return np.where(np.arange(score.shape[2]) <= limit[..., None], score, np.float32(-1e6))


def smooth_columns(line: FloatArray, sigma: float) -> FloatArray:
    """Smooth lines (X, Z) along x by a Gaussian."""
    return np.asarray(ndimage.gaussian_filter1d(line, sigma, axis=0, mode="nearest")) if sigma > 0 else line


def smooth_across_slices(boundaries: FloatArray, confidence: FloatArray, rows: int, config: DecodeConfig) -> FloatArray:
    """Average epidermal thickness over neighboring slices that agree, weighted by confidence.

    Parameters and result are as in ``Surfaces``; ``rows`` is the height of the image.
    """
    if config.smooth_slices <= 0 or boundaries.shape[1] == 1:
        return boundaries
    _, skin, dej_top, dermis_top = boundaries
    present = dej_top < rows
    thickness = dej_top - skin
    weight_sum = np.full(thickness.shape, 1e-6, np.float32)
    change = np.zeros_like(thickness)
    reach = max(1, int(np.ceil(2 * config.smooth_slices)))
    slices = thickness.shape[0]
    for step in range(-min(reach, slices - 1), min(reach, slices - 1) + 1):
        here = slice(max(0, -step), slices - max(0, step))
        there = slice(max(0, step), slices - max(0, -step))
        difference = thickness[there] - thickness[here]
        agree = (np.abs(difference) <= config.slice_jump_px) & present[here] & present[there]
        weight = np.exp(-0.5 * (step / config.smooth_slices) ** 2) * (confidence[there] + 0.01) * agree
        weight_sum[here] += weight
        change[here] += weight * difference
    shift = change / weight_sum
    smoothed = boundaries.copy()
    # A band cut by the edge of the image keeps its edge.
    smoothed[2] = np.where(present, np.clip(np.maximum(dej_top + shift, skin), 0, rows), dej_top)
    smoothed[3] = np.where(dermis_top < rows, np.clip(np.maximum(dermis_top + shift, skin), 0, rows), rows)
    return smoothed


def find_overhangs(classes: npt.NDArray[np.intp], least_rows: int = 3) -> npt.NDArray[np.bool_]:
    """Tell the columns (Z, X) where at least ``least_rows`` of dermis lie above as many of epidermis.

    Parameters
    ----------
    classes : int, shape (Z, Y, X)
        Channel of the likeliest class.
    least_rows : int
    """
    dermis_above = np.cumsum(classes == Label.DERMIS - 1, axis=1, dtype=np.int32) >= least_rows
    epidermis_below = (classes == Label.EPIDERMIS - 1) & dermis_above
    return np.asarray(epidermis_below.sum(axis=1) >= least_rows)
