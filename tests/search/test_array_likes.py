"""Booleans are a mask, integers ids or labels, real numbers vectors, however they are passed."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from vision_jax.errors import InputError
from vision_jax.search import (
    CosineIndex,
    InvertedFile,
    arrays,
    augment_database,
    average_precision,
    cosine_similarity,
    cosine_top_k,
    evaluate_retrieval,
    expand_queries,
    knn_accuracy,
    near_duplicates,
    precision_at_k,
    recall_at_k,
    streamed_top_k,
)

# Small whole numbers, which every type below holds exactly.
ROWS = np.random.default_rng(0).integers(0, 9, (12, 4)) + np.eye(4, dtype=int)[np.arange(12) % 4]
LABELS = np.arange(12) % 3
MASK = np.arange(12) % 4 == 1


def strided(array):
    wide = np.zeros((2 * array.shape[0], *array.shape[1:]), array.dtype)
    wide[::2] = array
    return wide[::2]


VECTORS = {
    "float64": lambda rows: rows.astype(np.float64),
    "float16": lambda rows: rows.astype(np.float16),
    "bfloat16": lambda rows: rows.astype(ml_dtypes.bfloat16),
    "uint8": lambda rows: rows.astype(np.uint8),
    "int64": lambda rows: rows,
    "big-endian": lambda rows: rows.astype(">f4"),
    "fortran": lambda rows: np.asfortranarray(rows.astype(np.float32)),
    "strided": lambda rows: strided(rows.astype(np.float32)),
    "read-only": lambda rows: np.broadcast_to(rows.astype(np.float32), rows.shape),
    "object": lambda rows: rows.astype(object),
    "lists": lambda rows: rows.tolist(),
    "tuples": lambda rows: tuple(map(tuple, rows.tolist())),
    "list of arrays": lambda rows: list(rows.astype(np.float32)),
    "jax": lambda rows: jnp.asarray(rows, jnp.float32),
    "jax int": lambda rows: jnp.asarray(rows, jnp.int32),
    "jax bfloat16": lambda rows: jnp.asarray(rows, jnp.bfloat16),
}
BOOLEANS = {
    "list": lambda mask: mask.tolist(),
    "tuple": lambda mask: tuple(mask.tolist()),
    "NumPy scalars": lambda mask: list(mask),
    "jax": lambda mask: jnp.asarray(mask),
    "object": lambda mask: mask.astype(object),
    "strided": strided,
}
INTEGERS = {
    "list": lambda ids: ids.tolist(),
    "tuple": lambda ids: tuple(ids.tolist()),
    "NumPy scalars": lambda ids: list(ids),
    "int8": lambda ids: ids.astype(np.int8),
    "uint64": lambda ids: ids.astype(np.uint64),
    "big-endian": lambda ids: ids.astype(">i4"),
    "jax": lambda ids: jnp.asarray(ids),
    "object": lambda ids: ids.astype(object),
    "strided": strided,
}


def index():
    index = CosineIndex(4)
    index.add(ROWS.astype(np.float32))
    return index


def results(rows):
    """What every function makes of vectors."""
    made = CosineIndex(4)
    made.add(rows)
    return {
        "index": made.search(rows, 3),
        "similarity": cosine_similarity(rows, rows),
        "top_k": cosine_top_k(rows, rows, 3),
        "streamed": streamed_top_k(rows, rows, 3, block=5),
        "expanded": expand_queries(rows, rows, k=2, alpha=2.0),
        "augmented": augment_database(rows, k=2),
        "duplicates": [group.rows for group in near_duplicates(rows, 0.97)],
        "inverted": InvertedFile(rows, nlist=2, nprobe=2).search(rows, 3),
        "retrieval": list(evaluate_retrieval(rows, LABELS, ks=(1, 3)).values()),
    }


@pytest.fixture(scope="module")
def expected():
    return results(ROWS.astype(np.float32))


@pytest.mark.parametrize("kind", VECTORS)
def test_vectors(kind, expected):
    found = results(VECTORS[kind](ROWS))
    for name, ours in found.items():
        for part, truth in zip(jax.tree.leaves(ours), jax.tree.leaves(expected[name]), strict=True):
            np.testing.assert_allclose(np.asarray(part), np.asarray(truth), rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("kind", BOOLEANS)
def test_booleans_are_masks(kind):
    made, asked = index(), ROWS[:2]
    for mask in (MASK, np.stack([MASK, ~MASK])):
        expected = made.search(asked, 3, where=mask)[1]
        np.testing.assert_array_equal(
            made.search(asked, 3, where=BOOLEANS[kind](mask))[1], expected
        )
    ranking = np.stack([MASK, ~MASK])
    given = BOOLEANS[kind](ranking)
    np.testing.assert_array_equal(precision_at_k(given, 5), precision_at_k(ranking, 5))
    np.testing.assert_array_equal(
        average_precision(given, [3, 9]), average_precision(ranking, [3, 9])
    )


@pytest.mark.parametrize("kind", INTEGERS)
def test_integers_are_ids_and_labels(kind):
    made, asked, ids = index(), ROWS[:2], np.array([3, 1, 10])
    given = INTEGERS[kind](ids)
    expected = made.search(asked, 4, where=np.isin(made.ids, ids))[1]
    np.testing.assert_array_equal(made.search(asked, 4, where=given)[1], expected)
    np.testing.assert_array_equal(made.search(asked, 4, where=[given, [3, 1, 10]])[1], expected)
    np.testing.assert_array_equal(made.vectors(given), made.vectors(ids))
    np.testing.assert_array_equal(made.search_by_id(given, 2)[1], made.search_by_id(ids, 2)[1])
    assert made.metadata(given) == [None] * 3
    made.remove(given)
    assert made.add(ROWS[ids], ids=given).tolist() == ids.tolist()
    rows, labels = ROWS.astype(np.float32), INTEGERS[kind](LABELS)
    assert evaluate_retrieval(rows, labels, rows, labels) == evaluate_retrieval(
        rows, LABELS, rows, LABELS
    )
    near = INTEGERS[kind](np.stack([LABELS, LABELS]))
    assert knn_accuracy(near, [0, 1]) == 0.5
    ours, theirs = (near_duplicates(rows, 0.97, splits=splits) for splits in (labels, LABELS))
    assert [group.leaks for group in ours] == [group.leaks for group in theirs]
    assert recall_at_k([[True, True]], INTEGERS[kind](ids[:1]), 2).tolist() == [2 / 3]


WHERE = "a mask of booleans or a list of integer ids"


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ([0.0, 1.0], WHERE),
        (np.array([1.5]), WHERE),
        (["1", "2"], WHERE),
        ("12", WHERE),
        ([True, 3], WHERE),
        ([[True, False], [1, 2]], r"where\[0\] is a mask of shape \(2,\)"),
        ([None, 1], WHERE),
        ([1j], WHERE),
        (np.array(3), WHERE),
        (np.zeros((1, 2, 3), int), WHERE),
        ([2**70], WHERE),
        (np.array([2**63], np.uint64), r"integers below 2\*\*63"),
        ([-1], r"not in the index: \[-1\]"),
        ([True] * 11, r"mask of shape \(11,\); \(12,\) or \(2, 12\) is needed"),
        (np.zeros((3, 12), bool), "where has 3 rows"),
        ([[1], [2], [3]], "where has 3 rows"),
        (np.ma.masked_array([1, 2], [True, False]), WHERE),
        (np.array([1, 2], "m8[s]"), WHERE),
    ],
)
def test_other_filters_are_refused(where, message):
    with pytest.raises(InputError, match=message):
        index().search(ROWS[:2], 3, where=where)


@pytest.mark.parametrize("where", [[], (), np.zeros(0), [[], []], np.zeros(12, bool), [[]]])
def test_a_filter_of_nothing_finds_nothing(where):
    assert (index().search(ROWS[:2], 3, where=where)[1] == -1).all()


@pytest.mark.parametrize("method", [None, "inverted_file"])
def test_a_ragged_filter_is_read_query_by_query(method):
    found = index().search(ROWS[:2], 3, [[7], (2, 5, 7)], method=method or "exact")[1]
    assert set(found[0].tolist()) == {7, -1}
    assert set(found[1].tolist()) == {2, 5, 7}


VECTOR_FAULTS = [
    ROWS.astype(complex),
    ROWS > 3,
    ROWS.astype(str),
    ROWS[0].tolist(),
    [[1, 2], [1]],
    [[True, 2, 3, 4]],
    [[None, 2, 3, 4]],
    np.ma.masked_array(ROWS, ROWS > 3),
    {"a": 1},
]
CALLS = {
    "add": lambda value: CosineIndex(4).add(value),
    "search": lambda value: index().search(value, 1),
    "similarity": lambda value: cosine_similarity(value, ROWS),
    "top_k": lambda value: cosine_top_k(ROWS, value, 1),
    "streamed": lambda value: streamed_top_k(ROWS, value, 1),
    "streamed queries": lambda value: streamed_top_k(value, ROWS, 1),
    "expand": lambda value: expand_queries(ROWS, value),
    "augment": lambda value: augment_database(value),
    "duplicates": lambda value: near_duplicates(value),
    "inverted": lambda value: InvertedFile(value),
    "retrieval": lambda value: evaluate_retrieval(value, LABELS),
}


@pytest.mark.parametrize("call", CALLS)
def test_what_is_no_matrix_of_numbers_is_refused(call):
    for value in VECTOR_FAULTS[:-1]:  # no dict, which the types of a call tell
        with pytest.raises(InputError, match="real numbers are needed"):
            CALLS[call](value)


@pytest.mark.parametrize("value", VECTOR_FAULTS)
def test_the_error_names_what_was_passed(value):
    with pytest.raises(InputError, match=r"rows is .*; \(N, D\) real numbers are needed"):
        arrays.vectors("rows", value)


@pytest.mark.parametrize(
    "value", [[0.0, 1.0, 2.0], ["0", "1", "2"], [True, False, True], [[0, 1, 2]]]
)
def test_what_is_no_list_of_labels_is_refused(value):
    rows = np.eye(3, dtype=np.float32)
    for call in (
        lambda: evaluate_retrieval(rows, value),
        lambda: knn_accuracy(np.zeros((3, 2), int), value),
        lambda: near_duplicates(rows, splits=value),
        lambda: CosineIndex(3).add(rows, ids=value),
    ):
        with pytest.raises(InputError, match=r"integers are needed"):
            call()


@pytest.mark.parametrize("value", [[0, 1], np.ones((2, 3)), [["a"]], [True]])
def test_what_is_no_ranking_is_refused(value):
    with pytest.raises(InputError, match="2-dimensional booleans are needed"):
        precision_at_k(value, 1)


@pytest.mark.parametrize("value", [0, -3, 2.0, "3", None, True, np.bool_(True), np.float32(1)])
def test_a_count_is_an_integer_of_at_least_one(value):
    with pytest.raises(InputError, match=r"k is .*; an integer of at least 1 is needed"):
        arrays.count("k", value)


def test_counts_may_be_numpys():
    made = index()
    for k in (np.int64(2), np.uint8(2), jnp.asarray(2), np.array(2)):
        assert made.search(ROWS[:1], k)[1].shape == (1, 2)
        assert cosine_top_k(ROWS[:1], ROWS, k)[1].shape == (1, 2)


def test_membership_takes_anything():
    made = index()
    assert 3 in made
    assert np.uint8(3) in made
    assert not any(item in made for item in (12, -1, 2**80, "3", 3.0, None, [3]))


def test_functions_stay_pure_under_jit():
    rows = jnp.asarray(ROWS, jnp.float32)
    for call in (
        lambda a, b: cosine_top_k(a, b, 3),
        cosine_similarity,
        lambda a, b: expand_queries(a, b, k=2),
        lambda a, b: augment_database(b, k=2),
    ):
        for ours, theirs in zip(
            jax.tree.leaves(jax.jit(call)(rows, rows)),
            jax.tree.leaves(call(rows, rows)),
            strict=True,
        ):
            np.testing.assert_allclose(ours, theirs, rtol=1e-6)
