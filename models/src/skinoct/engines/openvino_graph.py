"""The network as an OpenVINO graph, built node by node from the weights: ``skinoct.unet`` without PyTorch.

Same layers in the same order. What differs: images come in folded and with channels last (``skinoct.engines.fold``), as
OpenVINO computes them, and the head is unfolded by way of channels last, so that the scores are moved once instead of
twice.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal

import numpy as np
import openvino.opset13 as ops
from openvino import Model, Type

from skinoct.engines import FloatArray
from skinoct.labels import NUM_CLASSES
from skinoct.unet_config import UNetConfig

_EPSILON = 1e-5
"""Of PyTorch's batch normalization."""
Node = Any
Kind = Literal["f32", "bf16"]
_TYPES = {"f32": Type.f32, "bf16": Type.bf16}


class MisfitError(ValueError):
    """Weights and architecture do not belong together; says where."""


class _Builder:
    """Takes weights by name, each once."""

    def __init__(self, weights: dict[str, FloatArray]) -> None:
        self._weights = {k: w for k, w in weights.items() if not k.endswith("num_batches_tracked")}

    def take(self, name: str, shape: tuple[int, ...]) -> FloatArray:
        weight = self._weights.pop(name, None)
        if weight is None:
            raise MisfitError(f"{name} is missing")
        if weight.shape != shape:
            raise MisfitError(f"{name} has the shape {weight.shape}, not {shape}")
        return weight

    def check_all_taken(self) -> None:
        if self._weights:
            raise MisfitError(f"unexpected {next(iter(self._weights))}")

    def conv(self, x: Node, name: str, channels: tuple[int, int], scale: FloatArray) -> Node:
        """Convolution of single pixels with a bias, in float32, of features that are ``scale`` times too large."""
        weight = self.take(f"{name}.weight", (channels[1], channels[0], 1, 1)) / scale[:, None, None]
        return _convolved(x, weight, self.take(f"{name}.bias", (channels[1],)), "f32")

    def block(
        self,
        x: Node,
        name: str,
        channels_in: int,
        channels_out: int,
        kind: Kind = "f32",
        scale: FloatArray | None = None,
    ) -> tuple[Node, FloatArray]:
        """Two convolutions, each with batch normalization, which scales its weights, and ReLU.

        In bfloat16 each channel becomes a little larger or smaller than it should be, by what makes its bias a number
        that bfloat16 has: a rounded bias would be off everywhere to the same side. Who reads the channel divides by
        that ``scale``.

        Parameters
        ----------
        x : Node
            (1, channels_in, h, w).
        scale : float32, shape (channels_in,), optional
            Of ``x``; ones when None.

        Returns
        -------
        x : Node
            (1, channels_out, h, w).
        scale : float32, shape (channels_out,)
        """
        x = _cast(x, kind)
        for conv, norm, channels in ((0, 1, channels_in), (3, 4, channels_out)):
            weight = self.take(f"{name}.{conv}.weight", (channels_out, channels, 3, 3))
            fields = ("weight", "bias", "running_mean", "running_var")
            gain, shift, mean, variance = (self.take(f"{name}.{norm}.{field}", (channels_out,)) for field in fields)
            gain = gain / np.sqrt(variance + np.float32(_EPSILON))
            bias = shift - mean * gain
            if scale is not None:
                weight = weight / scale[:, None, None]
            scale = _whole_scale(bias) if kind == "bf16" else np.ones_like(bias)
            weight = weight * (gain * scale)[:, None, None, None]
            x = ops.relu(_convolved(x, weight, bias * scale, kind))
        assert scale is not None
        return x, scale


