import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from vision_jax.data.loader import read_all
from vision_jax.errors import DataWarning, InputError
from vision_jax.gallery import (
    IndexChange,
    build_index,
    find_duplicates,
    find_keys,
    load_index,
    read_indexed,
    search_images,
    search_indexed,
    select_ids,
    update_index,
    write_index,
)
from vision_jax.run.run import load_run
from vision_jax.search import CosineIndex


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
    assert index.about == {
        "workdir": str(run.workdir),
        "step": run.step,
        "source": "digits",
        "split": "train[:30%]",
        "encoder": run.identity,
    }


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


def test_a_listings_columns_are_metadata_and_changes_of_them_are_taken_over(run, photos, tmp_path):
    files = sorted(path.relative_to(tmp_path) for path in (tmp_path / "photos").glob("*/*.png"))
    listed, path = tmp_path / "photos.csv", tmp_path / "photos.index"

    def write(text):
        rows = [f"{file},{'even' if i % 2 else 'odd'},cam{i % 3}" for i, file in enumerate(files)]
        listed.write_text("\n".join(["file,label,camera", *rows]).replace(*text))
        return write_index(run, run.open_images(str(listed), "all"), path)

    assert write(("", "")) == IndexChange(20, 0, 0)
    index = load_index(path)
    row = index.metadata(find_keys(index, [str(tmp_path / files[4])]))[0]
    assert (row["label"], row["camera"]) == ("odd", "cam1")
    before = index.vectors(select_ids(index, ["camera=cam1", "label=odd"]))
    assert len(before) == 3
    assert write(("cam1", "Leica")) == IndexChange(0, 0, 20)
    index = load_index(path)
    after = index.vectors(select_ids(index, ["camera=Leica", "label=odd"]))
    np.testing.assert_allclose(np.sort(before, 0), np.sort(after, 0), atol=1e-6)
    with pytest.raises(InputError, match="no indexed image meets camera=cam1"):
        select_ids(index, ["camera=cam1"])


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


@pytest.fixture(scope="module")
def retrained(run):
    """The same folder and step with other weights."""
    params = jax.tree.map(lambda leaf: leaf * 1.01, run.state.params)
    return dataclasses.replace(run, state=run.state.replace(params=params))


def test_an_index_knows_the_network_that_made_it(run, retrained, photos, tmp_path):
    folder, opened = photos
    path = tmp_path / "photos.index"
    write_index(run, opened(), path)
    query = [folder / "train" / "0.png"]
    with pytest.raises(InputError, match=r"made by another network than the one in .* at step"):
        search_images(load_index(path), retrained, query, 1)
    with pytest.raises(InputError, match="cannot be updated: another network made it"):
        update_index(load_index(path), retrained, opened())
    assert write_index(retrained, opened(), path) == IndexChange(
        20, 0, 0, "another network made it"
    )
    index = load_index(path)
    found = index.metadata(search_images(index, retrained, query, 1)[1])
    assert Path(found[0]["key"]).name == "0.png"


def test_a_run_that_moved_is_the_same_network(run, photos, tmp_path):
    _, opened = photos
    path = tmp_path / "photos.index"
    write_index(run, opened(), path)
    moved = dataclasses.replace(run, workdir=tmp_path / "moved")
    assert write_index(moved, opened(), path) == IndexChange(0, 0, 20)
    assert load_index(path).about["workdir"] == str(tmp_path / "moved")


def test_other_images_are_indexed_anew(run, photos, gallery, tmp_path):
    _, opened = photos
    write_index(run, gallery, tmp_path / "a.index")
    change = write_index(run, opened(), tmp_path / "a.index")
    assert change == IndexChange(20, 0, 0, "it is of other images, digits (train[:30%])")


def test_an_index_of_the_first_version_is_searched_with_a_warning_and_built_anew(
    run, photos, tmp_path
):
    folder, opened = photos
    path = tmp_path / "photos.index"
    write_index(run, opened(), path)
    index = load_index(path)
    del index.about["encoder"]
    index.save(path)
    with pytest.warns(DataWarning, match="does not name the network that made it"):
        search_images(load_index(path), run, [folder / "train" / "0.png"], 1)
    change = write_index(run, opened(), path)
    assert (change.added, change.kept) == (20, 0)
    assert "version 0.1" in change.rebuilt
    assert load_index(path).about["encoder"] == run.identity


def labelled(metadata):
    index = CosineIndex(4)
    index.add(np.eye(4), metadata=metadata)
    return index


ROW = {"key": "a", "digest": "b", "split": "train"}


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        ["cat"] * 4,
        [{"key": "a"}] * 4,
        [ROW, ROW, ROW, ROW | {"split": 3}],
        [ROW, ROW, ROW, ROW | {"label": ["x"]}],
    ],
)
def test_an_index_that_is_not_of_images_is_refused(metadata):
    index = labelled(metadata)
    for call in (
        lambda: find_duplicates(index, 0.9),
        lambda: find_keys(index, ["a"]),
        lambda: select_ids(index, ["label=x"]),
    ):
        with pytest.raises(InputError, match=r"does not say which image [03] is"):
            call()
    with pytest.raises(InputError, match="the index is empty"):
        find_duplicates(CosineIndex(4), 0.9)


@pytest.mark.parametrize("change", [{"step": "3"}, {"source": None}, {"model": "cnn"}, None, 7])
def test_an_index_by_others_is_never_replaced(run, index, gallery, tmp_path, change):
    path = tmp_path / "own.index"
    own = CosineIndex(4, about=index.about | change if isinstance(change, dict) else change)
    own.add(np.eye(4))
    own.save(path)
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"own\.index is not replaced: the index does not say"):
        write_index(run, gallery, path)
    assert path.read_bytes() == before
    with pytest.raises(InputError, match="does not say which network"):
        read_indexed(own, run, ["a"])


def test_no_images_find_nothing(run, index):
    scores, ids = search_images(index, run, [], 3)
    assert (scores.shape, ids.shape) == ((0, 3), (0, 3))
    assert read_indexed(index, run, []).shape == (0, *run.info.image_shape)


def test_bad_input_is_named(run, index, tmp_path):
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
    _, ids = search_indexed(index, asked, len(where), where=where)
    np.testing.assert_array_equal((ids < 0).sum(1), [1, 0])  # itself is left out of the first
    shown = read_indexed(index, run, [gallery.key(i) for i in (3, 1)])
    np.testing.assert_array_equal(shown, [e["image"] for e in gallery.read([3, 1])])


def test_an_update_that_fails_leaves_the_index_as_it_was(run, photos, monkeypatch):
    folder, opened = photos
    index = build_index(run, opened())
    before = index.metadata(index.ids)
    picture, other = sorted(folder.rglob("*.png"))[:2]
    other.unlink()
    Image.fromarray(np.full((8, 8), 77, np.uint8)).save(picture)
    broken = dataclasses.replace(run)
    monkeypatch.setattr(
        type(run), "embed", lambda self, images, **_: np.full((len(images), 64), np.nan, np.float32)
    )
    with pytest.raises(InputError, match="has an embedding that is zero, NaN or infinite"):
        update_index(index, broken, opened())
    assert index.metadata(index.ids) == before
