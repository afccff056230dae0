from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vision_jax.data.loader import read_all
from vision_jax.errors import InputError
from vision_jax.gallery.indexing import IndexChange, build_index, write_index
from vision_jax.gallery.lookup import (
    find_duplicates,
    find_keys,
    load_index,
    read_indexed,
    search_images,
    search_indexed,
    select_ids,
)
from vision_jax.run.run import load_run


@pytest.fixture(scope="module")
def run(workdir):
    return load_run(workdir)


@pytest.fixture(scope="module")
def gallery(run):
    return run.source("train[:30%]")


@pytest.fixture(scope="module")
def index(run, gallery):
    return build_index(run, gallery)


def test_images_are_found_as_numpy_finds_them(run, gallery, index, tmp_path):
    queries = read_all(run.source("test[:4]"))["image"]
    paths = [tmp_path / f"{i}.png" for i in range(4)]
    for path, image in zip(paths, queries, strict=True):
        Image.fromarray(image[..., 0]).save(path)
    scores, ids = search_images(index, run, paths, 5)
    rows, asked = run.embed(gallery), run.embed(queries)
    cosine = (asked / np.linalg.norm(asked, axis=1, keepdims=True)) @ (
        rows / np.linalg.norm(rows, axis=1, keepdims=True)
    ).T
    np.testing.assert_allclose(scores, -np.sort(-cosine)[:, :5], atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(cosine, ids, 1), scores, atol=1e-5)


def test_metadata_name_the_image_and_its_class(run, gallery, index):
    (row,) = index.metadata([7])
    assert row == {
        "key": "digits/train[:30%]/7",
        "label": str(gallery.read([7])[0]["label"]),
        "split": "train",
        "digest": gallery.digests()[7],
    }
    assert index.about["workdir"] == str(run.workdir)
    assert index.about["step"] == run.step


@pytest.fixture
def photos(run, tmp_path):
    """A folder of 20 digits in two splits, and a function that opens it."""
    images = read_all(run.source("test[:20]"))["image"]
    for number, image in enumerate(images):
        folder = tmp_path / "photos" / ("train" if number < 15 else "test")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(folder / f"{number}.png")
    return tmp_path / "photos", lambda: run.open_images(str(tmp_path / "photos"), "all")


def test_an_index_is_brought_up_to_date_embedding_only_what_changed(run, photos, tmp_path):
    folder, opened = photos
    path = tmp_path / "photos.index"
    assert write_index(run, opened(), path) == IndexChange(20, 0, 0)
    before = path.read_bytes()
    assert write_index(run, opened(), path) == IndexChange(0, 0, 20)
    assert path.read_bytes() == before
    (folder / "train" / "0.png").unlink()
    (folder / "train" / "1.png").write_bytes((folder / "train" / "2.png").read_bytes())
    (folder / "train" / "new.png").write_bytes((folder / "train" / "3.png").read_bytes())
    assert write_index(run, opened(), path) == IndexChange(2, 2, 18)
    updated, fresh = load_index(path), build_index(run, opened())

    def vectors(index):
        rows = zip(index.metadata(index.ids), index.vectors(index.ids), strict=True)
        return {row["key"]: vector for row, vector in rows}

    found, expected = vectors(updated), vectors(fresh)
    assert found.keys() == expected.keys()
    for key, vector in expected.items():
        np.testing.assert_allclose(found[key], vector, atol=1e-5)


def test_duplicates_across_splits_come_first(run, photos):
    folder, opened = photos
    (folder / "train" / "copy.png").write_bytes((folder / "train" / "4.png").read_bytes())
    (folder / "test" / "leak.png").write_bytes((folder / "train" / "5.png").read_bytes())
    groups = find_duplicates(build_index(run, opened()), 0.999999)
    assert [leak for leak, _ in groups] == [True, False]
    names = [{Path(row["key"]).name for row in rows} for _, rows in groups]
    assert names == [{"5.png", "leak.png"}, {"4.png", "copy.png"}]
    with pytest.raises(InputError, match=r"threshold is 2\.0"):
        find_duplicates(build_index(run, opened()), 2.0)


def test_bad_input_is_named(run, index, tmp_path):
    with pytest.raises(InputError, match=f"k is 5000; it must be in \\[1, {len(index)}\\]"):
        search_images(index, run, [tmp_path / "a.png"], 5000)
    with pytest.raises(InputError, match=r"a\.png does not exist"):
        search_images(index, run, [tmp_path / "a.png"], 3)
    with pytest.raises(InputError, match=r"x\.index does not exist"):
        load_index(tmp_path / "x.index")
    (tmp_path / "x.index").write_bytes(b"no index")
    with pytest.raises(InputError, match=r"x\.index"):
        load_index(tmp_path / "x.index")


def test_a_filter_allows_what_meets_its_conditions(run, index, gallery):
    labels, keys = gallery.labels(), [gallery.key(i) for i in range(len(gallery))]
    names = gallery.label_names
    threes_and_eights = select_ids(index, ["label=3", "label=8", "split=train"])
    expected = [i for i, label in enumerate(labels) if names[label] in ("3", "8")]
    np.testing.assert_array_equal(threes_and_eights, expected)
    np.testing.assert_array_equal(find_keys(index, [keys[7], keys[2]]), [7, 2])
    for conditions, message in [
        (["label"], "a condition is 'label'; it must be FIELD=VALUE"),
        (["colour=red"], "images have no 'colour'; they have digest, key, label, split"),
        (["label=11"], "no indexed image meets label=11"),
    ]:
        with pytest.raises(InputError, match=message):
            select_ids(index, conditions)
    with pytest.raises(InputError, match="'gone' is not indexed"):
        find_keys(index, ["gone"])


def test_an_indexed_image_finds_others_among_those_allowed(run, index, gallery):
    where = select_ids(index, ["label=3"])
    asked = np.array([where[0], 0])
    scores, ids = search_indexed(index, asked, 4, where=where)
    rows = index.vectors(index.ids)
    cosine = rows[asked] @ rows[where].T
    cosine[0, 0] = -np.inf  # itself
    np.testing.assert_array_equal(ids, where[np.argsort(-cosine, axis=1, kind="stable")[:, :4]])
    np.testing.assert_allclose(scores, -np.sort(-cosine, axis=1)[:, :4], atol=1e-5)
    with pytest.raises(
        InputError, match=rf"k is {len(where)}; it must be in \[1, {len(where) - 1}\]"
    ):
        search_indexed(index, asked, len(where), where=where)
    shown = read_indexed(index, run, [gallery.key(i) for i in (3, 1)])
    np.testing.assert_array_equal(shown, [e["image"] for e in gallery.read([3, 1])])
