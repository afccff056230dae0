import jax
import jax.numpy as jnp
import pytest
from marks import slow_but
from plain_layers import Layers, count, random_variables, relu6, values_and_gradients

from vision_jax.models import efficientnet

PARAMETERS = {
    "efficientnet_lite0": 4_652_008,
    "efficientnet_lite1": 5_416_680,
    "efficientnet_lite2": 6_092_072,
    "efficientnet_lite3": 8_197_096,
    "efficientnet_lite4": 13_006_568,
}


@pytest.mark.parametrize("name", slow_but(["efficientnet_lite0"], PARAMETERS))
def test_parameters_are_as_many_as_timms(name):
    assert count(getattr(efficientnet, name)(), 64, 64, 3) == PARAMETERS[name]


@pytest.mark.slow
def test_output_and_gradients_are_timms(assert_close, monkeypatch):
    stages = ((1, 3, 1, 1, 8), (1, 5, 2, 2, 8), (2, 3, 1, 3, 16))
    stages = tuple(efficientnet._Stage(*stage) for stage in stages)
    monkeypatch.setattr(efficientnet, "_STAGES", stages)
    model = efficientnet.EfficientNetLite(num_classes=5, mean=(0.5,), std=(0.5,))
    images = jax.random.uniform(jax.random.key(0), (2, 18, 21, 2))
    variables = random_variables(model, images)

    def theirs(variables):
        net = Layers(variables, epsilon=1e-3)
        x = (images - jnp.float32(0.5)) / jnp.float32(0.5)
        x = relu6(net.norm("bn1", net.conv("conv_stem", x, 2, padding="SAME")))
        for number, stage in enumerate(stages):
            for place in range(stage.depth):
                at, stride = f"blocks.{number}.{place}", stage.stride if place == 0 else 1
                y, names = x, ("bn1", "conv_pw", "bn2")
                if stage.expansion > 1:
                    y = relu6(net.norm(f"{at}.bn1", net.conv(f"{at}.conv_pw", y)))
                    names = ("bn2", "conv_pwl", "bn3")
                y = net.conv(f"{at}.conv_dw", y, stride, padding="SAME", groups=y.shape[-1])
                y = net.conv(f"{at}.{names[1]}", relu6(net.norm(f"{at}.{names[0]}", y)))
                y = net.norm(f"{at}.{names[2]}", y)
                x = x + y if x.shape == y.shape else y
        x = relu6(net.norm("bn2", net.conv("conv_head", x)))
        return net.dense("classifier", x.mean((1, 2))), x

    def own(variables):
        logits, endpoints = model.apply(variables, images)
        return logits, endpoints["features"]

    assert_close(*values_and_gradients((own, theirs), variables))


def test_endpoints_are_strided_as_published():
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    model = efficientnet.efficientnet_lite0(dtype=jnp.bfloat16)
    (_, endpoints), _ = jax.eval_shape(model.init_with_output, jax.random.key(0), images)
    sizes = [endpoints[f"stage{number}"].shape[1:] for number in range(1, 8)]
    widths = (16, 24, 40, 80, 112, 192, 320)
    sides = (112, 56, 28, 14, 14, 7, 7)
    assert sizes == [(side, side, width) for side, width in zip(sides, widths, strict=True)]
    assert endpoints["features"].dtype == jnp.bfloat16
    assert endpoints["logits"].dtype == endpoints["embedding"].dtype == jnp.float32
