import jax
import numpy as np

from vision_jax.ops import row_sum


def test_sums_of_rows_and_their_derivatives_equal_numpys(assert_close, normal):
    rows = normal(0, 3, 4, 5)
    np.testing.assert_allclose(jax.vmap(row_sum)(rows), rows.sum(2), rtol=1e-5, atol=1e-5)

    def squares(sum_rows):
        return lambda rows: (sum_rows(rows) ** 2).sum()

    own, reference = squares(row_sum), squares(lambda rows: rows.sum(1))
    assert_close(jax.grad(own)(rows[0]), jax.grad(reference)(rows[0]))
    assert_close(jax.hessian(own)(rows[0]), jax.hessian(reference)(rows[0]))
