"""Measures of maps against NumPy, SciPy and cases whose answer is known."""

import numpy as np
import pytest
import scipy.sparse
from scipy.sparse.linalg import spsolve
from scipy.stats import spearmanr

from vision_jax.errors import InputError
from vision_jax.explain.curves import deletion, insertion, ranks, replaced
from vision_jax.explain.faithfulness import (
    baseline_maps,
    class_score,
    judge,
    measure_maps,
    pointing_game,
)
from vision_jax.explain.randomization import (
    randomised_runs,
    randomization_test,
    rank_correlation,
    structural_similarity,
)
from vision_jax.explain.road import impute, road

WEIGHTS = np.random.default_rng(1).random((3, 6, 5, 2))


def linear(images, rows):
    """A score whose pixels' shares are known: those of WEIGHTS, another for each image."""
    return (images * WEIGHTS[rows]).sum((1, 2, 3))


def images_and_shares():
    images = np.random.default_rng(0).random((3, 6, 5, 2), np.float32)
    return images, (images * WEIGHTS).sum(-1)


def test_curves_are_the_scores_of_partly_deleted_images():
    images, shares = images_and_shares()
    maps = np.random.default_rng(2).normal(size=(3, 6, 5))
    gone = deletion(linear, images, maps, baseline="mean", steps=4)
    come = insertion(linear, images, maps, baseline="mean", steps=4)
    counts = [0, 8, 15, 22, 30]
    np.testing.assert_allclose(gone.fractions, np.array(counts) / 30)
    mean = images.mean((1, 2))
    for n in range(3):
        order = np.argsort(-maps[n].ravel())
        for stop, count in enumerate(counts):
            mask = np.zeros(30, bool)
            mask[order[:count]] = True
            mask = mask.reshape(6, 5, 1)
            for curves, first, second in ((gone, mean[n], images[n]), (come, images[n], mean[n])):
                wanted = (np.where(mask, first, second) * WEIGHTS[n]).sum()
                assert curves.scores[n, stop] == pytest.approx(wanted, rel=1e-5)
    widths = np.diff(counts) / 30
    areas = ((gone.scores[:, 1:] + gone.scores[:, :-1]) / 2 * widths).sum(1)
    np.testing.assert_allclose(gone.areas, areas)
    best = deletion(
        linear, images, shares - (mean[:, None, None] * WEIGHTS).sum(-1), baseline="mean"
    )
    assert (best.areas < deletion(linear, images, maps, baseline="mean").areas).all()


def test_a_blurred_baseline_is_smooth_and_keeps_channels_apart():
    images = np.zeros((1, 20, 20, 2), np.float32)
    images[0, 10, 10, 0] = 1
    blurred = replaced(images, "blur")
    assert blurred[0, 10, 10, 0] < 0.1
    assert blurred.sum() == pytest.approx(1, abs=1e-2)
    assert not blurred[..., 1].any()


def test_equal_pixels_are_ranked_at_random():
    maps = np.zeros((2, 10, 10))
    maps[:, 3, 3] = 1
    placed = ranks(maps)
    assert (placed[:, 3, 3] == 0).all()
    assert sorted(placed[0].ravel()) == list(range(100))
    assert (placed[0] != placed[1]).any()
    assert abs(np.corrcoef(placed[0].ravel(), np.arange(100))[0, 1]) < 0.3


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int8, np.float16])
def test_ranks_are_those_of_the_values_whatever_their_type(dtype):
    maps = np.random.default_rng(0).integers(0, 2, (2, 6, 5))
    np.testing.assert_array_equal(ranks(maps.astype(dtype)), ranks(maps.astype(np.float64)))


def solved(image, removed):
    """Noisy linear imputation without noise, by a direct sparse solution."""
    height, width = removed.shape
    places = {place: i for i, place in enumerate(zip(*np.nonzero(removed), strict=True))}
    matrix = scipy.sparse.lil_matrix((len(places), len(places)))
    right = np.zeros((len(places), image.shape[-1]))
    for (row, column), i in places.items():
        for down in (-1, 0, 1):
            for across in (-1, 0, 1):
                near = (row + down, column + across)
                if not (down or across) or not (0 <= near[0] < height and 0 <= near[1] < width):
                    continue
                weight = 1 / 12 if down and across else 1 / 6
                matrix[i, i] += weight
                if near in places:
                    matrix[i, places[near]] -= weight
                else:
                    right[i] += weight * image[near]
    filled = image.copy()
    filled[removed] = spsolve(matrix.tocsr(), right).reshape(right.shape)
    return filled


