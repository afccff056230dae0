from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.augment import mixing
from vision_jax.augment.draws import per_example_keys
from vision_jax.errors import InputError

KEY = jax.random.key(1)


@pytest.fixture(scope="module")
def images():
    return jnp.asarray(np.random.default_rng(0).random((8, 12, 10, 3)), jnp.float32)


@pytest.fixture(scope="module")
def keys():
    return per_example_keys(KEY, 0, 8)


def swapped(rows):
    return np.asarray(rows)[[1, 0, 3, 2, 5, 4, 7, 6]]


def test_erasing_covers_one_box_of_one_colour(images, keys):
    found = np.asarray(jax.jit(partial(mixing.random_erasing, probability=1.0))(keys, images))
    for erased, original in zip(found, np.asarray(images), strict=True):
        changed = (erased != original).any(-1)
        rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
        if len(rows):  # a box may fall between the centres of pixels
            box = erased[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            assert (box == box[0, 0]).all()
            np.testing.assert_array_equal(erased[~changed], original[~changed])
            assert 0 <= box.min() <= box.max() <= 1
    never = jax.jit(partial(mixing.random_erasing, probability=0.0))
    np.testing.assert_array_equal(never(keys, images), images)


def test_erasing_draws_its_share_of_images_and_area():
    many = jnp.full((2000, 30, 30, 1), -1, jnp.float32)
    keys = per_example_keys(KEY, 0, 2000)
    erased = jax.jit(partial(mixing.random_erasing, probability=0.3))(keys, many)
    covered = (np.asarray(erased) >= 0).mean((1, 2, 3))
    assert (covered > 0).mean() == pytest.approx(0.3, abs=0.04)  # deviation 0.01
    assert covered[covered > 0].mean() == pytest.approx((0.02 + 1 / 3) / 2, abs=0.02)
    assert covered.max() < 0.36


def test_a_box_covers_the_pixels_whose_centres_lie_within():
    corner, sides = jnp.array([1.4, -3.0], jnp.float32), jnp.array([2.2, 5.0], jnp.float32)
    expected = np.zeros((5, 6), bool)
    expected[1:4, 0:2] = True  # centres from 1.4 up to 3.6, and from -3 up to 2
    expected[3:, :] = 3.5 < 3.6
    expected[4:, :] = False
    expected[:, 2:] = False
    np.testing.assert_array_equal(mixing.box_mask((5, 6), corner, sides), expected)


def test_mixup_is_the_weighted_mean_of_the_pair(images, keys):
    mixed, share = (
        np.asarray(part) for part in jax.jit(partial(mixing.mixup, alpha=1.0))(keys, images)
    )
    weight = share[:, None, None, None]
    np.testing.assert_allclose(
        mixed, weight * np.asarray(images) + (1 - weight) * swapped(images), atol=1e-6
    )
    np.testing.assert_array_equal(share, swapped(share))
    assert len(set(share.tolist())) == 4


def test_cutmix_exchanges_a_box_whose_area_is_the_share(images, keys):
    mixed, share = (np.asarray(part) for part in jax.jit(mixing.cutmix)(keys, images))
    foreign = (mixed != np.asarray(images)).any(-1)
    np.testing.assert_allclose(1 - foreign.mean((1, 2)), share, atol=1e-6)
    np.testing.assert_array_equal(mixed[foreign], swapped(images)[foreign])
    np.testing.assert_array_equal(foreign, swapped(foreign))
    for box in foreign:
        assert box.sum() == box.any(0).sum() * box.any(1).sum()


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_weights_are_beta_distributed(alpha):
    images = jnp.zeros((4000, 1, 1, 1), jnp.float32)
    mixup = jax.jit(partial(mixing.mixup, alpha=alpha))
    _, share = mixup(per_example_keys(KEY, 0, 4000), images)
    weights = np.asarray(share)[::2]
    assert weights.mean() == pytest.approx(0.5, abs=0.04)
    assert weights.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)
    assert (weights >= 0).all()
    assert (weights <= 1).all()


def test_a_pair_depends_on_its_key_alone(images, keys):
    batch = {
        "image": images,
        "label": jnp.arange(8, dtype=jnp.int32),
        "mask": jnp.ones(8, bool),
    }
    mix = jax.jit(mixing.mix)
    whole = mix(keys, batch)
    parts = [
        mix(keys[i : i + 2], {name: rows[i : i + 2] for name, rows in batch.items()})
        for i in (0, 2, 4, 6)
    ]
    for name, rows in whole.items():
        joined = np.concatenate([np.asarray(part[name]) for part in parts])
        np.testing.assert_allclose(rows, joined, atol=1e-6)
    np.testing.assert_array_equal(whole["label"], np.arange(8))
    np.testing.assert_array_equal(whole["label_other"], swapped(np.arange(8)))


def test_either_takes_both_ways_alike():
    rng = np.random.default_rng(0)
    batch = {
        "image": jnp.asarray(rng.random((400, 6, 6, 1)), jnp.float32),
        "label": jnp.zeros(400, jnp.int32),
        "mask": jnp.ones(400, bool),
    }
    keys = per_example_keys(KEY, 0, 400)
    mixed = {
        how: np.asarray(jax.jit(partial(mixing.mix, how=how))(keys, batch)["image"])
        for how in ("either", "mixup", "cutmix")
    }
    averaged, exchanged = (
        np.isclose(mixed["either"], mixed[how], atol=1e-6).all((1, 2, 3))
        for how in ("mixup", "cutmix")
    )
    assert (averaged | exchanged).all()
    assert 140 < averaged.sum() < 260


def test_a_pair_with_a_masked_image_stays_as_it_is(images, keys):
    batch = {
        "image": images,
        "label": jnp.arange(8, dtype=jnp.int32),
        "mask": jnp.arange(8) < 5,
    }
    mixed = jax.jit(partial(mixing.mix, how="mixup"))(keys, batch)
    np.testing.assert_array_equal(mixed["image"][4:], images[4:])
    np.testing.assert_array_equal(mixed["label_weight"][4:], np.ones(4))
    assert (np.asarray(mixed["label_weight"][:4]) < 1).any()


def test_what_cannot_be_mixed_is_named(images, keys):
    with pytest.raises(InputError, match="a device's batch is 7; it must be even"):
        mixing.mixup(keys[:7], images[:7])
    with pytest.raises(ValueError, match=r"alpha is 0.0; it must be above 0"):
        mixing.cutmix(keys, images, alpha=0.0)
    with pytest.raises(ValueError, match=r"probability is 2.0; it must be in \[0, 1\]"):
        mixing.random_erasing(keys, images, probability=2.0)
