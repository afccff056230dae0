import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vision_jax.losses.reconstruction import standard_normal_divergence
from vision_jax.models.autoencoder import DenseAutoencoder, VariationalAutoencoder
from vision_jax.tasks.reconstruction import Reconstruction, VariationalReconstruction
from vision_jax.training.steps import DataParallel

SHAPE = (4, 4, 1)
RNG = np.random.default_rng(0)
DENSE = Reconstruction(DenseAutoencoder(SHAPE, hidden=(9,), code=3), optax.sgd(0.5))
VARIATIONAL = VariationalReconstruction(
    VariationalAutoencoder(SHAPE, hidden=(9,), code=3), optax.sgd(0.5)
)


def batch(count, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "image": jnp.asarray(rng.random((count, *SHAPE), np.float32)),
        "label": jnp.zeros(count, jnp.int32),
        "mask": jnp.ones(count, bool),
    }


def spread(rows, devices):
    return jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]), rows)


def init(task, rows):
    return jax.jit(task.init)(jax.random.key(0), rows)


def run(step, state, rows, devices=1):
    # Without an axis in the results, vmap refuses what was not reduced over the devices.
    mapped = jax.vmap(step, (None, 0), out_axes=None, axis_name="batch")
    return jax.jit(mapped)(state, spread(rows, devices))


def mean(metrics, name):
    total, count = metrics[name]
    return float(total / count)


@pytest.mark.parametrize("loss", ["binary_cross_entropy", "mean_squared_error"])
def test_losses_equal_numpy(loss):
    task = dataclasses.replace(DENSE, loss=loss)
    rows = batch(6)
    state = init(task, rows)
    made = np.asarray(task.reconstruct(state, rows["image"]), np.float64)
    x = np.asarray(rows["image"], np.float64)
    squared = ((made - x) ** 2).mean()
    entropy = -(x * np.log(made) + (1 - x) * np.log(1 - made)).mean()
    metrics = run(task.eval_step, state, rows)
    expected = entropy if loss == "binary_cross_entropy" else squared
    assert mean(metrics, "loss") == pytest.approx(expected, rel=1e-5)
    assert mean(metrics, "mean_squared_error") == pytest.approx(squared, rel=1e-5)


def test_divergence_equals_a_sampled_estimate_and_is_0_at_the_prior():
    mean_, log_variance = jnp.array([[0.5, -1.0]]), jnp.array([[-0.7, 0.3]])
    deviation = np.exp(np.asarray(log_variance[0], np.float64) / 2)
    noise = np.random.default_rng(0).standard_normal((400_000, 2))
    sample = np.asarray(mean_[0]) + deviation * noise
    estimate = (-(noise**2) / 2 - np.log(deviation) + sample**2 / 2).sum(1).mean()
    found = standard_normal_divergence(mean_, log_variance)
    np.testing.assert_allclose(found, [estimate], rtol=1e-2)
    prior = standard_normal_divergence(jnp.zeros((1, 2)), jnp.zeros((1, 2)))
    np.testing.assert_array_equal(prior, [0.0])


def test_beta_weighs_the_divergence_per_pixel():
    rows = batch(6)
    state = init(VARIATIONAL, rows)
    losses = {
        beta: run(dataclasses.replace(VARIATIONAL, beta=beta).eval_step, state, rows)
        for beta in (0.0, 4.0)
    }
    difference = mean(losses[4.0], "loss") - mean(losses[0.0], "loss")
    expected = 4 * mean(losses[0.0], "divergence") / 16
    assert difference == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
def test_a_step_is_one_of_gradient_descent_on_any_number_of_devices():
    rows = batch(8)
    state = init(DENSE, rows)

    def loss(params):
        _, endpoints = DENSE.model.apply({"params": params}, rows["image"])
        return optax.sigmoid_binary_cross_entropy(endpoints["logits"], rows["image"]).mean()

    grads = jax.grad(loss)(state.params)
    expected = jax.tree.map(lambda w, g: w - 0.5 * g, state.params, grads)
    for devices in (1, 4):
        after, _ = run(DENSE.train_step, state, rows, devices)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), after.params, expected
        )
        assert int(after.step) == 1


@pytest.mark.parametrize("task", [DENSE, VARIATIONAL])
def test_masked_examples_do_not_count(task):
    rows = batch(8)
    state = init(task, rows)
    masked = {**rows, "mask": jnp.arange(8) < 5}
    part = {name: values[:5] for name, values in rows.items()}
    found, expected = run(task.eval_step, state, masked), run(task.eval_step, state, part)
    for name in expected:
        assert mean(found, name) == pytest.approx(mean(expected, name), rel=1e-6)


def test_variational_steps_repeat_and_differ_from_one_another():
    rows = batch(8)
    state = init(VARIATIONAL, rows)
    first, again = (run(VARIATIONAL.train_step, state, rows) for _ in range(2))
    assert mean(first[1], "loss") == mean(again[1], "loss")
    later = run(VARIATIONAL.train_step, state.replace(step=state.step + 1), rows)
    assert mean(first[1], "loss") != mean(later[1], "loss")
    assert mean(first[1], "divergence") == mean(later[1], "divergence")


@pytest.mark.slow
def test_pmapped_training_lowers_the_loss_and_decode_gives_images():
    task = dataclasses.replace(VARIATIONAL, optimizer=optax.adam(1e-2))
    parallel = DataParallel.over()
    rows = batch(8)
    state = parallel.replicate(jax.jit(task.init)(jax.random.key(0), rows))
    step = parallel.train_step(task)
    item, losses = {name: np.asarray(values) for name, values in rows.items()}, []
    item["image"] = (item["image"] * 255).astype(np.uint8)
    for _ in range(30):
        totals = parallel.zeros(task.train_step, state, rows)
        state, totals, _ = step(state, totals, {}, parallel.shard(item))
        losses.append(mean(totals, "loss"))
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    images = task.decode(state, jnp.asarray(RNG.standard_normal((5, 3), np.float32)))
    assert images.shape == (5, *SHAPE)
    assert 0 <= float(images.min()) <= float(images.max()) <= 1
    assert task.embed(state, rows["image"]).shape == (8, 3)
