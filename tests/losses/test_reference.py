"""Losses and gradients are those of pytorch-metric-learning or of published code.

`make_reference.py` says how `reference.npz` was made.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.losses import contrastive, metric

REFERENCE = dict(np.load(Path(__file__).with_name("reference.npz")))
LABELS = jnp.asarray(REFERENCE["labels"], jnp.int32)
TWICE = jnp.concatenate([jnp.arange(24), jnp.arange(24)])


def pairwise(loss, **options):
    return (lambda vectors: loss(vectors, LABELS, **options),)


def softmax(**options):
    return (lambda vectors, centres: metric.margin_softmax(vectors, LABELS, centres, **options),)


def views(*inputs):
    return jnp.stack(inputs, 1)


CASES = {
    "norm_softmax": (*softmax(scale=20.0), "vectors", "centres"),
    "cosface": (*softmax(cosine_margin=0.35), "vectors", "centres"),
    "arcface": (*softmax(angular_margin=np.deg2rad(28.6).item()), "vectors", "centres"),
    "sub_centre_arcface": (
        *softmax(angular_margin=np.deg2rad(28.6).item()),
        "vectors",
        "sub_centres",
    ),
    "proxy_anchor": (
        lambda *rows: metric.proxy_anchor(rows[0], LABELS, rows[1]),
        "vectors",
        "centres",
    ),
    "multi_similarity": (*pairwise(metric.multi_similarity, epsilon=None), "tight"),
    "multi_similarity_mined": (*pairwise(metric.multi_similarity), "tight"),
    "batch_hard": (*pairwise(metric.triplet), "vectors"),
    "semi_hard": (*pairwise(metric.triplet, mining="semi_hard"), "vectors"),
    "smooth_ap": (
        lambda rows: metric.smooth_ap(rows, jnp.arange(16) // 4, temperature=0.1),
        "square",
    ),
    "supervised_contrastive": (*pairwise(contrastive.supervised_contrastive), "vectors"),
    "nt_xent": (
        lambda *rows: contrastive.supervised_contrastive(
            jnp.concatenate(rows), TWICE, temperature=0.5
        ),
        "vectors",
        "right",
    ),
    "vicreg": (contrastive.vicreg, "vectors", "right"),
    "barlow_twins": (contrastive.barlow_twins, "vectors", "right"),
    "byol": (
        lambda *rows: contrastive.prediction(views(*rows), views(*rows)),
        "vectors",
        "right",
    ),
    "dino": (
        lambda *rows: contrastive.dino(*rows, jnp.asarray(REFERENCE["centre"])),
        "student",
        "teacher",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_value_and_gradient(name):
    loss, *keys = CASES[name]
    inputs = [jnp.asarray(REFERENCE[key]) for key in keys]
    value, grads = jax.jit(
        jax.value_and_grad(lambda *rows: jnp.mean(loss(*rows)), tuple(range(len(inputs))))
    )(*inputs)
    np.testing.assert_allclose(value, REFERENCE[f"{name}/value"], rtol=1e-5, atol=1e-5)
    for key, grad in zip(keys, grads, strict=True):
        np.testing.assert_allclose(
            grad, REFERENCE[f"{name}/{key}"], rtol=1e-5, atol=1e-5, err_msg=key
        )


def test_cases_are_all_that_are_stored():
    assert set(CASES) == {key.split("/")[0] for key in REFERENCE if key.endswith("/value")}
