import jax
import jax.numpy as jnp
import numpy as np
import pytest
from plain_layers import Layers, count, pool, random_variables, relu, values_and_gradients

from vision_jax.models import vgg


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("vgg11", 132_863_336),
        ("vgg13", 133_047_848),
        ("vgg16", 138_357_544),
        ("vgg19", 143_667_240),
        ("vgg11_bn", 132_868_840),
        ("vgg16_bn", 138_365_992),
        ("vgg19_bn", 143_678_248),
    ],
)
def test_parameters_are_as_many_as_torchvisions(name, expected):
    assert count(getattr(vgg, name)(), 224, 224, 3) == expected


@pytest.mark.slow
@pytest.mark.parametrize("batch_norm", [False, True])
def test_output_and_gradients_are_torchvisions(batch_norm, assert_close):
    model = vgg.VGG((1, 2), batch_norm, num_classes=5, hidden=6, mean=(0.5,), std=(0.25,))
    images = jax.random.uniform(jax.random.key(0), (2, 28, 28, 2))
    variables = random_variables(model, images)
    places = ([(0,)], [(4,), (7,)]) if batch_norm else ([(0,)], [(3,), (5,)])

    def theirs(variables):
        net = Layers(variables)
        x = (images - jnp.float32(0.5)) / jnp.float32(0.25)
        for stage in places:
            for (place,) in stage:
                x = net.conv(f"features.{place}", x)
                x = relu(net.norm(f"features.{place + 1}", x) if batch_norm else x)
            x = pool(x, 2, 2)
        y = relu(net.dense("classifier.0", x.reshape(2, -1)))
        y = relu(net.dense("classifier.3", y))
        return net.dense("classifier.6", y), y

    def own(variables):
        logits, endpoints = model.apply(variables, images)
        return logits, endpoints["embedding"]

    assert_close(*values_and_gradients((own, theirs), variables))


@pytest.mark.parametrize("size", [(7, 14), (9, 5), (1, 20)])
def test_adaptive_average_covers_each_map_as_pytorch_does(size, normal):
    x = normal(0, 2, *size, 3)

    def windows(length):
        return [slice(i * length // 7, -(-(i + 1) * length // 7)) for i in range(7)]

    expected = [[x[:, r, c].mean((1, 2)) for c in windows(size[1])] for r in windows(size[0])]
    actual = vgg.adaptive_average(x, 7)
    np.testing.assert_allclose(actual, np.asarray(expected).transpose(2, 0, 1, 3), atol=1e-5)


def test_dropout_acts_in_training_only():
    model = vgg.VGG((1,), num_classes=5, hidden=32)
    images = jnp.ones((1, 8, 8, 1))
    variables = random_variables(model, images)

    def embedding(seed, train):
        rngs = {"dropout": jax.random.key(seed)}
        return model.apply(variables, images, train=train, rngs=rngs)[0]

    np.testing.assert_array_equal(embedding(1, False), embedding(2, False))
    assert not np.array_equal(embedding(1, True), embedding(2, True))
