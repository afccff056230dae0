import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vision_jax.models import CNN
from vision_jax.tasks.classification import Classification
from vision_jax.training.metrics import compute

CLASSES = 7
PLAIN = CNN(num_classes=CLASSES, stages=(4,), hidden=8, padding="SAME")


@pytest.fixture(scope="module")
def task():
    return Classification(dataclasses.replace(PLAIN, mean=(0.5,), std=(0.25,)), optax.sgd(0.1))


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    return {
        "image": jnp.asarray(rng.random((16, 6, 6, 1), np.float32)),
        "label": jnp.asarray(rng.integers(0, CLASSES, 16), jnp.int32),
        "mask": jnp.arange(16) < 11,
    }


@pytest.fixture(scope="module")
def state(task, batch):
    return jax.jit(task.init)(jax.random.key(0), batch)


def on_one_device(step, state, batch):
    """A step with its axis bound to one device."""
    rows = jax.tree.map(lambda leaf: leaf[None], batch)
    return jax.jit(jax.vmap(step, (None, 0), out_axes=None, axis_name="batch"))(state, rows)


def descended(loss, params):
    """A loss, and the parameters after a step of gradient descent at a rate of 0.1."""
    value, grads = jax.jit(jax.value_and_grad(loss))(params)
    return value, jax.tree.map(lambda p, g: np.asarray(p) - 0.1 * np.asarray(g), params, grads)


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def test_figures_are_those_of_numpy_on_the_unmasked_examples(task, state, batch):
    figures = compute(on_one_device(task.eval_step, state, batch))
    logits = np.asarray(task.logits(state, batch["image"]))[:11].astype(np.float64)
    labels = np.asarray(batch["label"])[:11]
    order = np.argsort(-logits, axis=-1, kind="stable")
    np.testing.assert_allclose(
        figures["loss"], -log_softmax(logits)[np.arange(11), labels].mean(), rtol=1e-5
    )
    assert figures["accuracy"] == pytest.approx((order[:, 0] == labels).mean())
    assert figures["top5_accuracy"] == pytest.approx(
        (order[:, :5] == labels[:, None]).any(1).mean()
    )
    confusion = np.zeros((CLASSES, CLASSES), int)
    np.add.at(confusion, (labels, order[:, 0]), 1)
    np.testing.assert_array_equal(figures["confusion"], confusion)


def test_ties_count_for_the_lower_class(task, state, batch):
    blank = state.replace(params=jax.tree.map(jnp.zeros_like, state.params))
    figures = compute(on_one_device(task.eval_step, blank, batch))
    labels = np.asarray(batch["label"])[:11]
    assert figures["accuracy"] == pytest.approx((labels == 0).mean())
    assert figures["top5_accuracy"] == pytest.approx((labels < 5).mean())


def test_nan_is_never_right(task, state, batch):
    broken = state.replace(params=jax.tree.map(lambda p: jnp.full_like(p, jnp.nan), state.params))
    figures = compute(on_one_device(task.eval_step, broken, batch))
    assert (figures["accuracy"], figures["top5_accuracy"]) == (0, 0)


def test_a_step_is_the_gradient_of_the_mean_over_the_unmasked(task, state, batch):
    def loss(params):
        images = (batch["image"][:11] - 0.5) / 0.25
        logits, _ = PLAIN.apply({"params": params}, images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"][:11]).mean()

    value, expected = descended(loss, state.params)
    after, metrics = on_one_device(task.train_step, state, batch)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), after.params, expected)
    assert int(after.step) == 1
    assert compute(metrics)["loss"] == pytest.approx(float(value), rel=1e-5)


def test_masked_examples_change_nothing(task, state, batch):
    other = batch | {
        "image": batch["image"].at[11:].set(0.3),
        "label": batch["label"].at[11:].set(0),
    }
    a, b = (on_one_device(task.train_step, state, rows) for rows in (batch, other))
    jax.tree.map(np.testing.assert_array_equal, a[0].params, b[0].params)
    jax.tree.map(np.testing.assert_array_equal, a[1], b[1])


def test_label_smoothing_is_the_cross_entropy_with_mixed_targets(task, state, batch):
    smooth = Classification(task.model, task.optimizer, 0.1)
    logits = np.asarray(task.logits(state, batch["image"]))[:11]
    targets = np.eye(CLASSES)[np.asarray(batch["label"])[:11]] * 0.9 + 0.1 / CLASSES
    expected = -(targets * log_softmax(logits)).sum(-1).mean()
    figures = compute(on_one_device(smooth.eval_step, state, batch))
    assert figures["loss"] == pytest.approx(expected, rel=1e-5)


def test_weights_and_gamma_hold_for_mixed_images_too(task, state, batch):
    weights = np.linspace(0.2, 3, CLASSES)
    uneven = dataclasses.replace(task, class_weights=tuple(weights.tolist()), gamma=2.0)
    logits = np.asarray(task.logits(state, batch["image"]))[:11].astype(np.float64)
    rng = np.random.default_rng(1)
    share = rng.random(16).astype(np.float32)
    other = jnp.asarray(rng.integers(0, CLASSES, 16), jnp.int32)
    mixed = batch | {"label_other": other, "label_weight": jnp.asarray(share)}

    def loss(labels):
        log_p = log_softmax(logits)[np.arange(11), np.asarray(labels)[:11]]
        return -weights[np.asarray(labels)[:11]] * (1 - np.exp(log_p)) ** 2 * log_p

    figures = compute(on_one_device(uneven.eval_step, state, batch))
    assert figures["loss"] == pytest.approx(loss(batch["label"]).mean(), rel=1e-4)
    figures = compute(on_one_device(uneven.train_step, state, mixed)[1])
    expected = share[:11] * loss(batch["label"]) + (1 - share[:11]) * loss(other)
    assert figures["loss"] == pytest.approx(expected.mean(), rel=1e-4)


@pytest.mark.parametrize("parts", [1, 4])
def test_mixed_images_have_the_weighted_loss_of_both_labels(task, state, batch, parts):
    rng = np.random.default_rng(1)
    weight = rng.random(16).astype(np.float32)
    mixed = batch | {
        "label_other": jnp.asarray(rng.integers(0, CLASSES, 16), jnp.int32),
        "label_weight": jnp.asarray(weight),
    }

    def loss(params):
        logits, _ = PLAIN.apply({"params": params}, (batch["image"][:11] - 0.5) / 0.25)
        targets = sum(
            share[:11, None] * jax.nn.one_hot(mixed[name][:11], CLASSES)
            for name, share in (("label", weight), ("label_other", 1 - weight))
        )
        return optax.softmax_cross_entropy(logits, targets).mean()

    value, expected = descended(loss, state.params)
    split = dataclasses.replace(task, accumulate=parts)
    after, metrics = on_one_device(split.train_step, state, mixed)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), after.params, expected)
    assert compute(metrics)["loss"] == pytest.approx(float(value), rel=1e-5)
    dominant = np.where(weight >= 0.5, mixed["label"], mixed["label_other"])[:11]
    answers = np.argmax(task.logits(state, batch["image"]), -1)[:11]
    assert compute(metrics)["accuracy"] == pytest.approx((answers == dominant).mean())


def test_the_embedding_is_the_layer_before_the_logits(task, state, batch):
    features = np.asarray(task.embed(state, batch["image"]))
    layer = state.params["logits"]
    np.testing.assert_allclose(
        features @ layer["kernel"] + layer["bias"],
        task.logits(state, batch["image"]),
        atol=1e-5,
    )
