import copy
import hashlib
import json
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import slow_but

from vision_jax.errors import InputError
from vision_jax.search import CosineIndex, cosine_top_k, device_rows, kernel
from vision_jax.search.index_file import IndexFileError

DIM = 16


def vectors(count, seed=0, dim=DIM):
    return np.random.default_rng(seed).standard_normal((count, dim), np.float32)


def brute_force(queries, gallery, ids, k):
    """Sort exact scores, ties by the lower id."""
    scores = unit(queries) @ unit(gallery).T
    order = np.lexsort((np.broadcast_to(ids, scores.shape), -scores), axis=1)[:, :k]
    return np.take_along_axis(scores, order, 1), np.asarray(ids)[order]


def unit(rows):
    rows = np.asarray(rows, np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("in_bytes", [False, True])
@pytest.mark.parametrize("queries", [1, 5, 130])
def test_search_equals_brute_force_across_capacities(queries, in_bytes, monkeypatch):
    monkeypatch.setattr(device_rows, "multiplies_bytes_fast", lambda: in_bytes)
    gallery, asked = vectors(7000), vectors(queries, 1)
    index = CosineIndex(DIM)
    index.add(gallery[:900])
    index.add(gallery[900:])
    scores, ids = index.search(asked, 10)
    expected_scores, expected = brute_force(asked, gallery, np.arange(7000), 10)
    np.testing.assert_array_equal(ids, expected)
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-5)
    assert (scores.dtype, ids.dtype) == (np.float32, np.int64)
    assert (index.nbytes > 5 * index._rows.capacity * DIM) == in_bytes


def test_search_equals_the_pure_function():
    gallery, asked = vectors(7000), vectors(20, 1)
    index = CosineIndex(DIM)
    index.add(gallery)
    _, ids = index.search(asked, 10)
    _, expected = cosine_top_k(jnp.asarray(asked), jnp.asarray(gallery), 10)
    np.testing.assert_array_equal(ids, expected)


@pytest.fixture
def in_bytes(monkeypatch):
    """Have the first pass in int8 on any CPU."""
    monkeypatch.setattr(device_rows, "multiplies_bytes_fast", lambda: True)


@pytest.mark.usefixtures("in_bytes")
def test_vectors_too_close_for_int8_are_still_exact():
    # All neighbours lie within the error of the first pass, so that nothing can be proven by it.
    gallery = np.float32(1) + vectors(7000) * np.float32(1e-3)
    asked = np.float32(1) + vectors(20, 1) * np.float32(1e-3)
    index = CosineIndex(DIM)
    index.add(gallery)
    assert not kernel.is_dense(7000, 10)
    scores, _ = index.search(asked, 10)
    expected, _ = brute_force(asked, gallery, np.arange(7000), 10)
    np.testing.assert_allclose(scores, expected, atol=5e-7)


@pytest.mark.slow
@pytest.mark.usefixtures("in_bytes")
@pytest.mark.parametrize(("dtype", "close"), [("float32", 0.3), ("bfloat16", 0.2), ("int8", 0.15)])
@pytest.mark.parametrize("rounding", ["bfloat16", None])
def test_neighbours_too_close_for_the_first_pass_are_still_exact(
    rounding, dtype, close, monkeypatch
):
    monkeypatch.setattr(kernel, "OLDER", False)  # queries in bfloat16 would have smaller errors
    device_rows._find.clear_cache()
    # They lie within the error of int8, the closer ones also within that of bfloat16.
    spread = close if rounding else 1e-3
    gallery = np.float32(1) + vectors(7000) * np.float32(spread)
    asked = np.float32(1) + vectors(device_rows.ENOUGH_ASKED, 1) * np.float32(spread)
    index = CosineIndex(DIM, dtype=dtype)
    ids = index.add(gallery)
    assert not kernel.is_dense(7000, 10)
    expected, _ = brute_force(asked, index.vectors(ids), ids, 10)
    for _ in range(3):
        scores, _ = index.search(asked, 10)
        np.testing.assert_allclose(scores, expected, atol=5e-7)
    assert index._rows._state.rounding == rounding
    index.add(-gallery[:100])
    assert (index.search(-asked, 10)[0] > 0).all()
    device_rows._find.clear_cache()


