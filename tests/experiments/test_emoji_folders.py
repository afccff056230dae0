"""The folders of emoji, from packages made up as npm's are."""

import io
import json
import tarfile

import emoji_folders as folders
import numpy as np
import pytest
from PIL import Image

from vision_jax.data.catalog import open_source
from vision_jax.errors import InputError
from vision_jax.files import sha256_of

COUNT = 40
CATEGORIES = ("Smileys & Emotion", "Flags")
VENDORS = ("google", "twitter")


def archive(path, vendor):
    """Write a package of 64x64 drawings, half transparent, each of its own grey level."""
    rows = [
        {
            "image": f"{code:04x}.png",
            "short_name": f"number-{code}",
            "category": "Component" if code == 3 else CATEGORIES[code % 2],
            **{f"has_img_{name}": code != 5 for name in folders.PACKAGES},
        }
        for code in range(COUNT, 0, -1)
    ]
    with tarfile.open(path, "w:gz") as files:
        members = {"package/emoji.json": json.dumps(rows).encode()}
        for code in range(1, COUNT + 1):
            pixels = np.full((64, 64, 4), code, np.uint8)
            pixels[:32, :, 3], pixels[32:, :, 3] = 0, 255
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "PNG")
            members[f"package/img/{vendor}/64/{code:04x}.png"] = buffer.getvalue()
            members[f"package/img/{vendor}/sheets/{code:04x}.png"] = b"a sheet"
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            files.addfile(info, io.BytesIO(content))


@pytest.fixture
def packages(tmp_path, monkeypatch):
    (tmp_path / "packages").mkdir()
    known = dict(folders.PACKAGES)
    for vendor in VENDORS:
        path = tmp_path / "packages" / f"emoji-datasource-{vendor}-16.0.0.tgz"
        archive(path, vendor)
        known[vendor] = (path.stat().st_size, sha256_of(path))
    monkeypatch.setattr(folders, "PACKAGES", known)
    monkeypatch.setattr(folders, "UNSEEN", 9)
    return tmp_path / "packages"


def test_folders_hold_each_emoji_in_one_split(tmp_path, packages):
    out = tmp_path / "out"
    folders.main(out, packages=packages)
    codes = [f"{code:04x}" for code in range(1, COUNT + 1) if code != 5]
    for split, expected in (("train", codes[:-9]), ("test", codes[-9:])):
        folder = out / "across_vendors" / split
        assert sorted(path.name for path in folder.iterdir()) == expected
        assert {path.name for path in folder.glob("*/*")} == {"google.png", "twitter.png"}
    with Image.open(out / "across_vendors" / "train" / "0007" / "google.png") as image:
        pixels = np.asarray(image)
    assert image.mode == "RGB"
    assert (pixels[:32] == 255).all()
    assert (pixels[32:] == 7).all()

    splits = {}
    for split in ("train", "valid", "test"):
        for path in (out / "categories" / split).glob("*/*.png"):
            code = path.stem.split("-")[0]
            assert path.parent.name == ("smileys_and_emotion", "flags")[int(code, 16) % 2]
            splits.setdefault(code, []).append(split)
    assert all(len(found) == 2 and len(set(found)) == 1 for found in splits.values())
    assert set(splits) == set(codes) - {"0003"}  # a component, such as a skin tone
    counts = [sum(found[0] == name for found in splits.values()) for name in ("test", "valid")]
    assert counts == [8, 4]
    labels = open_source(str(out / "categories"), "test").label_names
    assert list(labels) == ["flags", "smileys_and_emotion"]


def test_rerun_keeps_or_completes_the_folders(tmp_path, packages, capsys):
    out = tmp_path / "out"
    folders.main(out, packages=packages)
    written = out / "across_vendors" / "train" / "0001" / "google.png"
    before = written.stat().st_mtime_ns
    folders.main(out, packages=packages)
    assert "holds them already" in capsys.readouterr().out
    assert written.stat().st_mtime_ns == before
    written.unlink()
    (out / folders.LIST).write_text("{")  # as an interrupted run leaves it, or worse
    folders.main(out, packages=packages)
    assert written.exists()
    assert sorted(path.name for path in out.iterdir()) == [
        "across_vendors",
        "categories",
        "emoji_folders.json",
    ]


def test_bad_input_is_named(tmp_path, packages, monkeypatch):
    with pytest.raises(InputError, match="vendors is google; at least two are needed"):
        folders.main(tmp_path / "out", vendors=("google",))
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file is a file; a folder is needed"):
        folders.main(tmp_path / "file")
    (tmp_path / "mine" / "categories").mkdir(parents=True)
    with pytest.raises(InputError, match="categories was not written by this script"):
        folders.main(tmp_path / "mine", packages=packages)
    (packages / "emoji-datasource-twitter-16.0.0.tgz").write_bytes(b"cut")
    with pytest.raises(InputError, match=r"twitter-16\.0\.0\.tgz is damaged or another version"):
        folders.main(tmp_path / "out", packages=packages)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match="npm is needed to fetch emoji-datasource-google"):
        folders.main(tmp_path / "other")