def test_imputation_solves_the_linear_system():
    images = np.random.default_rng(0).random((2, 14, 11, 3), np.float32)
    removed = np.random.default_rng(1).random((2, 14, 11)) < 0.5
    removed[0, :9, :7] = True
    filled = impute(images, removed, noise=0.0)
    wanted = np.stack([solved(*each) for each in zip(images, removed, strict=True)])
    np.testing.assert_allclose(filled, wanted, atol=2e-3)
    noisy = impute(images, removed, noise=0.1)
    np.testing.assert_array_equal(noisy[~removed], images[~removed])
    assert (noisy - filled)[removed].std() == pytest.approx(0.1, rel=0.1)


def test_road_is_the_gap_between_the_least_and_the_most_important():
    images, shares = images_and_shares()
    found = road(linear, images, shares, fractions=(0.2, 0.5), noise=0.0)
    gaps = []
    for count in (6, 15):
        order = ranks(shares)
        most, least = (impute(images, m, noise=0.0) for m in (order < count, order >= 30 - count))
        gaps.append(linear(least, np.arange(3)) - linear(most, np.arange(3)))
    np.testing.assert_allclose(found, np.mean(gaps, 0), rtol=1e-5)
    np.testing.assert_allclose(
        road(linear, images, -shares, fractions=(0.2, 0.5), noise=0.0), -found, rtol=1e-5
    )


def test_the_pointing_game_asks_for_the_highest_pixel():
    maps = np.array([[[0.0, 3], [1, 2]], [[0, 3], [1, 2]], [[5, 5], [5, 1]]])
    masks = np.zeros((3, 2, 2), bool)
    masks[[0, 1], [0, 1], [1, 1]] = True
    masks[2, 0] = True
    np.testing.assert_allclose(pointing_game(maps, masks), [1, 0, 2 / 3])
    np.testing.assert_allclose(pointing_game(maps, 2 * masks.astype(np.uint8)), [1, 0, 2 / 3])


def test_maps_that_know_nothing():
    maps = baseline_maps(400, (9, 9))
    assert maps["centre"].reshape(400, -1).argmax(1).tolist() == [40] * 400
    assert len({int(place) for place in maps["random"].reshape(400, -1).argmax(1)}) > 60


def test_a_method_is_judged_by_both_baselines_and_by_its_sensitivity():
    random = np.random.default_rng(0)
    good = {"deletion": random.normal(0.2, 0.05, 60), "road": random.normal(0.5, 0.1, 60)}
    poor = {"deletion": random.normal(0.6, 0.05, 60), "road": random.normal(0.0, 0.1, 60)}
    middling = {"deletion": random.normal(0.4, 0.05, 60), "road": good["road"]}
    values = {
        "random": poor,
        "centre": {"deletion": middling["deletion"] - 0.01, "road": poor["road"]},
        "good": good,
        "edges": good,
        "middling": middling,
        "poor": {name: rows + random.normal(0, 0.01, 60) for name, rows in poor.items()},
    }
    alike = {"good": 0.1, "edges": 0.9, "middling": 0.2, "poor": 0.0}
    verdicts = judge(values, {name: np.full(60, each) for name, each in alike.items()})
    assert verdicts["good"].failures == ()
    assert verdicts["good"].means["deletion"].mean == pytest.approx(0.2, abs=0.02)
    (told,) = verdicts["edges"].failures
    assert told.startswith("randomisation: ")
    assert "0.90" in told
    (told,) = verdicts["middling"].failures
    assert told.startswith("deletion: no better than the centre prior (0.3")
    assert [told.split(":")[0] for told in verdicts["poor"].failures] == ["deletion", "road"]
    assert "a random map (0.5" in verdicts["poor"].failures[0]
    with pytest.raises(InputError, match="values lack centre"):
        judge({"random": poor, "good": good})
    untested = judge(values, {"edges": np.full(60, 0.9)})["good"]
    assert (untested.sensitivity, untested.failures) == (None, ())


def test_one_image_shows_nothing():
    areas = {"random": 0.6, "centre": 0.6, "good": 0.2}

    def told(count):
        values = {name: {"deletion": np.full(count, area)} for name, area in areas.items()}
        return judge(values)["good"].failures

    assert told(1) == ("deletion: measured on 1 image; at least 2 are needed",)
    assert told(2) == ()