@pytest.mark.parametrize("queries", [1, 16, 40, 600])
def test_wide_vectors_are_searched_in_smaller_groups(queries):
    gallery, asked = vectors(5100, dim=300), vectors(queries, 1, dim=300)
    index = CosineIndex(300)
    index.add(gallery)
    scores, ids = index.search(asked, 10)
    expected_scores, expected = brute_force(asked, gallery, np.arange(5100), 10)
    np.testing.assert_array_equal(ids, expected)
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-5)


@pytest.mark.parametrize("dim", slow_but([DIM], [DIM, 300]))
@pytest.mark.parametrize("older", [False, True])
def test_rounded_vectors_are_found_by_any_first_pass(dim, older, monkeypatch):
    monkeypatch.setattr(kernel, "OLDER", older)  # many queries are in bfloat16 then
    monkeypatch.setattr(kernel, "MANY", 40)
    device_rows._find.clear_cache()
    gallery, asked = vectors(5100, dim=dim), vectors(69, 1, dim=dim)
    index = CosineIndex(dim, dtype="int8")
    kept = index.vectors(index.add(gallery))
    for few in (asked[:20], asked):
        scores, found = index.search(few, 10)
        cosines = unit(few) @ kept.astype(np.float64).T
        np.testing.assert_allclose(scores, -np.sort(-cosines, axis=1)[:, :10], atol=1e-6)
        np.testing.assert_allclose(np.take_along_axis(cosines, found, 1), scores, atol=1e-6)
    device_rows._find.clear_cache()


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_rounded_vectors_are_found_exactly(dtype):
    gallery, asked = vectors(7000), vectors(20, 1)
    index = CosineIndex(DIM, dtype=dtype)
    ids = index.add(gallery)
    kept = index.vectors(ids)
    np.testing.assert_allclose(np.linalg.norm(kept, axis=1), 1, rtol=1e-5)
    assert 1 - (kept * unit(gallery)).sum(1).min() < 1e-3
    scores, found = index.search(asked, 10)
    expected_scores, expected = brute_force(asked, kept, ids, 10)
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-5)
    assert (found == expected).mean() > 0.99


def test_ties_go_to_the_lower_id_even_if_added_later():
    index = CosineIndex(DIM)
    row = vectors(1)
    index.add(np.repeat(row, 60, 0), ids=np.arange(100, 40, -1))
    index.add(vectors(20, 1), ids=np.arange(20))
    scores, ids = index.search(row * np.float32(5), 4)
    np.testing.assert_array_equal(ids, [[41, 42, 43, 44]])
    assert len(set(scores[0].tolist())) == 1


def test_removed_vectors_are_not_found_and_ids_return():
    gallery = vectors(3000)
    index = CosineIndex(DIM)
    index.add(gallery, metadata=[{"row": i} for i in range(3000)])
    gone = np.arange(0, 3000, 3)
    index.remove(gone)
    kept = np.setdiff1d(np.arange(3000), gone)
    np.testing.assert_array_equal(index.ids, kept)
    _, ids = index.search(gallery[:50], 5)
    np.testing.assert_array_equal(ids, brute_force(gallery[:50], gallery[kept], kept, 5)[1])
    index.add(gallery[:1], ids=[0])
    _, ids = index.search(gallery[:1], 1)
    assert ids[0, 0] == 0
    assert index.metadata([0, 1, -1]) == [None, {"row": 1}, None]


def test_removal_of_most_vectors_frees_their_slots():
    gallery = vectors(3000)
    index = CosineIndex(DIM)
    index.add(gallery)
    index.remove(np.arange(100, 3000))
    capacity = index.nbytes
    index.add(gallery[100:2500])
    assert index.nbytes == capacity
    assert index.ids[100] == 3000
    assert 5 in index
    assert 500 not in index
    _, ids = index.search(gallery[100:102], 1)
    np.testing.assert_array_equal(ids[:, 0], [3000, 3001])


