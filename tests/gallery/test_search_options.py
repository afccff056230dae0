"""Options of `vision-jax search` on a folder of photographs, as a user gives them."""

import os

import numpy as np
import pytest
from PIL import ExifTags, Image

from vision_jax.cli import main
from vision_jax.data.loader import read_all
from vision_jax.gallery import load_index
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
    rows = [line.split() for line in lines if line.startswith("   ")]
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
