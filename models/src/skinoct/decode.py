"""From class probabilities to layers.

``decode_pixel`` takes the likeliest class of each pixel. ``OrderedDecoder`` finds, for whole slices, the best lines:
in each column exactly one sequence glass, glycerol, epidermis, DEJ, dermis in that order, any of them possibly
absent, with the DEJ as a band of fixed thickness. No islands, no gaps, no order errors, by construction.

Columns are searched in pairs, which takes half the time: the lines are smooth over more than two columns, and two
columns tell more than one. Between the middles of pairs lines are straight.

The score of a pair in which the DEJ begins at row ``a`` is the sum of log probabilities of the best ordered
labeling with that DEJ. It comes from cumulative sums and running maxima alone (``skinoct.line_search``).
Neighboring pairs are tied by a price on steps of the line (a Viterbi search with a linear price, computed as in
Felzenszwalb and Huttenlocher, *Distance Transforms of Sampled Functions*, Theory of Computing 2012). The line is the
maximum of the two-sided messages, refined to a fraction of a row by a parabola.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from skinoct.decode_config import DecodeConfig
from skinoct.errors import OptionError
from skinoct.labels import NUM_CLASSES, Label
from skinoct.line_search import (
    LANES,
    Lanes,
    band_scores,
    best_line,
    best_positions,
    charge_thickness,
    column_scores,
    forbid_below,
    likeliest,
    pair_products,
    runs_inverted,
    share_within,
    subtract_best,
    suited_lanes,
)

FloatArray = npt.NDArray[np.float32]
LEAST_SHOWN = 0.1
"""Share of the columns that must show skin surface and DEJ, or nothing is said of the thickness."""
FURROW_PAIRS = 31
"""Pairs of columns, twice as wide as most furrows, over which the skin is leveled before its distance to the DEJ is
judged."""
UNSEEN_SHARE = 0.2
"""Of the price of a thin epidermis, where its surface lies above the image."""
UNSEEN_MOST = 60.0
"""The highest price of it there, in log probability: as much as fifteen rows of which the network is sure."""
COLUMNS = 2
"""Columns of the network that are searched as one."""


def for_slices_apart(config: DecodeConfig, z_um: float | None) -> DecodeConfig:
    """Return ``config`` with the smoothing that suits slices ``z_um`` apart; unchanged where that is not known."""
    if not z_um:
        return config
    return config.model_copy(update={"smooth_slices": min(config.smooth_slices, config.smooth_slices_um / z_um)})


def for_wide_columns(config: DecodeConfig, enlargement: float) -> DecodeConfig:
    """Return ``config`` with a reach that leaves no gap in the band where the network's columns are narrower.

    ``enlargement`` of them are one column of the image: to the next of those the line must not step over a band.
    """
    if not config.dej_reach or enlargement <= 1:
        return config
    reach = max(1, int(config.band_thickness_px / enlargement))
    return config.model_copy(update={"dej_reach": min(config.dej_reach, reach)})


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
    return likeliest(probabilities) + np.uint8(1)


class OrderedDecoder:
    """Decodes a tomogram block by block; keeps lines, never volumes.

    Parameters
    ----------
    config : DecodeConfig
    shape : (Z, Y, X)
        Of the whole tomogram, in rows and columns of the network.
    lanes : tuple, optional
        For the slices that are searched at once; as many as suit their size when None. No answer depends on it.
    """

    def __init__(self, config: DecodeConfig, shape: tuple[int, int, int], lanes: Lanes | None = None) -> None:
        self.config = config
        self.shape = shape
        slices, _, width = shape
        self._boundaries = np.zeros((4, slices, width), np.float32)
        self._confidence = np.zeros((slices, width), np.float32)
        self._overhang = np.zeros((slices, width), bool)
        self._seen = 0
        self._lanes = lanes or suited_lanes(*shape[1:])
        self._logs = _empty_logs(len(self._lanes), *shape[1:])
        """Of the slices that are kept until the search, which works on several at once, is busy: half as large as what
        the network said of them."""
        self._waiting = 0

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
        if classes != NUM_CLASSES or tuple(plane) != self.shape[1:] or self._seen + count > self.shape[0]:
            raise OptionError(
                f"a block of shape {probabilities.shape} does not continue a tomogram of shape {self.shape} at "
                f"slice {self._seen + 1}"
            )
        self._overhang[self._seen : self._seen + count] = find_overhangs(likeliest(probabilities))
        for image in probabilities:
            _fill_logs(self._logs[self._waiting], image, self.config)
            self._waiting += 1
            self._seen += 1
            if self._waiting == len(self._lanes):
                self._search()

    def _search(self) -> None:
        """Find the lines of the slices that wait."""
        where = slice(self._seen - self._waiting, self._seen)
        self._logs[self._waiting :] = 0
        self._boundaries[:, where], self._confidence[where] = _search_lanes(
            self._logs, self._waiting, self.shape[2], self.config, self._lanes
        )
        self._waiting = 0

    def lines(self) -> tuple[FloatArray, FloatArray]:
        """Return the lines of each slice by itself: boundaries (4, Z, X) and confidence (Z, X) as in ``Surfaces``.

        Raises
        ------
        OptionError
            When slices are missing.
        """
        if self._seen != self.shape[0]:
            raise OptionError(f"{self.shape[0] - self._seen} slices were never decoded")
        if self._waiting:
            self._search()
        return self._boundaries, self._confidence

    def finish(self) -> Surfaces:
        """Smooth across slices and return all lines; raises as ``lines`` does."""
        boundaries, confidence = self.lines()
        boundaries = smooth_across_slices(boundaries, confidence, self.shape[1], self.config)
        return Surfaces(boundaries, confidence, self._overhang)


def decode_slices(
    blocks: Iterable[FloatArray], config: DecodeConfig, shape: tuple[int, int, int], lanes: Lanes | None = None
) -> tuple[FloatArray, FloatArray]:
    """Find the lines of some slices, each by itself; parameters and result are those of ``OrderedDecoder``."""
    decoder = OrderedDecoder(config, shape, lanes)
    for block in blocks:
        decoder.add(block)
    return decoder.lines()


def _search_lanes(
    logs: FloatArray, slices: int, columns: int, config: DecodeConfig, lanes: Lanes
) -> tuple[FloatArray, FloatArray]:
    """Return boundaries (4, Z, X) and confidence (Z, X) of the first lanes of ``logs`` (lanes, 5, Y, X / 2)."""
    rows = logs.shape[2]
    band = max(1, round(config.band_thickness_px))
    glass, above_skin, above_dej, below = column_scores(logs, lanes)

    skin, _ = best_line(above_skin, config.surface_step_price, 0, lanes)
    score = band_scores(above_dej, below, band, lanes)
    del above_dej, below
    charged = score
    if config.row_um is not None and config.epidermis_price > 0:
        around = _level_skin(skin, above_skin, score, band, config, slices, lanes)
        prices = thickness_prices(config, rows)
        least = least_thickness_prices(prices)
        charged = charge_thickness(score, around, band, prices * COLUMNS, least * COLUMNS, lanes)
    dej_row, best = best_line(charged, config.dej_step_price, config.dej_reach * COLUMNS, lanes)
    del charged
    confidence = column_confidence(score, best, band, config.temperature * COLUMNS, lanes)
    del score
    # Line positions count from ``band`` rows above the image: the band may begin out of view.
    center = each_column(dej_row - band / 2, columns)
    absent = center >= rows + band / 2 - 0.5
    center = smooth_columns(center, config.smooth_columns)
    half = config.band_thickness_px / 2
    dej_top = np.where(absent, rows, center - half).astype(np.float32)
    dermis_top = np.where(absent, rows, center + half)

    skin = _above(skin, above_skin, dej_top, config, slices, lanes)
    forbid_below(glass, np.ceil(skin), lanes)
    pane, _ = best_line(glass, config.glass_step_price, 0, lanes)
    skin, pane = each_column(skin, columns), each_column(pane, columns)
    lines = np.stack([np.minimum(pane, skin), skin, dej_top, dermis_top])
    lines = np.clip(np.maximum.accumulate(lines, axis=0), 0, rows)[..., :slices]
    return np.swapaxes(lines, 1, 2).astype(np.float32), np.repeat(confidence, COLUMNS, axis=0)[:columns, :slices].T


def _level_skin(
    skin: FloatArray,
    above_skin: FloatArray,
    score: FloatArray,
    band: int,
    config: DecodeConfig,
    slices: int,
    lanes: Lanes,
) -> FloatArray:
    """Return the skin surface of pairs (X / 2, lanes) from which the thickness of the epidermis counts.

    Without furrows: the DEJ passes below them and keeps its distance from the skin around them. And above where most
    columns see the DEJ: a skin surface that was searched before the DEJ may have sunk into dermis that looks as dark as
    glycerol, and would take the DEJ with it.
    """
    around = _leveled(skin, slices)
    dej = best_positions(score, lanes) - band
    if not (around.max(axis=0) > dej.min(axis=0))[:slices].any():
        return around
    dej = _leveled(dej, slices)
    sunk = np.any(around > dej, axis=0, keepdims=True)
    if not sunk[:, :slices].any():
        return around
    bounded = above_skin.copy()
    forbid_below(bounded, np.clip(dej, 0, above_skin.shape[1] - 1), lanes)
    higher, _ = best_line(bounded, config.surface_step_price, 0, lanes)
    return np.where(sunk, _leveled(higher, slices), around)


def _leveled(line: FloatArray, slices: int) -> FloatArray:
    """Return the median of a line (X / 2, lanes) over furrows; lanes without a slice stay as they are."""
    level = line.copy()
    for lane in range(slices):  # far faster than all at once
        level[:, lane] = ndimage.median_filter(np.ascontiguousarray(line[:, lane]), FURROW_PAIRS, mode="nearest")
    return level


def _above(
    skin: FloatArray, above_skin: FloatArray, dej_top: FloatArray, config: DecodeConfig, slices: int, lanes: Lanes
) -> FloatArray:
    """Return the best skin surface of pairs (X / 2, lanes) above the DEJ, which is one of columns (X, lanes).

    It is searched again only where ``skin`` crosses the DEJ.
    """
    top = np.minimum(dej_top[::COLUMNS], dej_top[np.minimum(np.arange(len(skin)) * COLUMNS + 1, len(dej_top) - 1)])
    limit = np.clip(np.ceil(top), 0, above_skin.shape[1] - 1)
    crossing = np.any(skin > limit, axis=0, keepdims=True)
    if crossing[:, :slices].any():
        forbid_below(above_skin, limit, lanes)
        bound, _ = best_line(above_skin, config.surface_step_price, 0, lanes)
        skin = np.where(crossing, bound, skin).astype(np.float32)
    return np.asarray(np.minimum(skin, top), np.float32)


def each_column(line: FloatArray, columns: int) -> FloatArray:
    """Return the lines of ``columns`` columns, (X, lanes), from those of pairs, straight between their middles."""
    before = np.concatenate([line[:1], line[:-1]])
    after = np.concatenate([line[1:], line[-1:]])
    both = np.stack([0.75 * line + 0.25 * before, 0.75 * line + 0.25 * after], axis=1)
    return np.asarray(both.reshape(-1, line.shape[1])[:columns], np.float32)


def _empty_logs(lanes: int, rows: int, columns: int) -> FloatArray:
    """Return room for what each class adds to the score of a pair of columns: (lanes, 5, Y, X / 2).

    An odd last column stands for two.
    """
    return np.empty((lanes, NUM_CLASSES, rows, -(-columns // COLUMNS)), np.float32)


def _fill_logs(log: FloatArray, image: FloatArray, config: DecodeConfig) -> None:
    """Write the logarithms (5, Y, X / 2) for one slice (5, Y, X); one by one it stays in the cache meanwhile."""
    pair_products(image, config.floor, config.dark_as_epidermis, config.dark_as_dermis, log)
    np.log(log, out=log)


def thickness_prices(config: DecodeConfig, rows: int) -> FloatArray:
    """Return the price of each thickness of the epidermis from 0 to ``rows`` rows, that of a log-normal distribution.

    It keeps a network that sees a microscope for the first time, and says nothing, from epidermis that no skin has.
    """
    assert config.row_um is not None
    thickness_um = np.maximum(np.arange(rows + 1), 1) * config.row_um
    deviations = np.log(thickness_um / config.epidermis_um) / config.epidermis_spread
    return np.asarray(0.5 * config.epidermis_price * deviations**2, np.float32)


def least_thickness_prices(prices: FloatArray) -> FloatArray:
    """Return the prices where not all of the epidermis is in view, so that its thickness is at least what is seen.

    Too few rows seen say little then: the image may begin below the skin surface. They are given a share of their price
    and a bound to it, so that a network that is sure of dermis at the top of the image is believed.
    """
    fewer = np.arange(len(prices)) < prices.argmin()
    return np.asarray(np.where(fewer, np.minimum(prices * UNSEEN_SHARE, UNSEEN_MOST), prices), np.float32)


def typical_thickness(boundaries: FloatArray, confidence: FloatArray, rows: int) -> float | None:
    """Return the median of the rows from the skin surface to the middle of the DEJ, weighted by confidence.

    Parameters
    ----------
    boundaries : float32, shape (4, Z, X)
    confidence : float32, shape (Z, X)
    rows : int
        Height of the image.

    Returns
    -------
    float or None
        None when a tenth of the columns or fewer show both surfaces.
    """
    _, skin, dej_top, dermis_top = boundaries
    shown = (skin > 0) & (dermis_top < rows)
    if shown.mean() <= LEAST_SHOWN:
        return None
    thickness, weight = ((dej_top + dermis_top) / 2 - skin)[shown], confidence[shown] + 0.01
    order = np.argsort(thickness)
    total = np.cumsum(weight[order])
    return max(float(thickness[order][np.searchsorted(total, total[-1] / 2)]), 1.0)


def with_own_thickness(config: DecodeConfig, own_px: float | None) -> DecodeConfig:
    """Return ``config`` with prices that expect the tomogram's own thickness in rows, ``own_px``, beside the usual one.

    Both prices are parabolas over the logarithm of the thickness, and so is their sum. Unchanged where the tomogram
    does not show its thickness.
    """
    if own_px is None or not config.own_price:
        return config
    usual = config.epidermis_price if config.row_um is not None else 0.0
    row_um = config.row_um or 1.0
    both = usual + config.own_price
    center = (usual * np.log(config.epidermis_um) + config.own_price * np.log(own_px * row_um)) / both
    return config.model_copy(update={"row_um": row_um, "epidermis_um": float(np.exp(center)), "epidermis_price": both})


def find_line(score: FloatArray, step_price: float) -> FloatArray:
    """Find the line (Z, X) of highest total score (Z, Y, X), with a price on each row of step between columns."""
    slices, rows, columns = score.shape
    line = np.empty((slices, columns), np.float32)
    for start in range(0, slices, len(LANES)):
        part = score[start : start + len(LANES)]
        columns_first = np.zeros((columns, rows, len(LANES)), np.float32)
        columns_first[..., : len(part)] = part.transpose(2, 1, 0)
        line[start : start + len(part)] = best_line(columns_first, step_price, 0, LANES)[0][:, : len(part)].T
    return line


def column_confidence(
    score: FloatArray, best: npt.NDArray[np.int32], band: int, temperature: float, lanes: Lanes
) -> FloatArray:
    """Probability, by the evidence of each pair alone, that the DEJ lies within one band of the line: (X, lanes).

    ``score`` has shape (X, P, lanes) and is overwritten; ``best`` has shape (X, lanes).
    """
    subtract_best(score, temperature, lanes)
    np.exp(score, out=score)
    return np.clip(share_within(score, best, band, lanes), 0.0, 1.0)


def smooth_columns(line: FloatArray, sigma: float) -> FloatArray:
    """Smooth lines (X, Z) along x by a Gaussian."""
    return np.asarray(ndimage.gaussian_filter1d(line, sigma, axis=0, mode="nearest")) if sigma > 0 else line


def smooth_across_slices(boundaries: FloatArray, confidence: FloatArray, rows: int, config: DecodeConfig) -> FloatArray:
    """Smooth epidermal thickness over neighboring slices that agree, weighted by confidence.

    A straight line is fitted through the thickness at each place (local linear regression: Cleveland, *Robust Locally
    Weighted Regression*, JASA 1979), so that a DEJ that falls steadily is not flattened at the ends of the stack.

    Parameters and result are as in ``Surfaces``; ``rows`` is the height of the image.
    """
    slices = boundaries.shape[1]
    reach = min(int(np.ceil(2 * config.smooth_slices)), slices - 1)
    if reach < 1:
        return boundaries
    _, skin, dej_top, dermis_top = boundaries
    present = dej_top < rows
    thickness = dej_top - skin
    # Sums of weight, weight * step, weight * step^2, weight * change, weight * change * step.
    sums = np.zeros((5, *thickness.shape), np.float32)
    for step in range(-reach, reach + 1):
        here = slice(max(0, -step), slices - max(0, step))
        there = slice(max(0, step), slices - max(0, -step))
        change = thickness[there] - thickness[here]
        agree = (np.abs(change) <= config.slice_jump_px) & present[here] & present[there]
        weight = np.exp(-0.5 * (step / config.smooth_slices) ** 2) * (confidence[there] + 0.01) * agree
        for total, factor in zip(sums, (1.0, step, step**2, change, change * step), strict=True):
            total[here] += weight * factor
    shift = _at_zero(*sums)
    smoothed = boundaries.copy()
    # A band cut by the edge of the image keeps its edge.
    smoothed[2] = np.where(present, np.clip(np.maximum(dej_top + shift, skin), 0, rows), dej_top)
    smoothed[3] = np.where(dermis_top < rows, np.clip(np.maximum(dermis_top + shift, skin), 0, rows), rows)
    return smoothed


def _at_zero(
    weight: FloatArray, first: FloatArray, second: FloatArray, value: FloatArray, product: FloatArray
) -> FloatArray:
    """Return the height at step 0 of the lines fitted by least squares; 0 where there is nothing to fit through."""
    determinant = weight * second - first**2
    determined = determinant > 1e-3 * weight * second + 1e-9
    height = (second * value - first * product) / np.where(determined, determinant, 1)
    return np.asarray(np.where(determined, height, 0), np.float32)


def find_overhangs(classes: npt.NDArray[np.uint8], least_rows: int = 3) -> npt.NDArray[np.bool_]:
    """Tell the columns (Z, X) where at least ``least_rows`` of dermis lie above as many of epidermis.

    Parameters
    ----------
    classes : uint8, shape (Z, Y, X)
        Channel of the likeliest class.
    least_rows : int
    """
    return runs_inverted(classes, Label.DERMIS - 1, Label.EPIDERMIS - 1, least_rows)
