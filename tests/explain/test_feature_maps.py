"""Gradients at feature maps equal those of a network that is cut in two there."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from marks import slow_but

from vision_jax.errors import InputError
from vision_jax.explain.feature_maps import feature_gradients
from vision_jax.explain.targets import class_score
from vision_jax.models import build_model

VIT = {"depth": 2, "width": 16, "heads": 2, "image_size": 16, "patch": 4, "num_classes": 5}
NETWORKS = {
    "cnn": ({"num_classes": 5, "stages": (4, 8), "hidden": 8, "padding": "SAME"}, "stage2"),
    "wrn_16_4": ({"num_classes": 5, "width": 1, "depth": 10}, "features"),
    "vit_tiny_patch16_224": (VIT, "stage1"),
    "vit_base_patch16_siglip_224": (VIT, "features"),
}


@pytest.fixture
def images(normal):
    return jax.nn.sigmoid(normal(0, 3, 16, 16, 3))


def network_of(name, images, **options):
    model = build_model(name, **options)
    variables = jax.jit(model.init)(jax.random.key(0), images)
    return partial(model.apply, variables)


def class_of(count, label=2):
    return class_score(jnp.full(count, label, jnp.int32))


@pytest.mark.parametrize("name", slow_but(["wrn_16_4", "vit_tiny_patch16_224"], NETWORKS))
def test_the_last_map_that_matters_is_found(name, images, normal, assert_close):
    options, layer = NETWORKS[name]
    network = network_of(name, images, **options)

    @jax.jit
    def compute(images):
        both = (feature_gradients(network, class_of(3), images, at) for at in (None, layer))
        return *both, network(images)[1][layer]

    found, named, maps = compute(images)
    assert_close(found, named, 1e-6)
    assert_close(found.maps, maps.astype(jnp.float32))
    assert np.abs(found.gradients).max() > 0


def test_gradients_are_those_of_the_layers_behind(images, assert_close):
    """Of the average and dense layer behind the last map, each position has a share of a weight."""
    network = network_of("wrn_16_4", images, num_classes=5, width=1, depth=10)
    kernel = network.args[0]["params"]["fc"]["kernel"]
    _, gradients = feature_gradients(network, class_of(3), images)
    assert_close(gradients, jnp.broadcast_to(kernel[:, 2] / 16, gradients.shape), 1e-6)


def test_the_gradient_at_tokens_is_that_at_the_block(images, assert_close):
    network = network_of("vit_tiny_patch16_224", images, **VIT)

    def score_of(change):
        def add(call, args, kwargs, context):
            returned = call(*args, **kwargs)
            if (context.module.path, context.method_name) != (("blocks", "0"), "__call__"):
                return returned
            tokens, weights = returned
            return tokens.at[:, 1:].add(change.reshape(3, 16, 16)), weights

        with nn.intercept_methods(add):
            return jnp.sum(network(images)[0][:, 2])

    _, gradients = jax.jit(lambda x: feature_gradients(network, class_of(3), x))(images)
    assert_close(gradients, jax.jit(jax.grad(score_of))(jnp.zeros((3, 4, 4, 16))), 1e-6)


def test_a_network_without_a_map_is_refused():
    images = jnp.zeros((1, 28, 28, 1))
    network = network_of("dense_autoencoder", images, hidden=(4,), code=2)
    with pytest.raises(InputError, match="needs a feature map"):
        feature_gradients(network, lambda _, ends: ends["embedding"][:, 0], images)


def test_a_map_that_does_not_matter_is_refused(images):
    network = network_of("vit_tiny_patch16_224", images, **VIT)
    with pytest.raises(
        InputError, match=r"'features', which the target does not depend on; .*stage1"
    ):
        feature_gradients(network, class_of(3), images, "features")
    with pytest.raises(InputError, match=r"layer is 'stage7'.*must be one of"):
        feature_gradients(network, class_of(3), images, "stage7")
