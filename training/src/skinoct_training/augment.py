"""Random changes of training crops, in batches, on the device where they lie.

Changed is what differs between microscopes and patients: depth scale, tilt, waves, gain, attenuation with
depth, vignette, shadows of hair, speckle, blur, and the brightness of the layers themselves; some crops are painted
anew from their labels alone, so that no look is familiar. Depth is never mirrored. Every number comes from one
generator, so that a seed repeats a training.
"""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional

from skinoct.labels import NUM_CLASSES, Label


class AugmentConfig(BaseModel):
    """How far crops are changed; 0 switches a change off."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mirror: bool = True
    """Mirror left and right in half of the crops."""
    depth_scale: float = Field(default=0.2, ge=0, lt=0.9)
    """Depth is stretched by up to this share, either way."""
    width_scale: float = Field(default=0.3, ge=0, lt=0.9)
    """Width is stretched by up to this share; it is never narrowed, which would show what lies beyond the
    edges."""
    shift: float = Field(default=0.15, ge=0, lt=1)
    """Vertical shift, as a share of the crop's height; what comes into view is unlabeled."""
    tilt: float = Field(default=0.08, ge=0, lt=1)
    """Vertical shift from the center to an edge, as a share of the crop's height."""
    wave: float = Field(default=0.04, ge=0, lt=0.5)
    """Amplitude of random waves along the width, as a share of the crop's height."""
    gain: float = Field(default=0.35, ge=0)
    """Standard deviation of the logarithm of the gain."""
    gamma: float = Field(default=0.25, ge=0)
    """Standard deviation of the logarithm of the exponent."""
    attenuation: float = Field(default=0.6, ge=0)
    """Largest extra attenuation (or gain) from top to bottom, in units of the exponent."""
    vignette: float = Field(default=0.4, ge=0, lt=1)
    """Largest loss of brightness towards the left or right edge."""
    shadows: float = Field(default=0.4, ge=0, le=1)
    """Share of the crops with a dark or bright stripe down all depth."""
    layers: float = Field(default=0.25, ge=0)
    """Standard deviation of the logarithm of each layer's own gain, in half of the crops."""
    repaint: float = Field(default=0.0, ge=0, le=1)
    """Share of the crops whose layers are painted anew, each with a random brightness and texture. Only for labels
    that are known everywhere, as those of phantoms."""
    speckle: float = Field(default=0.15, ge=0)
    """Largest contrast of additional speckle."""
    floor: float = Field(default=0.06, ge=0)
    """Largest added constant light."""
    blur: float = Field(default=0.2, ge=0, le=1)
    """Share of the crops that are blurred."""
    sharpen: float = Field(default=0.0, ge=0, le=1)
    """Share of the crops that are sharpened, as some microscopes' software does."""
    coarsen: float = Field(default=0.25, ge=0, le=1)
    """Share of the crops shown as from a microscope with pixels up to 2.2 times as large."""


GENTLE = AugmentConfig(
    wave=0.03,
    gain=0.1,
    gamma=0.08,
    attenuation=0.15,
    vignette=0.3,
    shadows=0.15,
    layers=0.05,
    speckle=0.05,
    floor=0.02,
    blur=0.03,
    coarsen=0.05,
)
"""For a fine-tune: shapes change almost as much as ever, gray values hardly, so that the network can learn what the DEJ
looks like under this microscope (ADR 17)."""


def augment(images: Tensor, labels: Tensor, generator: torch.Generator, config: AugmentConfig) -> tuple[Tensor, Tensor]:
    """Change a batch of crops at random.

    Parameters
    ----------
    images : uint8, uint16 or float, shape (B, C, H, W)
        Normalized crops, neighboring slices as channels; integers are divided by their largest value.
    labels : uint8, shape (B, H, W)
    generator : torch.Generator
        On the device of the images.
    config : AugmentConfig

    Returns
    -------
    images : float32, shape (B, C, H, W)
        In 0..1.
    labels : uint8, shape (B, H, W)
        0 where nothing is known.
    """
    scaled = images.float() / torch.iinfo(images.dtype).max if not images.is_floating_point() else images.float()
    scaled, labels = warp(scaled, labels, generator, config)
    return recolor(scaled, labels, generator, config), labels


