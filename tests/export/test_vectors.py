"""Vectors for other programs, read back by these programs."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from vision_jax import CosineIndex, write_vectors
from vision_jax.errors import InputError


@pytest.fixture
def gaps(digits):
    """An index whose ids have gaps and stand in no order."""
    index, pixels = CosineIndex(64), digits[0][:200].reshape(200, 64).astype(np.float32)
    ids = np.random.default_rng(0).permutation(1000)[:200]
    index.add(pixels, ids, [{"key": f"k{i}", "label": str(i % 3)} for i in ids])
    index.remove(ids[:50])
    return index


def test_numpy_reads_the_vectors_and_what_their_rows_are(gaps, tmp_path):
    path = tmp_path / "a.npy"
    write_vectors(gaps, path)
    lines = [json.loads(line) for line in (tmp_path / "a.npy.jsonl").read_text().splitlines()]
    ids = np.array([line["id"] for line in lines])
    np.testing.assert_array_equal(ids, np.sort(gaps.ids))
    np.testing.assert_array_equal(np.load(path), gaps.vectors(ids))
    np.testing.assert_allclose(np.linalg.norm(np.load(path), axis=1), 1, atol=1e-6)
    assert [line["key"] for line in lines] == [row["key"] for row in gaps.metadata(ids)]


def test_pyarrow_reads_vectors_and_metadata(gaps, tmp_path):
    write_vectors(gaps, tmp_path / "a.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "a.parquet")
    assert table.column_names == ["id", "key", "label", "vector"]
    assert table.schema.field("vector").type == pa.list_(pa.float32(), 64)
    ids = table["id"].to_numpy()
    vectors = table["vector"].combine_chunks().flatten().to_numpy().reshape(-1, 64)
    np.testing.assert_array_equal(vectors, gaps.vectors(ids))
    assert table["key"].to_pylist() == [row["key"] for row in gaps.metadata(ids)]
    assert [*tmp_path.iterdir()] == [tmp_path / "a.parquet"]


def test_metadata_of_several_types_and_names_of_ours_are_kept(tmp_path):
    index = CosineIndex(2)
    index.add(np.eye(2), metadata=[{"id": 7, "size": 1}, {"id": "b", "labels": ["x"]}])
    write_vectors(index, tmp_path / "a.parquet")
    rows = pyarrow.parquet.read_table(tmp_path / "a.parquet").drop_columns("vector").to_pylist()
    assert rows == [
        {"id": 0, "id_": "7", "size": 1, "labels": None},
        {"id": 1, "id_": '"b"', "size": None, "labels": ["x"]},
    ]
    index = CosineIndex(2)
    write_vectors(index, tmp_path / "none.parquet")
    assert pyarrow.parquet.read_table(tmp_path / "none.parquet").num_rows == 0


@pytest.mark.parametrize("value", [{"exif": {}}, {"n": 2**70}, {"key": "\udcff"}, {"a": [{}]}])
def test_metadata_that_parquet_has_no_type_for_becomes_json_text(tmp_path, value):
    index = CosineIndex(2)
    index.add(np.eye(2), metadata=[value, value])
    write_vectors(index, tmp_path / "a.parquet")
    write_vectors(index, tmp_path / "a.npy")
    rows = pyarrow.parquet.read_table(tmp_path / "a.parquet").drop_columns("vector").to_pylist()
    ((name, wanted),) = value.items()
    assert [json.loads(row[name]) for row in rows] == [wanted] * 2
    lines = [json.loads(line) for line in (tmp_path / "a.npy.jsonl").read_text().splitlines()]
    assert [line[name] for line in lines] == [wanted] * 2


def test_faiss_finds_the_same(gaps, tmp_path):
    faiss = pytest.importorskip("faiss", reason="needs the extra faiss")
    write_vectors(gaps, tmp_path / "a.faiss")
    write_vectors(gaps, tmp_path / "b.faiss", hnsw=True)
    queries = gaps.vectors(gaps.ids[:20])
    scores, ids = gaps.search(queries, 10)
    exact, near = (faiss.read_index(str(tmp_path / f"{name}.faiss")) for name in "ab")
    found_scores, found = exact.search(queries, 10)
    np.testing.assert_allclose(found_scores, scores, atol=1e-5)
    gap = np.abs(np.diff(scores, append=-2)) < 1e-5
    assert ((found == ids) | gap | np.roll(gap, 1, 1)).all()
    near_ids = near.search(queries, 10)[1]
    recall = np.mean([np.isin(a, b).mean() for a, b in zip(near_ids, ids, strict=True)])
    assert recall > 0.9
    assert (tmp_path / "a.faiss.jsonl").exists()


def test_a_file_that_cannot_be_written_leaves_the_older_one(gaps, tmp_path):
    path = tmp_path / "a.npy"
    path.write_bytes(b"older")
    (tmp_path / "a.npy.jsonl").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        write_vectors(gaps, path)
    assert path.read_bytes() == b"older"
    for name, options, words in (
        ("a.txt", {}, "must end in .npy, .parquet, .faiss"),
        ("a.npy", {"hnsw": True}, "must end in .faiss"),
        ("no/a.npy", {}, "must exist"),
    ):
        with pytest.raises(InputError, match=words):
            write_vectors(gaps, tmp_path / name, **options)


def test_no_field_is_lost_to_a_column_of_ours(tmp_path):
    index = CosineIndex(2)
    index.add([[3, 4], [0, 2]], metadata=[{"id": "sku-1"}, {"id": "sku-2", "id_": "other"}])
    write_vectors(index, tmp_path / "v.npy")
    lines = (tmp_path / "v.npy.jsonl").read_text().splitlines()
    assert list(map(json.loads, lines)) == [
        {"id": 0, "id__": "sku-1"},
        {"id": 1, "id__": "sku-2", "id_": "other"},
    ]
