"""The model of the table that a config names, with what its data and precision decide."""

from typing import Any

from vision_jax.config import TrainConfig
from vision_jax.errors import InputError
from vision_jax.models import build_model, takes


def configured_model(config: TrainConfig, num_classes: int) -> Any:
    """Build the classifier that a config names.

    Args:
        config: its `model`, `precision` and `data`.
        num_classes: width of the output; 0 for none.

    Returns:
        The linen module.

    Raises:
        InputError: the model is unknown or no classifier, or its options are not its own.
    """
    model: Any = getattr(config, "model")  # noqa: B009  every config with a model has this field
    if not takes(model.name, "num_classes"):
        raise InputError(f"model.name is {model.name!r}, which is not a classifier")
    told: dict[str, Any] = {"mean": config.data.mean, "std": config.data.std}
    told = {option: value for option, value in told.items() if value is not None}
    told |= {"num_classes": num_classes, "dtype": config.precision}
    if twice := sorted(told.keys() & model.options.keys()):
        raise InputError(
            f"model.options has {', '.join(twice)}; labels, precision, data.mean and data.std "
            "decide these"
        )
    return build_model(model.name, **told, **model.options)
