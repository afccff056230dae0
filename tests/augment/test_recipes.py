import re
import typing
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from marks import slow_but

from vision_jax.augment.draws import per_example_keys
from vision_jax.augment.geometry import random_resized_crop
from vision_jax.augment.recipes import RECIPES, augment
from vision_jax.config import Recipe
from vision_jax.errors import InputError
from vision_jax.parallel.devices import Devices
from vision_jax.tasks.base import Needs, Task, TrainState
from vision_jax.training.steps import augmented

KEY = jax.random.key(3)
LONG_ONE_SLOW = slow_but(set(RECIPES) - {"strong"}, RECIPES)


def make_batch(height, width, channels, count=8):
    rng = np.random.default_rng(0)
    return {
        "image": jnp.asarray(rng.random((count, height, width, channels)), jnp.float32),
        "label": jnp.arange(count, dtype=jnp.int32),
        "mask": jnp.ones(count, bool),
    }


def rows(batch, start, stop):
    return {name: values[start:stop] for name, values in batch.items()}


def test_keys_do_not_depend_on_how_a_batch_is_spread():
    whole = per_example_keys(KEY, 0, 6)
    parts = [per_example_keys(KEY, first, 2) for first in (0, 2, 4)]
    np.testing.assert_array_equal(
        jax.random.key_data(whole), np.concatenate([jax.random.key_data(p) for p in parts])
    )


def test_mirroring_and_colours_tell_nothing_of_the_window():
    """A ramp shows what was cut, whether it was mirrored, and how its colours changed."""
    count, side = 1024, 64
    down, across = np.mgrid[:side, :side] / side
    ramps = np.stack([0.3 + 0.2 * across, 0.3 + 0.2 * down, np.full_like(down, 0.4)], -1)
    images = jnp.asarray(np.broadcast_to(ramps, (count, *ramps.shape)), jnp.float32)
    batch = {"image": images, "label": jnp.zeros(count, int), "mask": jnp.ones(count, bool)}
    for recipe in ("standard", "views"):
        seen = np.asarray(jax.jit(partial(augment, recipe=recipe))(KEY, batch)["image"])
        width = seen[:, 32, 48].sum(-1) - seen[:, 32, 16].sum(-1)
        height = seen[:, 48, 32].sum(-1) - seen[:, 16, 32].sum(-1)
        whole = np.isfinite(np.log(np.abs(width * height)))
        area, shape = np.abs(width * height)[whole], np.abs(height / width)[whole]
        figures = [area, np.log(shape), width[whole] > 0, seen[whole].mean((1, 2, 3))]
        told = np.corrcoef(figures)
        # Colours change a ramp's slope too, so area and brightness go together a little.
        assert abs(told[0, 2]) < 0.12, recipe
        assert abs(told[1, 3]) < 0.12, recipe


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(8, 9, 1), (66, 64, 3)])
@pytest.mark.parametrize("recipe", LONG_ONE_SLOW)
def test_augmented_parts_equal_the_augmented_whole(recipe, shape):
    batch = make_batch(*shape)
    apply = jax.jit(partial(augment, recipe=recipe, flip=True, pad_crop=2))
    whole = apply(KEY, batch, 0)
    parts = [apply(KEY, rows(batch, first, first + 4), first) for first in (0, 4)]
    for name, values in whole.items():
        joined = np.concatenate([np.asarray(part[name]) for part in parts])
        np.testing.assert_allclose(values, joined, atol=2e-6)
    found = np.asarray(whole["image"])
    assert found.shape == batch["image"].shape
    assert found.dtype == np.float32
    assert 0 <= found.min() <= found.max() <= 1
    assert not np.allclose(found, batch["image"], atol=1e-3)
    assert not np.allclose(found, apply(jax.random.key(4), batch, 0)["image"], atol=1e-3)
    assert ("label_weight" in whole) == (recipe == "strong")


def test_knobs_come_first_then_transforms_then_the_recipe():
    batch, names = make_batch(9, 9, 3), ("rotate", "grey")
    knobs, chosen, recipe = (
        {"flip": True, "pad_crop": 1},
        {"transforms": names},
        {"recipe": "light"},
    )

    @jax.jit
    def both_ways(batch):
        found = augment(KEY, batch, **knobs, **chosen, **recipe)
        then = augment(KEY, augment(KEY, augment(KEY, batch, **knobs), **chosen), **recipe)
        return found["image"], then["image"]

    np.testing.assert_allclose(*both_ways(batch), atol=1e-6)


def test_light_neither_mirrors_nor_turns():
    # A bright left half stays bright there, whatever is drawn.
    half = jnp.zeros((100, 16, 16, 1), jnp.float32).at[:, :, :8].set(0.6)
    batch = {"image": half, "mask": jnp.ones(100, bool)}
    found = np.asarray(jax.jit(partial(augment, recipe="light"))(KEY, batch)["image"])
    assert (found[:, :, :6].mean((1, 2, 3)) > found[:, :, 10:].mean((1, 2, 3)) + 0.2).all()
    assert (np.diff(found, axis=1) == 0).all()


