"""Arrays in parts: what is split comes together again, over any number of devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.parallel.shards import can_lay_out, laid_out, own_part, parts, whole

SHAPES = [(), (1,), (7,), (5, 3), (3, 3, 2, 5)]


def numbers(shape):
    return np.arange(1, np.prod(shape, dtype=int) + 1, dtype=np.float32).reshape(shape)


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_split_over_some_devices_is_laid_out_for_others(shape):
    array = numbers(shape)
    split = {1: array, **{n: np.asarray(parts(jnp.asarray(array), n)) for n in (2, 3, 4, 8)}}
    for n, found in split.items():
        # Nothing but zeros is added.
        assert np.sort(found.reshape(-1))[::-1][: array.size].tolist() == (
            np.sort(array.reshape(-1))[::-1].tolist()
        )
        for m, wanted in split.items():
            assert can_lay_out(found.shape, wanted.shape), (n, m)
            np.testing.assert_array_equal(laid_out(found, wanted.shape), wanted)


@pytest.mark.parametrize(("found", "wanted"), [((), ()), ((), (4,)), ((4,), ()), ((2,), (8,))])
def test_a_number_that_all_parts_share_stays(found, wanted):
    assert can_lay_out(found, wanted)
    np.testing.assert_array_equal(laid_out(np.full(found, 3.0), wanted), np.full(wanted, 3.0))


def test_another_size_is_no_other_split():
    assert not can_lay_out((4, 8, 1), (5, 10))
    assert not can_lay_out((32, 16), (2, 200, 1))


@pytest.mark.parametrize("shape", SHAPES)
def test_devices_take_their_parts_and_bring_them_together(shape):
    array = jnp.asarray(numbers(shape))

    def both(_):
        part = own_part(array)
        return part, whole(part, array)

    run = jax.vmap(both, axis_name="batch")
    own, together = run(jnp.arange(3))
    np.testing.assert_array_equal(own, parts(array, 3))
    np.testing.assert_array_equal(together, jnp.stack([array] * 3))
