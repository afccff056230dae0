import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vision_jax.tasks.optimizer import build_optimizer, build_schedule


def test_the_rate_rises_then_falls_along_a_cosine():
    rate = build_schedule(0.1, "cosine", 10, 110)
    np.testing.assert_allclose(rate(5), 0.05, rtol=1e-6)
    np.testing.assert_allclose(rate(10), 0.1, rtol=1e-6)
    np.testing.assert_allclose(rate(60), 0.05, rtol=1e-5)
    np.testing.assert_allclose(rate(110), 0.0, atol=1e-8)
    assert build_schedule(0.1, "constant", 0, 10)(7) == pytest.approx(0.1)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_decay_shrinks_kernels_and_leaves_biases(name):
    rule = build_optimizer(name, learning_rate=0.1, total_steps=1, weight_decay=0.5)
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    zeros = {"kernel": jnp.zeros((2, 2)), "bias": jnp.zeros(2)}
    with jax.numpy_dtype_promotion("standard"):
        updates, _ = rule.update(zeros, rule.init(params), params)
    after = optax.apply_updates(params, updates)
    assert (np.asarray(after["kernel"]) < 1).all()
    np.testing.assert_array_equal(after["bias"], params["bias"])
