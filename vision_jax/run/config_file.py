"""A run's `config.json`: reading it, also of earlier versions, and comparing two."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from vision_jax.config import AUTO, CONFIGS, ClassWeights, TrainConfig
from vision_jax.errors import InputError

_PLACES = (
    "data.workers",
    "data.data_dir",
    "data.manual_dir",
    "weights.origin",
    "optimizer.shards",
)


def from_json(text: str, *, origin: str) -> TrainConfig:
    """Read a config that `TrainConfig.to_json` wrote.

    Args:
        text: the JSON text.
        origin: where the text comes from, for messages.

    Raises:
        InputError: the text is no JSON object, or a field is unknown, missing or of another type.
    """
    import cattrs

    try:
        values = json.loads(text)
        if "family" in values:
            values = _from_first_version(values)
        return _converter().structure(values, CONFIGS[values.pop("task")])
    except cattrs.BaseValidationError as error:
        raise InputError(f"{origin}: {'; '.join(cattrs.transform_error(error))}") from error
    except InputError as error:
        raise InputError(f"{origin}: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{origin} is not a config of this version: {error!r}") from error


@cache
def _converter() -> Any:
    import cattrs  # not needed where no config is read

    converter = cattrs.Converter(forbid_extra_keys=True)
    # A choice, or weights by name.
    converter.register_structure_hook(ClassWeights | dict[str, float], lambda value, _: value)
    # A number or a list of them, which a union does not tell apart; the config checks what it is
    # given.
    converter.register_structure_hook(int | tuple[int, int] | None, lambda value, _: value)
    return converter


def differences(old: TrainConfig, new: TrainConfig) -> list[str]:
    """Name the fields in which two configs differ, each with both values.

    Where the data is may differ, and who reads it: `DataInfo` tells whether it is the same. So may
    the devices that share the optimizer's state.

    Returns:
        Lines such as `data.batch_size: 128 there, 64 asked for`.
    """
    a, b = (_flat(json.loads(config.to_json())) for config in (old, new))
    apart = set(_PLACES)
    if all(Path(config.data.name).is_absolute() for config in (old, new)):
        apart.add("data.name")
    return [
        f"{name}: {a.get(name)!r} there, {b.get(name)!r} asked for"
        for name in sorted((a.keys() | b.keys()) - apart)
        if a.get(name) != b.get(name) and AUTO not in (a.get(name), b.get(name))
    ]


def _from_first_version(values: dict[str, Any]) -> dict[str, Any]:
    """Bring a config of version 0.1 to this one's fields."""
    values = {"task": values["family"], **values}
    del values["family"]
    if values["task"] == "cnn":
        model, data = dict(values["model"]), dict(values["data"])
        values["label_smoothing"] = model.pop("label_smoothing", 0.0)
        for name, default in (("mean", [0.0]), ("std", [1.0])):
            given = model.pop(name, default)
            data[name] = None if given == default else given
        values |= {"model": model, "data": data}
    return values


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            rows |= _flat(value, f"{prefix}{name}.")
        else:
            rows[prefix + name] = value
    return rows
