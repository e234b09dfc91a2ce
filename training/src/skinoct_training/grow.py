"""A trained network as the beginning of a larger one, which answers the same until it has learned more.

What is new starts as in any network, but counts for nothing in what was known: the weights with which known channels
see new ones are zero. After Chen, Goodfellow, Shlens, *Net2Net: Accelerating Learning via Knowledge Transfer*, ICLR
2016, with additional channels instead of copies of known ones.
"""

from __future__ import annotations

import torch
from torch import Tensor

from skinoct.unet import UNet
from skinoct.unet_config import UNetConfig

Channels = list[int]
"""Where the channels that a layer knew lie among those that it has now."""


def can_grow(small: UNetConfig, large: UNetConfig) -> bool:
    """Return whether ``large`` differs from ``small`` by more slices and wider levels alone."""
    same = large.model_copy(update={"in_slices": small.in_slices, "widths": small.widths}) == small
    wider = len(large.widths) == len(small.widths) and all(
        many >= few for many, few in zip(large.widths, small.widths, strict=True)
    )
    return same and wider and large.in_slices >= small.in_slices


def grow(known: UNet, config: UNetConfig) -> UNet:
    """Return a network of a larger configuration that answers as ``known`` does.

    Parameters
    ----------
    known : UNet
        With batch statistics.
    config : UNetConfig
        One that ``known.config`` can grow to. Slices are added on both sides of those that it sees.

    Returns
    -------
    UNet
        New channels are random, so seed PyTorch before.
    """
    assert can_grow(known.config, config)
    large = UNet(config)
    weights = large.state_dict()
    for name, old in known.state_dict().items():
        weights[name] = _extended(weights[name], old, _seen(name, known.config, config))
    large.load_state_dict(weights)
    return large


def _extended(new: Tensor, old: Tensor, seen: Channels) -> Tensor:
    """Put the values ``old`` of a layer first in those of a larger one; known channels see ``seen`` and no others."""
    if old.ndim == 0:
        return old
    kept = torch.arange(len(old))
    if old.ndim > 1:
        old = torch.zeros_like(new[kept]).index_copy(1, torch.tensor(seen), old)
    return new.index_copy(0, kept, old)


def _seen(name: str, small: UNetConfig, large: UNetConfig) -> Channels:
    """Return where the channels that a convolution knew lie among those that it sees."""
    part, *place = name.split(".")
    if part not in ("encoder", "decoder"):  # behind the finest level: filters and head
        return list(range(small.filters if part == "head" and small.filters else small.widths[0]))
    level, layer = int(place[0]), int(place[1])
    if layer:  # the second of a block
        return list(range(small.widths[level]))
    if part == "decoder":  # the coarser level, then the skip
        behind = large.widths[level + 1]
        return [*range(small.widths[level + 1]), *range(behind, behind + small.widths[level])]
    if level:
        return list(range(small.widths[level - 1]))
    per_slice = small.stem[0] * small.stem[1]
    first = (large.in_slices - small.in_slices) // 2 * per_slice
    return list(range(first, first + small.in_slices * per_slice))
