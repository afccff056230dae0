"""Exports held against the run: by load_export, by plain jax, and by ONNX Runtime."""

import dataclasses
import importlib.util
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import linen as nn
from PIL import Image

from vision_jax import CosineIndex, load_export, write_export
from vision_jax.cli import main
from vision_jax.config import (
    AutoencoderConfig,
    GANConfig,
    ModelConfig,
    TrainAutoencoder,
    TrainClassifier,
    TrainGAN,
)
from vision_jax.errors import InputError
from vision_jax.run.build import build_task
from vision_jax.training.loop import initial_state

onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra onnx")
pytest.importorskip("onnx", reason="needs the extra onnx")

GUIDE = Path(__file__).parents[2] / "docs" / "export.md"
VIT = {"width": 24, "depth": 2, "heads": 2, "patch": 4, "image_size": 8}


def block(name):
    """A program of the guide, by the comment above it."""
    return re.search(rf"<!-- {name} -->\n```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)[1]


def same_found(found, wanted, tolerance=1e-4):
    """The same images at the same cosines, but for those whose cosines differ by less."""
    (scores, ids), (wanted_scores, wanted_ids) = found, wanted
    np.testing.assert_allclose(scores, wanted_scores, atol=tolerance)
    gaps = np.abs(scores - wanted_scores) + np.abs(np.diff(wanted_scores, append=-2))
    assert ((ids == wanted_ids) | (gaps < tolerance)).all()


@pytest.fixture(scope="module")
def files(run, index, tmp_path_factory):
    """The run and its index as both kinds of file."""
    folder = tmp_path_factory.mktemp("exports")
    for name in ("digits.vjx", "digits.onnx"):
        write_export(run, folder / name, index=index)
    return folder


def run_onnx(path, images, names):
    session = onnxruntime.InferenceSession(str(path))
    return session.run(names, {"images": images.astype(np.float32) / 255})


@pytest.mark.parametrize("count", [0, 1, 70])
def test_an_export_gives_what_the_run_does(files, run, digits, count, assert_close):
    images, opened = digits[0][:count], load_export(files / "digits.vjx")
    assert_close(opened.embed(images), run.embed(images))
    assert_close(opened.predict(images), run.predict(images))
    assert_close(opened.embed(images, views=10), run.embed(images, views=10))
    assert opened.class_names == run.info.label_names
    assert opened.identity == run.identity


def test_an_export_finds_what_the_index_does(files, run, index, digits, tmp_path):
    opened, images = load_export(files / "digits.vjx"), digits[0][:8]
    wanted = index.search(run.embed(images), 10)
    hits = opened.search(images, 10)
    ids = np.array([[hit.item for hit in line] for line in hits])
    scores = np.array([[hit.score for hit in line] for line in hits])
    same_found((scores, ids), wanted)

    rows = index.metadata(index.ids[:2])
    (hits,) = opened.search_keys([rows[1]["key"]], 5)
    same_found(
        (np.array([[hit.score for hit in hits]]), np.array([[hit.item for hit in hits]])),
        index.search_by_id(index.ids[1:2], 5),
    )
    assert [hit.row for hit in hits] == index.metadata([hit.item for hit in hits])

    Image.fromarray(np.kron(images[0, ..., 0], np.ones((5, 7), np.uint8))).save(tmp_path / "0.png")
    np.testing.assert_array_equal(
        opened.read_images([tmp_path / "0.png"]), run.read_images([tmp_path / "0.png"])
    )


@pytest.mark.slow
def test_an_export_needs_neither_the_runs_folder_nor_its_models_code(files, index):
    code = (
        "import sys, numpy as np, vision_jax\n"
        "opened = vision_jax.load_export(sys.argv[1])\n"
        "opened.search(np.zeros((1, 8, 8, 1), np.uint8) + 7)\n"
        "opened.predict(np.zeros((1, 8, 8, 1), np.uint8))\n"
        "print(sorted(name for name in sys.modules if name.startswith('vision_jax.models.c')))\n"
    )
    command = [sys.executable, "-c", code, str(files / "digits.vjx")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=files)
    assert done.stdout.strip() in ("[]", "['vision_jax.models.cut']")


def test_the_guides_program_searches_by_plain_jax(files, run, index, digits, monkeypatch, capsys):
    images = digits[0][:3]
    monkeypatch.chdir(files)
    np.save("images.npy", images.astype(np.float32) / 255)
    exec(compile(block("jax"), str(GUIDE), "exec"), {})
    ids = index.search(run.embed(images), 10)[1]
    keys = [[row["key"] for row in index.metadata(line)] for line in ids]
    assert capsys.readouterr().out.strip() == str(keys)


def test_one_export_runs_on_cpu_cuda_and_tpu_without_host_code(files):
    with zipfile.ZipFile(files / "digits.vjx") as archive:
        encoder = jax.export.deserialize(bytearray(archive.read("encoder.jaxexport")))
        manifest = json.loads(archive.read("manifest.json"))
    assert encoder.platforms == ("cpu", "cuda", "tpu")
    assert str(encoder.in_avals[0].shape[0]) == "batch"
    calls = re.findall(r"custom_call @(\w+)|(callback|infeed|outfeed)", encoder.mlir_module())
    assert {name for pair in calls for name in pair if name} <= {"shape_assertion"}
    assert manifest["written_by"]["jax"] == jax.__version__
    assert manifest["image"]["height"] == 8


def test_metadata_may_hold_half_a_surrogate_pair(run, index, tmp_path):
    cut = CosineIndex.from_content(index.to_content())
    (row,) = (dict(row, note="cut \ud83d, 猫") for row in cut.metadata(0))
    cut.set_metadata(0, [row])
    for name in ("a.vjx", "a.onnx"):
        write_export(run, tmp_path / name, index=cut)
    assert load_export(tmp_path / "a.vjx").index.metadata(0) == [row]
    about = onnxruntime.InferenceSession(str(tmp_path / "a.onnx")).get_modelmeta()
    told = json.loads(about.custom_metadata_map["vision_jax"])
    assert told["index"]["metadata"][0] == row


def test_onnx_runtime_gives_what_the_run_does(files, run, index, digits, assert_close):
    for count in (1, 33):
        images = digits[0][:count]
        names = ["embedding", "probabilities", "cosines", "vectors"]
        embedding, probabilities, cosines, vectors = run_onnx(files / "digits.onnx", images, names)
        assert_close(embedding, run.embed(images))
        assert_close(probabilities, run.predict(images))
        np.testing.assert_array_equal(vectors, index.vectors(index.ids))
        best = np.argsort(-cosines, 1, kind="stable")[:, :10]
        scores = np.take_along_axis(cosines, best, 1)
        same_found((scores, index.ids[best]), index.search(run.embed(images), 10))


def test_the_guides_script_searches_by_onnx_runtime(files, run, index, digits, tmp_path, capsys):
    Image.fromarray(digits[0][5, ..., 0]).save(tmp_path / "five.png")
    (tmp_path / "search.py").write_text(block("onnx"))
    command = [sys.executable, "search.py", str(files / "digits.onnx"), "five.png"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    scores, ids = index.search(run.embed(digits[0][5:6]), 10)
    found = [line.split() for line in done.stdout.splitlines()]
    assert [key for _, key in found] == [row["key"] for row in index.metadata(ids[0])]
    np.testing.assert_allclose([float(score) for score, _ in found], scores[0], atol=1e-4)
    assert len(block("onnx").strip().splitlines()) <= 34


@pytest.mark.parametrize("shape", [(8, 8), (64, 64), (100, 75), (31, 90)])
@pytest.mark.parametrize(("crop", "interpolation"), [(1.0, "bilinear"), (0.875, "bicubic")])
def test_the_guides_script_prepares_images_as_the_run_does(shape, crop, interpolation, tmp_path):
    from vision_jax.data.decode import read_image
    from vision_jax.data.resize import Resize

    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    names = {}
    source = block("onnx").partition("session =")[0].replace("import onnxruntime\n", "")
    exec(compile(source, str(GUIDE), "exec"), names)
    how = {"height": 8, "width": 8, "channels": 3, "crop": crop, "interpolation": interpolation}
    wanted = read_image(tmp_path / "a.png", channels=3, size=8, resize=Resize(crop, interpolation))
    got = names["prepare"](tmp_path / "a.png", how)
    np.testing.assert_allclose(got[0], wanted / np.float32(255), atol=1e-6)


def exports_agree(run, tmp_path, assert_close):
    images = np.random.default_rng(0).integers(0, 256, (5, *run.info.image_shape), np.uint8)
    wanted = run.embed(images)
    for name in ("a.vjx", "a.onnx"):
        write_export(run, tmp_path / name)
    assert_close(load_export(tmp_path / "a.vjx").embed(images), wanted)
    assert_close(run_onnx(tmp_path / "a.onnx", images, ["embedding"])[0], wanted)


def classifier(name, **options):
    return TrainClassifier(model=ModelConfig(name=name, options=options))


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        TrainAutoencoder(model=AutoencoderConfig(hidden=(4,), code=2)),
        classifier("vit_tiny_patch16_224", **VIT),
        TrainGAN(model=GANConfig(generator=(16, 8, 4), discriminator=(4, 8), latent_size=6)),
    ],
    ids=["autoencoder", "vit", "gan"],
)
def test_exports_of_other_networks_agree(config, random_run, tmp_path, assert_close):
    exports_agree(random_run(config, (8, 8, 3)), tmp_path, assert_close)


