"""The networks make of the same weights what Keras makes of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from keras_outputs.networks import STORED, inputs, weights

from vision_jax.models.autoencoder import ConvAutoencoder
from vision_jax.models.cnn import CNN
from vision_jax.models.gan import Discriminator, Generator


@pytest.fixture(scope="module")
def stored():
    with np.load(STORED) as outputs:
        return dict(outputs)


def plain(layer):
    return dict(zip(("kernel", "bias"), layer, strict=False))


def transposed(layer):
    # Keras's transposed kernel is that of the convolution it is the gradient of.
    return {"kernel": np.flip(layer[0], (0, 1)).swapaxes(2, 3)}


def named(network, names):
    return dict(zip(names, map(plain, weights(network)), strict=True))


def outputs(model, params, network, stats=None):
    variables = {"params": params, "batch_stats": stats or {}}
    shapes = jax.eval_shape(model.init, jax.random.key(0), inputs(network))
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, shapes["params"])
    return jax.jit(model.apply)(variables, inputs(network))[0]


def assert_is_keras_output(found, stored, network, variables):
    np.testing.assert_allclose(found, stored[network], atol=1e-4, rtol=0)
    count = sum(leaf.size for leaf in jax.tree.leaves(variables))
    assert count == stored[f"{network} parameters"]


def test_cnn(stored):
    params = named("cnn", ["conv1", "conv2", "conv3", "conv4", "dense", "logits"])
    assert_is_keras_output(outputs(CNN(num_classes=10), params, "cnn"), stored, "cnn", params)


def test_autoencoder(stored):
    layers = named("autoencoder", ["conv1", "conv2", "code", "-conv1", "-conv2", "-logits"])
    params = {
        "encoder": {name: layer for name, layer in layers.items() if name[0] != "-"},
        "decoder": {name[1:]: layer for name, layer in layers.items() if name[0] == "-"},
    }
    assert_is_keras_output(
        outputs(ConvAutoencoder(), params, "autoencoder"), stored, "autoencoder", params
    )


def test_generator(stored):
    dense, norm1, conv2, norm2, conv3, norm3, image = weights("generator")
    params, stats = {"dense": plain(dense)}, {}
    for name, (scale, bias, mean, variance) in zip(
        ("norm1", "norm2", "norm3"), (norm1, norm2, norm3), strict=True
    ):
        params[name] = {"scale": scale, "bias": bias}
        stats[name] = {"mean": mean, "var": variance}
    for name, layer in (("conv2", conv2), ("conv3", conv3), ("image", image)):
        params[name] = transposed(layer)
    found = outputs(Generator(), params, "generator", stats)
    assert_is_keras_output(found, stored, "generator", {"params": params, "stats": stats})


def test_discriminator(stored):
    params = named("discriminator", ["conv1", "conv2", "logit"])
    found = outputs(Discriminator(), params, "discriminator")[:, None]
    assert_is_keras_output(found, stored, "discriminator", params)
