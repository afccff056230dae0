import jax
import numpy as np

from vision_jax import ops


def test_upsample_repeats_pixels(assert_close, normal):
    x = normal(0, 2, 3, 4, 2)
    expected = np.repeat(np.repeat(np.asarray(x), 3, 1), 3, 2)
    np.testing.assert_array_equal(ops.upsample_nearest(x, 3), expected)

    def squares(x):
        return (ops.upsample_nearest(x, 3) ** 3).sum()

    assert_close(jax.grad(squares)(x), 9 * 3 * x**2)
    assert_close(jax.grad(lambda x: (jax.grad(squares)(x) ** 2).sum())(x), 2 * 54 * 27 * x**3)
