import jax.numpy as jnp
import numpy as np
import pytest
from marks import slow_but

from vision_jax.data.loader import Loader, read_all
from vision_jax.data.sources import ArraySource
from vision_jax.errors import InputError


def loader(source, **options):
    return Loader(source, **{"batch_size": 8, "train": True, "seed": 5, **options})


def test_an_epoch_holds_each_example_once_and_the_next_is_in_another_order(small_source):
    batches = loader(small_source)
    assert batches.steps_per_epoch == 6
    epochs = [
        np.concatenate([batches.indices(step) for step in range(e * 6, e * 6 + 6)])
        for e in range(2)
    ]
    for order in epochs:
        assert len(set(order.tolist())) == 48  # of 50: the incomplete last batch is dropped
    assert not np.array_equal(*epochs)
    again = np.concatenate([loader(small_source).indices(step) for step in range(6)])
    np.testing.assert_array_equal(again, epochs[0])
    other = np.concatenate([loader(small_source, seed=6).indices(step) for step in range(6)])
    assert not np.array_equal(other, epochs[0])


def test_evaluation_keeps_the_order_and_masks_the_padding(small_source):
    batches = loader(small_source, train=False)
    items = list(batches.items(0, batches.steps_per_epoch))
    assert [int(item["mask"].sum()) for item in items] == [8] * 6 + [2]
    assert all(item["index"].shape == (8,) for item in items)
    seen = np.concatenate([item["index"][item["mask"]] for item in items])
    np.testing.assert_array_equal(seen, np.arange(50))


@pytest.mark.parametrize("workers", slow_but([0, 2], range(4)))
def test_pixels_read_ahead_equal_pixels_on_the_device(small_source, workers):
    near = loader(small_source)
    far = loader(small_source, on_device_bytes=0, workers=workers)
    assert near.held_on_device
    assert not far.held_on_device
    resident = {name: jnp.asarray(rows) for name, rows in near.resident().items()}
    steps = zip(near.items(4, 9), far.items(4, 9), strict=True)
    for step, (index_item, pixel_item) in enumerate(steps, start=4):
        a = near.batch(resident, {k: jnp.asarray(v) for k, v in index_item.items()})
        b = far.batch({}, {k: jnp.asarray(v) for k, v in pixel_item.items()})
        assert a.keys() == b.keys() == {"image", "label", "mask"}
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])
        order = near.indices(step)
        expected = small_source.images[order].astype(np.float32) / 255
        np.testing.assert_allclose(a["image"], expected, rtol=1e-6)
        np.testing.assert_array_equal(a["label"], small_source.classes[order])


def test_processes_share_each_batch_between_them(small_source):
    whole = loader(small_source, train=False)
    parts = [loader(small_source, train=False, process=(i, 2)) for i in range(2)]
    for step in range(whole.steps_per_epoch):
        items = [part.item(step) for part in parts]
        for name, rows in whole.item(step).items():
            np.testing.assert_array_equal(np.concatenate([i[name] for i in items]), rows)


def test_a_source_without_labels_gives_none():
    source = ArraySource.from_arrays(np.zeros((5, 2, 2, 1), np.uint8))
    assert read_all(source).keys() == {"image"}
    item = loader(source, batch_size=2, on_device_bytes=0).item(0)
    assert item.keys() == {"image", "mask"}


def test_batch_sizes_that_cannot_be_are_named(small_source):
    with pytest.raises(InputError, match="64; it must be at most 50"):
        loader(small_source, batch_size=64)
    with pytest.raises(InputError, match="9; it must be a multiple of the 2 processes"):
        loader(small_source, batch_size=9, process=(0, 2))
