"""Options of `vision-jax search` on a folder of photographs, as a user gives them."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from vision_jax.cli import main
from vision_jax.data.loader import read_all
from vision_jax.gallery import find_duplicates, load_index, search_examples
from vision_jax.run.run import load_run

FIELDS = ("taken", "camera", "latitude", "longitude")


@pytest.fixture(scope="module")
def photos(workdir, tmp_path_factory):
    """Twelve digits as photographs of a year, one a month, every other with a place."""
    folder = tmp_path_factory.mktemp("photos")
    for number, image in enumerate(read_all(load_run(workdir).source("test[:12]"))["image"]):
        exif = Image.Exif()
        exif[ExifTags.Base.Make] = "Canon" if number < 6 else "Apple"
        taken = f"2024:{number + 1:02}:15 12:00:00"
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = taken
        if number % 2:
            exif.get_ifd(ExifTags.IFD.GPSInfo).update(
                {1: "N", 2: (40.0 + number, 30.0, 0.0), 3: "E", 4: (10.0, 0.0, 0.0)}
            )
        Image.fromarray(image[..., 0]).save(folder / f"{number}.jpg", exif=exif, quality=95)
    return folder


@pytest.fixture
def index(workdir, photos, tmp_path):
    path = tmp_path / "photos.index"
    assert main(["index", str(workdir), "--images", str(photos), "--out", str(path)]) == 0
    return path


def told(capsys, *words):
    """The exit code, and the lines on stdout and stderr."""
    capsys.readouterr()
    code = main([str(word) for word in words])
    printed = capsys.readouterr()
    return code, printed.out.splitlines(), printed.err.splitlines()


def found(lines):
    """The score of each file found, by its number."""
    rows = [line.split() for line in lines if re.match(r" +\d+  [+-]", line)]
    return {int(row[-1].rpartition("/")[2].partition(".")[0]): float(row[1]) for row in rows}


def search(capsys, index, *words):
    code, out, err = told(capsys, "search", index, *words)
    assert (code, err) == (0, [])
    return found(out)


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        (["taken>=2024-05", "taken<2024-08"], {4, 5, 6}),
        (["taken=2024-05", "taken=2024-07..2024-08"], {4, 6, 7}),
        (["latitude=42..46"], {3, 5}),
        (["camera=Apple", "longitude>0", "folder=."], {7, 9, 11}),
    ],
)
def test_photographs_are_filtered_by_when_how_and_where(
    index, photos, capsys, conditions, expected
):
    assert search(capsys, index, photos / "0.jpg", "--where", *conditions).keys() == expected


def test_a_least_score_leaves_out_what_is_less_similar(index, photos, capsys):
    every = search(capsys, index, photos / "0.jpg", "--k", 12)
    least = sorted(every.values())[6]
    some = search(capsys, index, photos / "0.jpg", "--k", 12, "--min-score", least - 1e-4)
    assert some == {number: score for number, score in every.items() if score >= least}
    key = photos / "0.jpg"
    assert found(told(capsys, "search", index, "--keys", key, "--min-score", 1)[1]) == {}
    assert "nothing" in told(capsys, "search", index, "--keys", key, "--min-score", 1)[1][-1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--min-score", "80"], "--min-score is 80.0; a cosine in [-1, 1] is needed"),
        (["--where", "height>3"], "images have no 'height'; they have camera, digest, folder, key"),
        (["--where", "taken>May"], "taken is a date; one such as 2024-05-17"),
        (["--where", "taken<2020"], "no indexed image meets taken<2020"),
    ],
)
def test_bad_options_are_one_line(index, photos, capsys, words, message):
    code, out, err = told(capsys, "search", index, photos / "0.jpg", *words)
    assert (code, out, len(err)) == (2, [], 1)
    assert message in err[0]


def test_indexing_again_reads_what_an_older_index_lacks(workdir, index, photos, capsys):
    loaded = load_index(index)
    rows = loaded.metadata(loaded.ids)
    assert all({"taken", "camera", "folder", "modified"} <= row.keys() for row in rows)
    loaded.set_metadata(
        loaded.ids, [{k: v for k, v in row.items() if k not in FIELDS} for row in rows]
    )
    loaded.save(index)
    code, _, err = told(capsys, "search", index, photos / "0.jpg", "--where", "taken>2024-02")
    assert code == 2
    assert "images have no 'taken'" in err[0]
    code, out, _ = told(capsys, "index", workdir, "--images", photos, "--out", index)
    assert out[-1].endswith("(0 embedded, 12 kept, 0 removed)")
    assert load_index(index).metadata(loaded.ids) == rows
    os.utime(photos / "3.jpg", (0, 86_400 * 400))
    told(capsys, "index", workdir, "--images", photos, "--out", index)
    assert search(capsys, index, photos / "0.jpg", "--where", "modified<2000").keys() == {3}


def test_metadata_are_replaced_only_of_what_is_there():
    from vision_jax.errors import InputError
    from vision_jax.search import CosineIndex

    index = CosineIndex(2)
    index.add(np.eye(2), metadata=["a", "b"])
    index.set_metadata([1, 0], [{"x": 1}, None])
    assert index.metadata([0, 1]) == [None, {"x": 1}]
    with pytest.raises(InputError, match="ids are not in the index"):
        index.set_metadata([1, 5], ["c", "d"])
    with pytest.raises(InputError, match="metadata has 1 values; 2 are needed"):
        index.set_metadata([0, 1], ["c"])
    assert index.metadata([0, 1]) == [None, {"x": 1}]


@pytest.fixture(scope="module")
def album(workdir, tmp_path_factory):
    """Forty digits, five of them saved twice more, at other qualities."""
    folder = tmp_path_factory.mktemp("album")
    for number, image in enumerate(read_all(load_run(workdir).source("test[:40]"))["image"]):
        picture = Image.fromarray(image[..., 0])
        picture.save(folder / f"{number}.png")
        if number < 5:
            picture.save(folder / f"{100 + number}.png")
            picture.save(folder / f"{200 + number}.jpg", quality=100)
    return folder


@pytest.fixture(scope="module")
def album_index(workdir, album, tmp_path_factory):
    path = tmp_path_factory.mktemp("index") / "album.index"
    assert main(["index", str(workdir), "--images", str(album), "--out", str(path)]) == 0
    return path


def numbers(index, items):
    return [int(row["key"].rpartition("/")[2].partition(".")[0]) for row in index.metadata(items)]


def test_near_duplicates_are_folded_into_the_best_of_them(album_index, album, capsys):
    words = ["search", album_index, "--keys", album / "7.png", "--k", 30, "--fold", 0.999]
    code, out, err = told(capsys, *words)
    assert (code, err) == (0, [])
    shown = list(found(out))
    assert len(shown) == 30
    groups = find_duplicates(load_index(album_index), 0.999)
    members = [{int(Path(row["key"]).stem) for row in rows} for _, rows in groups]
    assert sum(members_of >= {i, 100 + i} for members_of in members for i in range(5)) == 5
    assert all(len(group.intersection(shown)) <= 1 for group in members)
    place = next(i for i, line in enumerate(out) if "nearly the same" in line) - 1
    (best,) = found([out[place]])
    named = {int(Path(name).stem) for name in re.findall(r"\S+\.(?:png|jpg)", out[place + 1])}
    (group,) = [group for group in members if best in group]
    assert named == group - {best}


def test_hits_by_examples_are_those_of_the_formula(workdir, album_index, album, capsys):
    index, run = load_index(album_index), load_run(workdir)
    like, unlike = [str(album / "3.png"), str(album / "4.png")], [str(album / "9.png")]
    unit = index.vectors(index.ids)
    place = {number: i for i, number in enumerate(numbers(index, index.ids))}
    query = unit[[place[3], place[4]]].mean(0) - 0.7 * unit[place[9]]
    order = np.argsort(-(unit @ query), kind="stable")
    left = [n for n in np.array(list(place))[order] if n not in (3, 4, 9)]
    hits = search_examples(index, None, like, unlike, 5, weight=0.7)
    assert search_examples(index, None, [*map(Path, like)], unlike, 5, weight=0.7) == hits
    cosines = unit @ query / np.linalg.norm(query)
    np.testing.assert_allclose(
        [hit.score for hit in hits],
        np.sort(np.delete(cosines, [place[3], place[4], place[9]]))[::-1][:5],
        atol=1e-5,
    )
    words = ["--like", *like, "--unlike", *unlike, "--weight", 0.7, "--k", 5]
    assert list(search(capsys, album_index, *words)) == numbers(index, [h.item for h in hits])
    assert set(numbers(index, [h.item for h in hits])) <= set(left)
    # The same image from a file of its own, which is not indexed, stays among the hits.
    copy = album.parent / "copy.png"
    copy.write_bytes((album / "3.png").read_bytes())
    hits = search_examples(index, run, [copy], [], 1)
    assert hits[0].score == pytest.approx(1, abs=1e-5)


def test_a_lambda_of_one_is_the_plain_search_and_less_spreads(album_index, album, capsys):
    words = ["--keys", album / "7.png", "--k", 8]
    plain = search(capsys, album_index, *words)
    assert list(search(capsys, album_index, *words, "--mmr", 1).items()) == list(plain.items())
    spread = search(capsys, album_index, *words, "--mmr", 0.3)
    index = load_index(album_index)
    place = dict(zip(numbers(index, index.ids), index.ids.tolist(), strict=True))

    def likeness(shown):
        vectors = index.vectors([place[number] for number in shown])
        return (vectors @ vectors.T)[np.triu_indices(8, 1)].mean()

    assert next(iter(spread)) == next(iter(plain))
    assert likeness(spread) < likeness(plain) - 0.05


def test_folded_diverse_hits_are_drawn(album_index, album, capsys, tmp_path):
    words = ["--like", album / "1.png", "--unlike", album / "9.png", "--fold", 0.999]
    words += ["--mmr", 0.6, "--k", 4]
    page = tmp_path / "found.html"
    code, out, err = told(capsys, "search", album_index, *words, "--picture", page)
    assert (code, err, len(found(out))) == (0, [], 4)
    assert page.read_text().count("data:image") == 5
    assert str(album / "1.png") in page.read_text()  # whose thumbnail stands for the query


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "0 images and 0 keys to look up were given, and 0 examples"),
        (["x.png", "--like", "y"], "1 images and 0 keys to look up were given, and 1 examples"),
        (["x.png", "--unlike", "y"], "--unlike is 'y', and --like is empty"),
        (["--like", "missing.png"], "'missing.png' is neither an image file nor the key of an"),
        (["--like", "A", "--unlike", "A", "--weight", "1"], "cancel out"),
        (["--like", "A", "--weight", "-1"], "--weight is -1.0; a finite number"),
        (["--like", "A", "--fold", "98"], "--fold is 98.0; it must be in (0, 1]"),
        (["--like", "A", "--k", "99"], "--k is 99; it must be in [1, 50], as many as may be found"),
        (["--like", "A", "--mmr", "2"], "--mmr is 2.0; a number in [0, 1] is needed"),
    ],
)
def test_bad_examples_and_ranges_are_one_line(album_index, album, capsys, words, message):
    words = [str(album / "1.png") if word == "A" else word for word in words]
    code, out, err = told(capsys, "search", album_index, *words)
    assert (code, out, len(err)) == (2, [], 1)
    assert message in err[0]


def test_duplicates_by_complete_linkage(album_index, capsys):
    code, out, _ = told(capsys, "duplicates", album_index, "--linkage", "complete")
    assert code == 0
    assert sum("/3.png" in line or "/103.png" in line for line in out) == 2
