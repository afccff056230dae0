"""An index that is written part by part: resumed, refused, and cut into shards."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from vision_jax.cli import main
from vision_jax.data.sources import ArraySource, Concatenated, Subset
from vision_jax.errors import DataWarning, InputError
from vision_jax.gallery import build_index, load_index, write_index
from vision_jax.gallery import shares as module
from vision_jax.gallery.origin import Origin
from vision_jax.gallery.parts import Parts
from vision_jax.gallery.shards import publish, shard_range, write_shard
from vision_jax.gallery.shares import cuts, slow
from vision_jax.run.run import load_run
from vision_jax.search import CosineIndex, index_file
from vision_jax.training.steps import DataParallel


@pytest.fixture(scope="module")
def run(workdir):
    """A run that embeds 64 images at a time, so that there are several batches."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DataParallel, "row_sizes", lambda *_: (64, 4))
        yield load_run(workdir)


@pytest.fixture(scope="module")
def source(run):
    return run.source("test")


@pytest.fixture
def often(monkeypatch):
    """Write a part for each batch."""
    monkeypatch.setattr(module, "SECONDS", 0)


class Killed(BaseException):
    """What no code can catch by mistake."""


def interrupt(run, source, path, monkeypatch, after, **options):
    """Write an index until so many images are embedded; return their keys."""
    add = module.OpenPart.add
    keys = []

    def counted(part, vectors, rows):
        if len(keys) >= after:
            raise Killed
        keys.extend(row["key"] for row in rows)
        add(part, vectors, rows)

    with monkeypatch.context() as patch:
        patch.setattr(module.OpenPart, "add", counted)
        if after is None:
            return write_index(run, source, path, **options), keys
        with pytest.raises(Killed):
            write_index(run, source, path, **options)
    return keys


def test_an_interrupted_index_embeds_no_image_twice(run, source, tmp_path, often, monkeypatch):
    path, whole = tmp_path / "a.index", tmp_path / "b.index"
    write_index(run, source, whole)
    before = interrupt(run, source, path, monkeypatch, 150)
    assert not path.exists()
    after = []
    embed_parts = type(run).embed_parts

    def counted(self, images, **options):
        after.extend(map(images.key, range(len(images))))
        return embed_parts(self, images, **options)

    monkeypatch.setattr(type(run), "embed_parts", counted)
    change = write_index(run, source, path)
    assert len(before) == change.resumed >= 150
    assert sorted(before + after) == sorted(map(source.key, range(len(source))))
    assert path.read_bytes() == whole.read_bytes()
    assert change.added == len(source)
    assert [file.name for file in tmp_path.iterdir() if "parts" in file.name] == []


def test_the_index_is_that_of_embedding_at_once(run, source, tmp_path, often):
    write_index(run, source, tmp_path / "a.index")
    vectors = run.embed(source)
    index = load_index(tmp_path / "a.index")
    np.testing.assert_array_equal(
        index.vectors(index.ids), build_index(run, source).vectors(index.ids)
    )
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(index.vectors(index.ids), unit, atol=1e-6)


@pytest.mark.slow
def test_parts_of_another_network_or_source_are_started_over(
    run, source, tmp_path, often, monkeypatch
):
    path = tmp_path / "a.index"
    interrupt(run, source, path, monkeypatch, 100)
    with pytest.warns(DataWarning, match="2 views.*|of 1 views of an image, not of 2"):
        change = write_index(run, source, path, views=2)
    assert change.resumed == 0
    path.unlink()
    interrupt(run, source, path, monkeypatch, 100)
    with pytest.warns(DataWarning, match="started over .*it is of other images"):
        assert write_index(run, run.source("test[:50%]"), path).resumed == 0
    path.unlink()
    interrupt(run, source, path, monkeypatch, 100)
    other = dataclasses.replace(run, config=dataclasses.replace(run.config, seed=1))
    other.__dict__["identity"] = "0" * 64
    with pytest.warns(DataWarning, match="started over .*another network made it"):
        assert write_index(other, source, path).resumed == 0


@pytest.mark.slow
def test_only_images_that_changed_since_are_embedded_again(run, tmp_path, often, monkeypatch):
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(0)
    for i in range(80):
        Image.fromarray(random.integers(0, 256, (8, 8), np.uint8)).save(folder / f"{i:02}.png")
    path = tmp_path / "a.index"
    photos = run.open_images(folder, "files")
    done = interrupt(run, photos, path, monkeypatch, 60)
    Image.fromarray(np.zeros((8, 8), np.uint8) + 7).save(done[0])
    change = write_index(run, run.open_images(folder, "files"), path)
    assert (change.added, change.resumed) == (80, len(done) - 1)
    expected = build_index(run, run.open_images(folder, "files"))
    index = load_index(path)
    np.testing.assert_allclose(index.vectors(index.ids), expected.vectors(index.ids), atol=1e-6)


