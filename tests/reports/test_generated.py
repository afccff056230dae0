"""Runs of autoencoders and GANs: trained, loaded, asked for images, searched and drawn."""

import dataclasses
import json
import math

import jax
import numpy as np
import pytest
from PIL import Image

from vision_jax.cli import main
from vision_jax.config import (
    AutoencoderConfig,
    DataConfig,
    GANConfig,
    OptimizerConfig,
    TrainAutoencoder,
    TrainGAN,
)
from vision_jax.data.loader import read_all
from vision_jax.data.sources import ArraySource
from vision_jax.errors import InputError
from vision_jax.evaluation import retrieval
from vision_jax.evaluation.data import EvaluationData
from vision_jax.evaluation.generation import (
    check_classifier,
    measure_generation,
    train_on_generated,
)
from vision_jax.evaluation.memorisation import nearest_training_images
from vision_jax.run.run import load_run
from vision_jax.run.train import train
from vision_jax.training.loop import TrainingDivergedError
from vision_jax.training.metrics import read_metrics

pytestmark = pytest.mark.slow  # each run trains a network of its own


@pytest.fixture(scope="module")
def configs(data_dir):
    data = DataConfig(
        data_dir=str(data_dir), train_split="train[:256]", validation_split="train[256:320]"
    )
    data = dataclasses.replace(data, batch_size=64)
    fast = OptimizerConfig(learning_rate=1e-2)
    return {
        "conv": TrainAutoencoder(
            data=data, model=AutoencoderConfig(hidden=(4,), code=2), optimizer=fast, epochs=2
        ),
        "variational": TrainAutoencoder(
            data=data,
            model=AutoencoderConfig(kind="variational", hidden=(32,), code=4),
            optimizer=fast,
            epochs=2,
        ),
        "gan": TrainGAN(
            data=data,
            model=GANConfig(
                generator=(8, 4), discriminator=(8,), latent_size=6, spectral_norm=True, ema=0.9
            ),
            epochs=2,
        ),
    }


@pytest.fixture(scope="module")
def folders(configs, tmp_path_factory):
    root = tmp_path_factory.mktemp("made")
    for name, config in configs.items():
        train(config, root / name, progress=False)
    return {name: root / name for name in configs}


@pytest.fixture(scope="module")
def runs(folders):
    return {name: load_run(folder) for name, folder in folders.items()}


def test_a_gan_resumes_bit_for_bit(configs, folders, runs, tmp_path):
    asked = []

    def should_stop():
        asked.append(1)
        return len(asked) == 6  # in the second epoch of four steps

    first = train(configs["gan"], tmp_path / "gan", should_stop=should_stop, progress=False)
    assert not first.finished
    train(configs["gan"], tmp_path / "gan", progress=False)
    assert read_metrics(tmp_path / "gan") == read_metrics(folders["gan"])
    state = load_run(tmp_path / "gan").state
    for a, b in zip(
        jax.tree.leaves((state.params, state.stats, state.average)),
        jax.tree.leaves(
            (runs["gan"].state.params, runs["gan"].state.stats, runs["gan"].state.average)
        ),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["conv", "variational"])
def test_reconstructions_have_the_measured_error(runs, name):
    run = runs[name]
    images = read_all(run.source())["image"]
    made = run.reconstruct(images)
    assert made.shape == images.shape
    error = np.square(made - images / np.float32(255), dtype=np.float64).mean()
    assert run.evaluate()["mean_squared_error"] == pytest.approx(error, rel=1e-4)
    np.testing.assert_allclose(run.decode(run.embed(images[:5])), made[:5], atol=1e-5)


@pytest.mark.parametrize("name", ["variational", "gan"])
def test_new_images_depend_on_the_seed_alone(runs, name):
    few, many, other = (
        runs[name].generate(count, seed=seed) for count, seed in ((3, 0), (300, 0), (3, 1))
    )
    np.testing.assert_allclose(few, many[:3], atol=1e-6)
    assert many.shape == (300, 8, 8, 1)
    assert many.min() >= 0
    assert many.max() <= 1
    assert not np.allclose(few, other)


