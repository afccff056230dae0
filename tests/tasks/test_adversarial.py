import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from vision_jax.data.loader import to_float
from vision_jax.losses.adversarial import discriminator_losses, generator_losses
from vision_jax.models.gan import Discriminator, Generator
from vision_jax.tasks.adversarial import Adversarial, to_signed
from vision_jax.training.steps import DataParallel

RNG = np.random.default_rng(1)

SHAPE = (2, 3, 1)
RATE = 0.1


class Dense(nn.Module):
    """A generator that compiles fast."""

    latent_size: int = 3

    @nn.compact
    def __call__(self, latents, train=False):
        x = nn.Dense(6, use_bias=False)(latents)
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9, axis_name="batch")(x)
        return nn.tanh(nn.Dense(6)(nn.leaky_relu(x))).reshape(-1, *SHAPE), {}


class Judge(nn.Module):
    """A discriminator that compiles fast."""

    @nn.compact
    def __call__(self, images, train=False):
        x = nn.tanh(nn.Dense(8)(images.reshape(len(images), -1)))
        return nn.Dense(1)(x)[:, 0], {"embedding": x}


TASK = Adversarial(Dense(), Judge(), optax.sgd(RATE), ema=0.0)
LOSSES = ("non_saturating", "minimax", "hinge")


def batch(count):
    rng = np.random.default_rng(0)
    return {
        "image": jnp.asarray(rng.random((count, *SHAPE), np.float32)),
        "label": jnp.zeros(count, jnp.int32),
        "mask": jnp.ones(count, bool),
    }


@pytest.fixture(scope="module")
def rows():
    return batch(8)


@pytest.fixture(scope="module")
def state(rows):
    return init(TASK, rows)


def init(task, rows):
    return jax.jit(task.init)(jax.random.key(0), rows)


def run(step, state, rows, devices=1):
    spread = jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]), rows)
    # Without an axis in the results, vmap refuses what was not reduced over the devices.
    mapped = jax.vmap(step, (None, 0), out_axes=None, axis_name="batch")
    return jax.jit(mapped)(state, spread)


def latents_of(state, count=8):
    """The latents of a step, from outside of it."""
    axis = jax.vmap(
        lambda _: TASK._latents(state, jax.lax.axis_index("batch"), count), axis_name="batch"
    )
    return axis(jnp.zeros(1))[0]


def mean(metrics, name):
    total, count = metrics[name]
    return float(total / count)


def assert_close(found, expected, atol=1e-6):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), found, expected)


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_equal_their_definitions(loss):
    logits = np.linspace(-4, 4, 9, dtype=np.float32)
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    expected = {
        "non_saturating": (-np.log(p), -np.log(1 - p), -np.log(p)),
        "minimax": (-np.log(p), -np.log(1 - p), np.log(1 - p)),
        "hinge": (np.maximum(0, 1 - logits), np.maximum(0, 1 + logits), -logits),
    }[loss]
    x = jnp.asarray(logits)
    found = (
        discriminator_losses(loss, x, real=True),
        discriminator_losses(loss, x, real=False),
        generator_losses(loss, x),
    )
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("loss", "r1"), [(name, 0.0) for name in LOSSES] + [("hinge", 2.0)])
def test_a_step_moves_each_network_along_the_gradient_of_its_own_loss(rows, state, loss, r1):
    task = dataclasses.replace(TASK, loss=loss, r1=r1)
    latents, real = latents_of(state), to_signed(rows["image"])

    def generate(params):
        variables = {"params": params, "batch_stats": state.stats["generator"]}
        apply = jax.vmap(
            lambda z: task.generator.apply(variables, z, train=True, mutable=["batch_stats"])[0],
            axis_name="batch",
        )
        return apply(latents[None])[0][0]

    def judge(params, images):
        return task.discriminator.apply({"params": params}, images)[0]

    def generator_loss(params):
        logits = judge(state.params["discriminator"], generate(params))
        return generator_losses(loss, logits).mean()

    def discriminator_loss(params):
        fake = jax.lax.stop_gradient(generate(state.params["generator"]))
        total = discriminator_losses(loss, judge(params, real), real=True).mean()
        total += discriminator_losses(loss, judge(params, fake), real=False).mean()
        slopes = jax.grad(lambda x: judge(params, x).sum())(real)
        return total + r1 / 2 * jnp.square(slopes).sum((1, 2, 3)).mean()

    def moved(name, objective):
        grads = jax.jit(jax.grad(objective))(state.params[name])
        return jax.tree.map(lambda w, g: w - RATE * g, state.params[name], grads)

    after, metrics = run(task.train_step, state, rows)
    assert_close(after.params["generator"], moved("generator", generator_loss), 1e-5)
    assert_close(after.params["discriminator"], moved("discriminator", discriminator_loss), 1e-5)
    expected = generator_loss(state.params["generator"])
    assert mean(metrics, "generator_loss") == pytest.approx(float(expected), rel=1e-5)
    assert ("r1" in metrics) == (r1 > 0)


@pytest.mark.slow
def test_the_number_of_devices_makes_no_difference(rows, state):
    task = dataclasses.replace(TASK, r1=1.0, augmentations=("color", "translation", "cutout"))
    (one, metrics), (four, others) = (run(task.train_step, state, rows, n) for n in (1, 4))
    assert_close(four.params, one.params, 1e-5)
    assert_close(four.stats, one.stats, 1e-5)
    assert_close(others, metrics, 1e-4)


