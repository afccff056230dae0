import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from vision_jax.errors import DataWarning
from vision_jax.models import CNN
from vision_jax.models.layers import normalize


def shapes(model, size):
    images = jax.ShapeDtypeStruct(size, jnp.float32)
    return jax.eval_shape(model.init, jax.random.key(0), images)["params"]


def count(params):
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))


def test_the_default_has_9_683_658_parameters():
    assert count(shapes(CNN(num_classes=10), (1, 224, 224, 3))) == 9_683_658


def test_parameters_are_named_and_shaped_as_flax_does():
    params = shapes(CNN(num_classes=10), (1, 224, 224, 3))
    assert params["conv1"]["kernel"].shape == (3, 3, 3, 32)
    assert params["conv4"]["bias"].shape == (128,)
    assert params["dense"]["kernel"].shape == (12 * 12 * 128, 512)
    assert params["logits"]["kernel"].shape == (512, 10)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_it_is_the_plain_flax_network(padding):
    class Plain(nn.Module):
        @nn.compact
        def __call__(self, x):
            for number, features in enumerate((4, 6), start=1):
                x = nn.Conv(features, (3, 3), padding=padding, name=f"conv{number}")(x)
                x = nn.max_pool(nn.relu(x), (2, 2), (2, 2))
            x = nn.relu(nn.Dense(5, name="dense")(x.reshape(len(x), -1)))
            return nn.Dense(3, name="logits")(x), x

    model = CNN(num_classes=3, stages=(4, 6), hidden=5, padding=padding)
    images = jax.random.uniform(jax.random.key(1), (2, 13, 11, 1), jnp.float32)
    variables = jax.jit(model.init)(jax.random.key(0), images)
    logits, endpoints = jax.jit(model.apply)(variables, images)
    expected, embedding = jax.jit(Plain().apply)(variables, images)
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    np.testing.assert_allclose(endpoints["embedding"], embedding, atol=1e-5)
    assert endpoints["stage2"].shape[-1] == 6


def test_dropout_acts_in_training_only():
    model = CNN(num_classes=3, stages=(4,), hidden=64, padding="SAME", dropout=0.5)
    images = jax.random.uniform(jax.random.key(1), (2, 8, 8, 1), jnp.float32)
    variables = jax.jit(model.init)(jax.random.key(0), images)

    apply = jax.jit(model.apply, static_argnames="train")

    def logits(key, train):
        return apply(variables, images, train=train, rngs={"dropout": jax.random.key(key)})[0]

    np.testing.assert_array_equal(logits(1, False), logits(2, False))
    assert not np.array_equal(logits(1, True), logits(2, True))


def test_images_that_are_too_small_are_named():
    with pytest.raises(ValueError, match=r"28x28 are too small for 4 stages.*need 46x46"):
        shapes(CNN(num_classes=10), (1, 28, 28, 1))
    shapes(CNN(num_classes=10), (1, 46, 46, 1))
    with pytest.raises(ValueError, match="need 46x46"):
        shapes(CNN(num_classes=10), (1, 45, 45, 1))


def test_training_on_the_one_pixel_that_padding_leaves_is_told():
    images = jax.ShapeDtypeStruct((1, 28, 28, 1), jnp.float32)

    def trace(padding, train):
        model = CNN(num_classes=10, stages=(2, 2, 2), hidden=2, padding=padding)
        weights = jax.eval_shape(model.init, jax.random.key(0), images)
        jax.eval_shape(lambda w, x: model.apply(w, x, train=train), weights, images)

    with pytest.warns(DataWarning, match=r"28x28 are 1x1 after 3 stages.*would leave 3x3"):
        trace("VALID", train=True)
    trace("SAME", train=True)
    trace("VALID", train=False)


def test_images_are_normalized_first():
    images = jax.random.uniform(jax.random.key(1), (2, 8, 8, 3), jnp.float32)
    mean, std = (0.4, 0.5, 0.6), (0.2,)
    plain = CNN(num_classes=3, stages=(4,), hidden=5)
    model = CNN(num_classes=3, stages=(4,), hidden=5, mean=mean, std=std)
    variables = jax.jit(model.init)(jax.random.key(0), images)
    expected = jax.jit(lambda x: plain.apply(variables, normalize(x, mean, std)))(images)
    actual = jax.jit(lambda x: model.apply(variables, x))(images)
    jax.tree.map(np.testing.assert_array_equal, actual, expected)
