"""Both forms of an inverted file's search, the lists split over devices, and its program."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vision_jax.errors import InputError
from vision_jax.parallel.devices import Devices
from vision_jax.search import CosineIndex, inverted_file, probing
from vision_jax.search.inverted_file import InvertedFile
from vision_jax.search.probing import PAGE, Pages

ITEMS, DIM = 3000, 16


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((40, DIM))
    rows = centers[rng.integers(0, 40, ITEMS)] + 0.5 * rng.standard_normal((ITEMS, DIM))
    rows[2000:2010] = rows[10:20]  # ties
    queries = np.concatenate([rows[8:20], rng.standard_normal((37, DIM))])
    return rows.astype(np.float32), queries.astype(np.float32)


def lists_of(rows, **options):
    return InvertedFile(rows, nlist=32, nprobe=4, **options)


def by_page(lists, queries, where, k, nprobe, held):
    centroids, pages = lists._held
    asked = jnp.asarray(queries / np.linalg.norm(queries, axis=1, keepdims=True))
    find = partial(probing.by_page, k=k, budget=lists._budget(nprobe), held=held)
    mask = np.zeros((1, 0), bool) if where is None else where
    return jax.jit(lambda pages: find(asked, centroids, jnp.asarray(mask), pages=pages))(pages)


@pytest.mark.parametrize(
    ("dtype", "masks"),
    [
        ("float32", None),
        pytest.param("int8", 1, marks=pytest.mark.slow),
        pytest.param("int8", 49, marks=pytest.mark.slow),
    ],
)
def test_the_form_by_page_equals_that_by_query(data, dtype, masks):
    queries, lists = data[1], lists_of(data[0], dtype=dtype)
    where = None if masks is None else np.random.default_rng(1).random((masks, ITEMS)) < 0.3
    for nprobe, held in ((1, 1 << 32), (8, 1 << 19)):
        size = probing._part_size(49, lists._held[1], lists._budget(nprobe), held, each=False)
        assert (size == 49) == (nprobe == 1)  # and otherwise in parts
        scores, ids = by_page(lists, queries, where, 10, nprobe, held)
        expected = lists.search(queries, 10, where, nprobe=nprobe)
        if where is not None and nprobe == 1:  # the search looks further where it finds few
            full = expected[1][:, -1] == np.asarray(ids)[:, -1]
            scores, ids = scores[full], ids[full]
            expected = expected[0][full], expected[1][full]
        np.testing.assert_array_equal(ids, expected[1])
        np.testing.assert_allclose(scores, expected[0], atol=1e-6)


@pytest.mark.slow
def test_int8_lists_score_the_vectors_as_an_int8_index_holds_them(data):
    index = CosineIndex(DIM, dtype="int8")
    index.add(data[0])
    scores, ids = index.search(data[1], 10)
    held = InvertedFile(index.vectors(index.ids), nlist=32, dtype="int8")
    found = held.search(data[1], 10, nprobe=32)
    np.testing.assert_array_equal(found[1], ids)
    np.testing.assert_allclose(found[0], scores, atol=1e-6)
    index.search(data[1], 10, method="inverted_file", nprobe=1)
    assert index._methods.current["inverted_file"].lists._held[1].rows.dtype == jnp.int8


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_lists_split_over_devices_answer_as_on_one(data, dtype):
    rows, queries = data
    one, four = (lists_of(rows, dtype=dtype, devices=d) for d in (None, Devices.over(4)))
    each = np.random.default_rng(1).random((len(queries), ITEMS)) < 0.3
    for where in (None, each[0], each):
        for ours, theirs in zip(
            four.search(queries, 10, where), one.search(queries, 10, where), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)
    held = four._held[1].rows.addressable_shards
    assert [shard.data.nbytes * 4 for shard in held] == [one._held[1].rows.nbytes] * 4


def test_devices_must_divide_a_page(data):
    with pytest.raises(InputError, match="devices is 3; a divisor of 32"):
        InvertedFile(data[0], devices=Devices.over(3))


def test_an_index_splits_its_lists_over_accelerators_only(monkeypatch):
    chips = jax.devices()
    assert inverted_file._devices_to_share(chips) is None
    monkeypatch.setattr(inverted_file, "_is_cpu", lambda device: False)
    assert inverted_file._devices_to_share(chips).count == 4
    assert inverted_file._devices_to_share(chips[:3]) is None
    assert inverted_file._devices_to_share(chips[:1]) is None


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize("queries", [1, 128, 4096])
def test_its_program_has_no_loop_over_queries(platform, queries):
    """A million int8 vectors of 128 numbers in 2,000 lists, of which 32 are looked at."""
    count, dim, nlist = 33_000, 128, 2000
    shape = jax.ShapeDtypeStruct
    pages = Pages(
        shape((count, PAGE, dim), jnp.int8),
        shape((count, PAGE), jnp.float32),
        shape((count, PAGE), jnp.int32),
        shape((count,), jnp.int32),
    )
    shapes = shape((queries, dim), jnp.float32), shape((nlist, dim), jnp.float32), pages
    budget = count * 32 // nlist
    find = jax.jit(lambda *args: probing.probe(*args, None, 10, budget))
    text = jax.export.export(find, platforms=[platform])(*shapes).mlir_module()
    size = probing._part_size(queries, pages, budget, probing.GATHERED, each=False)
    assert size == min(queries, 2048)
    assert text.count("stablehlo.while") == (queries > size)  # over parts alone
    for product in re.findall(r"dot_general.*?->", text):
        assert "HIGHEST, HIGHEST" in product  # and never TF32
    blocks, lanes = probing._blocks(size, budget, count)
    assert blocks * PAGE * lanes < 2.1 * max(size * budget * PAGE, count * PAGE)
    assert f"tensor<{blocks}x{PAGE}x{dim}xi8>" in text  # pages are gathered as they are stored
