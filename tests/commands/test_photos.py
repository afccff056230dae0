"""A folder of photographs, as people have them, made searchable by one command."""

import re
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
from PIL import Image

from vision_jax.cli import main
from vision_jax.gallery.lookup import load_index

PHOTOGRAPHS = Path(sklearn.datasets.__file__).parent / "images"


@pytest.fixture
def folder(tmp_path):
    """Two photographs, each also smaller and turned, and files that are none."""
    folder = tmp_path / "Pictures"
    for name, place in (("china.jpg", "train"), ("flower.jpg", "2024/may")):
        (folder / place).mkdir(parents=True)
        photograph = Image.open(PHOTOGRAPHS / name)
        photograph.save(folder / place / name, quality=90)
        photograph.resize((320, 213)).save(folder / f"small {name}.png")
    (folder / "train" / "broken.jpg").write_bytes((PHOTOGRAPHS / "china.jpg").read_bytes()[:900])
    (folder / "empty.png").touch()
    (folder / "notes.txt").write_text("no image")
    return folder


def test_a_folder_without_images_is_refused_in_one_line(tmp_path, capsys):
    (tmp_path / "bare").mkdir()
    for name, reason in (("missing", "an existing folder"), ("bare", "holds 0 images")):
        assert main(["photos", str(tmp_path / name), "--workdir", str(tmp_path / "w")]) == 2
        error = capsys.readouterr().err
        assert reason in error
        assert error.count("\n") == 1
    assert not list(tmp_path.glob("w/*.index"))


@pytest.mark.slow
def test_a_folder_is_searchable_after_one_command(folder, tmp_path, capsys):
    words = ["photos", str(folder), "--workdir", str(tmp_path / "w")]
    assert main(words) == 0
    told = capsys.readouterr().out
    assert "4 photographs" in told
    assert "(4 embedded, 0 kept, 0 removed)" in told
    assert "empty.png is empty" in told
    assert "train/broken.jpg is not a readable image" in told
    page = (tmp_path / "w" / "Pictures.html").read_text()
    assert len(re.findall(r'<a href="file://[^"]+may/flower.jpg"', page)) >= 2
    assert "data:image/jpeg" in page
    index = tmp_path / "w" / "Pictures.index"
    assert main(["search", str(index), str(folder / "2024/may/flower.jpg"), "--k", "2"]) == 0
    found = [line.split("  ")[-1] for line in capsys.readouterr().out.splitlines()[1:]]
    assert {Path(line).name for line in found} == {"flower.jpg", "small flower.jpg.png"}

    before = {row["key"]: v for row, v in _rows(index)}
    (folder / "empty.png").unlink()
    (folder / "small china.jpg.png").unlink()
    Image.open(PHOTOGRAPHS / "china.jpg").rotate(90, expand=True).save(folder / "turned.png")
    assert main(words) == 0
    told = capsys.readouterr().out
    assert "(1 embedded, 3 kept, 1 removed)" in told
    after = {row["key"]: v for row, v in _rows(index)}
    for key in before.keys() & after.keys():
        np.testing.assert_array_equal(before[key], after[key])

    other = tmp_path / "other" / "Pictures"
    other.mkdir(parents=True)
    Image.open(PHOTOGRAPHS / "flower.jpg").save(other / "one.png")
    assert main(["photos", str(other), "--workdir", str(tmp_path / "w")]) == 0
    assert "1 photographs" not in (told := capsys.readouterr().out)
    assert "1 photograph " in told
    assert len(load_index(index)) == 4  # another folder of the same name


def _rows(path):
    index = load_index(path)
    return zip(index.metadata(index.ids), index.vectors(index.ids), strict=True)
