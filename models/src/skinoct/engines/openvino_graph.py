"""The network as an OpenVINO graph, built node by node from the weights: ``skinoct.unet`` without PyTorch.

Same layers in the same order. What differs: images come in folded and with channels last (``skinoct.engines.fold``), as
OpenVINO computes them, and the head is unfolded by way of channels last, so that the scores are moved once instead of
twice.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import openvino.opset13 as ops
from openvino import Model

from skinoct.engines import FloatArray
from skinoct.labels import NUM_CLASSES
from skinoct.unet_config import UNetConfig

_EPSILON = 1e-5
"""Of PyTorch's batch normalization."""
Node = Any


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

    def conv(self, x: Node, name: str, channels: tuple[int, int], size: int, *, bias: bool) -> Node:
        weight = self.take(f"{name}.weight", (channels[1], channels[0], size, size))
        pad = [size // 2] * 2
        x = ops.convolution(x, weight, strides=[1, 1], pads_begin=pad, pads_end=pad, dilations=[1, 1])
        return ops.add(x, self.take(f"{name}.bias", (channels[1],)).reshape(1, -1, 1, 1)) if bias else x

    def block(self, x: Node, name: str, channels_in: int, channels_out: int) -> Node:
        """Two convolutions, each with batch normalization and ReLU."""
        for conv, norm, channels in ((0, 1, channels_in), (3, 4, channels_out)):
            x = self.conv(x, f"{name}.{conv}", (channels, channels_out), 3, bias=False)
            fields = ("weight", "bias", "running_mean", "running_var")
            moments = [self.take(f"{name}.{norm}.{field}", (channels_out,)) for field in fields]
            x = ops.relu(ops.batch_norm_inference(x, *moments, _EPSILON))
        return x


def build_graph(config: UNetConfig, weights: dict[str, FloatArray], size: tuple[int, int]) -> Model:
    """Build the graph that turns one folded image (1, h, w, in_slices * r * c) into probabilities (1, 5, H, W).

    Parameters
    ----------
    config : UNetConfig
    weights : dict of str to float32
        By the names of ``UNet.state_dict``.
    size : (H, W)
        Multiples of ``config.multiple``.

    Raises
    ------
    MisfitError
        When the weights are not those of such a network.
    """
    build = _Builder(weights)
    images, x = _input(config, size, 0, _folded(config))
    probabilities = _score(build, config, _decode(build, config, _encode(build, config, x)), size)
    build.check_all_taken()
    return Model([probabilities], [images], "unet")


def build_parts(config: UNetConfig, weights: dict[str, FloatArray], size: tuple[int, int]) -> tuple[Model, ...]:
    """Build the same in three parts, for engines that compute the middle one in another precision.

    Encoder, decoder and head: the outputs of one are the inputs of the next, with channels last, so that nothing has to
    be moved between them.
    """
    build = _Builder(weights)
    images, x = _input(config, size, 0, _folded(config))
    encoder = Model([_output(skip) for skip in _encode(build, config, x)], [images], "encoder")
    inputs = [_input(config, size, level, width) for level, width in enumerate(config.widths)]
    fine = _output(_decode(build, config, [x for _, x in inputs]))
    decoder = Model([fine], [parameter for parameter, _ in inputs], "decoder")
    features, x = _input(config, size, 0, config.widths[0])
    head = Model([_score(build, config, x, size)], [features], "head")
    build.check_all_taken()
    return encoder, decoder, head


def _folded(config: UNetConfig) -> int:
    """Return the channels of a folded image."""
    return config.in_slices * config.stem[0] * config.stem[1]


def _input(config: UNetConfig, size: tuple[int, int], level: int, channels: int) -> tuple[Node, Node]:
    """Return a parameter of a level's size, channels last, and what the convolutions take, channels first."""
    height, width = (pixels // fold >> level for pixels, fold in zip(size, config.stem, strict=True))
    parameter = ops.parameter([1, height, width, channels], np.float32)
    return parameter, _transpose(parameter, 0, 3, 1, 2)


def _output(x: Node) -> Node:
    return _transpose(x, 0, 2, 3, 1)


def _encode(build: _Builder, config: UNetConfig, x: Node) -> list[Node]:
    """Return what each level sees, finest first."""
    levels: list[Node] = []
    for level, (c_in, c_out) in enumerate(pairwise((_folded(config), *config.widths))):
        levels.append(build.block(_halve(levels[-1]) if levels else x, f"encoder.{level}", c_in, c_out))
    return levels


def _decode(build: _Builder, config: UNetConfig, levels: list[Node]) -> Node:
    """Return the features of the finest level."""
    *skips, x = levels
    for level, (fine, coarse) in reversed(list(enumerate(pairwise(config.widths)))):
        x = build.block(ops.concat([_double(x), skips[level]], axis=1), f"decoder.{level}", coarse + fine, fine)
    return x


def _score(build: _Builder, config: UNetConfig, x: Node, size: tuple[int, int]) -> Node:
    """Return probabilities of the classes in full resolution."""
    last = config.widths[0]
    if config.filters is not None:
        x = ops.relu(build.conv(x, "filters", (last, config.filters), 1, bias=True))
        last = config.filters
    x = build.conv(x, "head", (last, NUM_CLASSES * config.stem[0] * config.stem[1]), 1, bias=True)
    return ops.softmax(_unfold(x, config, size), axis=1)


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
