import jax
import jax.numpy as jnp
import pytest
from plain_layers import Layers, count, pool, random_variables, relu, values_and_gradients

from vision_jax.models import densenet


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("densenet121", 7_978_856),
        ("densenet161", 28_681_000),
        ("densenet169", 14_149_480),
        ("densenet201", 20_013_928),
    ],
)
def test_parameters_are_as_many_as_torchvisions(name, expected):
    assert count(getattr(densenet, name)(), 64, 64, 3) == expected


def test_output_and_gradients_are_torchvisions(assert_close):
    model = densenet.DenseNet((2, 1), growth=3, stem=6, num_classes=5, mean=(0.5,), std=(0.25,))
    images = jax.random.uniform(jax.random.key(0), (2, 37, 34, 2))
    variables = random_variables(model, images)

    def theirs(variables):
        net = Layers(variables)
        x = (images - jnp.float32(0.5)) / jnp.float32(0.25)
        x = pool(relu(net.norm("features.norm0", net.conv("features.conv0", x, 2))), 3, 2, 1)
        for block, depth in enumerate(model.depths, start=1):
            for layer in range(1, depth + 1):
                at = f"features.denseblock{block}.denselayer{layer}"
                y = net.conv(f"{at}.conv1", relu(net.norm(f"{at}.norm1", x)))
                y = net.conv(f"{at}.conv2", relu(net.norm(f"{at}.norm2", y)))
                x = jnp.concatenate([x, y], -1)
            if block == 1:
                at = "features.transition1"
                x = net.conv(f"{at}.conv", relu(net.norm(f"{at}.norm", x)))
                x = x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2]
                x = sum(x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)) * jnp.float32(0.25)
        x = relu(net.norm("features.norm3", x))
        return net.dense("classifier", x.mean((1, 2))), x

    def own(variables):
        logits, endpoints = model.apply(variables, images)
        return logits, endpoints["features"]

    assert_close(*values_and_gradients((own, theirs), variables))
