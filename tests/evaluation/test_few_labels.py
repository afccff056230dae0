from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from vision_jax.config import DataConfig, ModelConfig, OptimizerConfig, TrainClassifier
from vision_jax.data.info import DataInfo
from vision_jax.data.loader import Loader
from vision_jax.data.sources import ArraySource, Subset
from vision_jax.errors import InputError
from vision_jax.evaluation.few_labels import few_label_accuracy, few_rows, propagate_labels
from vision_jax.evaluation.probes import knn_predict
from vision_jax.parallel.devices import take_devices
from vision_jax.run.build import build_task
from vision_jax.run.run import Run
from vision_jax.training.loop import fit
from vision_jax.training.steps import DataParallel


def test_as_many_of_each_class_are_drawn():
    labels = np.repeat([0, 1, 5], [4, 9, 3])
    rows = few_rows(labels, 3, seed=1)
    assert np.bincount(labels[rows]).tolist() == [3, 3, 0, 0, 0, 3]
    assert (np.diff(rows) > 0).all()
    assert rows.tolist() == few_rows(labels, 3, seed=1).tolist() != few_rows(labels, 3).tolist()
    with pytest.raises(InputError, match=r"per_class is 4; it must be in \[1, 3\], .* class 5"):
        few_rows(labels, 4)


def test_labels_spread_as_in_the_paper(digits):
    """Against Zhou et al.'s equation (3), which inverts a matrix where we repeat."""
    vectors = digits.images[:300].reshape(300, -1).astype(np.float32)
    classes = digits.labels()[:300]
    labels = np.full(300, -1)
    rows = few_rows(classes, 3, seed=0)
    labels[rows] = classes[rows]
    found = propagate_labels(vectors, labels, k=10)

    unit = vectors.astype(np.float64) - vectors.mean(0)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    cosines = unit @ unit.T - 2 * np.eye(300)
    near = cosines >= np.sort(cosines, 1)[:, [-10]]
    edges = np.where(near, np.maximum(cosines, 0) ** 3, 0)
    edges += edges.T
    degrees = np.sqrt(edges.sum(1))
    edges /= degrees[:, None] * degrees
    given = np.eye(10)[classes] * (labels >= 0)[:, None]
    wanted = np.linalg.solve(np.eye(300) - 0.99 * edges, given)
    wanted = (wanted / wanted.sum(0)).argmax(1)
    assert np.mean(found == wanted) > 0.98  # fifty passes, not the limit
    assert (found[rows] == classes[rows]).all()
    own = np.mean(knn_predict(vectors[rows], classes[rows], vectors, k=1) == classes)
    assert np.mean(found == classes) > own + 0.03


def test_where_no_label_arrives_none_is_given():
    apart = np.array([[1, 0], [1, 0.1], [1, -0.1], [-1, 0], [-1, 0.1], [-1, -0.1]], np.float32)
    found = propagate_labels(apart, np.array([0, -1, -1, -1, -1, -1]), k=2)
    assert found.tolist() == [0, 0, 0, -1, -1, -1]
    vectors = np.eye(3, dtype=np.float32)
    for labels, k, message in [
        ([0, -1, -1], 3, r"k is 3; it must be in \[1, 3\)"),
        ([-1, -1, -1], 1, "at least one label"),
    ]:
        with pytest.raises(InputError, match=message):
            propagate_labels(vectors, np.array(labels), k=k)
    with pytest.raises(InputError, match="NaN or infinity"):
        propagate_labels(vectors * np.nan, np.array([0, -1, -1]), k=1)


MODEL = ModelConfig("cnn", {"stages": [16], "hidden": 64, "padding": "SAME", "dropout": 0.0})


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    return ArraySource.from_arrays(data.images[..., None].astype(np.uint8) * 15, data.target)


def trained(config, source):
    parallel = DataParallel.over()
    loader = Loader(source, config.data.batch_size, train=True)
    info = DataInfo.of(loader)
    task = build_task(config, info)
    result = fit(task, loader, epochs=config.epochs, parallel=parallel, progress=False)
    return Run(Path("encoder"), config, info, loader.steps_per_epoch, task, result.state, parallel)


@pytest.mark.slow
def test_an_encoder_that_knows_the_images_needs_few_labels(digits):
    assert len(take_devices(None)) == 4
    data = DataConfig(batch_size=60, mean=(0.3,), std=(0.4,))
    moves = OptimizerConfig(learning_rate=3e-3)
    start = trained(
        TrainClassifier(data=data, model=MODEL, optimizer=moves, epochs=10),
        Subset.of(digits, range(900)),
    )
    few = Subset.of(digits, few_rows(digits.labels()[:900], 2, seed=0).tolist())
    test = Subset.of(digits, range(900, 1797))
    config = TrainClassifier(data=DataConfig(batch_size=20), model=MODEL, optimizer=moves, epochs=8)
    tuned, scratch = (few_label_accuracy(config, few, test, start=run) for run in (start, None))
    assert tuned > 0.85
    assert tuned > scratch + 0.2
    narrow = TrainClassifier(data=config.data, model=ModelConfig("wrn_40_2"))
    with pytest.raises(InputError, match=r"model\.name is 'wrn_40_2'"):
        few_label_accuracy(narrow, few, test, start=start)


def test_the_optimizers_state_may_be_split(digits):
    few, test = Subset.of(digits, range(40)), Subset.of(digits, range(1000, 1400))
    model = ModelConfig("cnn", {"stages": [4], "hidden": 4, "padding": "SAME"})
    one, split = (
        few_label_accuracy(
            TrainClassifier(
                data=DataConfig(batch_size=20),
                model=model,
                optimizer=OptimizerConfig(shards=shards),
                epochs=1,
            ),
            few,
            test,
        )
        for shards in (1, 4)
    )
    assert split == pytest.approx(one, abs=0.01)


def test_classes_are_matched_by_name(digits):
    config = TrainClassifier(data=DataConfig(batch_size=20), model=MODEL, epochs=2)
    few, test = Subset.of(digits, range(200)), Subset.of(digits, range(1000, 1400))
    names = list(digits.label_names)
    images = np.stack([row["image"] for row in test.read(range(400))])
    other = ArraySource.from_arrays(images, 9 - test.labels(), label_names=names[::-1])
    assert few_label_accuracy(config, few, other) == few_label_accuracy(config, few, test) > 0.2
