"""What a run is made of: frozen dataclasses, checked once, written to `WORKDIR/config.json`.

The command line is generated from these fields and their docstrings. Inner code receives plain
values, never a config.
"""

import dataclasses
import itertools
import json
import typing
from dataclasses import dataclass, field
from typing import Any, Literal

import cattrs

from vision_jax.errors import InputError


def _require(condition: bool, name: str, got: Any, needed: str) -> None:
    if not condition:
        raise InputError(f"{name} is {got!r}; it must be {needed}")


@dataclass(frozen=True)
class DataConfig:
    """Which images, and how they reach the network."""

    name: str = "digits"
    """`digits`, `fashion_mnist`, a folder of images, or any prepared tfds data set."""
    data_dir: str | None = None
    """Where prepared data sets live, a folder or gs://BUCKET/FOLDER. Default: $TFDS_DATA_DIR, else
    ~/tensorflow_datasets."""
    manual_dir: str | None = None
    """Folder with the files of a data set fetched by hand (Fashion-MNIST: its four IDX files)."""
    image_size: int | None = None
    """Side in pixels: shorter side resized to it, then centre-cropped. Default: the set's own."""
    channels: int | None = None
    """1 for grey, 3 for RGB. Default: the set's own, and RGB for folders."""
    train_split: str = "train[:90%]"
    """What is trained on, in tfds's slicing syntax."""
    validation_split: str = "train[90%:]"
    """What is evaluated after every epoch, and chooses the best checkpoint."""
    test_split: str = "test"
    """What `evaluate`, `index` and `report` use."""
    batch_size: int = 128
    """Images in a step, over all devices."""
    recipe: Literal["none", "light", "standard", "strong"] = "none"
    """Augment: `light` shifts and changes brightness, for digits too; `standard` also crops,
    mirrors and changes colours, for photographs and objects; `strong`, for long training of a
    classifier, distorts and mixes images. `vision-jax augmentations` shows them."""
    flip: bool = False
    """Augment: mirror half of the images left to right, before the recipe."""
    pad_crop: int = 0
    """Augment: pad by this many pixels, reflected, then crop at random to the original size,
    before the recipe."""
    on_device_mib: int = 1024
    """Sets up to this size are held on the device as uint8; larger ones are read ahead."""
    workers: int = 0
    """Reader processes for sets that are not held on the device; 0 reads in threads."""
    bad_files: Literal["error", "skip"] = "error"
    """Images that cannot be read: end with their name; or look for them first, and leave them out,
    with a warning."""

    def check(self) -> None:
        """Refuses values out of range; `TrainConfig` calls it."""
        _require(bool(self.name), "data.name", self.name, "a data set's name or a folder")
        _require(self.batch_size >= 1, "data.batch_size", self.batch_size, "at least 1")
        _require(self.pad_crop >= 0, "data.pad_crop", self.pad_crop, "at least 0")
        _require(self.workers >= 0, "data.workers", self.workers, "at least 0")
        _require(self.on_device_mib >= 0, "data.on_device_mib", self.on_device_mib, "at least 0")
        _require(self.channels in (None, 1, 3), "data.channels", self.channels, "1 or 3")
        size = self.image_size
        _require(size is None or size >= 1, "data.image_size", size, "at least 1")