def test_standard_enlarges_windows_of_large_images_alone():
    size = 64
    ramp = jnp.tile(
        jnp.linspace(0.2, 0.8, size, dtype=jnp.float32)[None, :, None, None], (40, 1, size, 1)
    )
    crop = jax.jit(partial(random_resized_crop, scale=(0.25, 1.0)))
    slopes = np.diff(
        np.asarray(crop(per_example_keys(KEY, 0, 40), ramp))[:, 8:-8, size // 2, 0], axis=1
    )
    zoom = (0.6 / (size - 1)) / slopes.mean(1)
    assert zoom.min() + 1e-3 >= 1
    assert zoom.max() < 2.5
    assert zoom.std() > 0.1


class TwoViews(Task):
    """A task whose step returns the views that it is given."""

    needs = Needs(views=2)

    def train_step(self, state, batch):
        return state, {"views": batch["views"]}


@pytest.mark.slow
@pytest.mark.parametrize("recipe", LONG_ONE_SLOW[1:])
def test_views_differ_and_depend_on_step_place_and_view_alone(recipe):
    batch = jax.tree.map(np.asarray, make_batch(8, 9, 3))
    start = TrainState.create(KEY, {"params": {}}, optax.identity())
    step = augmented(TwoViews(), partial(augment, recipe=recipe, transforms=("shift",)))

    def views_on(devices, *numbers):
        parallel = Devices.over(devices)
        views_of = parallel.pmap(
            lambda state, part: step(state, part)[1]["views"], in_axes=(None, 0), out_axes=0
        )
        states = [start.replace(step=jnp.int32(number)) for number in numbers]
        return [np.concatenate(np.asarray(views_of(s, parallel.shard(batch)))) for s in states]

    one, later = views_on(1, 5, 6)
    assert one.shape == (8, 2, 8, 9, 3)
    assert (np.abs(one[:, 0] - one[:, 1]).max((1, 2, 3)) > 1e-2).all()
    assert (np.abs(later - one).max((2, 3, 4)) > 1e-2).all()
    for devices in (2, 4):
        np.testing.assert_allclose(views_on(devices, 5)[0], one, atol=2e-6)


def test_views_keeps_the_colours_of_one_in_five_and_turns_one_in_five_grey():
    # Crops, mirroring and blur leave an image of one colour as it is.
    color = np.array([0.6, 0.4, 0.3], np.float32)
    batch = {"image": jnp.tile(color, (500, 64, 64, 1)), "mask": jnp.ones(500, bool)}
    found = np.asarray(jax.jit(partial(augment, recipe="views"))(KEY, batch)["image"])
    grey = np.ptp(found, axis=-1).max((1, 2)) < 1e-6
    kept = np.abs(found - color).max((1, 2, 3)) < 1e-5
    assert grey.mean() == pytest.approx(0.2, abs=0.06)  # deviation 0.018
    assert kept.mean() == pytest.approx(0.2 * 0.8, abs=0.06)


def test_views_blurs_large_images_alone():
    def roughness(side):
        # Blurred noise differs less from one pixel to the next.
        noise = np.random.default_rng(0).random((200, side, side, 1)).astype(np.float32)
        batch = {"image": jnp.asarray(noise), "mask": jnp.ones(200, bool)}
        found = np.asarray(jax.jit(partial(augment, recipe="views"))(KEY, batch)["image"])
        return np.median(np.abs(np.diff(found, axis=2)).mean((1, 2, 3)) / found.std((1, 2, 3)))

    assert roughness(64) < 0.9 * roughness(63)


def test_the_config_names_the_recipes_and_their_docstrings_say_what_they_are():
    assert typing.get_args(Recipe) == tuple(RECIPES)
    for recipe in RECIPES.values():
        assert re.match(r"[A-Z].*\.", recipe.__doc__)


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_an_accelerator_runs_no_host_code(platform):
    apply = jax.jit(partial(augment, recipe="strong"))
    module = jax.export.export(apply, platforms=[platform])(KEY, make_batch(66, 66, 3))
    assert not re.findall(r"callback|infeed|outfeed|stablehlo\.send", module.mlir_module())


def test_an_odd_batch_cannot_be_mixed():
    mixed = partial(augment, recipe="strong")
    with pytest.raises(InputError, match="a device's batch is 3; it must be even"):
        jax.eval_shape(mixed, KEY, make_batch(8, 8, 1, count=3))


def test_a_shift_beyond_the_image_is_refused():
    with pytest.raises(InputError, match=r"pad_crop is 8; it must be in \[0, 8\)"):
        augment(KEY, make_batch(8, 9, 1), pad_crop=8)
