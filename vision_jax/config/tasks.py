"""A training run, or an imported model: one dataclass for each task."""

import dataclasses
import json
import typing
from dataclasses import dataclass, field
from typing import Any, Literal

from vision_jax.checked import check_fields, require
from vision_jax.config.data import AUTO, DataConfig
from vision_jax.config.models import (
    AutoencoderConfig,
    CNNConfig,
    GANConfig,
    ModelConfig,
    check_json,
)
from vision_jax.config.optimizer import OptimizerConfig

BatchStatistics = Literal["global", "device"]
Precision = Literal["float32", "bfloat16"]
ClassWeights = Literal["none", "balanced", "effective"]
MetricLoss = Literal[
    "proxy_anchor",
    "arcface",
    "cosface",
    "norm_softmax",
    "contrastive",
    "multi_similarity",
    "triplet",
    "smooth_ap",
]
SelfSupervisedMethod = Literal["simclr", "vicreg", "barlow_twins", "byol", "simsiam", "dino"]


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
    batch_statistics: BatchStatistics = field(default="global", kw_only=True)
    """Images that batch norm's statistics span in training: the whole batch, over all devices; or
    each device's part of it, which is faster on many devices and needs some 32 images on each."""
    best_by: str | None = field(default=None, kw_only=True)
    """Validation metric that chooses the best checkpoint, such as loss or accuracy; a wrong one
    lists all. Default: accuracy for a classifier, with several labels an image
    mean_average_precision; loss for an autoencoder."""
    early_stopping: int | None = field(default=None, kw_only=True)
    """Stop after this many epochs in which that metric has not improved. Default: never."""
    min_delta: float = field(default=0.0, kw_only=True)
    """What the metric must gain on its best value to count as improved, for early_stopping."""
    init_from: str | None = field(default=None, kw_only=True)
    """Folder of a run, trained or imported, whose weights to start from. Its model and what it does
    to images are the defaults here."""

    task: typing.ClassVar[str]
    """Where the class of the task is, which has a method `from_config`."""
    multi_label_task: typing.ClassVar[str | None] = None
    """Where its class for images of several labels is; None if those take the same, or none."""
    takes_mixed_labels: typing.ClassVar[bool] = False
    """Whether the task can train on images that are mixed with their labels."""
    normalizes: typing.ClassVar[bool] = False
    """Whether the model subtracts a mean and divides by a deviation."""
    trains: typing.ClassVar[bool] = True
    """Whether it is trained here, on data of its own."""

    def __post_init__(self) -> None:
        check_fields(self)
        named = bool(self.data.name) or not self.trains
        require(named, "data.name", self.data.name, "a data set's name or a folder")
        require(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        require(0 <= self.seed < 2**32, "seed", self.seed, "in [0, 2**32)")
        # Validate here: the CLI parser would swallow errors raised in the parts.
        for part in (getattr(self, entry.name) for entry in dataclasses.fields(self)):
            if hasattr(part, "check"):
                part.check()
        require(
            self.data.recipe != "strong" or self.takes_mixed_labels,
            "data.recipe",
            self.data.recipe,
            f"none, light or standard with a {self.name}: strong mixes images and their labels",
        )
        for name in ("mean", "std"):
            value = getattr(self.data, name)
            require(
                value is None or self.normalizes, f"data.{name}", value, f"None with a {self.name}"
            )
        patience, delta = self.early_stopping, self.min_delta
        require(patience is None or patience >= 1, "early_stopping", patience, "at least 1")
        require(delta >= 0, "min_delta", delta, "at least 0")
        require(delta == 0 or patience is not None, "min_delta", delta, "0 without early_stopping")
        self._check_start()

    def _check_start(self) -> None:
        moves = self.optimizer
        require(self.init_from != "", "init_from", self.init_from, "the folder of a run")
        require(
            self.init_from is not None or moves.freeze == "none",
            "optimizer.freeze",
            moves.freeze,
            "none without init_from: frozen parts would keep random weights",
        )
        require(
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
    def counts_classes(self) -> bool:
        """Whether the task depends on how many training images each class has."""
        return False

    @property
    def per_class(self) -> int | None:
        """Images of each class in a batch; 0: as they come; None: what suits the data."""
        return 0

    @property
    def step_options(self) -> dict[str, Any]:
        """What every task of one model takes; see `tasks.base.ModelTask`."""
        moves = self.optimizer
        return {
            "accumulate": moves.accumulate,
            "ema": moves.ema,
            "remat": self.remat,
            "statistics_per_device": self.batch_statistics == "device",
        }

    def to_json(self) -> str:
        """Return the config as JSON text, with the task's name."""
        return json.dumps({"task": self.name, **dataclasses.asdict(self)}, indent=2) + "\n"


@dataclass(frozen=True)
class ClassifierConfig(TrainConfig):
    """What every training of a classifier has."""

    label_smoothing: float = 0.0
    """Probability spread evenly over the classes."""
    class_weights: ClassWeights | dict[str, float] = field(default="none", kw_only=True)
    """Weights of the classes in the loss: `balanced`, inversely to their numbers of training
    images; `effective`, which lifts rare classes less; or NAME=VALUE by class, 1 for all others."""
    effective_beta: float = field(default=0.999, kw_only=True)
    """Beta of `effective`, in [0, 1): 0 weighs all classes alike, near 1 is `balanced`."""
    focal_gamma: float = field(default=0.0, kw_only=True)
    """Gamma of the focal loss, such as 2: images that are recognised already weigh less. 0: plain
    cross-entropy."""

    task: typing.ClassVar[str] = "vision_jax.tasks.classification:Classification"
    multi_label_task: typing.ClassVar[str | None] = (
        "vision_jax.tasks.multi_label:MultiLabelClassification"
    )
    takes_mixed_labels: typing.ClassVar[bool] = True
    normalizes: typing.ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        smoothing = self.label_smoothing
        require(0 <= smoothing < 1, "label_smoothing", smoothing, "in [0, 1)")
        beta, gamma = self.effective_beta, self.focal_gamma
        require(0 <= beta < 1, "effective_beta", beta, "in [0, 1)")
        used = self.class_weights == "effective" or beta == type(self).effective_beta
        require(used, "effective_beta", beta, "given with class_weights effective alone")
        require(gamma >= 0, "focal_gamma", gamma, "at least 0")
        if isinstance(self.class_weights, dict):
            for name, weight in self.class_weights.items():
                require(weight >= 0, f"class_weights of {name}", weight, "at least 0")

    @property
    def counts_classes(self) -> bool:
        """Whether the loss depends on how many training images each class has."""
        return self.class_weights in ("balanced", "effective")


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
        require(named, "model.name", self.model.name, "a model's name, without init_from")


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
        require(ema == 0, "optimizer.ema", ema, "0 with a GAN, which has its own model.ema")
        for name in ("init_from", "best_by", "early_stopping"):
            require(getattr(self, name) is None, name, getattr(self, name), "None with a GAN")
        moves, plain = self.optimizer, OptimizerConfig()
        for name in ("freeze", "layer_decay", "head_epochs"):
            value, needed = getattr(moves, name), getattr(plain, name)
            require(value == needed, f"optimizer.{name}", value, f"{needed} with a GAN")


@dataclass(frozen=True)
class EmbeddingConfig(TrainConfig):
    """What every training of an embedding has."""

    model: ModelConfig = field(default_factory=ModelConfig, kw_only=True)
    width: int | None = field(default=None, kw_only=True)
    """Width of the embedding, by a dense layer on the model's own. Default: the model's own."""
    loss_options: dict[str, Any] = field(default_factory=dict, kw_only=True)
    """Settings of the loss, as NAME=VALUE, such as temperature=0.1; a wrong name lists all."""

    normalizes: typing.ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        named = self.model.name != AUTO or self.init_from is not None
        require(named, "model.name", self.model.name, "a model's name, without init_from")
        require(self.width is None or self.width >= 1, "width", self.width, "at least 1")
        check_json("loss_options", self.loss_options)


@dataclass(frozen=True)
class TrainMetric(EmbeddingConfig):
    """Train an embedding in which images of a class are close: metric learning.

    Example: vision-jax train metric --workdir runs/metric --model.name resnet18
    --model.options stem=small --loss contrastive --data.recipe light
    """

    loss: MetricLoss = field(default="proxy_anchor", kw_only=True)
    """With a centre for each class: proxy_anchor, arcface, cosface, norm_softmax. Of pairs in the
    batch: contrastive (supervised), multi_similarity, triplet, smooth_ap."""
    sub_centres: int = field(default=1, kw_only=True)
    """Centres of each class, of which the nearest counts; for arcface, cosface and norm_softmax."""
    images_per_class: int | None = field(default=None, kw_only=True)
    """Images of each class in a batch; 0: as they come. Default: 0 with centres; with pairs 4, or
    more where there are few classes."""
    memory: int = field(default=0, kw_only=True)
    """Embeddings of earlier batches that pairs are also formed with (cross-batch memory)."""

    task: typing.ClassVar[str] = "vision_jax.tasks.metric_learning:MetricLearning"

    def __post_init__(self) -> None:
        super().__post_init__()
        count, pairs = self.images_per_class, self.compares_pairs
        require(count is None or count >= 0, "images_per_class", count, "0 or at least 2")
        require(count != 1, "images_per_class", count, "0 or at least 2: one image makes no pair")
        require(self.memory >= 0, "memory", self.memory, "at least 0")
        require(pairs or self.memory == 0, "memory", self.memory, f"0 with {self.loss}")
        require(self.sub_centres >= 1, "sub_centres", self.sub_centres, "at least 1")
        several = not pairs and self.loss != "proxy_anchor"
        require(
            several or self.sub_centres == 1, "sub_centres", self.sub_centres, f"1 with {self.loss}"
        )

    @property
    def per_class(self) -> int | None:
        """Images of each class in a batch; 0: as they come; None: what suits the data."""
        if self.images_per_class is None and not self.compares_pairs:
            return 0
        return self.images_per_class

    @property
    def compares_pairs(self) -> bool:
        """Whether the loss compares the images of a batch with each other."""
        return self.loss in ("contrastive", "multi_similarity", "triplet", "smooth_ap")


@dataclass(frozen=True)
class TrainSelfSupervised(EmbeddingConfig):
    """Train an embedding without labels, by what two random views of an image have in common.

    Example: vision-jax train self-supervised --workdir runs/ssl --model.name resnet18
    --model.options stem=small --data.name fashion_mnist
    """

    data: DataConfig = field(default_factory=lambda: DataConfig(batch_size=256, recipe="views"))
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(name="adamw", weight_decay=1e-4, warmup_epochs=1.0)
    )
    epochs: int = 50
    """Passes over the training split."""
    method: SelfSupervisedMethod = field(default="simclr", kw_only=True)
    """What the views' embeddings are trained for: simclr tells an image's views from all others;
    vicreg and barlow_twins make dimensions vary and not repeat each other; byol and dino predict
    what a moving average of the network sees; simsiam what the network itself sees."""
    views: int = field(default=2, kw_only=True)
    """Random views of each image; more than 2 with simclr, byol, simsiam and dino."""
    projector: tuple[int, ...] = field(default=(512, 128), kw_only=True)
    """Widths of the layers between the embedding and the loss; used in training alone."""
    teacher: float = field(default=0.99, kw_only=True)
    """Decay of the moving average of the weights that byol and dino learn from."""

    task: typing.ClassVar[str] = "vision_jax.tasks.self_supervised:SelfSupervised"

    def __post_init__(self) -> None:
        super().__post_init__()
        views, layers = self.views, self.projector
        most = 2 if self.method in ("vicreg", "barlow_twins") else 16
        require(2 <= views <= most, "views", views, f"in [2, {most}] with {self.method}")
        require(len(layers) >= 1 and min(layers) >= 1, "projector", layers, "widths >= 1")
        require(0 < self.teacher < 1, "teacher", self.teacher, "in (0, 1)")
        ema = self.optimizer.ema
        require(ema == 0 or not self.teaches, "optimizer.ema", ema, f"0 with {self.method}")

    @property
    def teaches(self) -> bool:
        """Whether a moving average of the network makes the targets."""
        return self.method in ("byol", "dino")


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
    "metric": TrainMetric,
    "self-supervised": TrainSelfSupervised,
}
"""What can be trained, by its name on the command line."""

CONFIGS: dict[str, type[TrainConfig]] = {**TASKS, "import": ImportedModel}
"""What a run may be made of, by the name that its `config.json` gives."""