def test_what_a_run_does_not_make_is_named(runs, workdir):
    classifier = load_run(workdir)
    for run, ask, message in [
        (
            classifier,
            lambda run: run.generate(1),
            r"run of `train cnn`; a GAN or a variational autoencoder is needed",
        ),
        (runs["conv"], lambda run: run.generate(1), "a GAN or a variational autoencoder"),
        (
            classifier,
            lambda run: run.decode(np.zeros((1, 2), np.float32)),
            "a GAN or an autoencoder is needed",
        ),
        (
            runs["gan"],
            lambda run: run.reconstruct(np.zeros((1, 8, 8, 1), np.uint8)),
            "autoencoder is needed",
        ),
        (
            runs["gan"],
            lambda run: run.predict(np.zeros((1, 8, 8, 1), np.uint8)),
            "classifier is needed",
        ),
        (runs["gan"], lambda run: check_classifier(run, run), "a classifier's run is needed"),
    ]:
        with pytest.raises(InputError, match=message):
            ask(run)


def test_each_epoch_leaves_a_grid(folders):
    for name, kinds in {
        "conv": {"reconstructions"},
        "variational": {"reconstructions", "samples"},
        "gan": {"samples"},
    }.items():
        found = {path.name for path in (folders[name] / "epochs").iterdir()}
        assert found == {f"000{epoch}-{kind}.png" for epoch in (1, 2) for kind in kinds}


@pytest.mark.parametrize(
    ("name", "grids"),
    [
        ("conv", {"reconstructions", "interpolations"}),
        ("variational", {"reconstructions", "samples", "nearest", "interpolations"}),
        ("gan", {"samples", "nearest", "interpolations"}),
    ],
)
def test_generate_writes_grids_and_arrays(folders, runs, name, grids, capsys):
    assert main(["generate", str(folders[name]), "--seed", "3"]) == 0
    printed = capsys.readouterr().out
    for grid in grids:
        assert f"{grid}.png" in printed
        with Image.open(folders[name] / f"{grid}.png") as image:
            assert max(image.size) >= 300
            assert np.asarray(image).std() > 0
    with np.load(folders[name] / "generated.npz") as arrays:
        walks = arrays["interpolations"]
        assert walks.shape == (8, 10, 8, 8, 1)
        if name == "gan":
            expected = np.rint(runs[name].generate(64, seed=3) * 255)
            np.testing.assert_allclose(arrays["samples"], expected, atol=1)
            # Each walk goes from one sample to the next.
            np.testing.assert_allclose(walks[:, 0].astype(int), arrays["samples"][:8], atol=1)
            np.testing.assert_allclose(walks[:, -1].astype(int), arrays["samples"][1:9], atol=1)


@pytest.mark.parametrize("name", ["conv", "gan"])
def test_codes_and_features_are_indexed_and_searched(folders, name, tmp_path, capsys):
    target = tmp_path / "train.index"
    words = ["--images", "digits", "--split", "train[:200]", "--out", str(target)]
    assert main(["index", str(folders[name]), *words]) == 0
    image = read_all(load_run(folders[name]).source("train[:1]"))["image"][0]
    Image.fromarray(image[..., 0]).save(tmp_path / "query.png")
    assert main(["search", str(target), str(tmp_path / "query.png"), "--k", "1"]) == 0
    # The image finds itself.
    assert "+1.0000" in capsys.readouterr().out


def test_evaluate_gives_pca_beside_an_autoencoder(folders, runs):
    from sklearn.decomposition import PCA

    assert main(["evaluate", str(folders["variational"])]) == 0
    metrics = json.loads((folders["variational"] / "evaluation.json").read_text())
    known, asked = (
        read_all(runs["variational"].source(split))["image"].reshape(-1, 64) / 255.0
        for split in ("train[:256]", "test")
    )
    pca = PCA(4).fit(known)
    error = np.square(pca.inverse_transform(pca.transform(asked)) - asked).mean()
    assert metrics["pca_mean_squared_error"] == pytest.approx(error, rel=1e-3)
    assert metrics["pca_components"] == 4