@pytest.mark.slow
def test_a_pmapped_dcgan_equals_the_mapped_one():
    generator = Generator((4, 4, 1), (6, 4), latent_size=3)
    judge = Discriminator((4, 5), dropout=0.0, spectral_norm=True)
    task = dataclasses.replace(TASK, generator=generator, discriminator=judge, ema=0.5)
    rows = {**batch(8), "image": jnp.asarray(RNG.random((8, 4, 4, 1), np.float32))}
    state, parallel = init(task, rows), DataParallel.over()
    totals = parallel.zeros(task.train_step, state, rows)
    step = parallel.train_step(task)
    item = {name: np.asarray(values) for name, values in rows.items()}
    item["image"] = (item["image"] * 255).astype(np.uint8)
    expected, _ = run(
        task.train_step, state, {**rows, "image": to_float(jnp.asarray(item["image"]))}, 2
    )
    found, _, metrics = step(parallel.replicate(state), totals, {}, parallel.shard(item))
    assert_close(found.params, expected.params, 1e-5)
    assert_close(found.average, expected.average, 1e-5)
    assert_close(found.stats, expected.stats, 1e-5)
    # The power iterations, which begin at random, have moved.
    first, now = (s.stats["discriminator"]["SpectralNorm_0"] for s in (init(task, rows), found))
    assert not np.array_equal(first["conv1/kernel/u"], now["conv1/kernel/u"])
    assert mean(metrics, "loss") > 0


def test_latents_and_augmentations_change_with_the_step_alone(rows, state):
    again = latents_of(state)
    np.testing.assert_array_equal(latents_of(state), again)
    later = latents_of(state.replace(step=state.step + 1))
    assert not np.array_equal(again, later)
    assert len(np.unique(np.asarray(again), axis=0)) == 8


@pytest.mark.slow
def test_the_average_follows_the_generator(rows):
    task = dataclasses.replace(TASK, ema=0.5)
    first = init(task, rows)
    state, average = first, jax.tree.map(np.asarray, first.average)
    for count in range(1, 12):
        state, _ = run(task.train_step, state, rows)
        decay = min(0.5, (1 + count) / (10 + count))
        new = {"params": state.params["generator"], "batch_stats": state.stats["generator"]}
        average = jax.tree.map(lambda a, b, d=decay: d * a + (1 - d) * np.asarray(b), average, new)
    assert_close(state.average, average)
    latents = jnp.ones((2, 3))
    images, _ = task.generator.apply(average, latents)
    np.testing.assert_allclose(task.decode(state, latents), (images + 1) / 2, atol=1e-5)
    without = dataclasses.replace(task, ema=0.0).decode(state, latents)
    assert not np.allclose(task.decode(state, latents), without, atol=1e-5)


def test_evaluation_ignores_masked_examples_and_counts_right_answers(rows, state):
    part = {name: values[:5] for name, values in rows.items()}
    masked = {**rows, "mask": jnp.arange(8) < 5}
    found, expected = run(TASK.eval_step, state, masked), run(TASK.eval_step, state, part)
    for name in expected:
        assert mean(found, name) == pytest.approx(mean(expected, name), rel=1e-5)
    judge = TASK.discriminator.bind({"params": state.params["discriminator"]})
    logits, _ = judge(to_signed(rows["image"][:5]))
    assert mean(expected, "real_accuracy") == pytest.approx(float((logits > 0).mean()))


def test_the_embedding_is_the_discriminators(rows, state):
    _, endpoints = TASK.discriminator.apply(
        {"params": state.params["discriminator"]}, rows["image"] * 2 - 1
    )
    np.testing.assert_allclose(TASK.embed(state, rows["image"]), endpoints["embedding"], atol=1e-6)


def test_images_of_another_shape_are_named():
    rows = {**batch(2), "image": jnp.zeros((2, 8, 8, 1))}
    with pytest.raises(
        ValueError, match=r"images are \(8, 8, 1\); the generator makes \(2, 3, 1\)"
    ):
        TASK.init(jax.random.key(0), rows)


@pytest.mark.slow
def test_it_learns_a_distribution():
    """Images of one grey level among two: the generator finds both."""

    class Line(nn.Module):
        latent_size: int = 2

        @nn.compact
        def __call__(self, latents, train=False):
            x = nn.relu(nn.Dense(16)(latents))
            return nn.tanh(nn.Dense(1)(x))[:, None, None], {}

    task = Adversarial(Line(), Judge(), optax.adam(1e-2, b1=0.5), r1=0.1, ema=0.9)
    levels = jnp.tile(jnp.array([0.2, 0.8]), 64).reshape(-1, 1, 1, 1)
    rows = {"image": levels, "mask": jnp.ones(128, bool)}
    state = init(task, rows)
    mapped = jax.vmap(task.train_step, (None, 0), out_axes=None, axis_name="batch")
    spread = jax.tree.map(lambda x: x[None], rows)

    @jax.jit
    def many(state):
        def body(_, state):
            return mapped(state, spread)[0]

        return jax.lax.fori_loop(0, 1500, body, state)

    made = np.asarray(task.decode(many(state), jax.random.normal(jax.random.key(1), (500, 2))))
    assert abs(made.mean() - 0.5) < 0.12
    assert 0.2 < (made > 0.5).mean() < 0.8
    assert np.abs(np.abs(made - 0.5) - 0.3).mean() < 0.12