def test_adding_and_removing_compile_nothing_new():
    index = CosineIndex(DIM)
    index.add(vectors(5000))
    index.add(vectors(200, 1))
    index.search(vectors(3), 5)
    index.remove([7])
    before = device_rows._write._cache_size(), device_rows._find._cache_size()
    for seed in range(5):
        index.add(vectors(100 + seed, seed))
        index.remove([seed])
        index.search(vectors(5 + seed, seed), 5)
    assert (device_rows._write._cache_size(), device_rows._find._cache_size()) == before


@pytest.mark.parametrize("kind", ["mask", "mask per query", "ids", "ids per query"])
def test_filters(kind):
    gallery, asked = vectors(6000), vectors(3, 1)
    index = CosineIndex(DIM)
    index.add(gallery, ids=np.arange(6000) * 2)
    index.remove([0])
    allowed = np.random.default_rng(2).random((3, 5999)) < 0.01
    if not kind.endswith("per query"):
        allowed[:] = allowed[0]
    where = {
        "mask": allowed[0],
        "mask per query": allowed,
        "ids": index.ids[allowed[0]],
        "ids per query": [index.ids[row].tolist() for row in allowed],
    }[kind]
    _, ids = index.search(asked, 5, where=where)
    for row, query, mask in zip(ids, asked, allowed, strict=True):
        rows = np.flatnonzero(mask) + 1
        np.testing.assert_array_equal(
            row, brute_force(query[None], gallery[rows], rows * 2, 5)[1][0]
        )


def test_a_filter_that_leaves_too_few_pads():
    index = CosineIndex(DIM)
    index.add(vectors(10))
    scores, ids = index.search(vectors(2, 1), 4, where=[3, 5])
    assert (np.sort(ids, axis=1)[:, :2] == -1).all()
    assert (scores[:, 2:] == -np.inf).all()
    assert set(ids[:, :2].ravel().tolist()) == {3, 5}


def test_search_by_id_leaves_itself_out():
    gallery = vectors(50)
    gallery[7] = gallery[3]
    index = CosineIndex(DIM)
    index.add(gallery)
    scores, ids = index.search_by_id([3, 7], 2)
    np.testing.assert_array_equal(ids[:, 0], [7, 3])
    np.testing.assert_allclose(scores[:, 0], 1, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_a_saved_index_returns_bit_for_bit(tmp_path, dtype):
    index = CosineIndex(DIM, dtype=dtype, about={"model": "cnn"})
    index.add(vectors(1500), metadata=[{"name": f"é{i}"} for i in range(1500)])
    index.remove([3, 1499])
    index.save(tmp_path / "a")
    loaded = CosineIndex.load(tmp_path / "a")
    loaded.save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    for ours, theirs in zip(
        index.search(vectors(3, 1), 9), loaded.search(vectors(3, 1), 9), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    assert loaded.about == {"model": "cnn"}
    assert loaded.metadata([5]) == [{"name": "é5"}]
    assert loaded.add(vectors(1, 2)).tolist() == [1500]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("index") / "index"
    index = CosineIndex(DIM)
    index.add(vectors(20), metadata=list(range(20)))
    index.save(path)
    return path.read_bytes()


def test_every_truncation_is_noticed(saved, tmp_path):
    for length in [*range(0, len(saved), 41), len(saved) - 1]:
        (tmp_path / "index").write_bytes(saved[:length])
        with pytest.raises(IndexFileError, match="index"):
            CosineIndex.load(tmp_path / "index")


def test_every_bit_flip_is_noticed(saved, tmp_path):
    for at in range(0, len(saved), 7):
        altered = bytearray(saved)
        altered[at] ^= 1 << at % 8
        (tmp_path / "index").write_bytes(altered)
        with pytest.raises(IndexFileError, match="index"):
            CosineIndex.load(tmp_path / "index")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": 10**12}, "contradicts itself"),
        ({"dim": 0}, "not one of an index"),
        ({"dim": 1 << 60, "count": 0}, "not one of an index"),
        ({"version": 3}, "version 3, this program reads versions 1 and 2"),
        ({"version": 2}, "lacks a field"),
        ({"storage": "pickle"}, "not one of an index"),
        ({"sections": {}}, "lacks a field"),
        ({"sections": []}, "lacks a field"),
        ({"sections": dict.fromkeys(("values", "scale", "ids", "notes"), 1)}, "lacks a field"),
        (
            {
                "sections": {
                    name: {"bytes": 1, "sha256": ""} for name in ("values", "scale", "ids", "notes")
                }
            },
            "contradicts itself",
        ),
        ({"count": True}, "not one of an index"),
    ],
)
def test_a_hostile_header_is_refused(saved, tmp_path, change, message):
    length = int.from_bytes(saved[8:16], "little")
    header = json.loads(saved[16 : 16 + length]) | change
    text = json.dumps(header).encode()
    front = saved[:8] + len(text).to_bytes(8, "little") + text
    rest = saved[16 + length + 32 :]
    (tmp_path / "index").write_bytes(front + hashlib.sha256(front).digest() + rest)
    with pytest.raises(IndexFileError, match=message):
        CosineIndex.load(tmp_path / "index")


