from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from vision_jax.augment import policies
from vision_jax.augment.draws import per_example_keys

SIZE = (36, 40)
OPERATE = jax.jit(policies.operate)


@pytest.fixture(scope="module")
def image():
    """A soft colour image, uint8."""
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (5, 5, 3), np.uint8))
    return np.asarray(small.resize((SIZE[1], SIZE[0]), Image.Resampling.BICUBIC))


def moved(matrix):
    return lambda picture: picture.transform(
        picture.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
    )


def enhanced(enhancer, factor):
    return lambda picture: enhancer(picture).enhance(factor)


SHIFT = 150 / 331
CASES = [
    ("identity", 1.0, lambda picture: picture),
    # The published shears keep the top left; here the centre, half a side further, stays.
    ("shear_x", 0.5, moved((1, -0.15, 0.15 * SIZE[0] / 2, 0, 1, 0))),
    ("shear_y", -0.5, moved((1, 0, 0, 0.15, 1, -0.15 * SIZE[1] / 2))),
    ("translate_x", 0.5, moved((1, 0, -0.5 * SHIFT * SIZE[1], 0, 1, 0))),
    ("translate_y", -1.0, moved((1, 0, 0, 0, 1, SHIFT * SIZE[0]))),
    ("rotate", 1.0, lambda picture: picture.rotate(-30, Image.Resampling.BILINEAR)),
    ("brightness", 0.5, enhanced(ImageEnhance.Brightness, 1.45)),
    ("saturation", -1.0, enhanced(ImageEnhance.Color, 0.1)),
    ("contrast", -0.5, enhanced(ImageEnhance.Contrast, 0.55)),
    ("sharpness", 1.0, enhanced(ImageEnhance.Sharpness, 1.9)),
    ("posterize", -1.0, lambda picture: ImageOps.posterize(picture, 4)),
    ("posterize", 0.5, lambda picture: ImageOps.posterize(picture, 6)),
    ("solarize", 0.5, lambda picture: ImageOps.solarize(picture, 128)),
    ("autocontrast", 0.1, ImageOps.autocontrast),
    ("equalize", 0.1, ImageOps.equalize),
]


@pytest.mark.parametrize(("name", "strength", "reference"), CASES)
def test_operations_are_pillows(image, name, strength, reference):
    number = jnp.int32(policies.OPERATIONS.index(name))
    found = np.asarray(
        OPERATE(jnp.asarray(image, jnp.float32) / 255, number, jnp.float32(strength))
    )
    expected = np.asarray(reference(Image.fromarray(image))) / 255
    # Pillow rounds to levels; of a turned image's border it leaves out what is half outside.
    off = np.abs(found - expected).max(-1) > 2.01 / 255
    assert off.mean() <= (0.02 if name == "rotate" else 0)
    assert found.min() >= 0
    assert found.max() <= 1


def test_every_operation_of_the_table_is_tested():
    assert {name for name, _, _ in CASES} == set(policies.OPERATIONS)
    assert len(policies.OPERATIONS) == 14


def test_on_accelerators_the_branches_are_chosen_and_give_the_same():
    images = jnp.asarray(np.random.default_rng(0).random((40, 20, 18, 3)), jnp.float32)
    keys = per_example_keys(jax.random.key(4), 0, 40)
    both = jax.jit(policies.trivial_augment)
    module = jax.export.export(both, platforms=["tpu"])(keys, images).mlir_module()
    assert "callback" not in module

    def one(key, image):
        chosen, strength = jax.random.split(key)
        return policies.operate(
            image,
            jax.random.randint(chosen, (), 0, 14),
            jax.random.uniform(strength, (), jnp.float32, -1, 1),
        )

    np.testing.assert_allclose(both(keys, images), jax.jit(jax.vmap(one))(keys, images), atol=2e-6)


def test_shifts_are_drawn_as_often_as_one_operation_in_14_and_either_way():
    keys = per_example_keys(jax.random.key(0), 0, 1400)
    images = jnp.zeros((1400, 11, 11, 1), jnp.float32).at[:, 5, 5].set(1)
    augment = jax.jit(partial(policies.rand_augment, count=1, magnitude=0.6))
    found = np.asarray(augment(keys, images))[..., 0]
    # 0.6 of 150/331 of 11 pixels are 2.99 pixels either way.
    right, left = found[:, 5, 8] > 0.9, found[:, 5, 2] > 0.9
    down, up = found[:, 8, 5] > 0.9, found[:, 2, 5] > 0.9
    for count in (right.sum(), left.sum(), down.sum(), up.sum()):
        assert 25 <= count <= 80  # 50 expected, deviation 7


def test_rand_augment_applies_as_many_as_told():
    images = jnp.asarray(np.random.default_rng(0).random((64, 16, 16, 3)), jnp.float32)
    keys = per_example_keys(jax.random.key(0), 0, 64)
    changed = [
        float(
            jnp.mean(
                jnp.abs(jax.jit(partial(policies.rand_augment, count=n))(keys, images) - images)
            )
        )
        for n in (1, 3)
    ]
    assert changed[0] < changed[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"count": 0}, "count is 0"), ({"magnitude": 1.5}, r"magnitude is 1.5; .* \[0, 1\]")],
)
def test_values_out_of_range_are_named(options, message):
    keys, images = per_example_keys(jax.random.key(0), 0, 1), jnp.zeros((1, 4, 4, 1), jnp.float32)
    with pytest.raises(ValueError, match=message):
        partial(policies.rand_augment, **options)(keys, images)