class Dice:
    """Random numbers, one per crop of a batch."""

    def __init__(self, count: int, generator: torch.Generator) -> None:
        self.count = count
        self.generator = generator

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Return uniform numbers of shape (B, *shape)."""
        size = (self.count, *shape)
        unit = torch.rand(size, generator=self.generator, device=self.generator.device)
        return low + (high - low) * unit

    def normal(self, deviation: float, *shape: int) -> Tensor:
        """Return normal numbers of shape (B, *shape)."""
        size = (self.count, *shape)
        return deviation * torch.randn(size, generator=self.generator, device=self.generator.device)

    def chance(self, share: float) -> Tensor:
        """Return 1.0 for about ``share`` of the crops, else 0.0, shape (B,)."""
        return (self.uniform(0, 1) < share).float()

    def smooth(self, length: int, knots: int) -> Tensor:
        """Return random curves of shape (B, length), about -1 to 1, that bend about ``knots`` times."""
        curve = self.normal(0.6, 1, max(2, knots))
        return functional.interpolate(curve, size=length, mode="linear", align_corners=True)[:, 0].clamp(-1, 1)


def warp(images: Tensor, labels: Tensor, generator: torch.Generator, config: AugmentConfig) -> tuple[Tensor, Tensor]:
    """Stretch, shift, tilt, bend and mirror; all slices of a crop alike."""
    batch, _, height, width = images.shape
    dice = Dice(batch, generator)
    x = torch.linspace(-1, 1, width, device=images.device)[None, None, :]
    y = torch.linspace(-1, 1, height, device=images.device)[None, :, None]
    side = 1 - 2 * dice.chance(0.5 if config.mirror else 0.0)
    scale_x, scale_y = dice.uniform(-config.width_scale, 0.0), dice.normal(config.depth_scale / 2)
    scale_y = scale_y.clamp(-config.depth_scale, config.depth_scale)
    # Coordinates run from -1 to 1, so a share of the height is twice as much in them.
    offset = 2 * dice.uniform(-config.shift, config.shift)[:, None, None]
    offset = offset + 2 * dice.uniform(-config.tilt, config.tilt)[:, None, None] * x
    offset = offset + 2 * config.wave * dice.uniform(0, 1)[:, None, None] * dice.smooth(width, 9)[:, None, :]
    source_x = (side * (1 + scale_x))[:, None, None] * x.expand(batch, height, width)
    source_y = (1 + scale_y)[:, None, None] * y + offset
    grid = torch.stack([source_x, source_y.expand(batch, height, width)], dim=-1)
    moved = functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=True)
    # Label 0 beyond the edge: "zeros" is what nobody knows.
    known = functional.grid_sample(
        labels[:, None].float(), grid, mode="nearest", padding_mode="zeros", align_corners=True
    )
    return moved, known[:, 0].round().to(torch.uint8)


def recolor(images: Tensor, labels: Tensor, generator: torch.Generator, config: AugmentConfig) -> Tensor:
    """Change brightness and texture of images in 0..1, float32 (B, C, H, W)."""
    batch, _, height, width = images.shape
    dice = Dice(batch, generator)

    def per_crop(values: Tensor) -> Tensor:
        return values[:, None, None, None]

    y = torch.linspace(0, 1, height, device=images.device)[None, None, :, None]
    x = torch.linspace(-1, 1, width, device=images.device)[None, None, None, :]
    images = repaint(images, labels, dice, config.repaint)
    light = images.clamp_min(1e-4) ** per_crop(dice.normal(config.gamma).clamp(-1, 1).exp())

    layer_gain = dice.normal(config.layers, NUM_CLASSES + 1) * dice.chance(0.5)[:, None]
    # The annotated band is no layer of its own brightness; painted as one it would be learned as a cue.
    layer_gain[:, Label.DEJ] = (layer_gain[:, Label.EPIDERMIS] + layer_gain[:, Label.DERMIS]) / 2
    gain = layer_gain.exp().gather(1, labels.flatten(1).long()).view(batch, 1, height, width)

    gain = gain * torch.exp(-per_crop(dice.uniform(-config.attenuation, config.attenuation)) * (y - 0.3))
    edge = per_crop(dice.uniform(-1, 1))
    gain = gain * (1 - per_crop(dice.uniform(0, config.vignette)) * (x - edge).square() / 4)

    center, breadth = per_crop(dice.uniform(-1, 1)), per_crop(dice.uniform(0.02, 0.2))
    stripe = torch.exp(-((x - center) / breadth).square())
    depth = per_crop(dice.uniform(-0.5, 0.95) * dice.chance(config.shadows))
    light = light * (gain * (1 - depth * stripe))

    noise = torch.randn(images.shape, generator=generator, device=images.device)
    speckle = torch.lerp(noise, 3 * mean_of_nine(noise), per_crop(dice.chance(0.5)))
    light = light * (1 + per_crop(dice.uniform(0, config.speckle)) * speckle).clamp_min(0)

    # Away from the mean of its neighbors a pixel is sharpened.
    softness = dice.chance(config.blur) - dice.uniform(0, 2) * dice.chance(config.sharpen)
    light = torch.lerp(light, mean_of_nine(light), per_crop(softness)).clamp_min(0)
    light = coarsen(light, dice, generator, config.coarsen)
    light = light * per_crop(dice.normal(config.gain).clamp(-1, 1).exp())
    light = light + per_crop(dice.uniform(0, config.floor))
    return light.clamp(0, 1)


def mean_of_nine(images: Tensor) -> Tensor:
    """Average each pixel (B, C, H, W) with its neighbors, edges repeated; on a CPU far faster than pooling."""
    rows = functional.pad(images, (0, 0, 1, 1), mode="replicate")
    rows = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
    columns = functional.pad(rows, (1, 1, 0, 0), mode="replicate")
    return (columns[..., :-2] + columns[..., 1:-1] + columns[..., 2:]) / 9


def repaint(images: Tensor, labels: Tensor, dice: Dice, share: float) -> Tensor:
    """Paint the layers of some crops anew, with brightness and texture drawn at random.

    Training on images that are random but for their geometry makes a network that minds no contrast in particular:
    Billot et al., *SynthSeg: Segmentation of brain MRI scans of any contrast and resolution without retraining*,
    Medical Image Analysis 2023.

    Parameters
    ----------
    images : float32, shape (B, C, H, W)
        In 0..1.
    labels : uint8, shape (B, H, W)
        Where they are 0, the image stays.
    dice : Dice
    share : float
        Of the crops.

    Returns
    -------
    float32, shape (B, C, H, W)
    """
    chosen = torch.nonzero(dice.chance(share))[:, 0]
    if not len(chosen):
        return images
    few = Dice(len(chosen), dice.generator)
    layers = labels[chosen].long()
    means = paint_means(few).gather(1, layers.flatten(1)).view(layers.shape)
    amount = few.uniform(0.0, 0.35, NUM_CLASSES + 1).gather(1, layers.flatten(1)).view(layers.shape)
    depth = (layers >= Label.EPIDERMIS).float().cumsum(1) / layers.shape[1]
    corneum = few.uniform(-0.2, 1.0)[:, None, None] * torch.exp(-depth / few.uniform(0.01, 0.08)[:, None, None])
    decay = torch.exp(-few.uniform(0.0, 1.5)[:, None, None] * depth)
    paint = means * (1 + corneum) * decay * (1 + amount * texture(few, layers.shape[1:])).clamp_min(0)
    size = (images.shape[1], *layers.shape[1:])
    fine = few.normal(1.0, *size)
    soft = mean_of_nine(fine) * 3
    noise = torch.lerp(fine, soft, few.chance(0.6)[:, None, None, None])
    speckled = paint[:, None] * (1 + few.uniform(0.02, 0.35)[:, None, None, None] * noise).clamp_min(0)
    brightest = speckled.flatten(1).kthvalue(max(1, round(0.995 * speckled[0].numel()))).values
    speckled = speckled / brightest.clamp_min(1e-3)[:, None, None, None]
    share_new = few.uniform(0.6, 1.0)[:, None, None, None] * (layers > 0)[:, None]
    return images.index_copy(0, chosen, torch.lerp(images[chosen], speckled, share_new).clamp(0, 1))


def paint_means(dice: Dice) -> Tensor:
    """Return a brightness for each label, shape (B, 6): layers of skin apart, the medium mostly dark."""
    means = dice.uniform(0.0, 1.0, NUM_CLASSES + 1)
    skin = dice.uniform(0.25, 0.85)
    # Down to a step of one eighth, either way: less would be seen by nobody.
    step = (dice.uniform(0.06, 0.4) * (2 * dice.chance(0.5) - 1)).exp()
    means[:, Label.GLYCEROL] = dice.uniform(0.0, 0.3)
    means[:, Label.EPIDERMIS] = skin * step
    means[:, Label.DERMIS] = skin / step
    between = (means[:, Label.EPIDERMIS] + means[:, Label.DERMIS]) / 2
    own = dice.chance(0.4)
    means[:, Label.DEJ] = between * (1 - own) + skin * dice.uniform(-0.5, 0.5).exp() * own
    return means


def texture(dice: Dice, shape: torch.Size) -> Tensor:
    """Return noise (B, H, W) of unit deviation whose grains are 2 to 24 px high and wide."""
    height, width = shape
    # One size of grain for all crops of a batch, as in ``coarsen``: the noise is drawn in one piece.
    grain_y, grain_x = (2 ** (1 + 3.6 * dice.uniform(0, 1, 2)[0])).tolist()
    coarse = dice.normal(1.0, 1, max(2, round(height / grain_y)), max(2, round(width / grain_x)))
    noise = functional.interpolate(coarse, size=(height, width), mode="bicubic")[:, 0]
    return noise / noise.std(dim=(1, 2), keepdim=True).clamp_min(1e-3)


def coarsen(light: Tensor, dice: Dice, generator: torch.Generator, share: float) -> Tensor:
    """Sample some crops (B, C, H, W) with larger pixels, as high as wide or not, and bring them back to their size."""
    chosen = torch.nonzero(dice.chance(share))[:, 0]
    if not len(chosen):
        return light
    down_y, down_x = (1 + 1.2 * torch.rand(2, generator=generator, device=generator.device)).tolist()
    height, width = light.shape[-2:]
    size = max(1, round(height / down_y)), max(1, round(width / down_x))
    small = functional.interpolate(light[chosen], size=size, mode="bilinear", antialias=True)
    return light.index_copy(0, chosen, functional.interpolate(small, size=(height, width), mode="bilinear"))