def test_a_model_that_asks_for_the_number_of_images_is_exported(
    run, digits, tmp_path, assert_close
):
    class Counting(nn.Module):
        @nn.compact
        def __call__(self, images, train=False):
            x = nn.Dense(3)(images.reshape(len(images), -1))
            return x, {"embedding": x}

    task = dataclasses.replace(run.task, model=Counting())
    state = initial_state(task, 0, (8, 8, 1))
    run = dataclasses.replace(run, task=task, state=run.parallel.replicate(state))
    images = digits[0][:5]
    write_export(run, tmp_path / "a.vjx")
    assert_close(load_export(tmp_path / "a.vjx").embed(images), run.embed(images))


def test_what_onnx_cannot_hold_is_refused(run, index, tmp_path):
    task = build_task(dataclasses.replace(run.config, precision="bfloat16"), run.info)
    with pytest.raises(InputError, match="computes in bfloat16; float32 is needed"):
        write_export(dataclasses.replace(run, task=task), tmp_path / "a.onnx")
    several = CosineIndex.from_content(index.to_content())
    several.about = index.about | {"views": 5}
    with pytest.raises(InputError, match="averages 5 views of each image; 1 is needed"):
        write_export(run, tmp_path / "a.onnx", index=several)
    assert not list(tmp_path.iterdir())


