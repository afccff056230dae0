"""Attention rollout against products in NumPy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import vision_jax
from vision_jax.errors import InputError
from vision_jax.explain import saliency
from vision_jax.models import build_model
from vision_jax.tasks.classification import Classification


def vit_run(run, **options):
    """A run of a small vision transformer, not trained."""
    options = {"depth": 3, "width": 16, "heads": 2, "image_size": 8, "patch": 2} | options
    task = Classification(
        build_model("vit_tiny_patch16_224", num_classes=10, **options), optax.sgd(1)
    )
    state = jax.jit(task.init)(jax.random.key(0), {"image": np.zeros((1, 8, 8, 1), np.float32)})
    # Kernels as drawn attend to all tokens alike.
    state = state.replace(params=jax.tree.map(lambda values: 5 * values, state.params))
    return dataclasses.replace(run, task=task, state=state)


@pytest.fixture(scope="module")
def run(workdir):
    return vision_jax.load_run(workdir)


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["token", "mean"])
def test_rollout_multiplies_the_attention_of_all_blocks(run, digits, pool):
    images = digits[0][:3]
    vit = vit_run(run, pool=pool)
    maps = saliency(vit, images, "attention_rollout")
    model = vit.task.model.clone(attention=True)
    _, ends = model.apply(vit.state.variables, jnp.float32(images) / 255)
    flow = np.eye(17)
    for block in (1, 2, 3):
        weights = np.asarray(ends[f"attention{block}"]).mean(1)
        flow = (weights + np.eye(17)) / 2 @ flow
    seen = flow[:, 0, 1:] if pool == "token" else flow[:, 1:, 1:].mean(1)
    # Bilinear interpolation to twice the size keeps the mean of what lies around each corner.
    cells = seen.reshape(3, 4, 4)
    corners = cells[:, ::3, ::3]
    np.testing.assert_allclose(maps[:, ::7, ::7], corners, rtol=1e-4)
    inner = (9 * cells[:, 1, 1] + 3 * cells[:, 1, 2] + 3 * cells[:, 2, 1] + cells[:, 2, 2]) / 16
    np.testing.assert_allclose(maps[:, 3, 3], inner, rtol=1e-4)


@pytest.mark.slow
def test_a_vision_transformer_has_maps_by_every_way(run, digits):
    """Grad-CAM looks at the tokens before the last block, on which the class token depends."""
    maps = saliency(vit_run(run), digits[0][:3], "grad_cam", 3)
    assert (maps.max((1, 2)) > 0).any()


def test_a_network_without_attention_is_refused(run, digits):
    with pytest.raises(InputError, match="the network has no attention; a vision transformer"):
        saliency(run, digits[0][:1], "attention_rollout")
    with pytest.raises(InputError, match="target is 3; attention_rollout explains the embedding"):
        saliency(vit_run(run), digits[0][:1], "attention_rollout", 3)
