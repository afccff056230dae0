import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import erf
from marks import slow_but
from plain_layers import Layers, count, random_variables, values_and_gradients

from vision_jax.errors import InputError
from vision_jax.models import build_model, vit

TINY = vit.VisionTransformer(
    patch=4, width=6, depth=2, heads=2, image_size=8, num_classes=5, mean=(0.5,), std=(0.5,)
)


# Of the published ones, DINOv2's have a mask token besides, which only their training uses.
PARAMETERS = {
    "vit_tiny_patch16_224": (224, 5_717_416),
    "vit_small_patch16_224": (224, 22_050_664),
    "vit_small_patch32_224": (224, 22_878_952),
    "vit_base_patch16_224": (224, 86_567_656),
    "vit_base_patch32_224": (224, 88_224_232),
    "vit_large_patch16_224": (224, 304_326_632),
    "vit_small_patch14_dinov2": (518, 22_056_576 - 384),
    "vit_base_patch14_dinov2": (518, 86_580_480 - 768),
    "vit_base_patch14_reg4_dinov2": (518, 86_580_480 - 768 + 4 * 768),
}
QUICK = ["vit_tiny_patch16_224", "vit_base_patch14_reg4_dinov2"]


@pytest.mark.parametrize("name", slow_but(QUICK, PARAMETERS))
def test_parameters_are_as_many_as_published(name):
    size, expected = PARAMETERS[name]
    assert count(getattr(vit, name)(), size, size, 3) == expected


def reference(variables, images, model):
    net, patch = Layers(variables), model.patch
    x = (images - jnp.float32(0.5)) / jnp.float32(0.5)
    rows, columns = x.shape[1] // patch, x.shape[2] // patch
    x = x.reshape(len(x), rows, patch, columns, patch, -1).transpose(0, 1, 3, 2, 4, 5)
    layer = net.of("patch_embed.proj")
    x = x.reshape(len(x), rows * columns, -1) @ layer["kernel"].reshape(-1, model.width)
    if not model.pre_norm:
        x = x + layer["bias"]
    if model.class_token:
        token = jnp.broadcast_to(net.of("cls_token"), (len(x), 1, model.width))
        x = jnp.concatenate([token, x], 1)
    x = x + net.of("pos_embed")
    if model.registers:
        registers = jnp.broadcast_to(net.of("reg_token"), (len(x), model.registers, model.width))
        x = jnp.concatenate([x[:, :1], registers, x[:, 1:]], 1)
    if model.pre_norm:
        x = net.layer_norm("norm_pre", x)
    for number in range(model.depth):
        at = f"blocks.{number}"
        x = x + scaled(net, f"{at}.ls1", attention(net, at, x, model.heads))
        y = net.dense(f"{at}.mlp.fc1", net.layer_norm(f"{at}.norm2", x))
        if model.activation == "gelu":
            y = y * (1 + erf(y / jnp.sqrt(jnp.float32(2)))) / 2
        else:
            y = y / (1 + jnp.exp(-jnp.float32(1.702) * y))
        x = x + scaled(net, f"{at}.ls2", net.dense(f"{at}.mlp.fc2", y))
    x = net.layer_norm("norm", x)
    embedding = x[:, 0] if model.pool == "token" else x[:, -rows * columns :].mean(1)
    return net.dense("head", embedding), embedding


def attention(net, at, x, heads):
    qkv = net.dense(f"{at}.attn.qkv", net.layer_norm(f"{at}.norm1", x))
    query, key, value = (jnp.stack(jnp.split(part, heads, -1), 1) for part in jnp.split(qkv, 3, -1))
    scores = query @ key.swapaxes(2, 3) / jnp.sqrt(jnp.float32(query.shape[-1]))
    weights = jnp.exp(scores) / jnp.exp(scores).sum(-1, keepdims=True)
    return net.dense(f"{at}.attn.proj", jnp.concatenate(list((weights @ value).swapaxes(0, 1)), -1))


def scaled(net, name, x):
    *path, last = name.split(".")
    parent = net.of(".".join(path))
    return x * parent[last]["gamma"] if last in parent else x


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"pool": "mean", "class_token": False},
        {"registers": 3, "layer_scale": 1e-5},
        {"pre_norm": True, "activation": "quick_gelu", "pool": "mean"},
    ],
    ids=str,
)
def test_output_and_gradients_are_the_papers(options, assert_close):
    model = dataclasses.replace(TINY, **options)
    images = jax.random.uniform(jax.random.key(0), (2, 8, 8, 3))
    variables = random_variables(model, images)

    def own(variables):
        logits, endpoints = model.apply(variables, images)
        return logits, endpoints["embedding"]

    def theirs(variables):
        return reference(variables, images, model)

    assert_close(*values_and_gradients((own, theirs), variables))


