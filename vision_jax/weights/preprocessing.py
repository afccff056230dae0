"""How the images of a network were prepared in the library that its weights come from."""

from dataclasses import dataclass, replace
from typing import Literal

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

TIMM_90, TIMM_95 = 224 / 248, 224 / 235
"""Crops that timm calls 0.9 and 0.95: it rounds down the size to scale to, 248 and 235 for 224."""


@dataclass(frozen=True)
class Preprocessing:
    """Scaling, centre crop and normalisation of an image.

    An image in [0, 1] is scaled so that its shorter side is round(image_size / crop) pixels, then
    cropped around its centre, then normalised by mean and std.

    Attributes:
        image_size: Height and width after the crop.
        crop: Part of the scaled image's shorter side that is kept, in (0, 1].
        interpolation: How it is scaled.
        mean: Mean to subtract; one value, or one per channel.
        std: Standard deviation to divide by; one value above 0, or one per channel.
    """

    image_size: int = 224
    crop: float = 0.875
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def for_channels(self, channels: int) -> "Preprocessing":
        """Return it for images of another number of channels: mean and std are averaged then."""
        if channels == len(self.mean):
            return self
        mean, std = (sum(values) / len(values) for values in (self.mean, self.std))
        return replace(self, mean=(mean,), std=(std,))


TORCHVISION = Preprocessing()
"""Of torchvision's first ImageNet weights, and of most networks trained since."""
