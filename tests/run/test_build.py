import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.config import (
    TASKS,
    AutoencoderConfig,
    DataConfig,
    GANConfig,
    ModelConfig,
    OptimizerConfig,
    TrainAutoencoder,
    TrainClassifier,
    TrainCNN,
    TrainGAN,
    TrainMetric,
    TrainSelfSupervised,
)
from vision_jax.data.info import DataInfo
from vision_jax.data.loader import blank_batch
from vision_jax.errors import InputError
from vision_jax.run.build import build_task, task_class
from vision_jax.run.config_file import from_json

INFO = DataInfo((28, 28, 1), tuple("0123456789"), 1000, 10)
SMALL = ModelConfig("cnn", {"stages": [8], "padding": "SAME"})
CONFIGS = [
    TrainCNN(),
    TrainClassifier(model=SMALL),
    TrainAutoencoder(),
    TrainAutoencoder(model=AutoencoderConfig(kind="dense")),
    TrainAutoencoder(model=AutoencoderConfig(kind="variational")),
    TrainGAN(),
    TrainMetric(model=SMALL, loss="contrastive", memory=64),
    TrainSelfSupervised(model=SMALL, method="byol", width=8),
    TrainCNN(class_weights={"3": 2.0, "7": 1.0}, focal_gamma=2.0),
]


def state_shapes(config, about=INFO):
    task = build_task(config, about)
    return jax.eval_shape(task.init, jax.random.key(0), blank_batch(about.image_shape))


def size(tree):
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


def test_every_family_has_a_config_and_a_task():
    assert {type(config) for config in CONFIGS} == set(TASKS.values())
    for config in CONFIGS:
        assert TASKS[config.name] is type(config)
        assert isinstance(build_task(config, INFO), task_class(config))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.name}-{c.model}"[:40])
def test_configs_round_trip_and_build_networks(config):
    assert from_json(config.to_json(), origin="text") == config
    assert size(state_shapes(config).params) > 1000


def test_defaults_are_the_networks_own():
    kinds = ("conv", "dense", "variational")
    sizes = [
        size(state_shapes(TrainAutoencoder(model=AutoencoderConfig(kind=kind))).params)
        for kind in kinds
    ]
    assert sizes == [3_801, 2_837_314, 815_824]
    config = TrainAutoencoder(model=AutoencoderConfig(kind="dense", hidden=(5,), code=2))
    assert size(state_shapes(config).params) == 784 * 5 + 5 + 5 * 2 + 2 + 2 * 5 + 5 + 5 * 784 + 784


def test_the_gans_default_at_16x16x3_is_the_published_one():
    about = dataclasses.replace(INFO, image_shape=(16, 16, 3))
    state = state_shapes(TrainGAN(), about)
    generator = (state.params["generator"], state.stats["generator"])
    assert size(generator) == 1_455_552
    assert size(state.params["discriminator"]) == 211_841
    assert TrainGAN().optimizer == OptimizerConfig(
        learning_rate=1e-4, schedule="constant", momentum=0.5
    )


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.name}-{c.model}"[:40])
def test_precision_reaches_every_network(config):
    """In bfloat16 products differ a little; what comes out is float32."""
    task = build_task(dataclasses.replace(config, precision="bfloat16"), INFO)
    state = state_shapes(config)
    step = jax.vmap(task.train_step, (None, 0), out_axes=None, axis_name="batch")
    batch = blank_batch(INFO.image_shape)
    if task.needs.views:
        batch["views"] = jnp.stack([batch["image"]] * task.needs.views, 1)
    batch = jax.tree.map(lambda x: x[None], batch)
    jaxpr = str(jax.make_jaxpr(step)(state, batch))
    assert "bf16" in jaxpr
    embedding = jax.eval_shape(task.embed, state, jnp.zeros((1, 28, 28, 1)))
    assert embedding.dtype == jnp.float32
    after, metrics = jax.eval_shape(step, state, batch)
    for leaf in jax.tree.leaves((after.params, after.stats, metrics)):
        assert leaf.dtype == jnp.float32


