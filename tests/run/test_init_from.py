"""Runs that start from others: what they take, what they keep, and what they refuse."""

import dataclasses
import json
import re
import shutil

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from PIL import Image

from vision_jax.cli import main
from vision_jax.config import (
    AutoencoderConfig,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    TrainAutoencoder,
    TrainClassifier,
    TrainGAN,
    TrainMetric,
    TrainSelfSupervised,
)
from vision_jax.errors import InputError
from vision_jax.run.init_from import like_run
from vision_jax.run.run import load_run
from vision_jax.run.train import train
from vision_jax.run.workdir import read_config
from vision_jax.training.metrics import read_metrics

NET = {"depths": [1], "stem": "small"}  # one residual block, with batch norm


@pytest.fixture(scope="module")
def folder(tmp_path_factory, digits):
    """A folder of the digits 0, 1 and 2, under other names."""
    root = tmp_path_factory.mktemp("few")
    images, labels = digits
    for name, digit in (("round", 0), ("stroke", 1), ("swan", 2)):
        (root / name).mkdir()
        for number, image in enumerate(images[labels == digit][:40]):
            Image.fromarray(image[..., 0]).save(root / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def source(tmp_path_factory, data_dir):
    """A run of the digits by a small residual network; not to be written to."""
    workdir = tmp_path_factory.mktemp("source") / "run"
    data = DataConfig(data_dir=str(data_dir), batch_size=64, mean=(0.3,), std=(0.4,))
    train(
        TrainClassifier(model=ModelConfig("resnet18", NET), data=data, epochs=1),
        workdir,
        progress=False,
    )
    return workdir


def tuned(source, folder, **options):
    moves = {"freeze": options.pop("freeze", "none"), "learning_rate": 1e-3}
    moves |= {name: options.pop(name) for name in ("layer_decay", "head_epochs") if name in options}
    data = DataConfig(name=str(folder), batch_size=24)
    return TrainClassifier(
        data=data, optimizer=OptimizerConfig(**moves), init_from=str(source), epochs=2, **options
    )


def flat(run):
    return {
        path: np.asarray(leaf) for path, leaf in flatten_dict(run.state.variables, sep="/").items()
    }


def changed(before, after):
    """Paths of what differs in any bit."""
    return {path for path in before if before[path].tobytes() != after[path].tobytes()}


HEAD = {"params/fc/kernel", "params/fc/bias"}


@pytest.fixture(scope="module")
def frozen(source, folder, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("tuned") / "frozen"
    train(tuned(source, folder, freeze="backbone"), workdir, progress=False)
    return workdir


@pytest.mark.slow
def test_a_frozen_backbone_is_that_of_the_other_run_bit_for_bit(source, frozen, digits):
    before, after = flat(load_run(source)), flat(load_run(frozen, "last"))
    assert changed(before, after) == HEAD
    assert after["params/fc/kernel"].shape == (64, 3)
    images = digits[0][:8]
    np.testing.assert_array_equal(load_run(source).embed(images), load_run(frozen).embed(images))


@pytest.mark.slow
def test_what_was_taken_and_what_is_new_are_listed_and_recorded(source, folder, tmp_path, capsys):
    train(tuned(source, folder, freeze="batch_norm"), tmp_path / "run", should_stop=lambda: True)
    lines = capsys.readouterr().out.splitlines()
    step = load_run(source).step
    assert lines[0] == f"{source}, step {step}: 15 tensors taken"
    assert lines[1] == "  2 new: fc/bias (3,), fc/kernel (64, 3)"
    assert lines[2] == "  2 left out: fc/bias (10,), fc/kernel (64, 10)"
    record = json.loads((tmp_path / "run" / "init_from.json").read_text())
    assert record["identity"] == load_run(source).identity
    written = read_config(tmp_path / "run")
    assert written.model == ModelConfig("resnet18", NET)
    assert (written.data.image_size, written.data.channels) == (8, 1)
    assert (written.data.mean, written.data.std) == ((0.3,), (0.4,))


@pytest.mark.slow
def test_fixed_statistics_stay_while_all_weights_train(source, folder, tmp_path):
    train(tuned(source, folder, freeze="batch_norm"), tmp_path / "run", progress=False)
    before, after = flat(load_run(source)), flat(load_run(tmp_path / "run", "last"))
    params = {path for path in before if path.startswith("params/")}
    assert changed(before, after) == params


@pytest.mark.slow
def test_only_the_head_trains_in_its_epochs(source, folder, tmp_path):
    config = tuned(source, folder, freeze="batch_norm", head_epochs=1, layer_decay=0.5)
    before = flat(load_run(source))
    train(config, tmp_path / "run", progress=False, should_stop=lambda: True)
    assert changed(before, flat(load_run(tmp_path / "run", "last"))) == HEAD
    train(config, tmp_path / "run", progress=False)
    params = {path for path in before if path.startswith("params/")}
    assert changed(before, flat(load_run(tmp_path / "run", "last"))) == params


@pytest.mark.slow
def test_averaged_weights_accumulation_and_shards_change_nothing_of_it(source, folder, tmp_path):
    """The plain update is the oracle; the average is mixed of the weights after each update."""
    config = tuned(source, folder, freeze="batch_norm", head_epochs=1, layer_decay=0.5)
    moves = dataclasses.replace(config.optimizer, name="adamw", weight_decay=0.1)
    train(dataclasses.replace(config, optimizer=moves), tmp_path / "plain", progress=False)
    moves = dataclasses.replace(moves, ema=0.5, accumulate=2, shards=jax.device_count())
    train(dataclasses.replace(config, optimizer=moves), tmp_path / "run", progress=False)
    plain, run = (load_run(tmp_path / name, "last") for name in ("plain", "run"))
    before, after, other = flat(load_run(source)), flat(run), flat(plain)
    for path, leaf in other.items():
        np.testing.assert_allclose(after[path], leaf, rtol=1e-3, atol=1e-5, err_msg=path)
    average = {
        path: np.asarray(leaf) for path, leaf in flatten_dict(run.state.average, sep="/").items()
    }
    trained = {path for path in before if path.startswith("params/")}
    assert changed(before, average) == changed(average, after) == trained


@pytest.mark.slow
def test_a_resumed_run_needs_no_source_and_ends_as_an_uninterrupted_one(source, folder, tmp_path):
    copy = shutil.copytree(source, tmp_path / "source")
    config = tuned(copy, folder, freeze="batch_norm", head_epochs=1)
    train(config, tmp_path / "whole", progress=False)
    stops = iter([False] * 2 + [True] * 99)
    train(config, tmp_path / "run", progress=False, should_stop=lambda: next(stops))
    shutil.rmtree(copy)
    train(config, tmp_path / "run", progress=False)
    whole, again = (load_run(tmp_path / name, "last") for name in ("whole", "run"))
    assert not changed(flat(whole), flat(again))
    assert read_metrics(tmp_path / "whole") == read_metrics(tmp_path / "run")


@pytest.mark.slow
def test_the_same_classes_keep_their_head(source, data_dir, tmp_path):
    config = TrainClassifier(init_from=str(source), data=DataConfig(data_dir=str(data_dir)))
    train(config, tmp_path / "run", progress=False, should_stop=lambda: True)
    record = json.loads((tmp_path / "run" / "init_from.json").read_text())
    assert (record["taken"], record["new"], record["left_out"]) == (17, {}, {})


@pytest.mark.slow
def test_an_encoder_of_another_task_becomes_a_classifier(source, folder, tmp_path, monkeypatch):
    """The imported kind of run has no labels; a task that learns without them leaves the same."""
    whole = load_run(source)
    other = dataclasses.replace(whole, info=dataclasses.replace(whole.info, label_names=None))
    monkeypatch.setattr("vision_jax.run.init_from.load_run", lambda _: other)
    train(tuned(source, folder), tmp_path / "run", progress=False, should_stop=lambda: True)
    record = json.loads((tmp_path / "run" / "init_from.json").read_text())
    assert set(record["new"]) == {"fc/kernel", "fc/bias"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["memory", "dino"])
def test_what_a_task_remembers_is_not_looked_for(source, folder, tmp_path, kind):
    data = DataConfig(name=str(folder), batch_size=24)
    config = (
        TrainMetric(data=data, loss="contrastive", memory=48, init_from=str(source), epochs=1)
        if kind == "memory"
        else TrainSelfSupervised(
            data=dataclasses.replace(data, recipe="views"),
            method="dino",
            projector=(16, 8),
            init_from=str(source),
            epochs=1,
        )
    )
    assert train(config, tmp_path / "run", progress=False).finished
    record = json.loads((tmp_path / "run" / "init_from.json").read_text())
    assert record["taken"] == 15
    assert not {"centre", "memory_labels", "memory_vectors"} & {*record["new"], *record["left_out"]}


def test_a_fit_that_is_given_takes_the_place_of_the_other_run_s_crop(source):
    whole = load_run(source)
    data = dataclasses.replace(whole.config.data, image_size=8, crop=0.8)
    other = dataclasses.replace(whole, config=dataclasses.replace(whole.config, data=data))
    config = TrainClassifier(
        data=DataConfig(name="digits", image_size=16, fit="pad"), init_from=str(source)
    )
    found = like_run(config, other).data
    assert (found.image_size, found.fit, found.crop) == (16, "pad", None)


@pytest.mark.slow
def test_an_autoencoder_starts_from_one_with_another_loss(data_dir, tmp_path):
    data = DataConfig(data_dir=str(data_dir), batch_size=256)
    model = AutoencoderConfig(kind="dense", hidden=(8,), code=2)
    first = TrainAutoencoder(data=data, epochs=1, model=model)
    train(first, tmp_path / "first", progress=False, should_stop=lambda: True)
    model = dataclasses.replace(first.model, loss="mean_squared_error")
    second = dataclasses.replace(first, model=model, init_from=str(tmp_path / "first"))
    train(second, tmp_path / "second", progress=False, should_stop=lambda: True)
    record = json.loads((tmp_path / "second" / "init_from.json").read_text())
    assert (record["new"], record["left_out"]) == ({}, {})


@pytest.mark.slow
def test_an_autoencoder_s_encoder_becomes_a_classifier(data_dir, tmp_path, capsys):
    data = DataConfig(data_dir=str(data_dir), batch_size=256)
    model = AutoencoderConfig(kind="conv", hidden=(6, 4), code=3)
    train(TrainAutoencoder(data=data, epochs=1, model=model), tmp_path / "codes", progress=False)
    config = TrainClassifier(
        init_from=str(tmp_path / "codes"),
        data=data,
        epochs=1,
        optimizer=OptimizerConfig(freeze="backbone"),
    )
    train(config, tmp_path / "classes")
    assert "6 tensors taken" in capsys.readouterr().out
    codes, classes = load_run(tmp_path / "codes"), load_run(tmp_path / "classes")
    assert (classes.config.model.name, classes.config.model.options["code"]) == ("conv_encoder", 3)
    np.testing.assert_allclose(
        classes.embed(classes.source()), codes.embed(codes.source()), rtol=1e-5, atol=1e-6
    )
    record = json.loads((tmp_path / "classes" / "init_from.json").read_text())
    assert set(record["new"]) == {"logits/kernel", "logits/bias"}
    assert {path.partition("/")[0] for path in record["left_out"]} == {"decoder"}
    assert train(config, tmp_path / "classes", progress=False).history == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--init-from {tmp}/gone", "gone holds no run"),
        ("--init-from {run} --model.name resnet34", "--model.name is 'resnet34' and .* 'resnet18'"),
        ("--init-from {run} --data.channels 3", "--data.channels is 3 and that of .*run, is 1"),
        ("--init-from {run} --model.options depths=[2]", "layer1/1/.* is missing in .*as are"),
        ("--init-from {run} --model.options stem=imagenet", r"conv1/kernel is of shape \(3, 3, 1"),
        ("", "--model.name is 'auto'"),
        ("--model.name cnn --optimizer.freeze backbone", "--optimizer.freeze is 'backbone'"),
        ("--init-from {run} --optimizer.layer-decay 0", "--optimizer.layer-decay is 0"),
        ("--init-from {run} --optimizer.head-epochs 10", "--optimizer.head-epochs is 10"),
        (
            "--init-from {run} --optimizer.freeze backbone --optimizer.head-epochs 1",
            "--optimizer.head-epochs is 1",
        ),
    ],
)
def test_what_cannot_fit_is_one_line(words, message, source, folder, tmp_path, capsys):
    words = words.format(run=source, tmp=tmp_path).split()
    words += ["--workdir", str(tmp_path / "new"), "--data.name", str(folder)]
    words += ["--data.batch-size", "24"]
    assert main(["train", "classifier", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(message, line), line
    assert not (tmp_path / "new").exists()


def test_a_gan_neither_starts_from_a_run_nor_gives_one(source):
    with pytest.raises(InputError, match=r"init_from is .* None with a GAN"):
        TrainGAN(init_from=str(source))
    with pytest.raises(InputError, match=r"layer_decay is 0\.5; it must be 1\.0 with a GAN"):
        TrainGAN(optimizer=OptimizerConfig(layer_decay=0.5))