def test_likeness_of_maps():
    random = np.random.default_rng(0)
    first, second = random.normal(size=(2, 3, 9, 8))
    wanted = [spearmanr(a.ravel(), b.ravel()).statistic for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(rank_correlation(first, second), wanted, atol=1e-12)
    second[2] = 1
    assert rank_correlation(first, second)[2] == 0
    np.testing.assert_allclose(rank_correlation(first, np.exp(first)), 1)
    with pytest.raises(InputError, match="72 values of the maps are NaN; none may be"):
        rank_correlation(first, np.where(np.arange(3)[:, None, None] == 1, np.nan, second))
    np.testing.assert_allclose(structural_similarity(first, 3 * first + 1), 1)

    a, b = ((m - m.min()) / (m.max() - m.min()) for m in (first[0], second[0]))
    local = []
    for row in range(3):
        for column in range(2):
            x, y = (m[row : row + 7, column : column + 7].ravel() for m in (a, b))
            (vx, cov), (_, vy) = np.cov(x, y)
            top = (2 * x.mean() * y.mean() + 1e-4) * (2 * cov + 9e-4)
            local.append(top / ((x.mean() ** 2 + y.mean() ** 2 + 1e-4) * (vx + vy + 9e-4)))
    assert structural_similarity(first, second)[0] == pytest.approx(np.mean(local))


def test_layers_are_randomised_from_the_top(random_run, pictures):
    run = random_run("cnn", (16, 16, 1), stages=(4, 6), hidden=9, num_classes=4)
    images = pictures(2, (16, 16, 1))

    def changed(other, layer):
        return bool(
            (other.state.params[layer]["kernel"] != run.state.params[layer]["kernel"]).any()
        )

    names = ["conv1", "conv2", "dense", "logits"]
    stops = list(randomised_runs(run))
    assert [name for name, _ in stops] == names[::-1]
    for number, (_, other) in enumerate(stops, start=1):
        assert [changed(other, name) for name in names] == [i >= 4 - number for i in range(4)]
    assert [name for name, _ in randomised_runs(run, stops=2)] == ["dense", "conv1"]
    with pytest.raises(InputError, match=r"stops is 5; it must be in \[1, 4\]"):
        next(randomised_runs(run, stops=5))

    def maps_of(other):
        return np.tile(other.predict(images)[:, :, None], (1, 1, 4))

    tested = randomization_test(run, maps_of, stops=1)
    wanted = rank_correlation(maps_of(run), maps_of(stops[-1][1]))
    np.testing.assert_allclose(tested.rank_correlation[0], wanted)


def test_the_score_is_the_probability_of_each_original_s_class(random_run, pictures):
    run = random_run("cnn", (16, 16, 1), stages=(4, 6), hidden=9, num_classes=4)
    images, targets = pictures(3, (16, 16, 1)), np.array([2, 0, 1])
    score = class_score(run, targets)
    np.testing.assert_allclose(
        score(images[[1, 0]], np.array([1, 2])), run.predict(images[[1, 0]])[[0, 1], [0, 1]]
    )
    maps = np.random.default_rng(0).random((3, 16, 16))
    values = measure_maps(score, images, maps, masks=maps > 0.5, steps=3, fractions=(0.5,))
    assert {name: len(rows) for name, rows in values.items()} == {
        "deletion": 3,
        "insertion": 3,
        "road": 3,
        "pointing": 3,
    }
    assert (values["pointing"] == 1).all()


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda x, m: deletion(linear, x, m[:, 1:]), r"shape \(3, 5, 5\); \(3, 6, 5\) is needed"),
        (lambda x, m: deletion(linear, x, m, steps=31), r"steps is 31; it must be in \[1, 30\]"),
        (lambda x, m: deletion(linear, x, m * np.nan), "90 values of the maps are NaN"),
        (lambda x, m: insertion(linear, x, m, baseline="black"), "baseline"),
        (lambda x, m: road(linear, x, m, fractions=(0.5, 1.0)), r"fractions are \(0\.5, 1\.0\)"),
        (lambda x, m: impute(x, m > -1), "all pixels of an image are removed"),
        (lambda x, m: pointing_game(m, m[:2] > 0), r"shape \(2, 6, 5\)"),
    ],
)
def test_bad_input_is_one_line(call, told):
    images, shares = images_and_shares()
    with pytest.raises(InputError, match=told):
        call(images, shares)