def forged(saved, change):
    """Change the parts of a file, and make all checksums right again."""
    length = int.from_bytes(saved[8:16], "little")
    header, rest = json.loads(saved[16 : 16 + length]), saved[16 + length + 32 :]
    parts = {}
    for name in ("values", "scale", "ids", "notes"):
        size = header["sections"][name]["bytes"]
        parts[name], rest = rest[:size], rest[size:]
    change(parts)
    header["sections"] = {
        name: {"bytes": len(part), "sha256": hashlib.sha256(part).hexdigest()}
        for name, part in parts.items()
    }
    text = json.dumps(header).encode()
    front = saved[:8] + len(text).to_bytes(8, "little") + text
    return b"".join([front, hashlib.sha256(front).digest(), *parts.values()])


def in_notes(**values):
    return lambda parts: parts.update(
        notes=json.dumps(json.loads(parts["notes"]) | values).encode()
    )


def in_array(name, dtype, at, value):
    def change(parts):
        array = np.frombuffer(parts[name], dtype).copy()
        array[at] = value
        parts[name] = array.tobytes()

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda parts: parts.update(notes=b"[" * 100_000), "notes of the index cannot be read"),
        (lambda parts: parts.update(notes=b"\xff{}"), "notes of the index cannot be read"),
        (lambda parts: parts.update(notes=b"[1]"), "no JSON object"),
        (lambda parts: parts.update(notes=b'{"about": 1, "next": 20}'), "not those of an index"),
        (in_notes(items=[1, 2]), "not those of an index"),
        (in_notes(items={"x": 1}), "metadata belong to no vector"),
        (in_notes(items={"07": 1}), "metadata belong to no vector"),
        (in_notes(items={"99": 1}), "metadata belong to no vector"),
        (in_notes(next="20"), "next id is taken"),
        (in_notes(next=True), "next id is taken"),
        (in_notes(next=19), "next id is taken"),
        (in_notes(next=10**30), "next id is taken"),
        (in_array("ids", "<i8", 3, 4), "negative or repeated"),
        (in_array("ids", "<i8", 3, -4), "negative or repeated"),
        (in_array("values", "<f4", 5, np.nan), "zero, NaN or infinite"),
        (in_array("values", "<f4", slice(0, DIM), 0), "zero, NaN or infinite"),
        (in_array("scale", "<f4", 5, np.inf), "zero, NaN or infinite"),
        (in_array("scale", "<f4", 5, 0), "zero, NaN or infinite"),
    ],
)
def test_forged_content_is_refused_though_its_checksums_are_right(saved, tmp_path, change, message):
    (tmp_path / "index").write_bytes(forged(saved, change))
    with pytest.raises(IndexFileError, match=message) as caught:
        CosineIndex.load(tmp_path / "index")
    assert "\n" not in str(caught.value)


