"""What a run is made of: frozen dataclasses, checked once, written to `WORKDIR/config.json`.

The command line is generated from these fields and their docstrings. Inner code receives plain
values, never a config; a task's `from_config` is where one becomes the other.
"""

import dataclasses
import itertools
import json
import typing
from dataclasses import dataclass, field
from typing import Any, Literal

from vision_jax.checked import check_fields
from vision_jax.errors import InputError

Recipe = Literal["none", "light", "standard", "strong", "views"]
BadFiles = Literal["error", "skip"]
Truncated = Literal["error", "use"]
Interpolation = Literal["bilinear", "bicubic"]
Precision = Literal["float32", "bfloat16"]
OptimizerName = Literal["adam", "adamw", "sgd", "lion", "muon"]
Schedule = Literal["constant", "cosine", "steps"]
Freeze = Literal["none", "batch_norm", "backbone"]
PixelLoss = Literal["binary_cross_entropy", "mean_squared_error"]
AdversarialLoss = Literal["non_saturating", "minimax", "hinge"]
DifferentiableAugmentation = Literal["color", "translation", "cutout"]


AUTO = "auto"
"""A split that is left to the data set, or a model that is left to the run to start from."""


def _require(condition: bool, name: str, got: Any, needed: str) -> None:
    if not condition:
        raise InputError(f"{name} is {got!r}; it must be {needed}")


@dataclass(frozen=True)
class DataConfig:
    """Images, and how they reach the model."""

    name: str = "digits"
    """`digits`, `fashion_mnist`, a folder of images, or any prepared tfds data set."""
    data_dir: str | None = None
    """Where prepared data sets live, a folder or gs://BUCKET/FOLDER. Default: $TFDS_DATA_DIR, else
    ~/tensorflow_datasets."""
    manual_dir: str | None = None
    """Folder with manually downloaded files of a data set (Fashion-MNIST: its four IDX files)."""
    image_size: int | None = None
    """Side in pixels: resize the shorter side to it, then centre-crop. Default: the set's own."""
    crop: float | None = None
    """Share of the shorter side that the centre crop keeps, in (0, 1], such as 0.875: the shorter
    side is resized to image_size / crop. Default: 1."""
    interpolation: Interpolation | None = None
    """How images are resized, antialiased: bilinear or bicubic. Default: bilinear."""
    channels: int | None = None
    """1 for grey, 3 for RGB. Default: the set's own, and RGB for folders."""
    mean: tuple[float, ...] | None = None
    """Subtracted from images in [0, 1], one value or one per channel. Default: the model's own."""
    std: tuple[float, ...] | None = None
    """Divides the images after that, one value or one per channel. Default: the model's own."""
    train_split: str = AUTO
    """Split to train on, in tfds's slicing syntax. `auto`: the set's own, less what is held out."""
    validation_split: str = AUTO
    """Split to evaluate after every epoch; it chooses the best checkpoint. `auto`: the set's own,
    else a tenth of the training split."""
    test_split: str = AUTO
    """Split that `evaluate` and `report` use. `auto`: the set's own, else the validation split."""
    batch_size: int = 128
    """Images per step, over all devices."""
    recipe: Recipe = "none"
    """Augmentation: `light` shifts and changes brightness, for digits too; `standard` also crops,
    mirrors and changes colours, for photographs and objects; `strong`, for long training of a
    classifier, distorts and mixes images; `views` is SimCLR's, for learning without labels.
    `vision-jax augmentations` shows them."""
    flip: bool = False
    """Augmentation: mirror half of the images left to right, before the recipe."""
    pad_crop: int = 0
    """Augmentation: pad by this many pixels, reflected, then crop at random to the original size,
    before the recipe."""
    transforms: tuple[str, ...] = ()
    """Augmentation: single transforms in this order, before the recipe, such as rotate erase.
    `vision-jax augmentations` shows them all."""
    on_device_mib: int = 1024
    """Sets up to this size are held on the device as uint8; larger ones are read ahead."""
    workers: int = 0
    """Reader processes for sets that are not held on the device; 0 reads in threads."""
    bad_files: BadFiles = "error"
    """Unreadable images: stop and name the file; or look for them first and skip them, with a
    warning."""
    truncated: Truncated = "error"
    """JPEG files whose last bytes are missing: count as unreadable, or use what is there."""
    links: bool = False
    """Follow symbolic links in a folder that leave it, and links to folders."""

    def check(self) -> None:
        """Refuse values out of range; `TrainConfig` calls it."""
        _require(self.batch_size >= 1, "data.batch_size", self.batch_size, "at least 1")
        _require(self.pad_crop >= 0, "data.pad_crop", self.pad_crop, "at least 0")
        _require(self.workers >= 0, "data.workers", self.workers, "at least 0")
        _require(self.on_device_mib >= 0, "data.on_device_mib", self.on_device_mib, "at least 0")
        _require(self.channels in (None, 1, 3), "data.channels", self.channels, "1 or 3")
        size = self.image_size
        _require(size is None or size >= 1, "data.image_size", size, "at least 1")
        crop = self.crop
        _require(crop is None or 0 < crop <= 1, "data.crop", crop, "in (0, 1]")
        _require(
            size is not None or crop in (None, 1), "data.crop", crop, "1 without data.image_size"
        )
        for name, values in (("data.mean", self.mean), ("data.std", self.std)):
            _require(values is None or len(values) in (1, 3), name, values, "1 value, or 3")
        _require(all(s > 0 for s in self.std or ()), "data.std", self.std, "above 0")

    @property
    def resize(self) -> tuple[float, Interpolation]:
        """The share that the crop keeps, and how images are resized."""
        return self.crop or 1.0, self.interpolation or "bilinear"


