"""Merged indexes: a search of one finds what searches of its parts do."""

import shutil

import numpy as np
import pytest
from PIL import Image

from vision_jax.cli import main
from vision_jax.data.loader import read_all
from vision_jax.errors import InputError
from vision_jax.gallery import build_index, load_index, merge_indexes, read_indexed, select_ids
from vision_jax.gallery.originals import Originals
from vision_jax.reports.matches import write_search_matches
from vision_jax.run.run import load_run
from vision_jax.search import CosineIndex


@pytest.fixture(scope="module")
def run(workdir):
    return load_run(workdir)


@pytest.fixture(scope="module")
def folders(run, tmp_path_factory):
    """Two folders of digits and their index files."""
    root = tmp_path_factory.mktemp("folders")
    images = read_all(run.source("test[:30]"))["image"]
    for name, part in (("a", images[:18]), ("b", images[18:])):
        (root / name).mkdir()
        for number, image in enumerate(part):
            Image.fromarray(image[..., 0]).save(root / name / f"{number}.png")
        words = ["index", run.workdir, "--images", root / name, "--out", root / f"{name}.index"]
        assert main([*map(str, words)]) == 0
    return root


def test_matches_of_a_merged_index_are_explained_unless_a_file_has_changed(
    folders, tmp_path, capsys
):
    root = shutil.copytree(folders, tmp_path / "copy")
    for name in "ab":
        words = ["index", run_of(folders), "--images", root / name, "--out", root / f"{name}.index"]
        assert main([*map(str, words)]) == 0
    merged(root)
    (picture, *others), out = sorted((root / "b").iterdir()), root / "found.png"
    words = ["search", root / "all.index", picture, "--explain", "--picture", out]
    assert main([*map(str, words), "--k", "3"]) == 0
    with Image.open(out) as drawn:
        assert drawn.height > 3 * 200
    assert main([*map(str, words), "--min-score", "1"]) == 0
    assert main([*map(str, words), "--k", "12"]) == 0
    for other in (picture, *others, *(root / "a").iterdir()):
        with Image.open(other) as image:
            turned = image.transpose(Image.Transpose.ROTATE_180)
        turned.save(other)
    capsys.readouterr()
    assert main([*map(str, words), "--k", "3"]) == 2
    assert "has changed since it was indexed; index the images again" in capsys.readouterr().err


def test_the_cosine_of_several_views_is_not_explained_as_that_of_one(run, folders, tmp_path):
    index = build_index(run, run.open_images(folders / "a", "files"), views=2)
    key = index.metadata(0)[0]["key"]
    with pytest.raises(InputError, match="averages 2 views of each image; an explanation takes"):
        write_search_matches(tmp_path / "e.html", run, index, [], [key], np.array([[1]]))


def run_of(root):
    return load_index(root / "a.index").about["workdir"]


def merged(root, *options):
    out = root / "all.index"
    words = ["merge", root / "a.index", root / "b.index", "--out", out, *options]
    assert main([*map(str, words)]) == 0
    return load_index(out)


def keys_of(index, ids):
    return [row["key"] for row in index.metadata(ids)]


def test_a_search_finds_what_searches_of_the_parts_do(folders, run):
    whole = merged(folders)
    parts = [load_index(folders / f"{name}.index") for name in "ab"]
    queries = run.embed(run.source("test[30:38]"))
    scores, ids = whole.search(queries, 12)
    for row in range(len(queries)):
        rows = []
        for part in parts:
            near, found = part.search(queries[row : row + 1], 12)
            rows += zip(near[0].tolist(), keys_of(part, found[0]), strict=True)
        rows.sort(key=lambda pair: -pair[0])
        np.testing.assert_allclose(scores[row], [score for score, _ in rows[:12]], atol=1e-6)
        assert set(keys_of(whole, ids[row])) == {key for _, key in rows[:12]}
    np.testing.assert_array_equal(
        whole.vectors(whole.ids), np.concatenate([part.vectors(part.ids) for part in parts])
    )
    assert len(whole) == 30
    assert whole.ids.tolist() == list(range(30))


def test_its_images_are_filtered_read_and_drawn_again(folders, run):
    whole = merged(folders)
    assert len(select_ids(whole, ["folder=."])) == 30
    keys = keys_of(whole, [2, 29])
    expected = [np.asarray(Image.open(key))[..., None] for key in keys]
    np.testing.assert_array_equal(read_indexed(whole, run, keys), expected)
    thumbnails = Originals(whole, run.workdir).thumbnails(whole.metadata([2, 29]))
    assert [thumbnail.fault for thumbnail in thumbnails] == [None, None]


def test_images_of_one_key_are_refused_or_chosen(run):
    first = build_index(run, run.source("test[:6]"))
    second = build_index(run, run.source("test[:6]"))
    second.remove([0, 1])
    for item in second.ids.tolist():
        second.set_metadata(item, [second.metadata(item)[0] | {"later": True}])
    with pytest.raises(InputError, match=r"x and y both hold digits/test\[:6\]/2; on_same_key"):
        merge_indexes([first, second], names=["x", "y"])
    for choice, later in (("first", 0), ("last", 4)):
        whole = merge_indexes([first, second], on_same_key=choice)
        rows = whole.metadata(whole.ids)
        assert sorted(row["key"] for row in rows) == [f"digits/test[:6]/{i}" for i in range(6)]
        assert sum("later" in row for row in rows) == later
    assert whole.about == first.about  # of the same images still


def test_what_cannot_be_merged_is_refused(folders, run, capsys, tmp_path):
    part, other = load_index(folders / "a.index"), load_index(folders / "b.index")
    other.about["encoder"] = "0" * 64
    other.save(tmp_path / "other.index")
    out = tmp_path / "all.index"

    def told(*words):
        capsys.readouterr()
        assert main(["merge", *map(str, words), "--out", str(out)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    line = told(folders / "a.index", tmp_path / "other.index")
    assert f"{folders / 'a.index'} and {tmp_path / 'other.index'} were made by different" in line
    assert "1 index was given to merge; 2 or more are needed" in told(folders / "a.index")
    line = told(folders / "a.index", folders / "a.index")
    assert "both hold" in line
    assert "--on-same-key is error" in line
    assert not out.exists()
    out.write_text("mine")
    assert "not an index file" in told(folders / "a.index", folders / "b.index")
    del other.about["encoder"]
    with pytest.raises(InputError, match="index 1 does not name the network"):
        merge_indexes([part, other])
    small = CosineIndex(part.dim, dtype="int8", about=part.about)
    small.add(part.vectors([0]), metadata=[part.metadata(0)[0] | {"key": "new"}])
    with pytest.raises(InputError, match="index 0 stores float32 and index 1 int8"):
        merge_indexes([part, small])


def test_a_merged_index_is_not_updated_in_place(folders, run, capsys):
    merged(folders)
    before = (folders / "all.index").read_bytes()
    words = ["index", run.workdir, "--images", folders / "a", "--out", folders / "all.index"]
    capsys.readouterr()
    assert main([*map(str, words)]) == 2
    assert "is not replaced: it is merged, of 2 sources" in capsys.readouterr().err
    assert (folders / "all.index").read_bytes() == before
