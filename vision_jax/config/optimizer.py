"""How a run's weights are updated."""

import itertools
from dataclasses import dataclass
from typing import Literal

from vision_jax.checked import require

OptimizerName = Literal["adam", "adamw", "sgd", "lion", "muon"]
Schedule = Literal["constant", "cosine", "steps"]
Freeze = Literal["none", "batch_norm", "backbone"]


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
    """Decay of the moving average of the weights, which evaluation uses; 0: none. A GAN has
    model.ema instead."""
    shards: int = 1
    """Devices that share the optimizer's state and the average (ZeRO-1): 1, or all devices of all
    processes; a run may be resumed over another number. Not for `muon`."""
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
        require(0 < rate < float("inf"), "optimizer.learning_rate", rate, "above 0 and finite")
        require(self.warmup_epochs >= 0, "optimizer.warmup_epochs", self.warmup_epochs, ">= 0")
        require(self.weight_decay >= 0, "optimizer.weight_decay", self.weight_decay, ">= 0")
        require(0 <= self.momentum < 1, "optimizer.momentum", self.momentum, "in [0, 1)")
        require(
            self.weight_decay == 0 or self.name != "adam",
            "optimizer.weight_decay",
            self.weight_decay,
            "0 with adam; use another rule",
        )
        self._check_drops()
        require(0 <= self.clip < float("inf"), "optimizer.clip", self.clip, ">= 0 and finite")
        parts = self.accumulate
        require(parts is None or parts >= 1, "optimizer.accumulate", parts, "at least 1")
        require(0 <= self.ema < 1, "optimizer.ema", self.ema, "in [0, 1)")
        shards = self.shards
        require(shards >= 1, "optimizer.shards", shards, "at least 1")
        require(shards == 1 or self.name != "muon", "optimizer.shards", shards, "1 with muon")
        self._check_tuning()

    @property
    def tunes(self) -> bool:
        """Whether parts of the model are trained in other ways than the rest."""
        return self.freeze != "none" or self.layer_decay != 1 or self.head_epochs > 0

    def _check_tuning(self) -> None:
        decay, epochs = self.layer_decay, self.head_epochs
        require(0 < decay <= 1, "optimizer.layer_decay", decay, "in (0, 1]")
        require(epochs >= 0, "optimizer.head_epochs", epochs, "at least 0")
        if self.freeze == "backbone":
            because = "with optimizer.freeze backbone, which trains the head alone"
            require(decay == 1, "optimizer.layer_decay", decay, f"1 {because}")
            require(epochs == 0, "optimizer.head_epochs", epochs, f"0 {because}")

    def _check_drops(self) -> None:
        drops, name = self.drop_epochs, "optimizer.drop_epochs"
        require(bool(drops) == (self.schedule == "steps"), name, drops, "given with `steps` alone")
        rising = [self.warmup_epochs, *drops]
        require(
            all(a < b for a, b in itertools.pairwise(rising)),
            name,
            drops,
            f"rising and above warmup_epochs, {self.warmup_epochs}",
        )
        require(0 < self.drop_factor < 1, "optimizer.drop_factor", self.drop_factor, "in (0, 1)")
