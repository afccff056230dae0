"""Stages of models, and what trains in other ways than the rest."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict

from vision_jax.models import build_model
from vision_jax.tasks.classification import Classification
from vision_jax.tasks.optimizer import build_optimizer
from vision_jax.tasks.stages import merge, split, stage_depths

SHAPE = (32, 32, 3)


@pytest.mark.parametrize(
    ("name", "options", "deepest_first"),
    [
        ("cnn", {"padding": "SAME", "stages": (4, 4)}, ["conv1", "conv2", "dense", "logits"]),
        ("resnet18", {}, ["bn1", "layer1", "layer2", "layer3", "layer4", "fc"]),
        (
            "vit_tiny_patch16_224",
            {"depth": 2, "image_size": 32},
            ["patch_embed", "blocks/1", "norm", "head"],
        ),
    ],
)
def test_stages_are_those_that_the_endpoints_show(name, options, deepest_first):
    depths = stage_depths(build_model(name, num_classes=3, **options), SHAPE)
    found = [
        {depth for path, depth in depths.items() if path.startswith(f"{first}/")}
        for first in deepest_first
    ]
    assert found == [{depth} for depth in reversed(range(len(deepest_first)))]


def test_a_decoder_is_behind_the_embedding():
    depths = stage_depths(build_model("conv_autoencoder", image_shape=SHAPE), SHAPE)
    assert {path.partition("/")[0]: depth for path, depth in depths.items()} == {
        "encoder": 1,
        "decoder": 0,
    }


def test_parts_of_a_tree_come_together_again():
    tree = {"a": {"x": 1, "y": 2}, "b": {"x": 3}}
    others, chosen = split(tree, {"a/x", "b/x"})
    assert (others, chosen) == ({"a": {"y": 2}}, {"a": {"x": 1}, "b": {"x": 3}})
    assert merge(others, chosen) == tree
    assert merge(*split(tree, ())) == tree


def updates_of(rule, params, grads):
    with jax.numpy_dtype_promotion("standard"):
        state, path = rule.init(params), []
        for grad in grads:
            updates, state = jax.jit(rule.update)(grad, state, params)
            params = optax.apply_updates(params, updates)
            path.append(params)
    return path


@pytest.fixture
def tree(normal):
    shapes = {"low": (2, 3), "high": (3, 2), "head": (2,)}
    params = {name: {"kernel": normal(i, *shape)} for i, (name, shape) in enumerate(shapes.items())}
    grads = [jax.tree.map(lambda p, s=seed: jnp.cos(p * s), params) for seed in (1.0, 2.0, 3.0)]
    return params, grads


DEPTHS = {"low/kernel": 2, "high/kernel": 1, "head/kernel": 0}


@pytest.mark.parametrize("name", ["sgd", "adamw", "lion"])
def test_each_stage_has_the_rate_that_optax_is_given_by_hand(name, tree):
    params, grads = tree
    rate, decay = (lambda step: 0.1 / (1 + step)), 0.3
    plain = {"weight_decay": 0.2, "momentum": 0.8}
    own = build_optimizer(name, schedule=rate, depths=DEPTHS, layer_decay=decay, **plain)
    by_hand = optax.partition(
        {
            depth: build_optimizer(name, schedule=lambda s, d=depth: rate(s) * decay**d, **plain)
            for depth in (0, 1, 2)
        },
        {name: {"kernel": DEPTHS[f"{name}/kernel"]} for name in params},
    )
    for a, b in zip(*(updates_of(rule, params, grads) for rule in (own, by_hand)), strict=True):
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7), a, b)


def test_the_rule_begins_anew_once_the_head_has_trained_alone(tree):
    params, grads = tree
    plain = {"schedule": lambda step: 0.1, "weight_decay": 0.2}
    path = updates_of(build_optimizer("adamw", depths=DEPTHS, head_steps=2, **plain), params, grads)
    rest = {name: params[name] for name in ("low", "high")}
    late = updates_of(build_optimizer("adamw", **plain), rest, [{n: grads[2][n] for n in rest}])
    for name in rest:
        for early in path[:2]:
            np.testing.assert_array_equal(early[name]["kernel"], params[name]["kernel"])
        np.testing.assert_allclose(path[2][name]["kernel"], late[0][name]["kernel"], rtol=1e-6)
    whole = updates_of(build_optimizer("adamw", **plain), params, grads)
    for a, b in zip(path, whole, strict=True):
        np.testing.assert_allclose(a["head"]["kernel"], b["head"]["kernel"], rtol=1e-6)


def flops(task, state, batch):
    step = jax.vmap(task.train_step, (None, 0), out_axes=None, axis_name="batch")
    return jax.jit(step).lower(state, batch).compile().cost_analysis()["flops"]


@pytest.mark.slow
def test_a_frozen_backbone_costs_its_forward_pass_alone():
    model = build_model("cnn", num_classes=3, stages=(16, 16), hidden=8, padding="SAME")
    depths = stage_depths(model, SHAPE)
    frozen = frozenset(path for path, depth in depths.items() if depth)
    task = Classification(model, optax.adam(1e-3), accumulate=1)
    probe = dataclasses.replace(task, frozen=frozen)
    batch = {
        "image": jnp.ones((1, 4, *SHAPE)),
        "label": jnp.zeros((1, 4), jnp.int32),
        "mask": jnp.ones((1, 4), bool),
    }
    states = [each.init(jax.random.key(0), {"image": batch["image"][0]}) for each in (task, probe)]
    forward = jax.jit(task.embed).lower(states[0], batch["image"][0]).compile()
    alone = forward.cost_analysis()["flops"]
    whole, part = (flops(t, s, batch) for t, s in zip((task, probe), states, strict=True))
    assert part < 1.2 * alone < 0.6 * whole
    # Nor does the optimizer hold anything for it.
    held = optax.tree.get(states[1].opt_state, "mu")
    assert set(flatten_dict(held, sep="/")) == {"logits/kernel", "logits/bias"}
