import json

import pytest

from vision_jax.config import (
    CNNConfig,
    DataConfig,
    OptimizerConfig,
    TrainAutoencoder,
    TrainCNN,
    TrainGAN,
)
from vision_jax.errors import InputError
from vision_jax.run.config_file import differences, from_json


def test_json_round_trip_keeps_every_field():
    config = TrainCNN(
        data=DataConfig(image_size=32, flip=True, mean=(0.1, 0.2, 0.3)),
        optimizer=OptimizerConfig(name="adamw", weight_decay=0.1),
        model=CNNConfig(stages=(8,)),
        epochs=3,
    )
    assert from_json(config.to_json(), origin="here") == config


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda v: v.update(sead=1), "sead"),
        (lambda v: v.update(epochs="many"), "epochs"),
        (lambda v: v.update(family="dnn"), "dnn"),
        (lambda v: v["model"].update(padding="SOME"), "SOME"),
        (lambda v: v.pop("family"), "family"),
    ],
)
def test_bad_json_is_named(edit, message):
    values = json.loads(TrainCNN().to_json())
    edit(values)
    with pytest.raises(InputError, match=message) as caught:
        from_json(json.dumps(values), origin="run/config.json")
    assert "run/config.json" in str(caught.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: DataConfig(batch_size=0),
        lambda: DataConfig(channels=2),
        lambda: DataConfig(image_size=0),
        lambda: OptimizerConfig(learning_rate=float("nan")),
        lambda: OptimizerConfig(weight_decay=0.1),
        lambda: CNNConfig(stages=()),
        lambda: CNNConfig(dropout=1.0),
        lambda: CNNConfig(std=(0.0,)),
        lambda: TrainCNN(epochs=0),
        lambda: TrainCNN(seed=-1),
    ],
)
def test_values_out_of_range_are_refused(make):
    with pytest.raises(InputError, match="it must be"):
        make().check()


def test_an_older_config_without_newer_fields_takes_their_defaults():
    values = json.loads(TrainCNN(data=DataConfig(flip=True)).to_json())
    del values["data"]["recipe"]
    config = from_json(json.dumps(values), origin="here")
    assert config == TrainCNN(data=DataConfig(flip=True))


@pytest.mark.parametrize("kind", [TrainAutoencoder, TrainGAN])
def test_only_a_classifier_trains_on_mixed_labels(kind):
    assert kind(data=DataConfig(recipe="standard")).data.recipe == "standard"
    with pytest.raises(InputError, match=f"'strong'; .* with a {kind.family}"):
        kind(data=DataConfig(recipe="strong"))


def test_differences_name_the_fields_and_both_values():
    changed = differences(TrainCNN(), TrainCNN(epochs=3, data=DataConfig(flip=True)))
    assert changed == [
        "data.flip: False there, True asked for",
        "epochs: 10 there, 3 asked for",
    ]


def test_a_run_checks_its_parts():
    with pytest.raises(InputError, match=r"data\.batch_size is 0"):
        TrainCNN(data=DataConfig(batch_size=0))
