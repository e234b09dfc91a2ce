"""From the numbers of a file to the numbers a network sees, the same in training and in use.

Microscopes differ in bit depth, gain and gamma. Two percentiles of the whole tomogram become 0 and 1, and a root
lifts the dim dermis, where the DEJ has to be found, out of the glare of the corneum.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field


class IntensityConfig(BaseModel):
    """How voxels are normalized; stored in a checkpoint's card."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    low_percentile: float = Field(default=0.5, ge=0, le=100)
    """Percentile of the tomogram that becomes 0."""
    high_percentile: float = Field(default=99.5, ge=0, le=100)
    """Percentile of the tomogram that becomes 1; anything brighter is clipped."""
    power: float = Field(default=0.5, gt=0, le=4)
    """Exponent applied after scaling to 0..1."""
    sample_slices: int = Field(default=16, ge=1)
    """Percentiles are taken over this many slices spread over the tomogram."""


@dataclass(frozen=True)
class IntensityScale:
    """Voxel values that become 0 and 1."""

    low: float
    high: float


def sample_indices(slices: int, config: IntensityConfig) -> list[int]:
    """Return the 0-based slices whose voxels decide the scale, spread evenly from first to last."""
    count = min(slices, config.sample_slices)
    return sorted({round(z) for z in np.linspace(0, slices - 1, count)})


def measure_intensity(samples: Iterable[npt.NDArray[Any]], config: IntensityConfig) -> IntensityScale:
    """Find the scale from sample slices, each (Y, X) of any real type.

    A constant sample gives a scale of width one, so that normalizing never divides by zero.
    """
    arrays = [np.asarray(sample).ravel() for sample in samples]
    percentiles = [config.low_percentile, config.high_percentile]
    if all(_has_table(array.dtype) for array in arrays):
        low, high = _count_percentiles(arrays, percentiles)
    else:
        low, high = np.percentile(np.concatenate([np.asarray(a, np.float32) for a in arrays]), percentiles)
    return IntensityScale(float(low), float(high) if high > low else float(low) + 1.0)


def _count_percentiles(arrays: list[npt.NDArray[Any]], percentiles: list[float]) -> list[float]:
    """Return what ``np.percentile`` does, to the bit, of 8 or 16 bits: counting them is much faster than sorting."""
    counts = np.zeros(2**16, np.int64)
    for array in arrays:
        found = np.bincount(array)
        counts[: len(found)] += found
    ends = np.cumsum(counts)
    last = int(ends[-1]) - 1
    result = []
    for percentile in percentiles:
        position = last * (percentile / 100)
        rank = int(position)
        below, above = (float(np.searchsorted(ends, r, side="right")) for r in (rank, min(rank + 1, last)))
        part = position - rank
        # numpy starts from the nearer of both
        result.append(below + (above - below) * part if part < 0.5 else above - (above - below) * (1 - part))
    return result


def normalize(block: npt.NDArray[Any], scale: IntensityScale, config: IntensityConfig) -> npt.NDArray[np.float32]:
    """Map voxels (any shape) to float32 in 0..1."""
    if _has_table(block.dtype):
        return np.take(_table(block.dtype.itemsize, scale, config), block)
    return _scaled(block, scale, config)


def _has_table(dtype: np.dtype[Any]) -> bool:
    """Whether voxels have so few values that each is treated once."""
    return dtype.kind == "u" and dtype.itemsize <= 2


@lru_cache(maxsize=8)
def _table(itemsize: int, scale: IntensityScale, config: IntensityConfig) -> npt.NDArray[np.float32]:
    """Normalize every value of 8 or 16 bits: a power for each value costs less than one for each voxel."""
    return _scaled(np.arange(2 ** (8 * itemsize), dtype=f"u{itemsize}"), scale, config)


def _scaled(block: npt.NDArray[Any], scale: IntensityScale, config: IntensityConfig) -> npt.NDArray[np.float32]:
    scaled: npt.NDArray[np.float32] = np.subtract(block, scale.low, dtype=np.float32)
    scaled *= np.float32(1.0 / (scale.high - scale.low))
    np.clip(scaled, 0.0, 1.0, out=scaled)
    np.power(scaled, np.float32(config.power), out=scaled)
    return scaled
