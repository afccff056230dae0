import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import slow_but
from plain_layers import Layers, count, pool, random_variables, relu, values_and_gradients

from vision_jax.models import resnet, wide_resnet

KEY = jax.random.key(0)


PARAMETERS = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "wide_resnet50_2": 68_883_240,
    "resnext50_32x4d": 25_028_904,
}


@pytest.mark.parametrize("name", slow_but(["resnet18", "resnet50"], PARAMETERS))
def test_parameters_are_as_many_as_torchvisions(name):
    assert count(getattr(resnet, name)(), 224, 224, 3) == PARAMETERS[name]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("wrn_16_4", 2_748_890), ("wrn_28_10", 36_479_194), ("wrn_40_4", 8_949_210)],
)
def test_wide_networks_have_their_authors_count(name, expected):
    assert count(getattr(wide_resnet, name)(), 32, 32, 3) == expected


def resnet_reference(variables, images, model):
    net = Layers(variables)
    x = (images - jnp.float32(0.5)) / jnp.float32(0.25)
    if model.stem == "imagenet":
        x = relu(net.norm("bn1", net.conv("conv1", x, 2)))
        x = pool(x, 3, 2, 1)
    else:
        x = relu(net.norm("bn1", net.conv("conv1", x)))
    for stage, depth in enumerate(model.depths, start=1):
        for block in range(depth):
            stride = 2 if stage > 1 and block == 0 else 1
            at = f"layer{stage}.{block}"
            if model.bottleneck:
                y = relu(net.norm(f"{at}.bn1", net.conv(f"{at}.conv1", x)))
                y = relu(
                    net.norm(f"{at}.bn2", net.conv(f"{at}.conv2", y, stride, groups=model.groups))
                )
                y = net.norm(f"{at}.bn3", net.conv(f"{at}.conv3", y))
            else:
                y = relu(net.norm(f"{at}.bn1", net.conv(f"{at}.conv1", x, stride)))
                y = net.norm(f"{at}.bn2", net.conv(f"{at}.conv2", y))
            if x.shape != y.shape:
                x = net.norm(f"{at}.downsample.1", net.conv(f"{at}.downsample.0", x, stride))
            x = relu(x + y)
    return net.dense("fc", x.mean((1, 2))), x


def wide_reference(variables, images, model):
    net = Layers(variables)
    x = net.conv("conv1", (images - jnp.float32(0.5)) / jnp.float32(0.25))
    for stage in (1, 2, 3):
        for block in range((model.depth - 4) // 6):
            stride = 2 if stage > 1 and block == 0 else 1
            at = f"block{stage}_{block}"
            ahead = relu(net.norm(f"{at}.bn1", x))
            y = net.conv(f"{at}.conv1", ahead, stride)
            y = net.conv(f"{at}.conv2", relu(net.norm(f"{at}.bn2", y)))
            x = y + (x if x.shape == y.shape else net.conv(f"{at}.shortcut", ahead, stride))
    x = relu(net.norm("bn1", x))
    return net.dense("fc", x.mean((1, 2))), x


RANGE = {"num_classes": 5, "mean": (0.5,), "std": (0.25,)}
SMALL = {
    "basic": (resnet.ResNet(depths=(1, 1), **RANGE), resnet_reference),
    "small stem": (resnet.ResNet(depths=(1,), stem="small", **RANGE), resnet_reference),
    "bottleneck": (resnet.ResNet(depths=(1, 1), bottleneck=True, **RANGE), resnet_reference),
    "grouped": (
        resnet.ResNet(depths=(1,), bottleneck=True, groups=8, group_width=4, **RANGE),
        resnet_reference,
    ),
    "wide": (wide_resnet.WideResNet(depth=10, width=1, **RANGE), wide_reference),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", SMALL)
def test_output_and_gradients_are_the_papers(kind, assert_close):
    model, reference = SMALL[kind]
    images = jax.random.uniform(KEY, (2, 19, 22, 2))
    variables = random_variables(model, images)

    def own(variables):
        logits, endpoints = model.apply(variables, images)
        return logits, endpoints["features"]

    def theirs(variables):
        return reference(variables, images, model)

    assert_close(*values_and_gradients((own, theirs), variables))


def test_endpoints_hold_every_stage():
    model = resnet.ResNet(depths=(1, 1, 1, 1), num_classes=3)
    images = jax.ShapeDtypeStruct((2, 64, 96, 3), jnp.float32)
    (logits, endpoints), _ = jax.eval_shape(model.init_with_output, KEY, images)
    assert logits.shape == (2, 3)
    shapes = {name: value.shape[1:] for name, value in endpoints.items()}
    assert shapes == {
        "stem": (16, 24, 64),
        "stage1": (16, 24, 64),
        "stage2": (8, 12, 128),
        "stage3": (4, 6, 256),
        "stage4": (2, 3, 512),
        "features": (2, 3, 512),
        "embedding": (512,),
        "logits": (3,),
    }


def test_without_classes_the_embedding_is_the_output():
    model = resnet.ResNet(depths=(1,), num_classes=0)
    images = jax.random.uniform(KEY, (2, 8, 8, 1))
    variables = random_variables(model, images)
    output, endpoints = jax.jit(model.apply)(variables, images)
    np.testing.assert_array_equal(output, endpoints["embedding"])
    assert "fc" not in variables["params"]


def test_bfloat16_keeps_parameters_statistics_and_logits_in_float32():
    model = resnet.ResNet(depths=(1, 1), num_classes=3, dtype=jnp.bfloat16)
    images = jax.ShapeDtypeStruct((2, 16, 16, 3), jnp.float32)
    (logits, endpoints), variables = jax.eval_shape(model.init_with_output, KEY, images)
    assert endpoints["features"].dtype == jnp.bfloat16
    leaves = jax.tree.leaves((logits, endpoints["embedding"], variables))
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype(jnp.float32)}


def test_a_depth_without_such_a_network_is_named():
    with pytest.raises(ValueError, match="depth is 17, needs 4 more than a multiple of 6"):
        count(wide_resnet.WideResNet(depth=17), 32, 32, 3)
