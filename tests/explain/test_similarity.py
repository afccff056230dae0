"""Why two images match, on networks whose embedding is an average, a dense layer or a token."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import slow_but

from vision_jax import import_weights
from vision_jax.errors import InputError
from vision_jax.explain.similarity import enlarged, similarity_map
from vision_jax.run.parts import embedding_parts

AVERAGE = ("wrn_16_4", (20, 20, 3), {"depth": 10, "width": 1})
EXACT = [
    AVERAGE,
    ("vit_tiny_patch16_224", (32, 48, 3), {"depth": 1, "pool": "mean", "projection": 5}),
    ("resnet18", (40, 40, 3), {"depths": (1, 1, 1, 1), "stem": "small"}),
    ("densenet121", (64, 96, 3), {"depths": (1, 1, 1, 1)}),
]
CNN = ("cnn", (16, 16, 1), {"stages": (4, 6), "hidden": 9, "num_classes": 4})
TOKEN = ("vit_tiny_patch16_224", (32, 48, 3), {"depth": 2, "registers": 1})


def cosines(run, first, second):
    a, b = (run.embed(images).astype(np.float64) for images in (first, second))
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.fixture(scope="module")
def run(random_run):
    name, shape, options = AVERAGE
    return random_run(name, shape, **options)


@pytest.mark.parametrize("network", slow_but([AVERAGE, CNN, TOKEN], [*EXACT, CNN, TOKEN]))
def test_the_maps_sum_to_the_cosine(network, random_run, pictures):
    name, shape, options = network
    run = random_run(name, shape, **options)
    queries, matches = pictures(3, shape), pictures(3, shape, seed=1)
    found = similarity_map(run, queries, matches)
    wanted = cosines(run, queries, matches)
    np.testing.assert_allclose(found.cosine, wanted, atol=1e-5)
    np.testing.assert_allclose(found.query_map.sum((1, 2)), wanted, atol=1e-5)
    np.testing.assert_allclose(found.match_map.sum((1, 2)), wanted, atol=1e-5)
    np.testing.assert_allclose(found.pairs.sum((1, 2, 3, 4)), wanted, atol=1e-5)
    np.testing.assert_allclose(found.pairs.sum((3, 4)), found.query_map, atol=1e-6)
    np.testing.assert_allclose(found.pairs.sum((1, 2)), found.match_map, atol=1e-6)
    np.testing.assert_allclose(found.query_image_map.sum((1, 2)), wanted, atol=1e-5)
    assert found.query_image_map.shape == (3, *shape[:2])
    assert found.exact == (network in EXACT)


def test_the_pairs_are_products_of_the_map_of_features(run, pictures):
    queries, matches = pictures(2, (20, 20, 3)), pictures(2, (20, 20, 3), seed=1)
    found = similarity_map(run, queries, matches)
    first, second = (
        np.asarray(run.task.apply(run.state, jnp.asarray(images))[1]["features"], np.float64)
        for images in (queries, matches)
    )
    wanted = np.einsum("nhwd,nijd->nhwij", first, second) / (25 * 25)
    lengths = [np.linalg.norm(maps.mean((1, 2)), axis=1) for maps in (first, second)]
    wanted /= (lengths[0] * lengths[1])[:, None, None, None, None]
    np.testing.assert_allclose(found.pairs, wanted, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(found.unplaced, 0, atol=1e-6)
    assert found.method == "average"


def test_a_dense_layer_is_divided_by_what_it_loses(random_run, pictures):
    name, shape, options = CNN
    run = random_run(name, shape, **options)
    images = pictures(2, shape)
    made = embedding_parts(run, images)
    maps = np.asarray(run.task.apply(run.state, jnp.asarray(images))[1]["stage2"])
    dense = jax.tree.map(np.asarray, run.state.params["dense"])

    def embed(maps):
        return np.maximum(maps.reshape(2, -1) @ dense["kernel"] + dense["bias"], 0)

    for row, column in ((0, 0), (1, 0)):
        without = maps.copy()
        without[:, row, column] = 0
        lost = embed(maps) - embed(without)
        np.testing.assert_allclose(made.parts[:, row, column], lost, atol=1e-4)
    np.testing.assert_allclose(made.embedding, embed(maps), atol=1e-4)
    np.testing.assert_allclose(made.rest, embed(maps) - made.parts.sum((1, 2)), atol=1e-4)
    assert (made.method, made.exact) == ("removal", False)


def test_a_class_token_is_divided_by_the_tokens_before_the_last_block(random_run, pictures):
    name, shape, options = TOKEN
    run = random_run(name, shape, **options)
    made = embedding_parts(run, pictures(2, shape))
    assert made.parts.shape == (2, 2, 3, 192)
    assert made.method == "removal"
    assert (np.linalg.norm(made.parts, axis=-1) > 1e-3).all()


def test_the_strongest_pairs_of_regions_are_sums_of_pairs(run, pictures):
    found = similarity_map(run, *pictures(2, (20, 20, 3)))
    (chosen,) = found.strongest(3, side=2)
    pairs = found.pairs[0]
    sums = [
        (pairs[i : i + 2, j : j + 2, k : k + 2, m : m + 2].sum(), i, j, k, m)
        for i, j, k, m in np.ndindex(4, 4, 4, 4)
    ]
    best, i, j, k, m = max(sums)
    assert chosen[0].contribution == pytest.approx(best, abs=1e-6)
    assert chosen[0].query_box == (4 * j, 4 * i, 4 * j + 8, 4 * i + 8)
    assert chosen[0].match_box == (4 * m, 4 * k, 4 * m + 8, 4 * k + 8)
    contributions = [pair.contribution for pair in chosen]
    assert contributions == sorted(contributions, reverse=True)
    for side in ("query_box", "match_box"):
        boxes = [getattr(pair, side) for pair in chosen]
        for n, (x0, y0, x1, y1) in enumerate(boxes):
            assert all(a[0] >= x1 or a[2] <= x0 or a[1] >= y1 or a[3] <= y0 for a in boxes[:n])


def test_a_box_leaves_its_positions_alone(run, pictures):
    queries, matches = pictures(2, (20, 20, 3)), pictures(2, (20, 20, 3), seed=1)
    found = similarity_map(run, queries, matches, box=(4, 0, 10, 8))
    features = np.asarray(run.task.apply(run.state, jnp.asarray(queries))[1]["features"])
    weights = np.array([1.0, 0.5])  # the second column's cells are covered by half
    vector = (features[:, :2, 1:3] * weights[:, None]).sum((1, 2)) / 3
    other = run.embed(matches)
    cosine = (vector * other).sum(1)
    cosine /= np.linalg.norm(vector, axis=1) * np.linalg.norm(other, axis=1)
    np.testing.assert_allclose(found.cosine, cosine, atol=1e-5)
    np.testing.assert_allclose(found.match_map.sum((1, 2)), cosine, atol=1e-5)
    outside = found.query_map.copy()
    outside[:, :2, 1:3] = 0
    np.testing.assert_allclose(outside, 0, atol=1e-6)
    whole = similarity_map(run, queries, matches, box=(0, 0, 1, 1))
    plain = similarity_map(run, queries, matches)
    np.testing.assert_allclose(whole.query_map, plain.query_map, atol=1e-6)


def test_one_query_is_compared_with_every_match(run, pictures):
    images = pictures(3, (20, 20, 3))
    found = similarity_map(run, images[0], images)
    assert found.cosine[0] == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(found.cosine, cosines(run, images[[0, 0, 0]], images), atol=1e-5)
    assert similarity_map(run, images[0], images[:0]).pairs.shape == (0, 5, 5, 5, 5)


def test_enlarging_interpolates_and_keeps_the_sum():
    maps = np.array([[[1.0, 2.0], [3.0, 6.0]]])
    large = enlarged(maps, (8, 6))
    assert large.sum() == pytest.approx(12)
    corner, opposite = large[0, 0, 0], large[0, -1, -1]
    np.testing.assert_allclose([corner, opposite], np.array([1.0, 6.0]) * 4 / 48)
    np.testing.assert_allclose(enlarged(np.ones((1, 3, 5)), (7, 11)).sum(), 15)


def test_bad_input_is_one_line(run, random_run, pictures):
    images = pictures(3, (20, 20, 3))
    with pytest.raises(InputError, match=r"shape \(20, 12, 3\).* takes \(20, 20, 3\)"):
        similarity_map(run, images[:, :, :12], images)
    with pytest.raises(InputError, match="2 queries and 3 matches"):
        similarity_map(run, images[:2], images)
    for box, told in [
        ((5, 5, 5, 9), "box is 5 5 5 9; 0 <= x0 < x1 <= 20"),
        ((0, 0, 21, 9), "21 9"),
    ]:
        with pytest.raises(InputError, match=told):
            similarity_map(run, images, images, box=box)
    with pytest.raises(InputError, match=r"count is 0.*side 1"):
        similarity_map(run, images, images).strongest(0)
    name, shape, options = CNN
    dense, small = random_run(name, shape, **options), pictures(1, shape)
    with pytest.raises(InputError, match=r"not the average of a feature map.*such as resnet18"):
        similarity_map(dense, small, small, box=(0, 0, 4, 4))
    run = random_run("dense_autoencoder", (8, 8, 1), image_shape=(8, 8, 1))
    with pytest.raises(InputError, match="no feature map that its embedding depends on"):
        similarity_map(run, pictures(1, (8, 8, 1)), pictures(1, (8, 8, 1)))


@pytest.mark.slow
def test_the_weights_of_lite0_are_explained_exactly(tmp_path):
    from sklearn.datasets import load_sample_images

    run = import_weights("efficientnet_lite0", workdir=tmp_path / "lite0", image_size=64)
    photographs = np.stack([image[100:292:3, 200:392:3] for image in load_sample_images().images])
    found = similarity_map(run, photographs[:1], photographs)
    assert found.method == "average"
    wanted = cosines(run, photographs[[0, 0]], photographs)
    np.testing.assert_allclose(found.cosine, wanted, atol=1e-5)
    np.testing.assert_allclose(found.pairs.sum((1, 2, 3, 4)), wanted, atol=1e-5)