def test_the_forger_forges_nothing_by_chance(saved, tmp_path):
    (tmp_path / "index").write_bytes(forged(saved, in_notes(about="other")))
    assert CosineIndex.load(tmp_path / "index").about == "other"


@pytest.mark.parametrize("header", [b"[" * 60_000, b"[]", b"3", b"\xff", b"{"])
def test_a_header_that_is_no_object_is_refused(saved, tmp_path, header):
    front = saved[:8] + len(header).to_bytes(8, "little") + header
    (tmp_path / "index").write_bytes(front + hashlib.sha256(front).digest())
    with pytest.raises(IndexFileError, match="header of the index"):
        CosineIndex.load(tmp_path / "index")


def test_a_header_that_asks_for_terabytes_allocates_nothing(saved, tmp_path):
    (tmp_path / "index").write_bytes(saved[:8] + (1 << 42).to_bytes(8, "little") + saved[16:])
    with pytest.raises(IndexFileError, match="a header of 4398046511104 bytes"):
        CosineIndex.load(tmp_path / "index")


def test_what_cannot_be_written_leaves_the_old_file(saved, tmp_path):
    path = tmp_path / "index"
    path.write_bytes(saved)
    index = CosineIndex.load(path)
    index.add(vectors(1, 1), metadata=[object()])
    with pytest.raises(InputError, match="JSON-able"):
        index.save(path)
    assert path.read_bytes() == saved
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda index: index.add(vectors(2, dim=3)), r"\(2, 3\); \(N, 16\) real numbers"),
        (lambda index: index.add(np.float32([[np.nan] * DIM])), r"in 1 of 1 rows: \[0\]"),
        (lambda index: index.add([[1] * DIM, [np.inf] * DIM]), r"in 1 of 2 rows: \[1\]"),
        (lambda index: index.add(np.full((1, DIM), 1e300)), r"infinite in float32 in 1 of 1"),
        (lambda index: index.add(np.zeros((1, DIM), np.float32)), r"rows: \[0\]"),
        (lambda index: index.add(vectors(2), ids=[20, 20]), r"1 repeated: \[20\]"),
        (lambda index: index.add(vectors(2), ids=[20, 4]), r"1 already present: \[4\]"),
        (lambda index: index.add(vectors(2), ids=[20, -4]), r"1 negative: \[-4\]"),
        (lambda index: index.add(vectors(1), ids=[2**63 - 1]), r"1 too large"),
        (lambda index: index.add(vectors(2), ids=[20]), r"ids has shape \(1,\); 2 ids are needed"),
        (lambda index: index.add(vectors(2), metadata=[1]), "1 values; 2 are needed"),
        (lambda index: index.add(vectors(2), metadata="ab"), "a list of one value per vector"),
        (lambda index: index.remove([1, 99]), r"not in the index: \[99\]"),
        (lambda index: index.search(vectors(1), 0), "k is 0; an integer of at least 1"),
        (lambda index: index.search(vectors(1), True), "k is True"),
        (lambda index: index.search(np.zeros((1, DIM), np.float32), 1), "needs a direction"),
        (lambda index: index.search(vectors(1), 1, where=np.ones(3, bool)), r"\(3,\); \(10,\)"),
        (lambda index: index.search(vectors(1), 1, where=[99]), r"\[99\]"),
        (lambda index: index.search(vectors(1), 1, where=[[1], [2]]), "where has 2 rows"),
        (lambda index: index.search_by_id([99], 1), r"\[99\]"),
        (
            lambda index: index.search(vectors(1), 1, method="best"),
            "method is 'best'; one of exact",
        ),
        (lambda index: index.search(vectors(1), 1, nprobe=3), "'nprobe' is no option of .*none"),
        (
            lambda index: index.search(vectors(1), 1, method="inverted_file", probes=3),
            "'probes' is no option of method 'inverted_file'; it has nprobe",
        ),
    ],
)
def test_bad_input_is_named_and_changes_nothing(call, message):
    index = CosineIndex(DIM)
    index.add(vectors(10))
    before = index.search(vectors(3, 1), 10)
    with pytest.raises(InputError, match=message):
        call(index)
    assert len(index) == 10
    for ours, theirs in zip(before, index.search(vectors(3, 1), 10), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("arguments", [{"dim": 0}, {"dim": 4, "dtype": "float16"}, {"dim": True}])
def test_bad_construction(arguments):
    with pytest.raises(InputError, match="is needed"):
        CosineIndex(**arguments)


@pytest.mark.parametrize("queries", [[], np.zeros((0, DIM), np.float32), ()])
def test_no_queries_find_nothing(queries):
    index = CosineIndex(DIM)
    index.add(vectors(5))
    for scores, ids in (
        index.search(queries, 3),
        index.search(queries, 3, where=np.zeros((0, 5), bool)),
        index.search_by_id([], 3),
    ):
        assert (scores.shape, ids.shape) == ((0, 3), (0, 3))
        assert (scores.dtype, ids.dtype) == (np.float32, np.int64)


def test_places_that_nothing_fills_are_missing():
    index = CosineIndex(DIM)
    for added in (0, 3):
        index.add(vectors(added))
        scores, ids = index.search(vectors(2, 1), 5)
        assert (np.sort(ids) == [[-1] * (5 - added) + [0, 1, 2][:added]] * 2).all()
        np.testing.assert_array_equal(scores == -np.inf, ids < 0)
    index.remove(index.ids)
    assert (index.search(vectors(2, 1), 5)[1] == -1).all()


def test_an_interrupted_add_changes_nothing(monkeypatch):
    index, gallery = CosineIndex(DIM), vectors(5000)
    index.add(gallery[:900])

    def interrupted(*args):
        if index._rows.used > 3000:
            raise KeyboardInterrupt
        return write(*args)

    write = device_rows._write
    monkeypatch.setattr(device_rows, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        index.add(gallery[900:])
    monkeypatch.undo()
    assert len(index) == 900
    expected = brute_force(gallery[:9], gallery[:900], np.arange(900), 3)[1]
    np.testing.assert_array_equal(index.search(gallery[:9], 3)[1], expected)
    index.add(gallery[900:])
    expected = brute_force(gallery[:9], gallery, np.arange(5000), 3)[1]
    np.testing.assert_array_equal(index.search(gallery[:9], 3)[1], expected)


def test_a_copy_is_an_index_of_its_own():
    index = CosineIndex(DIM, about="copied")
    index.add(vectors(10))
    copies = copy.deepcopy(index), pickle.loads(pickle.dumps(index))
    index.remove([3])
    for other in copies:
        assert len(other) == 10
        assert other.about == "copied"
        assert other.search_by_id([3], 1)[1].shape == (1, 1)


def test_metadata_of_numpy_is_saved_as_plain_numbers(tmp_path):
    for labels in (np.array([3, 1]), np.array([0.5, 2], np.float32), [{"label": np.int64(7)}] * 2):
        index = CosineIndex(2, about={"seed": np.int32(5)})
        index.add(np.eye(2), metadata=labels)
        index.save(tmp_path / "x.index")
        again = CosineIndex.load(tmp_path / "x.index")
        assert again.metadata(again.ids) == list(labels)
        assert again.about == {"seed": 5}


def test_vectors_of_any_number_compile_few_programs():
    index = CosineIndex(4)
    index.add(np.random.default_rng(0).normal(size=(3000, 4)))
    whole = index.vectors(index.ids)
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, *_, **__: compiled.append(name)
    )
    for count in range(0, 70, 3):
        np.testing.assert_array_equal(index.vectors(np.arange(count)), whole[:count])
    assert len([name for name in compiled if name.endswith("backend_compile_duration")]) <= 8


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_vectors_below_normal_numbers_are_refused(dtype):
    index = CosineIndex(2, dtype=dtype)
    with pytest.raises(InputError, match=r"zero, NaN or infinite in float32 in 1 of 2 rows: \[0\]"):
        index.add([[1e-39, 0], [1, 0]])
    index.add([[1e-37, 1e-39], [1, 0]])
    assert index.search([[1, 0]], 2)[0].min() > 0.99