@dataclass(frozen=True)
class OptimizerConfig:
    """How the weights are moved."""

    name: Literal["adam", "adamw", "sgd", "lion", "muon"] = "adam"
    """Update rule; `sgd` is with Nesterov momentum, `muon` leaves biases and scales to Adam."""
    learning_rate: float = 1e-3
    """Peak learning rate."""
    schedule: Literal["constant", "cosine", "steps"] = "cosine"
    """Learning rate after the warm-up: kept, brought to 0 along a half cosine, or dropped."""
    warmup_epochs: float = 0.0
    """Epochs over which the learning rate rises linearly from 0."""
    drop_epochs: tuple[float, ...] = ()
    """Epochs after which the learning rate of `steps` is multiplied by the drop factor."""
    drop_factor: float = 0.1
    """What the learning rate of `steps` is multiplied by."""
    weight_decay: float = 0.0
    """Weight decay, on kernels only; every rule but `adam`."""
    momentum: float = 0.9
    """Decay of the gradients' running mean: Adam's first beta, the momentum of `sgd`."""
    clip: float = 0.0
    """Greatest norm of the whole batch's gradient (a GAN's: of both networks); 0: no limit."""
    accumulate: int | None = None
    """Parts into which a device's batch is split, one computed after the other, to save memory.
    Default: 1, but on a CPU what suits its cache; a GAN, whose batch norm sees parts, is not split.
    """
    ema: float = 0.0
    """Decay of the moving average of the weights, which is evaluated; 0: none. See model.ema."""
    shards: int = 1
    """Devices that share the optimiser's state (ZeRO-1): 1, or all, in one process; not `muon`."""

    def check(self) -> None:
        """Refuses values out of range; `TrainConfig` calls it."""
        rate = self.learning_rate
        _require(0 < rate < float("inf"), "optimizer.learning_rate", rate, "above 0 and finite")
        _require(self.warmup_epochs >= 0, "optimizer.warmup_epochs", self.warmup_epochs, ">= 0")
        _require(self.weight_decay >= 0, "optimizer.weight_decay", self.weight_decay, ">= 0")
        _require(0 <= self.momentum < 1, "optimizer.momentum", self.momentum, "in [0, 1)")
        _require(
            self.weight_decay == 0 or self.name != "adam",
            "optimizer.weight_decay",
            self.weight_decay,
            "0 with adam; use another rule",
        )
        self._check_drops()
        _require(0 <= self.clip < float("inf"), "optimizer.clip", self.clip, ">= 0 and finite")
        parts = self.accumulate
        _require(parts is None or parts >= 1, "optimizer.accumulate", parts, "at least 1")
        _require(0 <= self.ema < 1, "optimizer.ema", self.ema, "in [0, 1)")
        shards = self.shards
        _require(shards >= 1, "optimizer.shards", shards, "at least 1")
        _require(shards == 1 or self.name != "muon", "optimizer.shards", shards, "1 with muon")

    def _check_drops(self) -> None:
        drops, name = self.drop_epochs, "optimizer.drop_epochs"
        _require(bool(drops) == (self.schedule == "steps"), name, drops, "given with `steps` alone")
        rising = [self.warmup_epochs, *drops]
        _require(
            all(a < b for a, b in itertools.pairwise(rising)),
            name,
            drops,
            f"rising and above warmup_epochs, {self.warmup_epochs}",
        )
        _require(0 < self.drop_factor < 1, "optimizer.drop_factor", self.drop_factor, "in (0, 1)")


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
    """Share of the embedding dropped in training."""
    label_smoothing: float = 0.0
    """Probability spread evenly over the classes."""
    mean: tuple[float, ...] = (0.0,)
    """Subtracted from the images, one value or one per channel."""
    std: tuple[float, ...] = (1.0,)
    """Divides the images after that."""

    def check(self) -> None:
        """Refuses values out of range; `TrainConfig` calls it."""
        _require(len(self.stages) >= 1, "model.stages", self.stages, "one width or more")
        _require(all(s >= 1 for s in self.stages), "model.stages", self.stages, "widths >= 1")
        _require(self.hidden >= 1, "model.hidden", self.hidden, "at least 1")
        _require(0 <= self.dropout < 1, "model.dropout", self.dropout, "in [0, 1)")
        smoothing = self.label_smoothing
        _require(0 <= smoothing < 1, "model.label_smoothing", smoothing, "in [0, 1)")
        _require(all(s > 0 for s in self.std), "model.std", self.std, "above 0")


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
    loss: Literal["binary_cross_entropy", "mean_squared_error"] = "binary_cross_entropy"
    """Between pixels."""
    beta: float = 1.0
    """Weight of the variational code's divergence from the standard normal."""

    def check(self) -> None:
        """Refuses values out of range; `TrainConfig` calls it."""
        hidden, code = self.hidden, self.code
        _require(hidden is None or min(hidden, default=0) >= 1, "model.hidden", hidden, ">= 1")
        _require(code is None or code >= 1, "model.code", code, "at least 1")
        _require(self.beta >= 0, "model.beta", self.beta, "at least 0")


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
    """Share that the discriminator drops after each convolution, in training."""
    loss: Literal["non_saturating", "minimax", "hinge"] = "non_saturating"
    """What the two play for."""
    r1: float = 0.0
    """Weight of the penalty on the discriminator's gradient at real images."""
    spectral_norm: bool = False
    """Divide the discriminator's kernels by their largest singular values."""
    ema: float = 0.999
    """Decay of the moving average of the generator's weights, which makes the images; 0: none."""
    augmentations: tuple[Literal["color", "translation", "cutout"], ...] = ()
    """Random transforms of all that the discriminator sees, for small data sets."""

    def check(self) -> None:
        """Refuses values out of range; `TrainConfig` calls it."""
        for name in ("generator", "discriminator"):
            widths = getattr(self, name)
            _require(
                min(widths, default=0) >= 1, f"model.{name}", widths, "one width or more, >= 1"
            )
        _require(self.latent_size >= 1, "model.latent_size", self.latent_size, "at least 1")
        _require(0 <= self.dropout < 1, "model.dropout", self.dropout, "in [0, 1)")
        _require(self.r1 >= 0, "model.r1", self.r1, "at least 0")
        _require(0 <= self.ema < 1, "model.ema", self.ema, "in [0, 1)")