@dataclass(frozen=True)
class OptimizerConfig:
    """Optimizer settings."""

    name: OptimizerName = "adam"
    """Update rule; `sgd` has Nesterov momentum, `muon` leaves biases and scales to Adam."""
    learning_rate: float = 1e-3
    """Peak learning rate."""
    schedule: Schedule = "cosine"
    """Learning rate after the warm-up: constant, a half cosine to 0, or dropped in steps."""
    warmup_epochs: float = 0.0
    """Epochs over which the learning rate rises linearly from 0."""
    drop_epochs: tuple[float, ...] = ()
    """Epochs after which `steps` multiplies the learning rate by the drop factor."""
    drop_factor: float = 0.1
    """Factor by which `steps` multiplies the learning rate."""
    weight_decay: float = 0.0
    """Weight decay, on kernels only; for every rule but `adam`."""
    momentum: float = 0.9
    """Decay of the gradients' running mean: Adam's first beta, the momentum of `sgd`."""
    clip: float = 0.0
    """Maximum global gradient norm (a GAN's: over both networks); 0: no limit."""
    accumulate: int | None = None
    """Parts of a device's batch, computed one after the other to save memory. Default: 1, but on a
    CPU what suits its cache; a model with batch norm, whose statistics see the parts, is not split.
    """
    ema: float = 0.0
    """Decay of the moving average of the weights, which evaluation uses; 0: none. See model.ema."""
    shards: int = 1
    """Devices that share the optimizer's state (ZeRO-1): 1, or all, in one process; not `muon`."""
    freeze: Freeze = "none"
    """What stays as init_from has it: nothing; the statistics of batch norm, which suits few images
    or small batches; or the whole backbone, so that only the head trains."""
    layer_decay: float = 1.0
    """Factor of the learning rate from each of the model's stages to the one below it, in (0, 1];
    the head has the whole rate. 1: the same rate everywhere."""
    head_epochs: int = 0
    """Epochs at the start in which only the head trains."""

    def check(self) -> None:
        """Refuse values out of range; `TrainConfig` calls it."""
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
        self._check_tuning()

    @property
    def tunes(self) -> bool:
        """Whether parts of the model are trained in other ways than the rest."""
        return self.freeze != "none" or self.layer_decay != 1 or self.head_epochs > 0

    def _check_tuning(self) -> None:
        decay, epochs = self.layer_decay, self.head_epochs
        _require(0 < decay <= 1, "optimizer.layer_decay", decay, "in (0, 1]")
        _require(epochs >= 0, "optimizer.head_epochs", epochs, "at least 0")
        if self.freeze == "backbone":
            because = "with optimizer.freeze backbone, which trains the head alone"
            _require(decay == 1, "optimizer.layer_decay", decay, f"1 {because}")
            _require(epochs == 0, "optimizer.head_epochs", epochs, f"0 {because}")

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
class ModelConfig:
    """Any model of the table, by its name."""

    name: str = AUTO
    """Name of the model, such as resnet18; a wrong one lists all. Default: that of init_from."""
    options: dict[str, Any] = field(default_factory=dict)
    """Arguments of its constructor, as NAME=VALUE, such as stages=[32,64] padding=SAME. Default:
    those of init_from."""

    def check(self) -> None:
        """Refuse options that `config.json` cannot hold; `TrainConfig` calls it."""
        try:
            json.dumps(self.options, allow_nan=False)
        except (TypeError, ValueError) as error:
            _require(False, "model.options", self.options, f"JSON-able: {error}")


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
        _require(len(self.stages) >= 1, "model.stages", self.stages, "one width or more")
        _require(all(s >= 1 for s in self.stages), "model.stages", self.stages, "widths >= 1")
        _require(self.hidden >= 1, "model.hidden", self.hidden, "at least 1")
        _require(0 <= self.dropout < 1, "model.dropout", self.dropout, "in [0, 1)")


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
            _require(
                min(widths, default=0) >= 1, f"model.{name}", widths, "one width or more, >= 1"
            )
        _require(self.latent_size >= 1, "model.latent_size", self.latent_size, "at least 1")
        _require(0 <= self.dropout < 1, "model.dropout", self.dropout, "in [0, 1)")
        _require(self.r1 >= 0, "model.r1", self.r1, "at least 0")
        _require(0 <= self.ema < 1, "model.ema", self.ema, "in [0, 1)")