def build_graph(
    config: UNetConfig, weights: dict[str, FloatArray], size: tuple[int, int], *, low_decoder: bool = False
) -> Model:
    """Build the graph that turns one folded image (1, h, w, in_slices * r * c) into probabilities (1, 5, H, W).

    Parameters
    ----------
    config : UNetConfig
    weights : dict of str to float32
        By the names of ``UNet.state_dict``.
    size : (H, W)
        Multiples of ``config.multiple``.
    low_decoder : bool
        Whether the decoder computes in bfloat16.

    Raises
    ------
    MisfitError
        When the weights are not those of such a network.
    """
    build = _Builder(weights)
    images = ops.parameter(
        [1, *(pixels // fold for pixels, fold in zip(size, config.stem, strict=True)), _folded(config)]
    )
    levels = _encode(build, config, _transpose(images, 0, 3, 1, 2))
    fine, scale = _decode(build, config, levels, "bf16" if low_decoder else "f32")
    probabilities = _score(build, config, _cast(fine, "f32"), scale, size)
    build.check_all_taken()
    return Model([probabilities], [images], "unet")


def _folded(config: UNetConfig) -> int:
    """Return the channels of a folded image."""
    return config.in_slices * config.stem[0] * config.stem[1]


def _encode(build: _Builder, config: UNetConfig, x: Node) -> list[Node]:
    """Return what each level sees, finest first."""
    levels: list[Node] = []
    for level, (c_in, c_out) in enumerate(pairwise((_folded(config), *config.widths))):
        levels.append(build.block(_halve(levels[-1]) if levels else x, f"encoder.{level}", c_in, c_out)[0])
    return levels


def _decode(build: _Builder, config: UNetConfig, levels: list[Node], kind: Kind) -> tuple[Node, FloatArray]:
    """Return the features of the finest level and their scale."""
    *skips, x = (_cast(level, kind) for level in levels)
    scale = np.ones(config.widths[-1], np.float32)
    for level, (fine, coarse) in reversed(list(enumerate(pairwise(config.widths)))):
        both = np.concatenate([scale, np.ones(fine, np.float32)])
        x = ops.concat([_double(x), skips[level]], axis=1)
        x, scale = build.block(x, f"decoder.{level}", coarse + fine, fine, kind, both)
    return x, scale


def _score(build: _Builder, config: UNetConfig, x: Node, scale: FloatArray, size: tuple[int, int]) -> Node:
    """Return probabilities of the classes in full resolution."""
    last = config.widths[0]
    if config.filters is not None:
        x = ops.relu(build.conv(x, "filters", (last, config.filters), scale))
        last, scale = config.filters, np.ones(config.filters, np.float32)
    x = build.conv(x, "head", (last, NUM_CLASSES * config.stem[0] * config.stem[1]), scale)
    return ops.softmax(_unfold(x, config, size), axis=1)


def _whole_scale(bias: FloatArray) -> FloatArray:
    """Return the factors next to 1 that make numbers ones that bfloat16 has."""
    scale = np.ones_like(bias)
    return np.divide(nearest_bfloat16(bias), bias, out=scale, where=bias != 0)


def _convolved(x: Node, weight: FloatArray, bias: FloatArray, kind: Kind) -> Node:
    pad = [weight.shape[-1] // 2] * 2
    x = ops.convolution(x, _constant(weight, kind), [1, 1], pads_begin=pad, pads_end=pad, dilations=[1, 1])
    return ops.add(x, _constant(bias.reshape(1, -1, 1, 1), kind))


def _constant(values: FloatArray, kind: Kind) -> Node:
    # OpenVINO itself does not choose the nearest bfloat16 of a constant, and the DEJ moves further.
    return ops.constant(nearest_bfloat16(values) if kind == "bf16" else values, dtype=_TYPES[kind])


def nearest_bfloat16(values: FloatArray) -> FloatArray:
    """Round float32 to the nearest number that bfloat16 has, of two equally near ones to the even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) & np.uint32(0xFFFF0000)
    return rounded.view(np.float32)


def _cast(x: Node, kind: Kind) -> Node:
    """Convert where needed; asking for another precision as a whole would need a graph for each."""
    return x if x.get_element_type() == _TYPES[kind] else ops.convert(x, _TYPES[kind].get_type_name()).output(0)


def _halve(x: Node) -> Node:
    no = [0, 0]
    return ops.max_pool(x, [2, 2], [1, 1], no, no, [2, 2]).output(0)


def _double(x: Node) -> Node:
    return ops.interpolate(
        x,
        np.array([2.0, 2.0], np.float32),
        mode="nearest",
        shape_calculation_mode="scales",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
        axes=np.array([2, 3]),
    )


def _reshape(x: Node, *shape: int) -> Node:
    return ops.reshape(x, np.array(shape), special_zero=False)


def _transpose(x: Node, *axes: int) -> Node:
    return ops.transpose(x, np.array(axes))


def _unfold(x: Node, config: UNetConfig, size: tuple[int, int]) -> Node:
    """Undo folding for the class scores, as ``unet.unfold`` does."""
    rows, columns = config.stem
    height, width = size[0] // rows, size[1] // columns
    x = _reshape(_transpose(x, 0, 2, 3, 1), 1, height, width, NUM_CLASSES, rows, columns)
    return _reshape(_transpose(x, 0, 3, 1, 4, 2, 5), 1, NUM_CLASSES, *size)
