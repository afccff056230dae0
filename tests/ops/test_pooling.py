import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from vision_jax import ops


def flax_max_pool(x, *, window, strides, padding):
    return nn.max_pool(x, window, strides, padding)


@pytest.mark.parametrize(
    ("window", "strides", "padding"),
    [
        ((2, 2), (2, 2), "VALID"),
        ((2, 2), (2, 2), "SAME"),
        ((3, 3), (2, 2), "SAME"),
        ((3, 2), (1, 3), ((1, 1), (1, 0))),
    ],
)
def test_max_pool_and_its_derivatives_equal_flax(assert_close, normal, window, strides, padding):
    # Rounded, so that windows hold ties.
    x = jnp.round(normal(0, 3, 7, 9, 2))

    def derivatives(function, x):
        def layer(x):
            return function(x, window=window, strides=strides, padding=padding)

        def loss(x):
            return jnp.sin(layer(x) + x.sum()).sum()

        return {
            "value": layer(x),
            "reverse mode": jax.grad(loss)(x),
            "second order": jax.grad(lambda x: (jax.grad(loss)(x) ** 2).sum())(x),
            "many": jax.vmap(layer, 1)(jnp.stack([x, -x], 1)),
            "many gradients": jax.vmap(jax.grad(loss))(jnp.stack([x, -x])),
        }

    both = jax.jit(lambda x: [derivatives(f, x) for f in (ops.max_pool, flax_max_pool)])
    assert_close(*both(x))


def test_max_pool_in_forward_mode(assert_close, normal):
    x, tangent = normal(0, 2, 6, 6, 3), normal(1, 2, 6, 6, 3)

    def directional(pool):
        return jax.jvp(pool, (x,), (tangent,))[1]

    actual = directional(ops.max_pool)
    assert_close(actual, directional(lambda x: nn.max_pool(x, (2, 2), (2, 2))))


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_avg_pool_is_the_mean_of_real_pixels(assert_close, normal, padding):
    x = normal(0, 2, 5, 7, 3)
    actual = ops.avg_pool(x, (2, 3), padding=padding)
    starts = (range(0, 5, 2), range(0, 7, 3)) if padding == "SAME" else ((0, 2), (0, 3))
    offset = -1 if padding == "SAME" else 0  # a seventh column needs two more, one on each side
    expected = [
        [
            np.mean(x[:, i : i + 2, max(0, j + offset) : j + offset + 3], axis=(1, 2))
            for j in starts[1]
        ]
        for i in starts[0]
    ]
    assert_close(actual, np.asarray(expected).transpose(2, 0, 1, 3))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32])
def test_max_pool_of_integers_is_numpys(dtype):
    x = np.random.default_rng(0).integers(-9 if dtype != np.uint8 else 0, 9, (2, 6, 4, 3), dtype)
    expected = x.reshape(2, 3, 2, 2, 2, 3).max((2, 4))
    actual = ops.max_pool(jnp.asarray(x), 2)
    assert actual.dtype == dtype
    np.testing.assert_array_equal(actual, expected)
    padded = ops.max_pool(jnp.asarray(x), 3, 1, 1)
    np.testing.assert_array_equal(padded[:, 0, 0], x[:, :2, :2].max((1, 2)))


def test_a_window_of_padding_alone_has_no_derivative():
    x = jnp.ones((1, 2, 2, 1))

    def pool(x):
        return ops.max_pool(x, 2, 2, ((2, 0), (0, 0)))

    value, tangent = jax.jvp(pool, (x,), (2 * x,))
    np.testing.assert_array_equal(value[0, :, 0, 0], [-np.inf, 1])
    np.testing.assert_array_equal(tangent[0, :, 0, 0], [0, 2])
    np.testing.assert_array_equal(jax.grad(lambda x: pool(x)[:, 1].sum())(x)[0, 0, 0, 0], 1)


def test_avg_pool_spreads_its_gradient_over_the_window(normal, assert_close):
    x = normal(0, 2, 6, 4, 3)

    def means(x):
        windows = [[x[:, i : i + 2, j : j + 3].mean((1, 2)) for j in (0, 1)] for i in (0, 2, 4)]
        return jnp.asarray(windows)

    def grad(pool):
        return jax.jit(jax.grad(lambda x: jnp.sin(pool(x)).sum()))(x)

    assert_close(grad(lambda x: ops.avg_pool(x, (2, 3), (2, 1))), grad(means))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_avg_pool_adds_up_large_windows_in_half_precision(dtype):
    images = np.random.default_rng(0).random((1, 64, 64, 2), np.float32)
    found = jax.jit(lambda x: ops.avg_pool(x, 64))(jnp.asarray(images, dtype))
    assert found.dtype == dtype
    np.testing.assert_allclose(found[0, 0, 0].astype(np.float32), images.mean((0, 1, 2)), rtol=0.01)