def test_other_sizes_than_the_positions_are_embedded():
    images = jax.random.uniform(jax.random.key(0), (1, 12, 16, 3))
    variables = random_variables(TINY, images)
    assert variables["params"]["pos_embed"].shape == (1, 2 * 2 + 1, 6)
    # Positions that are all the same interpolate to the same.
    few, many = (
        {"params": variables["params"] | {"pos_embed": jnp.full((1, n + 1, 6), 0.3)}}
        for n in (2 * 2, 3 * 4)
    )
    model = dataclasses.replace(TINY, pool="mean")
    expected, _ = jax.jit(partial(reference, model=model))(many, images)
    np.testing.assert_allclose(jax.jit(model.apply)(few, images)[0], expected, atol=1e-5)


def test_features_average_to_the_mean_embedding():
    model = dataclasses.replace(TINY, registers=2, pool="mean")
    images = jax.random.uniform(jax.random.key(0), (2, 8, 12, 3))
    variables = random_variables(model, images)
    _, endpoints = jax.jit(model.apply)(variables, images)
    assert endpoints["features"].shape == (2, 2, 3, 6)
    means = np.mean(endpoints["features"], (1, 2))
    np.testing.assert_allclose(endpoints["embedding"], means, atol=1e-6)


def test_attention_weights_are_endpoints_only_where_asked_for():
    model = dataclasses.replace(TINY, registers=1, pool="map", attention=True)
    images = jax.random.uniform(jax.random.key(0), (2, 8, 12, 3))
    variables = random_variables(model, images)
    logits, endpoints = jax.jit(model.apply)(variables, images)
    # The class token, a register and six patches.
    shapes = {
        "attention1": (2, 2, 8, 8),
        "attention2": (2, 2, 8, 8),
        "attention_pool": (2, 2, 1, 8),
    }
    for name, shape in shapes.items():
        np.testing.assert_allclose(endpoints[name].sum(-1), np.ones(shape[:-1]), atol=1e-6)
    model = dataclasses.replace(model, attention=False)
    without, others = jax.jit(model.apply)(variables, images)
    np.testing.assert_array_equal(without, logits)
    assert set(endpoints) - set(others) == set(shapes)


def test_stochastic_depth_skips_blocks_in_training_only():
    model = dataclasses.replace(TINY, drop_path=0.5)
    images = jax.random.uniform(jax.random.key(0), (8, 8, 8, 3))
    variables = random_variables(model, images)

    apply = jax.jit(model.apply, static_argnames="train")

    def logits(seed, train):
        return apply(variables, images, train=train, rngs={"dropout": jax.random.key(seed)})[0]

    np.testing.assert_array_equal(logits(1, False), logits(2, False))
    assert not np.array_equal(logits(1, True), logits(2, True))


def test_bfloat16_keeps_parameters_embedding_and_logits_in_float32():
    model = dataclasses.replace(TINY, dtype=jnp.bfloat16, layer_scale=1e-5, registers=1)
    images = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)
    (logits, endpoints), variables = jax.eval_shape(
        model.init_with_output, jax.random.key(0), images
    )
    assert endpoints["features"].dtype == jnp.bfloat16
    leaves = jax.tree.leaves((logits, endpoints["embedding"], variables))
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize(
    ("options", "size", "message"),
    [
        ({}, 10, "images are 10x10, need sides that are multiples of the patch of 4"),
        ({"class_token": False}, 8, 'pool is "token" without class_token, needs "mean"'),
        ({"heads": 4}, 8, "width is 6, needs a multiple of heads, 4"),
    ],
)
def test_what_does_not_fit_is_named(options, size, message):
    with pytest.raises(ValueError, match=message):
        count(dataclasses.replace(TINY, **options), size, size, 3)


@pytest.mark.parametrize(
    ("name", "option"),
    [("vit_tiny_patch16_224", name) for name in ("pool", "activation", "resampling")]
    + [("cnn", "padding"), ("resnet18", "stem"), ("efficientnet_lite0", "padding")],
)
def test_an_unknown_choice_is_refused(name, option):
    with pytest.raises(InputError, match=rf"model.options {option} is 'clss'; it must be one of"):
        build_model(name, **{option: "clss"})
