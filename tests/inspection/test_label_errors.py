import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vision_jax.config import AutoencoderConfig, DataConfig, TrainAutoencoder
from vision_jax.data.sources import ArraySource
from vision_jax.errors import InputError
from vision_jax.inspection.files import open_splits
from vision_jax.inspection.label_errors import find_label_errors, neighbour_votes, rank_errors
from vision_jax.inspection.pixels import read_pixels
from vision_jax.inspection.survey import inspect, trained_on
from vision_jax.inspection.tables import summary
from vision_jax.reports.inspection import write_inspection
from vision_jax.run.run import load_run
from vision_jax.run.train import train


@pytest.fixture(scope="module")
def planted(digits, tmp_path_factory):
    """A folder of 1,000 digits, 3% of whose labels are wrong; the true one ends a file's name."""
    root = tmp_path_factory.mktemp("planted")
    images, labels = digits[0][:1000], digits[1][:1000]
    rng = np.random.default_rng(0)
    given = labels.copy()
    wrong = rng.choice(len(labels), 30, replace=False)
    given[wrong] = (labels[wrong] + rng.integers(1, 10, len(wrong))) % 10
    for number, (image, label) in enumerate(zip(images, given, strict=True)):
        path = root / str(label) / f"{number:04}-{labels[number]}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image[..., 0]).save(path)
    return root


def is_planted(source):
    paths = [Path(source.key(row)) for row in range(len(source))]
    return np.array([path.parent.name != path.stem[-1] for path in paths])


@pytest.mark.slow
@pytest.mark.parametrize("family", ["cnn", "autoencoder"])
def test_most_planted_errors_come_first(family, planted, config, tmp_path):
    data = DataConfig(name=str(planted), channels=1, batch_size=64)
    if family == "cnn":
        noisy = dataclasses.replace(config, data=data, epochs=4)
    else:
        model = AutoencoderConfig(kind="dense", hidden=(64,), code=16)
        noisy = TrainAutoencoder(data=data, model=model, epochs=4)
    train(noisy, tmp_path / "run", progress=False)
    run = load_run(tmp_path / "run")
    source, files = open_splits(str(planted), channels=1)
    found = inspect(source, files=files, run=run)
    hits = is_planted(source)[[suspect.row for suspect in found.suspects]]
    assert hits[:30].sum() >= 15
    assert hits[:60].sum() >= 24, hits[:60]
    if family == "cnn":
        seen = trained_on(run, found.pixels.digests)
        assert seen.sum() == len(run.source("train[:90%]"))
        judges = {suspect.row: suspect.by for suspect in found.suspects}
        assert all((by == "neighbours") == seen[row] for row, by in judges.items())
        assert set(judges.values()) == {"neighbours", "classifier"}
    first = found.suspects[0]
    assert source.key(first.row) in summary(found)
    write_inspection(found, tmp_path / "page.html")
    assert f"→ {source.label_names[first.likely]}" in (tmp_path / "page.html").read_text()


def test_suspects_are_those_of_the_equations():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 200)
    logits = rng.standard_normal((200, 5)) + 1.5 * np.eye(5)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    means = {j: probabilities[labels == j, j].mean() for j in range(4)}  # nobody is of class 4
    expected = {}
    for row, (own, label) in enumerate(zip(probabilities, labels, strict=True)):
        likely = max(range(5), key=lambda j: own[j])
        sure = max((j for j in means if own[j] >= means[j]), key=lambda j: own[j], default=label)
        if likely != label:
            expected[row] = (likely, pytest.approx(own[likely] - own[label]), sure != label)
    found = rank_errors(probabilities, labels, np.arange(200) + 1000, by="me")
    assert {s.row - 1000: (s.likely, s.margin, s.confident) for s in found} == expected
    assert 10 < sum(s.confident for s in found) < len(found) < 100
    assert [s.margin for s in found] == sorted((s.margin for s in found), reverse=True)
    assert all(s.given == labels[s.row - 1000] and s.by == "me" for s in found)


def test_neighbours_vote_as_numpy_counts_them():
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((60, 6)).astype(np.float32)
    vectors[7] = vectors[3]
    labels = rng.integers(0, 3, 60)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine = (unit @ unit.T).astype(np.float64)
    np.fill_diagonal(cosine, -np.inf)
    expected = np.zeros((60, 3))
    for row in range(60):
        for other in np.argsort(-cosine[row])[:5]:
            expected[row, labels[other]] += np.exp(cosine[row, other] / 0.07)
    expected /= expected.sum(1, keepdims=True)
    np.testing.assert_allclose(neighbour_votes(vectors, labels, 3, k=5), expected, atol=1e-5)
    assert neighbour_votes(vectors[:2], labels[:2], 3).shape == (2, 3)


def test_images_are_known_again_by_their_pixels(workdir, digits):
    run = load_run(workdir)
    own = read_pixels(run.source("train[:90%]")).digests
    assert trained_on(run, own[:5]).all()
    assert not trained_on(run, [b"another"]).any()


def test_embeddings_without_a_direction_are_named_and_change_nothing(workdir, digits, monkeypatch):
    run = load_run(workdir)
    images, labels = digits[0][:60], digits[1][:60].copy()
    labels[11] = (labels[11] + 1) % 10
    sound = np.delete(np.arange(60), [3, 20])
    few = ArraySource.from_arrays(images[sound], labels[sound])
    expected = inspect(few, run=run, threshold=0.9)
    vectors = run.embed(ArraySource.from_arrays(images, labels))
    vectors[[3, 20]] = [[0], [np.nan]]
    monkeypatch.setattr(type(run), "embed", lambda self, source: vectors)
    found = inspect(ArraySource.from_arrays(images, labels), run=run, threshold=0.9)
    assert found.lost.tolist() == [3, 20]
    assert [s.row for s in found.suspects] == [sound[s.row] for s in expected.suspects]
    assert [g.rows for g in found.near] == [tuple(sound[list(g.rows)]) for g in expected.near]
    assert len(found.near) > 0
    assert "judged: 2 images whose embedding is zero, NaN or infinite, such as arrays/all/3" in (
        summary(found)
    )
    vectors[:] = np.nan
    assert inspect(ArraySource.from_arrays(images, labels), run=run).suspects == []


def test_classes_that_are_not_the_runs_are_named(workdir, digits):
    run = load_run(workdir)
    images, labels = digits[0][:20], digits[1][:20]
    others = ArraySource.from_arrays(images, labels, label_names=list("abcdefghij"))
    vectors, seen = np.ones((20, 4), np.float32), np.zeros(20, bool)
    with pytest.raises(InputError, match=r"has the classes \('a', .* has \('0', '1'"):
        find_label_errors(run, others, labels, vectors, seen)
