import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.augment.draws import fold_in, per_example_keys
from vision_jax.augment.geometry import random_flip, random_rotation
from vision_jax.augment.recipes import augment
from vision_jax.augment.transforms import TRANSFORMS, apply_transforms
from vision_jax.errors import InputError

KEY = jax.random.key(4)


def make_images(channels, count=12):
    return jnp.asarray(np.random.default_rng(0).random((count, 9, 7, channels)), jnp.float32)


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_an_image_depends_on_its_key_alone(name, channels):
    images, keys = make_images(channels), per_example_keys(KEY, 0, 12)
    transform = jax.jit(TRANSFORMS[name])
    whole = np.asarray(transform(keys, images))
    parts = [transform(keys[i : i + 4], images[i : i + 4]) for i in (0, 4, 8)]
    np.testing.assert_allclose(whole, np.concatenate(parts), atol=1e-6)
    assert whole.dtype == np.float32
    assert whole.min() >= 0
    assert whole.max() <= 1
    if (name, channels) != ("grey", 1):
        assert not np.allclose(whole, images)
        assert not np.allclose(whole, transform(per_example_keys(jax.random.key(5), 0, 12), images))


def test_names_apply_in_their_order_with_independent_draws():
    images, keys = make_images(3), per_example_keys(KEY, 0, 12)

    @jax.jit
    def both_ways(images):
        found = apply_transforms(keys, images, ("flip", "rotate", "flip"))
        expected = random_flip(fold_in(keys, 0), images)
        return found, random_flip(fold_in(keys, 2), random_rotation(fold_in(keys, 1), expected))

    np.testing.assert_allclose(*both_ways(images), atol=1e-5)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ("flip", "rotat"),
            "'rotat'; did you mean 'rotate'? it must be one of flip, vertical_flip",
        ),
        (("xyz",), "'xyz'; it must be one of flip, vertical_flip"),
        ("flip", "'flip'; it must be a sequence of names"),
    ],
)
def test_an_unknown_name_is_refused_with_the_choices(names, message):
    with pytest.raises(InputError, match=f"transforms is {re.escape(message)}"):
        apply_transforms(per_example_keys(KEY, 0, 12), make_images(1), names)


def test_one_function_and_one_line_add_a_transform(monkeypatch):
    monkeypatch.setitem(TRANSFORMS, "invert", lambda keys, images: 1 - images)
    batch = {"image": make_images(1), "mask": jnp.ones(12, bool)}
    found = augment(KEY, batch, transforms=("invert",))
    np.testing.assert_array_equal(found["image"], 1 - batch["image"])


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_an_accelerator_runs_no_host_code(platform):
    apply = jax.jit(partial(apply_transforms, names=tuple(TRANSFORMS)))
    exported = jax.export.export(apply, platforms=[platform])
    module = exported(per_example_keys(KEY, 0, 12), make_images(3)).mlir_module()
    assert not re.findall(r"callback|infeed|outfeed|stablehlo\.send", module)
