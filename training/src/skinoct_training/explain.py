"""What the network learned: inputs that excite each output filter most, found by gradient ascent from noise.

After figure 4 of the paper; the idea is from Erhan, Bengio, Courville, Vincent, *Visualizing Higher-Layer
Features of a Deep Network*, 2009.
"""

from __future__ import annotations

from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional

from skinoct.checkpoint import Checkpoint
from skinoct.engines.torch_engine import build_network
from skinoct.labels import CLASSES, color_table
from skinoct.unet import UNet
from skinoct_training.files import complete_or_absent

SIZE = (128, 256)
STEPS = 80


def explain(checkpoint: Checkpoint, path: Path, *, steps: int = STEPS, seed: int = 0) -> Path:
    """Draw the input that each filter of the last layer likes most, and how the network segments it.

    Filters are those of the extra last layer where the network has one (the paper's six), else the five
    classes.

    Parameters
    ----------
    checkpoint : Checkpoint
    path : Path
        PNG file to write.
    steps : int
        Steps of gradient ascent.
    seed : int
        Of the noise.

    Returns
    -------
    Path
        The file.
    """
    network = build_network(checkpoint).requires_grad_(False)
    names = filter_names(network)
    figure = Figure(figsize=(2.6 * len(names), 3.0), layout="constrained")
    grid = figure.subplots(2, len(names), squeeze=False)
    for index, name in enumerate(names):
        image = favorite_input(network, index, steps=steps, seed=seed)
        with torch.no_grad():
            labels = network(image)[0].argmax(dim=0).numpy() + 1
        middle = image[0, image.shape[1] // 2].numpy()
        grid[0, index].imshow(middle, cmap="gray", vmin=0, vmax=1)
        grid[1, index].imshow(color_table()[labels])
        grid[0, index].set_title(name, fontsize=9)
    for axes in grid.flat:
        axes.set_axis_off()
    with complete_or_absent(path) as partial:
        figure.savefig(partial, dpi=110)
    return path


def filter_names(network: UNet) -> list[str]:
    """Name the filters that are explained."""
    if network.filters is None:
        return [c.name for c in CLASSES]
    return [f"filter {k + 1}" for k in range(network.filters.out_channels)]


def favorite_input(network: UNet, index: int, *, steps: int, seed: int) -> Tensor:
    """Climb from noise to an input (1, in_slices, H, W) in 0..1 that excites one filter everywhere.

    A slight blur after each step keeps the ascent from drowning in single pixels.
    """
    generator = torch.Generator().manual_seed(seed)
    shape = (1, network.config.in_slices, *SIZE)
    image = 0.5 + 0.1 * torch.randn(shape, generator=generator)
    for _ in range(steps):
        image.requires_grad_(True)
        (gradient,) = torch.autograd.grad(excitation(network, image, index).mean(), image)
        image = image.detach() + 0.05 * gradient / (gradient.std() + 1e-12)
        image = (0.9 * image + 0.1 * functional.avg_pool2d(image, 3, 1, 1, count_include_pad=False)).clamp(0, 1)
    return image


def excitation(network: UNet, image: Tensor, index: int) -> Tensor:
    """Return the response of one filter of the extra last layer, or the log probability of a class."""
    if network.filters is None:
        scores: Tensor = network(image).log_softmax(dim=1)
        return scores[:, index]
    seen: list[Tensor] = []
    hook = network.filters.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    try:
        network(image)
    finally:
        hook.remove()
    return seen[0][:, index]
