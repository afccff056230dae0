import numpy as np
import pytest
from sklearn.metrics import average_precision_score, pairwise_distances
from sklearn.neighbors import KNeighborsClassifier

from vision_jax.data.loader import read_all
from vision_jax.data.sources import ArraySource
from vision_jax.errors import DataWarning, InputError
from vision_jax.evaluation.data import EvaluationData
from vision_jax.evaluation.intervals import bootstrap_interval
from vision_jax.evaluation.retrieval import (
    compare_searches,
    measure_retrieval,
    measure_search,
    nearest,
)
from vision_jax.run.run import load_run
from vision_jax.search.evaluation import evaluate_retrieval

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def run(workdir):
    return load_run(workdir)


def test_metrics_are_scikit_learns(run):
    data = EvaluationData(run, run.source("test[:100]"), run.source("train[:30%]"))
    metrics, notes = measure_retrieval(data)
    known, asked = read_all(data.train), read_all(data.test)
    for name, rows in (
        (
            "pixels",
            [part["image"].reshape(len(part["image"]), -1) / 255 for part in (known, asked)],
        ),
        ("embedding", [run.embed(part["image"]) for part in (known, asked)]),
    ):
        model = KNeighborsClassifier(10, metric="cosine").fit(rows[0], known["label"])
        expected = model.score(rows[1], asked["label"])
        # A tie of similarities at the tenth place may be broken otherwise.
        assert metrics[name]["knn_accuracy@10"] == pytest.approx(expected, abs=0.011)
        assert 0 < metrics[name]["map@r"] < metrics[name]["precision@10"] < 1
    assert notes == []


def test_vectors_without_a_direction_are_named_and_change_nothing(run, digits, monkeypatch):
    """Images with a NaN, infinite or zero vector count as if they were not there."""
    images, labels = digits
    test = ArraySource.from_arrays(images[:60], labels[:60], name="test")
    train = ArraySource.from_arrays(images[60:160], labels[60:160], name="train")
    width = 6
    vectors = {60: RNG.normal(size=(60, width)), 100: RNG.normal(size=(100, width))}
    vectors = {count: rows.astype(np.float32) for count, rows in vectors.items()}
    vectors[60][[7, 30, 31]] = [[0], [np.nan], [np.inf]]
    vectors[100][[0, 50]] = [[np.nan], [0]]
    sound = {count: np.isfinite(rows).all(1) & rows.any(1) for count, rows in vectors.items()}
    monkeypatch.setattr(type(run), "embed", lambda self, source, views=1: vectors[len(source)])
    metrics, notes = measure_retrieval(EvaluationData(run, test, train))
    assert notes == [
        "search by embedding leaves out 3 of 60 test images, such as test/all/7: their vector is "
        "zero, NaN or infinite",
        "search by embedding leaves out 2 of 100 training images: their vector is zero, NaN or "
        "infinite",
    ]
    asked, known = vectors[60][sound[60]], vectors[100][sound[100]]
    kept = labels[:60][sound[60]], labels[60:160][sound[100]]
    model = KNeighborsClassifier(10, metric="cosine").fit(known, kept[1])
    among = evaluate_retrieval(asked, kept[0], ks=(10,))
    assert metrics["embedding"] == {
        "knn_accuracy@10": pytest.approx(model.score(asked, kept[0])),
        "precision@10": among["precision@10"],
        "map@r": among["map@r"],
    }


def test_black_images_are_left_out_of_search_by_pixels(run, digits):
    images, labels = digits[0][:40].copy(), digits[1][:40]
    images[3] = 0
    source = ArraySource.from_arrays(images, labels, name="black")
    metrics, notes = measure_retrieval(EvaluationData(run, source, source))
    assert "search by pixels leaves out 1 of 40 test images, such as black/all/3" in notes[0]
    assert metrics["pixels"]["knn_accuracy@10"] > 0


def test_metrics_that_need_two_images_of_a_class_are_left_out(run, digits):
    images, labels = digits
    single = np.unique(labels, return_index=True)[1]
    test = ArraySource.from_arrays(images[single], labels[single])
    train = ArraySource.from_arrays(images[100:200], labels[100:200])
    metrics, notes = measure_retrieval(EvaluationData(run, test, train))
    assert {name: set(row) for name, row in metrics.items()} == {
        "embedding": {"knn_accuracy@10"},
        "pixels": {"knn_accuracy@10"},
    }
    assert len(notes) == 1
    assert "no class has two test images" in notes[0]


