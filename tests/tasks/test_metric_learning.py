"""Metric learning: the loss of the whole batch, on any devices, with a memory that is one."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vision_jax.config import ModelConfig, TrainMetric
from vision_jax.data.info import DataInfo
from vision_jax.errors import InputError
from vision_jax.losses.contrastive import supervised_contrastive
from vision_jax.losses.metric import margin_softmax, proxy_anchor
from vision_jax.parallel.devices import AXIS
from vision_jax.search.evaluation import evaluate_retrieval
from vision_jax.tasks.metric_learning import LOSSES, MetricLearning

INFO = DataInfo((6, 6, 1), ("a", "b", "c"), 24, 3)
MODEL = ModelConfig("cnn", {"stages": [4], "hidden": 6, "padding": "SAME"})


def build(**options):
    config = TrainMetric(model=MODEL, **options)
    return MetricLearning.from_config(config, INFO, optax.sgd(0.1))


@pytest.fixture(scope="module")
def batch():
    images = np.random.default_rng(0).random((8, 6, 6, 1), np.float32)
    labels = jnp.array([0, 0, 1, 1, 2, 2, 0, 1], jnp.int32)
    return {"image": jnp.asarray(images), "label": labels, "mask": jnp.ones(8, bool)}


def after(task, state, batch, devices):
    spread = jax.tree.map(lambda x: x.reshape(devices, len(x) // devices, *x.shape[1:]), batch)
    step = jax.vmap(task.train_step, (None, 0), out_axes=None, axis_name=AXIS)
    return jax.jit(step)(state, spread)


def compared(task, state, batch):
    output, endpoints = task.model.apply(state.variables, batch["image"], train=False)
    return output, batch["label"], endpoints.get("centres")


EXPECTED = {
    "proxy_anchor": proxy_anchor,
    "arcface": lambda *a: margin_softmax(*a, angular_margin=0.5).mean(),
    "contrastive": lambda vectors, labels, _: supervised_contrastive(vectors, labels).mean(),
}


@pytest.mark.parametrize("loss", EXPECTED)
def test_a_step_is_one_of_gradient_descent_on_the_whole_batchs_loss(loss, batch):
    task = build(loss=loss, width=5)
    state = jax.jit(task.init)(jax.random.key(0), batch)

    def whole(params):
        moved = state.replace(params=params)
        return EXPECTED[loss](*compared(task, moved, batch))

    value, grads = jax.jit(jax.value_and_grad(whole))(state.params)
    moved, figures = after(task, state, batch, 2)
    np.testing.assert_allclose(figures["loss"][0] / figures["loss"][1], value, rtol=1e-5)
    wanted = jax.tree.map(lambda p, g: np.asarray(p) - 0.1 * np.asarray(g), state.params, grads)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=2e-6), moved.params, wanted)


@pytest.mark.slow
@pytest.mark.parametrize("loss", [*sorted(set(LOSSES) - set(EXPECTED)), "contrastive"])
def test_the_number_of_devices_makes_no_difference(loss, batch):
    task = build(loss=loss, memory=6 if loss in ("contrastive", "triplet") else 0)
    state = jax.jit(task.init)(jax.random.key(0), batch)
    one, figures = after(task, state, batch, 1)
    four, others = after(task, state, batch, 4)
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-5, atol=2e-6), one.variables, four.variables
    )
    np.testing.assert_allclose(figures["loss"], others["loss"], rtol=1e-5)
    assert figures["gradient_norm"][0] > 1e-4


def test_the_memory_holds_the_last_batches_and_the_loss_compares_with_it(batch):
    task = build(loss="contrastive", memory=12)
    state = jax.jit(task.init)(jax.random.key(0), batch)
    assert (state.stats["memory_labels"] == -1).all()
    first, figures = after(task, state, batch, 2)
    second, more = after(task, first, batch, 2)
    embed = jax.jit(lambda state: compared(task, state, batch)[0])
    vectors = [np.asarray(embed(moved)) for moved in (state, first)]
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in vectors]
    held = second.stats
    np.testing.assert_allclose(
        held["memory_vectors"], np.concatenate([unit[1], unit[0][:4]]), atol=1e-6
    )
    np.testing.assert_array_equal(held["memory_labels"], [*batch["label"], *batch["label"][:4]])
    alone = supervised_contrastive(jnp.asarray(vectors[0]), batch["label"]).mean()
    np.testing.assert_allclose(figures["loss"][0] / figures["loss"][1], alone, rtol=1e-5)
    with_memory = supervised_contrastive(
        jnp.asarray(vectors[1]),
        batch["label"],
        jnp.concatenate([vectors[1], first.stats["memory_vectors"]]),
        jnp.concatenate([batch["label"], first.stats["memory_labels"].astype(jnp.int32)]),
        mask=jnp.concatenate([batch["mask"], first.stats["memory_labels"] >= 0]),
        first=0,
    )
    np.testing.assert_allclose(more["loss"][0] / more["loss"][1], with_memory.mean(), rtol=1e-5)


def test_embeddings_have_the_width_and_length_asked_for_and_are_judged(batch):
    task = build(width=5)
    state = jax.jit(task.init)(jax.random.key(0), batch)
    vectors = np.asarray(jax.jit(task.embed)(state, batch["image"]))
    assert vectors.shape == (8, 5)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    found = task.judge(vectors, np.asarray(batch["label"]))
    near = vectors @ vectors.T - 2 * np.eye(8)
    right = np.asarray(batch["label"])[near.argmax(1)] == np.asarray(batch["label"])
    assert found["recall@1"] == pytest.approx(right.mean())


def test_of_many_images_in_the_order_of_their_classes_all_classes_are_judged():
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(100), 50)
    vectors = np.eye(100, dtype=np.float32)[labels]
    vectors[4000:] = random.standard_normal((1000, 100))  # 20 classes that are not told apart
    found = build(width=5).judge(vectors, labels)
    whole = evaluate_retrieval(vectors, labels, ks=(1,))
    assert whole["hit_rate@1"] < 0.85
    assert found["recall@1"] == pytest.approx(whole["hit_rate@1"], abs=0.01)
    assert found["map@r"] == pytest.approx(whole["map@r"], abs=0.01)


@pytest.mark.parametrize("alive", [0, 1])
def test_dead_embeddings_have_collapsed_and_no_search(alive):
    task, vectors = build(width=5), np.zeros((8, 4), np.float32)
    vectors[:alive, 0] = 1
    found = task.judge(vectors, np.arange(8) // 2)
    assert np.isnan([found["recall@1"], found["map@r"]]).all()
    assert alive or "nearly the same embedding" in task.collapsed(found)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss_options": {"gamma": 1}}, "has 'gamma'; with this loss it takes margin, alpha"),
        ({"loss_options": {"alpha": "high"}}, "loss_options.alpha is 'high'"),
        ({"loss": "triplet", "loss_options": {"mining": "easy"}}, "loss_options.mining is 'easy'"),
        ({"loss_options": {"alpha": 0}}, "loss_options.alpha is 0; it must be above 0"),
        ({"loss": "contrastive", "loss_options": {"temperature": -0.1}}, "temperature is -0.1"),
        ({"loss": "arcface", "loss_options": {"scale": -64.0}}, "scale is -64.0; .* above 0"),
        ({"loss": "arcface", "loss_options": {"angular_margin": 4.0}}, r"it must be in \[0, π\)"),
        ({"loss": "triplet", "loss_options": {"margin": -0.1}}, "margin is -0.1; .* at least 0"),
        ({"loss": "multi_similarity", "loss_options": {"epsilon": -1}}, "epsilon is -1"),
        ({"memory": 8}, "memory is 8; it must be 0 with proxy_anchor"),
        ({"images_per_class": 1}, "images_per_class is 1; it must be 0 or at least 2"),
        ({"sub_centres": 2}, "sub_centres is 2; it must be 1 with proxy_anchor"),
        ({"width": 0}, "width is 0; it must be at least 1"),
    ],
)
def test_settings_that_cannot_be_are_named(options, message):
    with pytest.raises(InputError, match=message):
        build(**options)


def test_labels_and_a_classifier_are_needed():
    unlabelled = dataclasses.replace(INFO, label_names=None)
    with pytest.raises(InputError, match="has no labels; metric learning needs them"):
        MetricLearning.from_config(TrainMetric(model=MODEL), unlabelled, optax.sgd(0.1))
    config = TrainMetric(model=ModelConfig("dcgan_generator"))
    with pytest.raises(InputError, match="which is not a classifier"):
        MetricLearning.from_config(config, INFO, optax.sgd(0.1))