@dataclass(frozen=True)
class TrainConfig:
    """One training run. Subclasses choose the task, and have its `model`."""

    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    epochs: int = 10
    """Passes over the training split."""
    seed: int = 0
    """Seed of every random number: weights, order, augmentation, dropout."""
    precision: Precision = "float32"
    """Type that convolutions and products compute in; weights, losses and statistics stay float32.
    """
    remat: bool = False
    """Save memory: recompute what lies within the model's stages in the backward pass."""
    init_from: str | None = field(default=None, kw_only=True)
    """Folder of a run, trained or imported, whose weights to start from. Its model and what it does
    to images are the defaults here."""

    task: typing.ClassVar[str]
    """Where the class of the task is, which has a method `from_config`."""
    takes_mixed_labels: typing.ClassVar[bool] = False
    """Whether the task can train on images that are mixed with their labels."""
    normalizes: typing.ClassVar[bool] = False
    """Whether the model subtracts a mean and divides by a deviation."""
    trains: typing.ClassVar[bool] = True
    """Whether it is trained here, on data of its own."""

    def __post_init__(self) -> None:
        check_fields(self)
        named = bool(self.data.name) or not self.trains
        _require(named, "data.name", self.data.name, "a data set's name or a folder")
        _require(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        _require(0 <= self.seed < 2**32, "seed", self.seed, "in [0, 2**32)")
        # Validate here: the CLI parser would swallow errors raised in the parts.
        for part in (getattr(self, entry.name) for entry in dataclasses.fields(self)):
            if hasattr(part, "check"):
                part.check()
        _require(
            self.data.recipe != "strong" or self.takes_mixed_labels,
            "data.recipe",
            self.data.recipe,
            f"none, light or standard with a {self.name}: strong mixes images and their labels",
        )
        for name in ("mean", "std"):
            value = getattr(self.data, name)
            _require(
                value is None or self.normalizes, f"data.{name}", value, f"None with a {self.name}"
            )
        self._check_start()

    def _check_start(self) -> None:
        moves = self.optimizer
        _require(self.init_from != "", "init_from", self.init_from, "the folder of a run")
        _require(
            self.init_from is not None or moves.freeze == "none",
            "optimizer.freeze",
            moves.freeze,
            "none without init_from: frozen parts would keep random weights",
        )
        _require(
            moves.head_epochs < self.epochs,
            "optimizer.head_epochs",
            moves.head_epochs,
            f"less than epochs, {self.epochs}",
        )

    @property
    def name(self) -> str:
        """The task's name, a key of `CONFIGS`."""
        return next(name for name, kind in CONFIGS.items() if kind is type(self))

    @property
    def step_options(self) -> dict[str, Any]:
        """What every task of one model takes; see `tasks.base.ModelTask`."""
        moves = self.optimizer
        return {"accumulate": moves.accumulate, "ema": moves.ema, "remat": self.remat}

    def to_json(self) -> str:
        """Return the config as JSON text, with the task's name."""
        return json.dumps({"task": self.name, **dataclasses.asdict(self)}, indent=2) + "\n"


@dataclass(frozen=True)
class ClassifierConfig(TrainConfig):
    """What every training of a classifier has."""

    label_smoothing: float = 0.0
    """Probability spread evenly over the classes."""

    task: typing.ClassVar[str] = "vision_jax.tasks.classification:Classification"
    takes_mixed_labels: typing.ClassVar[bool] = True
    normalizes: typing.ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        smoothing = self.label_smoothing
        _require(0 <= smoothing < 1, "label_smoothing", smoothing, "in [0, 1)")


@dataclass(frozen=True)
class TrainClassifier(ClassifierConfig):
    """Train any model of the table as a classifier.

    Example: vision-jax train classifier --workdir runs/digits --model.name resnet18
    --model.options stem=small
    """

    model: ModelConfig = field(default_factory=ModelConfig, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        named = self.model.name != AUTO or self.init_from is not None
        _require(named, "model.name", self.model.name, "a model's name, without init_from")


@dataclass(frozen=True)
class TrainCNN(ClassifierConfig):
    """Train the convolutional classifier.

    Example: vision-jax train cnn --workdir runs/fashion --data.name fashion_mnist --data.flip
    """

    model: CNNConfig = field(default_factory=CNNConfig)


@dataclass(frozen=True)
class TrainAutoencoder(TrainConfig):
    """Train an autoencoder: convolutional, dense or variational.

    Example: vision-jax train autoencoder --workdir runs/codes --model.kind dense
    """

    data: DataConfig = field(default_factory=lambda: DataConfig(batch_size=256))
    epochs: int = 50
    """Passes over the training split."""
    model: AutoencoderConfig = field(default_factory=AutoencoderConfig)

    task: typing.ClassVar[str] = "vision_jax.tasks.reconstruction:Reconstruction"


@dataclass(frozen=True)
class TrainGAN(TrainConfig):
    """Train a generator against a discriminator.

    Example: vision-jax train gan --workdir runs/garments --data.name fashion_mnist
    """

    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(
            learning_rate=1e-4, schedule="constant", momentum=0.5
        )
    )
    epochs: int = 50
    """Passes over the training split."""
    model: GANConfig = field(default_factory=GANConfig)

    task: typing.ClassVar[str] = "vision_jax.tasks.adversarial:Adversarial"

    def __post_init__(self) -> None:
        super().__post_init__()
        ema = self.optimizer.ema
        _require(ema == 0, "optimizer.ema", ema, "0 with a GAN, which has its own model.ema")
        _require(self.init_from is None, "init_from", self.init_from, "None with a GAN")
        moves, plain = self.optimizer, OptimizerConfig()
        for name in ("freeze", "layer_decay", "head_epochs"):
            value, needed = getattr(moves, name), getattr(plain, name)
            _require(value == needed, f"optimizer.{name}", value, f"{needed} with a GAN")


@dataclass(frozen=True)
class WeightsConfig:
    """Where imported weights come from."""

    origin: str
    """The file, its place on the Hugging Face Hub, or the package and its version."""
    sha256: str
    """SHA-256 of the file."""
    source: str
    """Whose names of the parameters it has, such as torchvision."""


@dataclass(frozen=True)
class ImportedModel(TrainConfig):
    """A model whose weights were trained elsewhere.

    `data` holds what is done to images; its `name` is empty until the run is told of some.
    """

    model: ModelConfig = field(kw_only=True)
    weights: WeightsConfig = field(kw_only=True)

    task: typing.ClassVar[str] = "vision_jax.tasks.imported:Imported"
    normalizes: typing.ClassVar[bool] = True
    trains: typing.ClassVar[bool] = False

    def to_json(self) -> str:
        """Return the config as JSON text, without what concerns training alone."""
        values = json.loads(super().to_json())
        return json.dumps({name: values[name] for name in _NOT_TRAINED}, indent=2) + "\n"


_NOT_TRAINED = ("task", "model", "weights", "precision", "data")


TASKS: dict[str, type[TrainConfig]] = {
    "classifier": TrainClassifier,
    "cnn": TrainCNN,
    "autoencoder": TrainAutoencoder,
    "gan": TrainGAN,
}
"""What can be trained, by its name on the command line."""

CONFIGS: dict[str, type[TrainConfig]] = {**TASKS, "import": ImportedModel}
"""What a run may be made of, by the name that its `config.json` gives."""
