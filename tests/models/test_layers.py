import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.models.layers import normalize


def test_normalize_is_the_formula():
    images = jnp.asarray(np.random.default_rng(0).random((6, 7, 9, 2), np.float32))
    result = normalize(images, (0.2, 0.3), (0.5,))
    np.testing.assert_allclose(result, (np.asarray(images) - [0.2, 0.3]) / 0.5, atol=1e-6)


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ((0.1, 0.2, 0.3), (1.0,), "mean has 3 values, needs 1 or 2"),
        ((0.1,), (1.0, 1.0, 1.0), "std has 3 values, needs 1 or 2"),
        ((0.1,), (1.0, 0.0), r"std is \(1.0, 0.0\), needs values above 0"),
    ],
)
def test_normalize_names_what_it_needs(mean, std, message):
    with pytest.raises(ValueError, match=message):
        normalize(jnp.zeros((1, 2, 2, 2)), mean, std)
