"""What search among unseen classes is measured by."""

import jax
import jax.numpy as jnp
import numpy as np
import unseen_classes as script

from vision_jax.models import build_model
from vision_jax.search.evaluation import retrieval_values


def test_a_discriminant_helps_classes_that_it_was_not_fitted_to():
    """Two of eight directions vary so much within classes that they hide the others."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(10), 40)
    noise = np.array([9.0, 9.0] + [0.3] * 6)
    places = random.normal(size=(10, 8))
    vectors = (places[labels] + noise * random.normal(size=(400, 8))).astype(np.float32)
    seen, asked = labels < 7, labels >= 7
    matrix = script.fit_discriminant(vectors[seen], labels[seen])
    plain, told = (
        retrieval_values(rows[asked], labels[asked], ks=(1,)).values["map@r"].mean()
        for rows in (vectors, vectors @ matrix)
    )
    assert plain < 0.45
    assert told > 0.9


def test_the_covariance_within_classes_is_that_of_numpy():
    random = np.random.default_rng(0)
    vectors, labels = random.normal(size=(60, 4)), np.arange(60) % 3
    wanted = np.mean([np.cov(vectors[labels == k].T, bias=True) for k in (0, 2)], axis=0)
    np.testing.assert_allclose(script.within(vectors, labels, (0, 2)), wanted)


def test_the_small_network_ends_in_an_image():
    """Padded, it has 3x3 places left of 28x28; without padding one, which says too little."""
    model = script.network((16, 32, 64), 16, 2)
    module = build_model(model.name, num_classes=7, **model.options)
    images = jax.ShapeDtypeStruct((1, 28, 28, 1), jnp.float32)
    (_, endpoints), _ = jax.eval_shape(module.init_with_output, jax.random.key(0), images)
    assert endpoints["stage3"].shape == (1, 3, 3, 64)
