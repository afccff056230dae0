from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.models.gan import Discriminator, Generator

KEY = jax.random.key(0)


def size(tree):
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


def test_parameter_counts_of_the_defaults():
    generator = jax.eval_shape(Generator().init, KEY, jnp.zeros((1, 100)))
    discriminator = jax.eval_shape(Discriminator().init, KEY, jnp.zeros((1, 16, 16, 3)))
    assert size(generator) == 1_455_552
    assert size(discriminator) == 211_841


@pytest.mark.parametrize(
    ("shape", "features", "base"),
    [
        ((28, 28, 1), (256, 128, 64), (7, 7)),
        ((32, 32, 3), (256, 128, 64), (8, 8)),
        ((64, 64, 3), (512, 256, 128, 64, 32), (4, 4)),
        ((6, 10, 1), (8,), (6, 10)),
        ((6, 10, 1), (8, 4), (3, 5)),
    ],
)
def test_sizes(shape, features, base):
    generator = Generator(shape, features, latent_size=7)
    (images, endpoints), _ = jax.eval_shape(generator.init_with_output, KEY, jnp.zeros((2, 7)))
    assert images.shape == (2, *shape)
    assert endpoints["stage1"].shape == (2, *base, features[0])
    (logits, endpoints), _ = jax.eval_shape(Discriminator().init_with_output, KEY, images)
    assert logits.shape == (2,)
    assert endpoints["embedding"].shape == (2, size(endpoints["stage2"]) // 2)


def test_sides_that_do_not_halve_evenly_are_named():
    with pytest.raises(ValueError, match=r"images are 30x28; 3 features.*multiples of 4"):
        jax.eval_shape(Generator((30, 28, 1)).init, KEY, jnp.zeros((1, 100)))


def test_generated_images_use_the_whole_range_and_stay_in_it():
    generator = Generator((4, 4, 1), (8, 4), latent_size=3)
    latents = jax.random.normal(KEY, (64, 3)) * 20
    (images, _), _ = jax.jit(generator.init_with_output)(KEY, latents)
    assert images.min() < -0.5
    assert images.max() > 0.5
    assert jnp.abs(images).max() <= 1


def test_the_embedding_is_the_last_stage_without_dropout():
    model = Discriminator((4, 6))
    images = jax.random.uniform(KEY, (3, 8, 8, 1), minval=-1)
    variables = jax.jit(model.init)(KEY, images)
    _, endpoints = jax.jit(model.apply)(variables, images)
    flat = endpoints["stage2"].reshape(3, -1)
    np.testing.assert_array_equal(endpoints["embedding"], flat)
    train = jax.jit(partial(model.apply, train=True))
    logits, endpoints = train(variables, images, rngs={"dropout": jax.random.key(1)})
    other, _ = train(variables, images, rngs={"dropout": jax.random.key(2)})
    assert not np.array_equal(logits, other)
    # Dropout acts after the first stage too.
    assert (endpoints["stage1"] != 0).all()


def test_spectral_normalisation_divides_kernels_by_their_largest_singular_value():
    model = Discriminator((4, 6), dropout=0.0, spectral_norm=True)
    images = jax.random.uniform(KEY, (3, 8, 8, 1), minval=-1)
    variables = jax.jit(model.init)(KEY, images)
    train = jax.jit(lambda v: model.apply(v, images, train=True, mutable=["batch_stats"])[1])
    for _ in range(100):
        variables = {**variables, **train(variables)}
    divided = jax.tree.map(
        lambda w: w / np.linalg.norm(w.reshape(-1, w.shape[-1]), 2) if w.ndim > 1 else w,
        jax.tree.map(np.asarray, variables["params"]),
    )
    plain = Discriminator((4, 6), dropout=0.0)
    expected, _ = jax.jit(plain.apply)({"params": divided}, images)
    found, _ = jax.jit(model.apply)(variables, images)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
