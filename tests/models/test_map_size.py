import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.models import build_model
from vision_jax.models.map_size import map_bytes
from vision_jax.parallel.devices import Devices


def found(model, shape):
    images = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    return map_bytes(model.apply, jax.eval_shape(model.init, jax.random.key(0), images), shape)


@pytest.mark.parametrize(
    ("name", "shape", "largest"),
    [
        ("cnn", (224, 224, 3), (222, 222, 32)),
        ("resnet18", (224, 224, 3), (112, 112, 64)),
        ("efficientnet_lite0", (224, 224, 3), (112, 112, 96)),
        ("vit_base_patch16_224", (224, 224, 3), (197, 4 * 768)),
    ],
)
def test_the_largest_map_is_the_one_that_the_architecture_has(name, shape, largest):
    assert found(build_model(name, num_classes=10), shape) == 4 * np.prod(largest)


def test_it_is_as_large_as_what_is_computed():
    model = build_model("resnet18", num_classes=10)
    images = jnp.zeros((1, 32, 32, 3))
    variables = jax.jit(model.init)(jax.random.key(0), images)
    _, seen = model.apply(variables, images, capture_intermediates=True, mutable="intermediates")
    largest = max(leaf.nbytes for leaf in jax.tree.leaves(seen))
    assert map_bytes(model.apply, variables, (32, 32, 3)) == largest


def test_a_type_of_half_the_size_makes_maps_of_half_the_size():
    whole, half = (
        found(build_model("cnn", num_classes=10, dtype=dtype), (64, 64, 3))
        for dtype in (jnp.float32, jnp.bfloat16)
    )
    assert whole == 2 * half == 4 * 62 * 62 * 32


def test_weights_are_no_maps_and_what_lies_within_a_compiled_part_is_one():
    @jax.jit
    def inner(pixels):
        return jnp.repeat(pixels, 5, axis=1).sum(1, keepdims=True)

    def apply(weights, images):
        pixels = images.reshape(len(images), -1)
        return inner(pixels) + (pixels @ weights.astype(jnp.float32)).sum(1, keepdims=True)

    weights = jax.ShapeDtypeStruct((16, 3), jnp.bfloat16)
    assert map_bytes(apply, weights, (4, 4, 1)) == 4 * 5 * 16


@pytest.mark.parametrize(
    ("largest", "sizes"),
    [(100_352, (64, 16, 1)), (200_704, (32, 8, 1)), (3_211_264, (2, 1)), (12_845_056, (2, 1))],
)
def test_as_many_images_are_computed_at_a_time_as_caches_hold(largest, sizes):
    assert Devices.over(1).row_sizes(lambda: largest) == sizes


def test_an_accelerator_computes_many_images_and_no_map_is_measured(monkeypatch):
    monkeypatch.setattr(Devices, "_is_cpu", False)
    assert Devices.over(1).row_sizes(pytest.fail) == (256, 32, 1)