@pytest.mark.slow
def test_a_damaged_part_is_embedded_again(run, source, tmp_path, often, monkeypatch):
    path = tmp_path / "a.index"
    done = interrupt(run, source, path, monkeypatch, 150)
    part = min((tmp_path / "a.index.parts").glob("part-*"))
    data = bytearray(part.read_bytes())
    data[-300] ^= 1
    part.write_bytes(data)
    with pytest.warns(DataWarning, match=r"part-00000-0000000.* altered"):
        change = write_index(run, source, path)
    assert 0 < change.resumed < len(done)
    write_index(run, source, tmp_path / "b.index")
    assert path.read_bytes() == (tmp_path / "b.index").read_bytes()


def test_an_index_that_is_being_written_is_refused(run, source, tmp_path, often, monkeypatch):
    path = tmp_path / "a.index"
    add = module.OpenPart.add

    def meanwhile(part, vectors, rows):
        add(part, vectors, rows)
        with pytest.raises(InputError, match="is being written by another process"):
            write_index(run, source, path)
        raise Killed

    monkeypatch.setattr(module.OpenPart, "add", meanwhile)
    with pytest.raises(Killed):
        write_index(run, source, path)


def test_a_folder_that_holds_more_than_parts_keeps_it(run, source, tmp_path, often):
    folder = tmp_path / "a.index.parts"
    folder.mkdir()
    (folder / "thesis.tex").write_text("years of work")
    write_index(run, source, tmp_path / "a.index")
    assert [file.name for file in folder.iterdir()] == ["thesis.tex"]


@pytest.mark.slow
def test_shards_are_read_as_the_one_index(run, source, tmp_path):
    """Built, then updated by removing images, then by adding them again."""
    paths = {"one.index": None, "many": 3, "more": 7}
    for step, part in enumerate((source, Subset.of(source, range(5, 360, 2)), source)):
        for name, shards in paths.items():
            change = write_index(run, part, tmp_path / name, shards=None if step else shards)
        one, *others = (load_index(tmp_path / name) for name in paths)
        for many in others:
            for a, b in zip(one.to_content(), many.to_content(), strict=True):
                np.testing.assert_array_equal(a, b)
            for a, b in zip(one.search_by_id([177], 5), many.search_by_id([177], 5), strict=True):
                np.testing.assert_array_equal(a, b)
    assert (change.added, change.removed, change.kept) == (182, 0, 178)
    assert len(list((tmp_path / "many").iterdir())) == 4
    write_index(run, Subset.of(source, range(3)), tmp_path / "few", shards=5)
    assert len(load_index(tmp_path / "few")) == 3