@dataclass(frozen=True)
class TrainConfig:
    """One training run. Its subclasses choose the family by their `model`."""

    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    epochs: int = 10
    """Passes over the training split."""
    seed: int = 0
    """Root of every random number: weights, order, augmentation, dropout."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """What convolutions and products compute in; weights, losses and statistics stay float32."""
    remat: bool = False
    """Save memory: compute what lies within the network's stages again in the backward pass."""

    family: typing.ClassVar[str]

    def __post_init__(self) -> None:
        _require(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        _require(0 <= self.seed < 2**32, "seed", self.seed, "in [0, 2**32)")
        # Here and not as the parts are made, where the command line's parser would swallow it.
        for part in (getattr(self, entry.name) for entry in dataclasses.fields(self)):
            if hasattr(part, "check"):
                part.check()
        _require(
            self.data.recipe != "strong" or self.family == "cnn",
            "data.recipe",
            self.data.recipe,
            f"none, light or standard with a {self.family}: strong mixes images and their labels",
        )

    def to_json(self) -> str:
        """The config as JSON text, with its family."""
        return json.dumps({"family": self.family, **dataclasses.asdict(self)}, indent=2) + "\n"


@dataclass(frozen=True)
class TrainCNN(TrainConfig):
    """Train the convolutional classifier."""

    model: CNNConfig = field(default_factory=CNNConfig)
    family: typing.ClassVar[str] = "cnn"


@dataclass(frozen=True)
class TrainAutoencoder(TrainConfig):
    """Train an autoencoder."""

    data: DataConfig = field(default_factory=lambda: DataConfig(batch_size=256))
    epochs: int = 50
    """Passes over the training split."""
    model: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    family: typing.ClassVar[str] = "autoencoder"


@dataclass(frozen=True)
class TrainGAN(TrainConfig):
    """Train a GAN."""

    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(
            learning_rate=1e-4, schedule="constant", momentum=0.5
        )
    )
    epochs: int = 50
    """Passes over the training split."""
    model: GANConfig = field(default_factory=GANConfig)
    family: typing.ClassVar[str] = "gan"

    def __post_init__(self) -> None:
        super().__post_init__()
        ema = self.optimizer.ema
        _require(ema == 0, "optimizer.ema", ema, "0 with a GAN, which has its own model.ema")


FAMILIES: dict[str, type[TrainConfig]] = {
    c.family: c for c in (TrainCNN, TrainAutoencoder, TrainGAN)
}
"""The command line's table of what can be trained."""


_CONVERTER = cattrs.Converter(forbid_extra_keys=True)


def from_json(text: str, *, origin: str) -> TrainConfig:
    """Reads a config that `TrainConfig.to_json` wrote.

    Args:
        text: the JSON text.
        origin: where the text comes from, for messages.

    Raises:
        InputError: the text is no JSON object, or a field is unknown, missing or of another type.
    """
    try:
        values = json.loads(text)
        return _CONVERTER.structure(values, FAMILIES[values.pop("family")])
    except cattrs.BaseValidationError as error:
        raise InputError(f"{origin}: {'; '.join(cattrs.transform_error(error))}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{origin} is not a config of this version: {error!r}") from error


def differences(old: TrainConfig, new: TrainConfig) -> list[str]:
    """Names the fields in which two configs differ, each with both values.

    `data.workers` may differ: whoever reads them, the batches are the same.

    Returns:
        Lines such as `data.batch_size: 128 there, 64 asked for`.
    """
    a, b = (_flat(json.loads(config.to_json())) for config in (old, new))
    return [
        f"{name}: {a.get(name)!r} there, {b.get(name)!r} asked for"
        for name in sorted((a.keys() | b.keys()) - {"data.workers"})
        if a.get(name) != b.get(name)
    ]


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            rows |= _flat(value, f"{prefix}{name}.")
        else:
            rows[prefix + name] = value
    return rows