def told(capsys, *words):
    """The one line that a refused command prints."""
    assert main(["export", *map(str, words)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.fixture
def places(workdir, index, tmp_path):
    index.save(tmp_path / "digits.index")
    other = CosineIndex.from_content(index.to_content())
    other.about = index.about | {"encoder": "0" * 64}
    other.save(tmp_path / "other.index")
    (tmp_path / "older.vjx").write_bytes(b"older")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("RUN --out a.zip", "--out is .*must end in .vjx, .onnx"),
        ("RUN --out no/a.vjx", "the folder no must exist"),
        ("RUN --out .", "must end in .vjx, .onnx"),
        ("RUN --out a.npy", "leave it out, or give a name that ends in .vjx, .onnx"),
        ("RUN --out a.vjx --hnsw", "must end in .faiss"),
        ("none --out a.vjx", "holds no run"),
        ("--out a.vjx", "a run to export, an index, or both"),
        ("--index digits.index --out a.vjx", "a run's folder is needed"),
        ("--index digits.index --out a.csv", "must end in .npy, .parquet, .faiss"),
        ("--index digits.index --out a.npy --hnsw", "--hnsw is True .* must end in .faiss"),
        ("--index digits.index --out a.npy --checkpoint last", "a run is needed"),
        ("--index none.index --out a.npy", "none.index does not exist"),
        ("--index older.vjx --out a.npy", "not an index file"),
        ("RUN --index other.index --out older.vjx", "was made by another network"),
    ],
)
def test_bad_input_is_one_line(words, message, places, workdir, monkeypatch, capsys):
    monkeypatch.chdir(places)
    before = {path: path.read_bytes() for path in places.iterdir()}
    assert re.search(message, told(capsys, *words.replace("RUN", str(workdir)).split()))
    assert {path: path.read_bytes() for path in places.iterdir()} == before


def test_a_missing_package_is_named(workdir, tmp_path, monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "onnx" else find(name)
    )
    line = told(capsys, workdir, "--out", tmp_path / "a.onnx")
    assert "pip install 'vision_jax[onnx]'" in line


def test_the_command_exports(workdir, places, monkeypatch, capsys):
    monkeypatch.chdir(places)
    for name in ("older.vjx", "a.onnx"):
        assert main(["export", str(workdir), "--index", "digits.index", "--out", name]) == 0
    for name in ("a.npy", "a.parquet", "a.faiss"):
        assert main(["export", "--index", "digits.index", "--out", name]) == 0
    assert "an index of 360 images -> older.vjx" in capsys.readouterr().out
    assert len(load_export("older.vjx").index) == 360
