"""What a run is made of: frozen dataclasses, checked once, written to `WORKDIR/config.json`.

The command line is generated from these fields and their docstrings. Inner code receives plain
values, never a config; a task's `from_config` is where one becomes the other.
"""

from vision_jax.config.data import (
    AUTO,
    BadFiles,
    DataConfig,
    Fit,
    Interpolation,
    Recipe,
    Sampling,
    Truncated,
)
from vision_jax.config.models import (
    AdversarialLoss,
    AutoencoderConfig,
    CNNConfig,
    DifferentiableAugmentation,
    GANConfig,
    ModelConfig,
    PixelLoss,
)
from vision_jax.config.optimizer import Freeze, OptimizerConfig, OptimizerName, Schedule
from vision_jax.config.tasks import (
    CONFIGS,
    TASKS,
    ClassifierConfig,
    ClassWeights,
    EmbeddingConfig,
    ImportedModel,
    MetricLoss,
    Precision,
    SelfSupervisedMethod,
    TrainAutoencoder,
    TrainClassifier,
    TrainCNN,
    TrainConfig,
    TrainGAN,
    TrainMetric,
    TrainSelfSupervised,
    WeightsConfig,
)

__all__ = [
    "AUTO",
    "CONFIGS",
    "TASKS",
    "AdversarialLoss",
    "AutoencoderConfig",
    "BadFiles",
    "CNNConfig",
    "ClassWeights",
    "ClassifierConfig",
    "DataConfig",
    "DifferentiableAugmentation",
    "EmbeddingConfig",
    "Fit",
    "Freeze",
    "GANConfig",
    "ImportedModel",
    "Interpolation",
    "MetricLoss",
    "ModelConfig",
    "OptimizerConfig",
    "OptimizerName",
    "PixelLoss",
    "Precision",
    "Recipe",
    "Sampling",
    "Schedule",
    "SelfSupervisedMethod",
    "TrainAutoencoder",
    "TrainCNN",
    "TrainClassifier",
    "TrainConfig",
    "TrainGAN",
    "TrainMetric",
    "TrainSelfSupervised",
    "Truncated",
    "WeightsConfig",
]