def test_the_optimizer_has_the_configs_momentum():
    def after_two_steps(momentum):
        optimizer = OptimizerConfig(name="sgd", schedule="constant", momentum=momentum)
        config = TrainAutoencoder(optimizer=optimizer)
        rule = build_task(config, INFO).optimizer
        params = {"w": jnp.ones(3)}
        with jax.numpy_dtype_promotion("standard"):
            state = rule.init(params)
            for sign in (1.0, -1.0):
                updates, state = rule.update({"w": jnp.full(3, sign)}, state, params)
        return np.asarray(updates["w"])

    # Nesterov's: the gradient -1 and 0.9 of the running mean -1 + 0.9 · 1, times the rate.
    np.testing.assert_allclose(after_two_steps(0.0), 1e-3, rtol=1e-5)
    np.testing.assert_allclose(after_two_steps(0.9), 1.09e-3, rtol=1e-5)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: AutoencoderConfig(hidden=()), "model.hidden"),
        (lambda: AutoencoderConfig(code=0), "model.code is 0"),
        (lambda: AutoencoderConfig(beta=-1.0), "model.beta is -1.0"),
        (lambda: GANConfig(generator=()), "model.generator"),
        (lambda: GANConfig(discriminator=(0,)), "model.discriminator"),
        (lambda: GANConfig(latent_size=0), "model.latent_size is 0"),
        (lambda: GANConfig(dropout=1.0), "model.dropout is 1.0"),
        (lambda: GANConfig(r1=-1.0), "model.r1 is -1.0"),
        (lambda: GANConfig(ema=1.0), "model.ema is 1.0"),
        (lambda: OptimizerConfig(momentum=1.0), "optimizer.momentum is 1.0"),
    ],
)
def test_values_out_of_range_are_named(build, message):
    with pytest.raises(InputError, match=message):
        build().check()


def test_a_classifier_needs_labels():
    about = dataclasses.replace(INFO, label_names=None)
    with pytest.raises(InputError, match="has no labels"):
        build_task(TrainCNN(data=DataConfig(name="digits")), about)


def test_several_labels_are_refused_where_one_is_needed_alone():
    several = dataclasses.replace(INFO, multi_label=True)
    assert build_task(TrainSelfSupervised(model=SMALL), several).needs.views == 2
    with pytest.raises(InputError, match="several labels an image; metric needs one"):
        build_task(TrainMetric(model=SMALL), several)


def test_options_that_other_settings_decide_are_refused():
    config = TrainClassifier(model=ModelConfig("resnet18", {"num_classes": 3}))
    with pytest.raises(InputError, match=r"model\.options has num_classes; labels"):
        build_task(config, INFO)


def test_classes_weigh_what_is_asked():
    counted = dataclasses.replace(INFO, class_counts=(91, *[1] * 9))
    given = build_task(TrainCNN(class_weights={"3": 2.0, "7": 0.5}), INFO)
    assert given.class_weights == (1, 1, 1, 2, 1, 1, 1, 0.5, 1, 1)
    balanced = build_task(TrainCNN(class_weights="balanced"), counted)
    np.testing.assert_allclose(balanced.class_weights, [10 / 91, *[10] * 9])
    alike = build_task(TrainCNN(class_weights="effective", effective_beta=0.0), counted)
    np.testing.assert_allclose(alike.class_weights, 1)
    assert build_task(TrainCNN(), INFO).class_weights is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"class_weights": {"cat": 1.0}},
            "class_weights names cat; it must name classes of digits",
        ),
        ({"class_weights": {"3": -1.0}}, "class_weights of 3 is -1.0; it must be at least 0"),
        ({"effective_beta": 0.5}, "effective_beta is 0.5; it must be given with class_weights"),
        ({"class_weights": "effective", "effective_beta": 1.0}, "effective_beta is 1.0"),
        ({"focal_gamma": -1.0}, "focal_gamma is -1.0; it must be at least 0"),
    ],
)
def test_bad_weights_are_refused(options, message):
    with pytest.raises(InputError, match=re.escape(message)):
        build_task(TrainCNN(**options), INFO)