def test_evaluate_compares_generated_with_real_images(folders, workdir):
    assert main(["evaluate", str(folders["gan"]), "--classifier", str(workdir)]) == 0
    metrics = json.loads((folders["gan"] / "evaluation.json").read_text())
    assert metrics["generated_images"] == metrics["real_images"] == 256
    distance = "classifier_frechet_distance"
    # Two epochs make nothing like a digit.
    assert metrics[distance] > 2 * metrics[f"{distance}_floor"] > 0
    assert metrics["classifier_kernel_distance"] > metrics["classifier_kernel_distance_floor"]
    assert 0 < metrics["nearest_training_cosine"] < 1


def test_training_images_are_their_own_nearest_ones(runs):
    images = read_all(runs["gan"].source("train[:256]"))["image"][::40]
    found, cosines = nearest_training_images(runs["gan"].source("train[:256]"), images)
    np.testing.assert_array_equal(found, images)
    np.testing.assert_allclose(cosines, 1, atol=1e-5)


def test_all_training_images_are_searched_whatever_fits_in_memory(monkeypatch):
    pixels = np.random.default_rng(0).integers(1, 256, (50, 4, 4, 1), np.uint8)
    monkeypatch.setattr(retrieval, "_MAX_READ", 16 * 7)
    images = np.concatenate([pixels[::-7], np.zeros((1, 4, 4, 1), np.uint8)])
    found, cosines = nearest_training_images(ArraySource.from_arrays(pixels, None), images)
    np.testing.assert_array_equal(found[:-1], images[:-1])
    np.testing.assert_allclose(cosines, [*np.ones(8), 0], atol=1e-5)


def test_features_that_are_no_numbers_are_refused(runs, workdir, monkeypatch):
    """A distance between NaN features would be NaN, and a sum of them silently wrong."""
    judge = load_run(workdir)
    features = np.ones((300, 4), np.float32)
    features[5] = np.nan
    monkeypatch.setattr(type(judge), "embed", lambda self, images: features[: len(images)])
    with pytest.raises(InputError, match=r"features has 1 of 50 rows with NaN .* first at \[5\]"):
        measure_generation(EvaluationData.of(runs["gan"]), judge, count=50)


def test_a_classifier_trains_on_generated_images(runs, workdir):
    accuracy = train_on_generated(runs["gan"], load_run(workdir), count=128, epochs=1)
    assert 0 <= accuracy <= 1


@pytest.mark.parametrize("name", ["variational", "gan"])
def test_the_report_shows_what_was_made(folders, name):
    assert main(["report", str(folders[name])]) == 0
    page = (folders[name] / "report.html").read_text()
    for head in ("Images it makes", "Samples by epoch", "Learning curves", "Nearest images"):
        assert f"<h2>{head}</h2>" in page
    assert ("Reconstructions by epoch" in page) == (name == "variational")
    assert "epoch 1</figcaption>" in page
    assert "epoch 2</figcaption>" in page


def test_divergence_is_named_and_the_last_checkpoint_loads(configs, tmp_path):
    wild = dataclasses.replace(
        configs["gan"],
        model=GANConfig(generator=(4,), discriminator=(4,), latent_size=2, ema=0.0),
        optimizer=OptimizerConfig(name="sgd", learning_rate=1e30, warmup_epochs=1.25),
    )
    with pytest.raises(TrainingDivergedError, match=r"at step [23]; no checkpoint was saved"):
        train(wild, tmp_path / "wild", progress=False)
    assert all(math.isfinite(row["train/loss"]) for row in read_metrics(tmp_path / "wild"))
    assert list((tmp_path / "wild" / "checkpoints").iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("generate {cnn}", "makes no images; a GAN or an autoencoder is needed"),
        ("generate {gan} --seed -1", "--seed is -1"),
        ("generate {gan} --checkpoint 7", "has no step 7"),
        ("evaluate {gan} --classifier {gan}", "a classifier's run is needed"),
        ("evaluate {conv} --classifier {cnn}", "cannot generate new images"),
        ("train gan --workdir {tmp}/x --data.image-size 9", "multiples of 4"),
        ("train autoencoder --workdir {tmp}/x --data.image-size 9", "multiples of 4"),
    ],
)
def test_bad_input_is_one_line_and_code_2(
    words, message, folders, workdir, data_dir, tmp_path, capsys
):
    line = words.format(cnn=workdir, tmp=tmp_path, **folders).split()
    if line[0] == "train":
        line += ["--data.data-dir", str(data_dir)]
    assert main(line) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
