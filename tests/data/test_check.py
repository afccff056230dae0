import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vision_jax.cli import main
from vision_jax.data.check import check_data


def write(path, value=9, size=(4, 4), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(size, value, np.uint8)).save(path, **options)


@pytest.fixture
def folder(tmp_path):
    """Two classes of good images."""
    for number in range(12):
        for name in ("cat", "dog"):
            write(tmp_path / "photos" / name / f"{number}.png", number)
    return tmp_path / "photos"


def test_good_images_are_no_error(folder, capsys):
    assert main(["check", str(folder)]) == 0
    assert capsys.readouterr().out == f"{folder}: 24 images, 0 errors, 0 warnings\n"


def test_the_table_has_errors_first_and_comes_as_csv_and_json(folder, tmp_path, capsys):
    (folder / "cat" / "cut.png").write_bytes((folder / "cat" / "1.png").read_bytes()[:40])
    (folder / "dog" / "out.png").symlink_to("/etc/hostname")
    (folder / "dog" / "notes.txt").touch()
    write(folder / "dog" / "jpeg.PNG", format="JPEG")
    write(folder / "dog" / "large.png", size=(9, 7))
    expected = [
        ("error", "cat/cut.png", "is not a readable image"),
        ("error", "dog/out.png", "is a link to /etc/hostname, outside of the folder"),
        ("warning", ".", "has images of 2 sizes, from 4x4 to 7x9, 25 of them 4x4; training needs"),
        ("warning", "dog/jpeg.PNG", "is a JPEG by its content"),
        ("warning", "dog/notes.txt", "is not an image by its name"),
    ]
    for suffix in ("csv", "json"):
        out = tmp_path / f"bad.{suffix}"
        assert main(["check", str(folder), "--out", str(out)]) == 1
        printed = capsys.readouterr()
        lines = printed.out.splitlines()
        assert lines[-2] == f"{folder}: 28 images, 2 errors, 3 warnings"
        assert printed.err.startswith("vision-jax: 2 errors in ")
        text = out.read_text()
        rows = json.loads(text) if suffix == "json" else list(csv.DictReader(text.splitlines()))
        for line, row, (kind, path, what) in zip(lines[:-2], rows, expected, strict=True):
            assert line.split()[:2] == [kind, path]
            assert what in line
            assert (row["severity"], row["file"]) == (kind, path)
            assert row["what"].startswith(what)


def test_one_size_asked_for_is_no_warning(folder):
    write(folder / "dog" / "large.png", size=(9, 7))
    assert check_data(str(folder), image_size=4).findings == ()
    assert main(["check", str(folder), "--image-size", "4", "6"]) == 0


def test_one_class_is_a_warning(folder):
    (folder / "dog").rename(folder / "cat" / "dog")
    (finding,) = check_data(str(folder)).findings
    assert (finding.path, finding.error) == (".", False)
    assert "one class, cat" in finding.what


@pytest.mark.parametrize("count", [11, 12, 40])
def test_many_warnings_of_one_kind_are_counted(count, tmp_path, capsys):
    for number in range(count):
        write(tmp_path / "photos" / "train" / f"{number:02}" / "a.png")
    write(tmp_path / "photos" / "test" / "00" / "a.png")
    out = tmp_path / "all.json"
    assert main(["check", str(tmp_path / "photos"), "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    printed = [line.split()[1:3] for line in lines if "0 images here" in line]
    missing = [f"test/{number:02}" for number in range(1, count)]
    written = json.loads(out.read_text())
    assert [row["file"] for row in written if "0 images here" in row["what"]] == missing
    assert lines[-2].endswith(f"{len(written)} warnings")
    if count <= 12:
        assert [place for place, _ in printed] == missing
    else:
        assert [place for place, _ in printed[:-1]] == missing[:10]
        assert printed[-1] == [str(count - 11), "more"]


def test_a_data_set_is_checked(data_dir, capsys):
    assert main(["check", "digits", "--data-dir", str(data_dir), "--split", "test"]) == 0
    assert "digits: 360 images, 0 errors" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("{tmp}/gone", "is not a data set"),
        ("{tmp}/empty", "holds 0 images (.png"),
        ("{tmp}/empty/notes", "holds 0 images (.png, .jpg, .jpeg, .webp, .bmp, .gif, .tif,"),
        ("{folder} --split val", "has nothing at 'val'; its splits: test (4), train (20)"),
        ("{folder} --image-size 4 0", "--image-size is (4, 0); it must be at least 1"),
        ("{folder} --out {tmp}/bad.txt", "a .csv or .json in an existing folder is needed"),
        ("{folder} --out {tmp}/gone/bad.csv", "a .csv or .json in an existing folder is needed"),
    ],
)
def test_what_cannot_be_checked_is_one_line_and_code_2(words, message, folder, tmp_path, capsys):
    (tmp_path / "empty" / "notes").mkdir(parents=True)
    (tmp_path / "empty" / "notes" / "a.txt").touch()
    assert main(["check", *words.format(tmp=tmp_path, folder=folder).split()]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""


def test_names_that_are_not_utf8_are_printed_even_where_output_is_ascii(folder):
    write(folder / "dog" / os.fsdecode(b"caf\xe9.png"), format="JPEG")
    write(folder / "dog" / "größe.png", format="JPEG")
    done = subprocess.run(
        [sys.executable, "-m", "vision_jax.cli", "check", str(folder)],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 0, done.stderr
    assert rb"dog/caf\xe9.png" in done.stdout
    assert rb"dog/gr\xf6\xdfe.png" in done.stdout


_AS_NOBODY = """
import os, sys
from vision_jax.cli import main
main(["check", sys.argv[1]])  # has everything imported, also where root alone may read it
if os.geteuid() == 0:
    os.setuid(65534)
sys.exit(main(["check", sys.argv[2]]))
"""


def test_what_may_not_be_read_is_an_error(folder):
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        for name in ("cat/1.png", "cat/2.png", "dog/3.png", "owl/4.png"):
            write(root / name)
        (root / "cat" / "1.png").chmod(0)
        (root / "dog").chmod(0)
        root.chmod(0o755)
        words = [sys.executable, "-c", _AS_NOBODY, str(folder), place]
        done = subprocess.run(words, capture_output=True, text=True)
        (root / "dog").chmod(0o755)
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()[1:]
    assert [line.split(maxsplit=2)[1:] for line in lines if line.startswith("error")] == [
        ["cat/1.png", "cannot be read: Permission denied"],
        ["dog", "cannot be listed: Permission denied"],
    ]