@pytest.mark.parametrize("parts", [1, 3, 7])
def test_neighbours_are_those_of_all_parts_together(parts):
    rows = RNG.normal(size=(50, 4)).astype(np.float32)
    rows[[3, 20, 44]] = [[np.nan], [0], [np.inf]]
    rows[41] = rows[5]  # a tie over two parts
    queries = np.concatenate([rows[[5]], RNG.normal(size=(8, 4)).astype(np.float32)])
    scores, ids, lost = nearest(queries, np.array_split(rows, parts), 10)
    assert lost == 3
    clean = rows.copy()
    clean[[3, 20, 44]] = 1
    unit, asked = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (clean, queries))
    cosines = asked @ unit.T
    cosines[:, [3, 20, 44]] = -np.inf
    expected = np.argsort(-np.round(cosines, 6), 1, kind="stable")[:, :10]
    np.testing.assert_array_equal(ids, expected)
    np.testing.assert_allclose(scores, np.take_along_axis(cosines, expected, 1), atol=1e-6)
    few, short, _ = nearest(queries, [rows[:5]], 10)
    assert (short[:, 4:] == -1).all()
    assert (few[:, 4:] == -np.inf).all()


def one_gallery_image_each(noise, seed=1):
    """Vectors of 60 things, seen from two sides."""
    random = np.random.default_rng(seed)
    things = random.normal(size=(60, 8))
    seen, asked = (things + noise * random.normal(size=things.shape) for _ in range(2))
    return asked.astype(np.float32), seen.astype(np.float32), np.arange(60)


def test_search_in_a_gallery_of_its_own_equals_numpy_and_scikit_learn():
    asked, seen, _ = one_gallery_image_each(1.0)
    labels, items = np.arange(60) % 7, RNG.permutation(60) % 8
    seen[[4, 9]], asked[3] = np.nan, 0
    with pytest.warns(DataWarning, match="left out"):
        metrics, found, _ = measure_search(asked, labels, seen, items, ks=(1, 10))
    assert list(found.left_out_queries) == [3]
    assert list(found.left_out_gallery) == [4, 9]
    rows, queries = np.delete(np.arange(60), [4, 9]), np.delete(np.arange(60), 3)
    cosines = 1 - pairwise_distances(asked[queries], seen[rows], "cosine")
    relevant = items[rows][None] == labels[queries][:, None]
    ranked = np.take_along_axis(relevant, np.argsort(-cosines, 1), 1)
    total = ranked.sum(1)
    within = np.arange(58) < total[:, None]
    precisions = np.cumsum(ranked, 1) / np.arange(1, 59) * ranked
    expected = {
        "hit_rate@1": ranked[:, 0],
        "recall@10": ranked[:, :10].sum(1) / total,
        "precision@10": ranked[:, :10].mean(1),
        "r_precision": (ranked & within).sum(1) / total,
        "map@r": (precisions * within).sum(1) / total,
        "map": [average_precision_score(*pair) for pair in zip(relevant, cosines, strict=True)],
    }
    for name, values in expected.items():
        assert np.isnan(found.values[name][3])
        np.testing.assert_allclose(found.values[name][queries], values, err_msg=name)
        assert metrics[name].mean == pytest.approx(np.mean(values))
        assert metrics[name] == bootstrap_interval(found.values[name])
        assert metrics[name].counted == 59


def test_searches_are_compared_query_by_query():
    asked, seen, names = one_gallery_image_each(0.5)
    better = measure_search(asked, names, seen, names)
    worse = measure_search(asked[:, :4], names, seen[:, :4], names)
    apart = compare_searches(better, worse)
    for name in ("hit_rate@1", "map@r", "mrr"):
        assert apart[name].mean == pytest.approx(
            better.metrics[name].mean - worse.metrics[name].mean
        )
        assert apart[name].low > 0
        assert apart[name].p_value < 0.01
    assert compare_searches(better, better)["map@r"].p_value == 1
    with pytest.raises(InputError, match="first has 60 values and second 59"):
        compare_searches(better, measure_search(asked[:59], names[:59], seen, names))


def test_groups_of_queries_widen_the_interval():
    asked, seen, names = one_gallery_image_each(1.0)
    twice = np.concatenate([asked, asked]), np.concatenate([names, names])
    alone = measure_search(asked, names, seen, names).metrics["hit_rate@1"]
    grouped = measure_search(*twice, seen, names, groups=twice[1]).metrics["hit_rate@1"]
    assert grouped[:3] == pytest.approx(alone[:3])
    single = measure_search(*twice, seen, names).metrics["hit_rate@1"]
    assert single.high - single.low < grouped.high - grouped.low
