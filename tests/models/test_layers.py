import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from vision_jax import ops
from vision_jax.models import layers
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


@pytest.mark.parametrize("use_bias", [False, True])
@pytest.mark.parametrize(
    ("own", "reference"), [(layers.Conv, nn.Conv), (layers.ConvTranspose, nn.ConvTranspose)]
)
def test_modules_have_flax_parameters_and_numbers(assert_close, normal, own, reference, use_bias):
    x, key = normal(0, 2, 8, 7, 3), jax.random.key(0)
    options = {"features": 4, "kernel_size": (5, 5), "strides": (2, 2), "padding": "SAME"}
    theirs = reference(**options, use_bias=use_bias)
    mine = own(**options, use_bias=use_bias)
    variables = theirs.init(key, x)
    jax.tree.map(np.testing.assert_array_equal, mine.init(key, x), variables)
    assert_close(mine.apply(variables, x), theirs.apply(variables, x))


def test_bfloat16_computes_in_it_and_keeps_float32_parameters(assert_close, normal):
    x, key = normal(0, 2, 8, 8, 3), jax.random.key(0)
    mine = layers.Conv(4, dtype=jnp.bfloat16)
    theirs = nn.Conv(4, (3, 3), dtype=jnp.bfloat16)
    variables = mine.init(key, x)

    def outputs(module):
        y = module.apply(variables, x)
        grads = jax.grad(lambda v: ops.max_pool(module.apply(v, x)).astype(jnp.float32).sum())
        return y, grads(variables)

    y, grads = outputs(mine)
    assert y.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves((variables, grads))} == {np.dtype("float32")}
    assert_close((y, grads), outputs(theirs), 1e-2)


def test_integers_stand_for_both_directions(normal):
    x, key = normal(0, 2, 8, 7, 3), jax.random.key(0)
    short = layers.Conv(4, 5, 2, 2)
    long = layers.Conv(4, (5, 5), (2, 2), ((2, 2), (2, 2)))
    variables = short.init(key, x)
    np.testing.assert_array_equal(short.apply(variables, x), long.apply(variables, x))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (layers.Conv(4, 0), "Conv: kernel_size is 0, needs"),
        (layers.Conv(0), "Conv: features is 0, needs"),
        (layers.ConvTranspose(-1), "ConvTranspose: features is -1, needs"),
        (layers.Conv(4, groups=0), "Conv: groups is 0, needs"),
    ],
)
def test_layers_name_what_they_need(layer, message, normal):
    with pytest.raises(ValueError, match=message):
        layer.init(jax.random.key(0), normal(0, 2, 8, 7, 3))


@pytest.mark.parametrize("groups", [2, 4])
def test_grouped_and_dilated_modules_have_flax_parameters_and_numbers(groups, normal, assert_close):
    x, key = normal(0, 2, 8, 7, 4), jax.random.key(0)
    theirs = nn.Conv(8, (3, 3), feature_group_count=groups, kernel_dilation=2)
    mine = layers.Conv(8, 3, groups=groups, dilation=2)
    variables = theirs.init(key, x)
    jax.tree.map(np.testing.assert_array_equal, mine.init(key, x), variables)
    assert_close(mine.apply(variables, x), theirs.apply(variables, x))


def test_batch_norm_in_training_spans_all_devices(normal):
    devices = jax.local_device_count()
    x = 3 * normal(0, devices, 5, 3, 2) + 1
    layer = layers.BatchNorm()
    variables = layer.init(jax.random.key(0), x[0])

    def step(x):
        return layer.apply(variables, x, train=True, mutable=["batch_stats"])

    y, updates = jax.pmap(step, "batch", out_axes=(0, None))(x)
    mean, var = np.mean(x, (0, 1, 2)), np.var(x, (0, 1, 2))
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(var + 1e-5), atol=1e-4)
    np.testing.assert_allclose(updates["batch_stats"]["mean"], 0.1 * mean, rtol=1e-4)
    np.testing.assert_allclose(updates["batch_stats"]["var"], 0.9 + 0.1 * var, rtol=1e-4)
    np.testing.assert_allclose(layer.apply(variables, x), x / np.sqrt(1 + 1e-5), rtol=1e-5)


@pytest.mark.parametrize(
    ("shape", "padding"),
    [((3, 13, 11, 1), "SAME"), ((2, 8, 9, 3), "VALID"), ((1, 16, 16, 32), "SAME")],
)
def test_pooling_before_the_bias_is_pooling_after_a_relu(assert_close, normal, shape, padding):
    x, channels = normal(0, *shape), shape[-1]
    whole = layers.Conv(32, padding=padding)
    pooled = layers.Conv(32, padding=padding, pool=2)
    variables = {"params": {"kernel": normal(1, 3, 3, channels, 32), "bias": normal(2, 32)}}
    scale = normal(3, *ops.max_pool(whole.apply(variables, x)).shape)

    def value_and_grads(function):
        def loss(variables, x):
            y = function(variables, x)
            return jnp.sum(y * scale), y

        return jax.jit(jax.grad(loss, (0, 1), has_aux=True))(variables, x)

    grads, y = value_and_grads(lambda v, x: nn.relu(pooled.apply(v, x)))
    wanted, expected = value_and_grads(lambda v, x: ops.max_pool(nn.relu(whole.apply(v, x))))
    np.testing.assert_array_equal(y, expected)
    assert_close(grads, wanted)