def test_shards_are_read_by_the_devices_that_search_them(tmp_path):
    index = CosineIndex(4, about="any")
    ids = np.random.default_rng(0).permutation(101)  # an order of adding that is not theirs
    index.add(np.random.default_rng(1).normal(size=(101, 4)), ids)
    content = index.to_content()
    for number in range(3):
        part = shard_range(101, 3, number)
        cut = (content.values[part], content.scale[part], content.ids[part])
        notes = content.notes | {"items": {}}
        write_shard(tmp_path, number, 3, "b", index_file.Content(content.dtype, *cut, notes))
    publish(tmp_path, 3, "b", (101, 4), content.dtype)
    stored = load_index(tmp_path, method="sharded")
    for options in ({"method": "sharded"}, {}):  # the second puts all on one device
        assert stored.nbytes == 0
        found = stored.search(np.eye(4), 9, **options)
        for ours, theirs in zip(found, index.search(np.eye(4), 9, **options), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert stored.nbytes == index.nbytes


def test_folders_that_are_no_shards_are_named(run, source, tmp_path):
    write_index(run, source, tmp_path / "many", shards=2)
    first, second = sorted((tmp_path / "many").glob("shard-*"))
    second.rename(tmp_path / "away")
    with pytest.raises(InputError, match=r"more than the shards hold|does not exist"):
        load_index(tmp_path / "many")
    second.write_bytes(first.read_bytes())
    with pytest.raises(InputError, match=r"shard-00001-of-00002-.{8}.index is no shard that"):
        load_index(tmp_path / "many")
    (tmp_path / "many" / "shards.json").write_text("{}")
    with pytest.raises(InputError, match=r"shards\.json is damaged"):
        load_index(tmp_path / "many")
    with pytest.raises(InputError, match=r"is a folder; an index file, or"):
        load_index(tmp_path)
    with pytest.raises(InputError, match="is a folder"):
        write_index(run, source, tmp_path, shards=2)
    index_file.write(tmp_path / "a.index", load_index(_one(run, source, tmp_path)).to_content())
    with pytest.raises(InputError, match=r"shards is 2, but .* is a file; another name is needed"):
        write_index(run, source, tmp_path / "a.index", shards=2)
    with pytest.raises(InputError, match="shards is 0; it must be at least 1"):
        write_index(run, source, tmp_path / "new", shards=0)


def _one(run, source, folder):
    write_index(run, source, folder / "one.index")
    return folder / "one.index"


@pytest.mark.slow
def test_a_user_writes_and_searches_shards(workdir, tmp_path, capsys):
    found = []
    words = ["index", str(workdir), "--images", "digits", "--split", "test"]
    for name, extra in (("one.index", []), ("many", ["--shards", "3"])):
        assert main([*words, "--out", str(tmp_path / name), *extra]) == 0
        assert "(360 embedded, 0 kept, 0 removed)" in capsys.readouterr().out
        assert main(["search", str(tmp_path / name), "--keys", "digits/test/7", "--k", "4"]) == 0
        found.append(capsys.readouterr().out)
    assert found[0] == found[1]
    assert main([*words, "--out", str(tmp_path / "one.index"), "--shards", "2"]) == 2
    assert capsys.readouterr().err.startswith("vision-jax: --shards is 2, but ")


def test_shares_are_whole_files_or_whole_batches():
    # Files of one size: no process shares one.
    assert cuts(1000, [*range(100, 1001, 100)], 4, 64) == [0, 200, 500, 700, 1000]
    assert cuts(1600, [*range(100, 1601, 100)], 4, 64) == [0, 400, 800, 1200, 1600]
    # One file, or files of uneven sizes: cut where a batch begins.
    assert cuts(1000, [1000], 2, 256) == [0, 512, 1000]
    ends = cuts(1797, [1437, 1797], 2, 256)
    assert ends == [0, 1024, 1797]
    assert cuts(3, [3], 4, 256)[-1] == 3
    for count in (1, 3, 7):
        found = cuts(1797, [1437, 1797], count, 16)
        assert (found[0], found[-1], len(found)) == (0, 1797, count + 1)
        assert all(a <= b for a, b in pairwise(found))
        assert all(end % 16 == 0 or (end - 1437) % 16 == 0 for end in found[:-1])


def test_a_share_reads_no_other_file(run, tmp_path, digits):
    """Neither digests, nor labels, nor details, nor pixels of other images are read."""
    images, labels = digits
    for i in range(6):
        (tmp_path / "photos" / str(labels[i])).mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[i, ..., 0]).save(tmp_path / "photos" / str(labels[i]) / f"{i}.png")
    whole = run.open_images(tmp_path / "photos", "all")
    share = whole.take([1, 3, 4])
    facts = [whole.digests(), whole.labels().tolist(), whole.details(), whole.splits()]
    for i in {*range(6)} - {1, 3, 4}:
        whole.files[i].unlink()
    told = [share.digests(), share.labels().tolist(), share.details(), share.splits()]
    assert told == [[fact[i] for i in (1, 3, 4)] for fact in facts]
    assert [share.key(i) for i in range(3)] == [whole.key(i) for i in (1, 3, 4)]
    assert len(share.read(range(3))) == 3
    whole = run.source("all")
    records = whole.take(range(1400, 1500))
    assert records.file_ends() == [37, 100]
    assert records.digests() == whole.digests()[1400:1500]
    assert records.key(3) == whole.key(1403)
    held = ArraySource.from_arrays(images[:4])
    assert Concatenated.of([held, held]).take([5]).digests() == held.digests()[1:2]


def test_a_slow_process_is_told_from_the_others():
    assert slow({0: 100.0, 1: 90.0, 2: 20.0, 3: 95.0}, {1, 2, 3}) == [2]
    assert slow({0: 100.0, 1: 90.0}, {1}) == []
    assert slow({0: 100.0, 1: 20.0}, {1}) == [1]
    assert slow({0: 100.0, 1: 20.0}, set()) == []
    assert slow({0: 5.0}, {0}) == []


def test_a_second_writer_that_began_before_the_first_part_is_refused(run, source, tmp_path):
    row = {"key": "a", "digest": "b"}
    origin = Origin.of(run, source)
    first, second, third = (Parts(tmp_path / "a.index", origin, (0, 1)) for _ in range(3))
    for parts in (first, second, third):
        parts.open()
    first.write(np.ones((1, 2), np.float32), [row])
    with pytest.raises(InputError, match="being written"):
        second.write(np.ones((1, 2), np.float32), [row])
    third.remove()  # which wrote no part: these are the first's
    assert list(first.places()) == [("a", "b")]
    first.remove()
    assert not first.folder.exists()
    first.close()


def test_an_empty_folder_is_refused_before_anything_is_embedded(run, source, tmp_path, monkeypatch):
    monkeypatch.setattr(module.OpenPart, "add", None)  # which nothing may reach
    with pytest.raises(InputError, match="is a folder"):
        write_index(run, source, tmp_path)
