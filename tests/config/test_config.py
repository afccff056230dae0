import json

import jaxtyping
import numpy as np
import pytest

from vision_jax.config import (
    CNNConfig,
    DataConfig,
    GANConfig,
    ModelConfig,
    OptimizerConfig,
    TrainAutoencoder,
    TrainClassifier,
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
        (lambda v: v.update(task="dnn"), "dnn"),
        (lambda v: v["model"].update(padding="SOME"), "SOME"),
        (lambda v: v.pop("task"), "task"),
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
        lambda: DataConfig(data_dir="digits\0"),
        lambda: DataConfig(batch_size=0),
        lambda: DataConfig(channels=2),
        lambda: DataConfig(image_size=0),
        lambda: OptimizerConfig(learning_rate=float("nan")),
        lambda: OptimizerConfig(weight_decay=0.1),
        lambda: CNNConfig(stages=()),
        lambda: CNNConfig(dropout=1.0),
        lambda: DataConfig(std=(0.0,)),
        lambda: DataConfig(mean=(0.1, 0.2)),
        lambda: TrainCNN(epochs=0),
        lambda: TrainCNN(seed=-1),
    ],
)
def test_values_out_of_range_are_refused(make):
    with pytest.raises(InputError, match="it must be"):
        make().check()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("data.mean", lambda x: TrainCNN(data=DataConfig(mean=(x,)))),
        ("data.std", lambda x: TrainCNN(data=DataConfig(std=(x,)))),
        ("warmup_epochs", lambda x: TrainCNN(optimizer=OptimizerConfig(warmup_epochs=x))),
        ("model.r1", lambda x: TrainGAN(model=GANConfig(r1=x))),
        ("model.options", lambda x: TrainClassifier(model=ModelConfig("vgg11", {"a": [x]}))),
    ],
)
def test_what_json_cannot_hold_is_refused(name, make, value):
    with pytest.raises(InputError, match=rf"{name} is .*(nan|inf)"):
        make(value)


def test_an_older_config_without_newer_fields_takes_their_defaults():
    values = json.loads(TrainCNN(data=DataConfig(flip=True)).to_json())
    del values["data"]["recipe"]
    config = from_json(json.dumps(values), origin="here")
    assert config == TrainCNN(data=DataConfig(flip=True))


@pytest.mark.parametrize("kind", [TrainAutoencoder, TrainGAN])
def test_only_a_classifier_trains_on_mixed_labels(kind):
    assert kind(data=DataConfig(recipe="standard")).data.recipe == "standard"
    with pytest.raises(InputError, match=f"'strong'; .* with a {kind().name}"):
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


@pytest.fixture
def as_users_run():
    """Without the type checks of tests, which come before those of the project."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TrainCNN(data="digits"), "data is 'digits'; it must be of type DataConfig"),
        (lambda: DataConfig(recipe="standart"), "data.recipe is 'standart'; did you mean 'stan"),
        (lambda: OptimizerConfig(name="rmsprop"), "optimizer.name is 'rmsprop'; .*one of adam, ad"),
        (lambda: DataConfig(batch_size=1.5), "data.batch_size is 1.5; it must be of type int"),
        (lambda: DataConfig(flip=1), "data.flip is 1; it must be of type bool"),
        (lambda: TrainCNN(epochs=True), "epochs is True; it must be of type int"),
        (lambda: TrainCNN(class_weights="even"), "class_weights is 'even'; .*one of none, bala"),
        (lambda: TrainCNN(class_weights={"a": "b"}), "class_weights of a is 'b'; .*type float"),
        (lambda: CNNConfig(stages="32"), "model.stages is '32'"),
        (lambda: TrainGAN(data=DataConfig(mean=(0.5,))), "data.mean is .*; it must be None with"),
        (lambda: ModelConfig("cnn", {"stages": {1}}), "model.options is .*JSON"),
    ],
)
def test_values_of_another_type_are_named_with_what_is_needed(make, message):
    def build():
        part = make()
        fields = {DataConfig: "data", OptimizerConfig: "optimizer", CNNConfig: "model"}
        if isinstance(part, ModelConfig):
            TrainClassifier(model=part)
        elif type(part) in fields:
            TrainCNN(**{fields[type(part)]: part})

    with pytest.raises(InputError, match=message):
        build()


@pytest.mark.usefixtures("as_users_run")
def test_what_means_the_same_is_converted(tmp_path):
    config = TrainCNN(
        epochs=np.int64(3),
        data=DataConfig(name=tmp_path, batch_size=np.int32(8), mean=[0.5, 0.5, 0.5]),
        optimizer=OptimizerConfig(learning_rate=np.float32(0.5)),
        model=CNNConfig(stages=[8, 16]),
        class_weights={"a": np.float32(0.5), "b": 2},
    )
    assert config.data.name == str(tmp_path)
    assert config.class_weights == {"a": 0.5, "b": 2}
    assert config.model.stages == (8, 16)
    assert from_json(config.to_json(), origin="here") == config


def test_a_config_of_the_first_version_is_read():
    values = json.loads(TrainCNN().to_json())
    values = {"family": values.pop("task"), **values}
    del values["label_smoothing"], values["data"]["mean"], values["data"]["std"]
    values["model"] |= {"label_smoothing": 0.1, "mean": [0.5], "std": [1.0]}
    config = from_json(json.dumps(values), origin="here")
    assert config == TrainCNN(label_smoothing=0.1, data=DataConfig(mean=(0.5,)))
