import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vision_jax.tasks.optimizer import build_optimizer, build_schedule

RATE = 0.1


def test_the_rate_rises_then_falls_along_a_cosine():
    rate = build_schedule(0.1, "cosine", warmup_steps=10, total_steps=110)
    for step in range(111):
        rise, fall = step / 10, (1 + math.cos(math.pi * (step - 10) / 100)) / 2
        expected = 0.1 * (rise if step < 10 else fall)
        np.testing.assert_allclose(rate(step), expected, rtol=1e-5, atol=1e-8)
    assert build_schedule(0.1, "constant", total_steps=10)(7) == pytest.approx(0.1)


@pytest.mark.parametrize("warmup", [0, 4])
def test_the_rate_drops_at_each_step_named(warmup):
    rate = build_schedule(
        0.5, "steps", warmup_steps=warmup, total_steps=30, drop_steps=[6, 20], drop_factor=0.2
    )
    for step in range(30):
        rise = min(step / warmup, 1) if warmup else 1
        expected = 0.5 * rise * 0.2 ** ((step >= 6) + (step >= 20))
        np.testing.assert_allclose(rate(step), expected, rtol=1e-5)


def test_drops_at_the_same_step_multiply():
    rate = build_schedule(1.0, "steps", total_steps=4, drop_steps=[1, 1, 3], drop_factor=0.5)
    np.testing.assert_allclose([rate(step) for step in range(4)], [1, 0.25, 0.25, 0.125])


def moved(name, grads, params, **options):
    """The parameters after each of some gradients, and the optimiser's last state."""
    rule = build_optimizer(name, schedule=lambda step: RATE / (1 + step), **options)
    path = []
    with jax.numpy_dtype_promotion("standard"):
        state = rule.init(params)
        for grad in grads:
            updates, state = jax.jit(rule.update)(grad, state, params)
            params = optax.apply_updates(params, updates)
            path.append(params)
    return path, state


def gradients(shape, count=3):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.standard_normal(shape), jnp.float32) for _ in range(count)]


def adam(w, grads, decay):
    m = v = 0.0
    for t, g in enumerate(grads, start=1):
        m, v = 0.8 * m + 0.2 * g, 0.999 * v + 0.001 * g**2
        step = m / (1 - 0.8**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        w = w - RATE / t * (step + decay * w)
    return w


def sgd(w, grads, decay):
    m = 0.0
    for t, g in enumerate(grads, start=1):
        g = g + decay * w
        m = 0.8 * m + g
        w = w - RATE / t * (g + 0.8 * m)
    return w


def lion(w, grads, decay):
    m = 0.0
    for t, g in enumerate(grads, start=1):
        w = w - RATE / t * (np.sign(0.8 * m + 0.2 * g) + decay * w)
        m = 0.99 * m + 0.01 * g
    return w


@pytest.mark.parametrize(
    ("name", "rule", "decay"),
    [("adam", adam, 0.0), ("adamw", adam, 0.3), ("sgd", sgd, 0.3), ("lion", lion, 0.3)],
)
def test_rules_follow_their_formulas_and_decay_kernels_alone(name, rule, decay):
    grads = [{"kernel": g, "bias": g[0]} for g in gradients((2, 3))]
    params = {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}
    path, state = moved(name, grads, params, weight_decay=decay, momentum=0.8)
    for leaf, own in (("kernel", decay), ("bias", 0.0)):
        history = [np.asarray(g[leaf], np.float64) for g in grads]
        np.testing.assert_allclose(path[-1][leaf], rule(1.0, history, own), rtol=2e-5)
    rate = optax.tree_utils.tree_get(
        state, "learning_rate", filtering=lambda _, value: isinstance(value, jax.Array)
    )
    np.testing.assert_allclose(rate, RATE / 3, rtol=1e-6)


def test_muon_makes_kernels_updates_orthogonal_and_leaves_biases_to_adam():
    shapes = {"conv": (3, 3, 2, 4), "dense": (12, 4), "bias": (4,)}
    params = {name: jnp.zeros(shape) for name, shape in shapes.items()}
    grads = {name: gradients(shape, 1)[0] for name, shape in shapes.items()}
    (after,), _ = moved("muon", [grads], params, momentum=0.8)
    # Adam's first step is the sign; Nesterov's momentum adds 0.8 · 0.2 / (1 - 0.8²) of it.
    step = np.sign(grads["bias"]) * (1 + 0.16 / 0.36)
    np.testing.assert_allclose(after["bias"], -RATE * step, rtol=1e-5)
    for name in ("conv", "dense"):
        update = -np.asarray(after[name]).reshape(-1, 4) / RATE
        # Liu et al., 2025, equation 4: 0.2 times the root of the longer side.
        values = np.linalg.svd(update, compute_uv=False) / (0.2 * math.sqrt(len(update)))
        # Newton and Schulz's five iterations bring them near 1, no nearer.
        assert values.min() > 0.6
        assert values.max() < 1.3
        u, _, v = np.linalg.svd(np.asarray(grads[name]).reshape(-1, 4), full_matrices=False)
        assert np.trace(u.T @ update @ v.T) > 0.9 * np.linalg.svd(update, compute_uv=False).sum()


def test_clipping_shortens_the_whole_gradient_to_the_norm():
    params = {"a": jnp.zeros(2), "b": jnp.zeros(1)}
    for size in (2.0, 0.1):
        grads = {"a": jnp.array([1.0, 2.0]) * size, "b": jnp.array([2.0]) * size}
        (after,), _ = moved("sgd", [grads], params, momentum=0.0, clip=1.5)
        kept = min(1.5 / (3 * size), 1.0)
        np.testing.assert_allclose(after["a"], -RATE * kept * grads["a"], rtol=1e-5)
        np.testing.assert_allclose(after["b"], -RATE * kept * grads["b"], rtol=1e-5)
