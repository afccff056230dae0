"""What a run's model is made of."""

import dataclasses
import json
import typing
from dataclasses import dataclass, field
from typing import Any, Literal

from vision_jax.checked import require
from vision_jax.config.data import AUTO

PixelLoss = Literal["binary_cross_entropy", "mean_squared_error"]
AdversarialLoss = Literal["non_saturating", "minimax", "hinge"]
DifferentiableAugmentation = Literal["color", "translation", "cutout"]


@dataclass(frozen=True)
class ModelConfig:
    """Any model of the table, by its name."""

    name: str = AUTO
    """Name of the model, such as resnet18; a wrong one lists all. Default: that of init_from."""
    options: dict[str, Any] = field(default_factory=dict)
    """Arguments of its constructor, as NAME=VALUE, such as stages=[32,64] padding=SAME. Default:
    those of init_from."""

    def check(self) -> None:
        """Refuse options that `config.json` cannot hold; `TrainConfig` calls it."""
        check_json("model.options", self.options)


def check_json(name: str, options: dict[str, Any]) -> None:
    """Refuse options that `config.json` cannot hold."""
    try:
        json.dumps(options, allow_nan=False)
    except (TypeError, ValueError) as error:
        require(False, name, options, f"JSON-able: {error}")


@dataclass(frozen=True)
class CNNConfig:
    """The convolutional classifier.

    The defaults suit small images. The 224x224x3 network of 9,683,658 parameters is
    `--model.stages 32 64 128 128 --model.padding VALID --data.image-size 224` on RGB images.
    """

    stages: tuple[int, ...] = (32, 64, 128)
    """Channels of each stage: 3x3 convolution, ReLU, 2x2 max-pooling."""
    hidden: int = 512
    """Width of the dense layer whose output is the embedding."""
    padding: Literal["SAME", "VALID"] = "SAME"
    """Padding of the convolutions."""
    dropout: float = 0.0
    """Fraction of the embedding dropped in training."""

    name: typing.ClassVar[str] = "cnn"

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return dataclasses.asdict(self)

    def check(self) -> None:
        """Refuse values out of range; `TrainConfig` calls it."""
        require(len(self.stages) >= 1, "model.stages", self.stages, "one width or more")
        require(all(s >= 1 for s in self.stages), "model.stages", self.stages, "widths >= 1")
        require(self.hidden >= 1, "model.hidden", self.hidden, "at least 1")
        require(0 <= self.dropout < 1, "model.dropout", self.dropout, "in [0, 1)")


@dataclass(frozen=True)
class AutoencoderConfig:
    """The autoencoder."""

    kind: Literal["conv", "dense", "variational"] = "conv"
    """Convolutions and pooling; dense layers; or dense layers and a Gaussian code."""
    hidden: tuple[int, ...] | None = None
    """Channels of the encoder's stages (conv) or widths of its layers; the decoder has them in
    reverse. Default: 16 8 (conv), 1000 500 250 (dense), 500 (variational)."""
    code: int | None = None
    """Channels (conv) or width of the code. Default: 8 (conv), 30 (dense), 20 (variational)."""
    loss: PixelLoss = "binary_cross_entropy"
    """Pixel reconstruction loss."""
    beta: float = 1.0
    """Weight of the variational code's divergence from the standard normal."""

    @property
    def name(self) -> str:
        """The model's name."""
        return f"{self.kind}_autoencoder"

    def check(self) -> None:
        """Refuse values out of range; `TrainConfig` calls it."""
        hidden, code = self.hidden, self.code
        require(hidden is None or min(hidden, default=0) >= 1, "model.hidden", hidden, ">= 1")
        require(code is None or code >= 1, "model.code", code, "at least 1")
        require(self.beta >= 0, "model.beta", self.beta, "at least 0")


@dataclass(frozen=True)
class GANConfig:
    """The deep convolutional GAN.

    The defaults suit any size that is a multiple of 4; one more doubling takes one more generator
    width, such as `--model.generator 512 256 128 64` for 64x64.
    """

    generator: tuple[int, ...] = (256, 128, 64)
    """Channels after the generator's dense layer and after each of its convolutions but the last;
    the first convolution keeps the size, the others double it."""
    discriminator: tuple[int, ...] = (64, 128)
    """Channels of the discriminator's convolutions, each of which halves the size."""
    latent_size: int = 100
    """Width of the generator's input."""
    dropout: float = 0.3
    """Fraction that the discriminator drops after each convolution, in training."""
    loss: AdversarialLoss = "non_saturating"
    """Adversarial objective."""
    r1: float = 0.0
    """Weight of the penalty on the discriminator's gradient at real images."""
    spectral_norm: bool = False
    """Divide the discriminator's kernels by their largest singular values."""
    ema: float = 0.999
    """Decay of the moving average of the generator's weights, which makes the images; 0: none."""
    augmentations: tuple[DifferentiableAugmentation, ...] = ()
    """Random transforms of all that the discriminator sees, for small data sets."""

    def check(self) -> None:
        """Refuse values out of range; `TrainConfig` calls it."""
        for name in ("generator", "discriminator"):
            widths = getattr(self, name)
            require(min(widths, default=0) >= 1, f"model.{name}", widths, "one width or more, >= 1")
        require(self.latent_size >= 1, "model.latent_size", self.latent_size, "at least 1")
        require(0 <= self.dropout < 1, "model.dropout", self.dropout, "in [0, 1)")
        require(self.r1 >= 0, "model.r1", self.r1, "at least 0")
        require(0 <= self.ema < 1, "model.ema", self.ema, "in [0, 1)")
