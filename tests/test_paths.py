"""What is no file, or cannot be read or written, is one line that names it."""

import os

import numpy as np
import pytest

from vision_jax import import_weights, load_run, open_source, train
from vision_jax.data.decode import read_image
from vision_jax.errors import InputError
from vision_jax.files import replacing
from vision_jax.search import CosineIndex
from vision_jax.weights.tensors import read_tensors

PLACES = {
    "missing": "missing",
    "below a missing folder": "missing/x",
    "below a file": "file/x",
    "a folder": "folder",
    "a pipe": "pipe",
    "a loop of links": "loop",
    "too long a name": "a" * 300,
    "a null byte": "a\0b",
}
READ = {
    "CosineIndex.load": CosineIndex.load,
    "load_run": load_run,
    "read_tensors": read_tensors,
    "import_weights": lambda path: import_weights("vgg11", path, workdir=path.parent / "run"),
    "read_image": lambda path: read_image(path, channels=3),
    "open_source": lambda path: open_source(path, "train"),
}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    folder = tmp_path_factory.mktemp("places")
    (folder / "file").write_text("x")
    (folder / "folder").mkdir()
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "pipe")
    return folder


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("function", READ)
def test_what_cannot_be_read_is_one_line_that_names_it(function, place, places):
    path = places / PLACES[place]
    with pytest.raises(InputError) as caught:
        READ[function](path)
    message = str(caught.value)
    assert str(path).partition("\0")[0] in message
    assert "\n" not in message
    assert not (places / "run").exists()


@pytest.mark.parametrize("function", READ)
def test_what_may_not_be_read_is_one_line(function, places, monkeypatch):
    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    path = places / "file"
    (places / "config.json").write_text("{}")
    for name in ("open", "stat"):  # the tests may run as root, whom nothing stops
        monkeypatch.setattr(f"pathlib.Path.{name}", denied)
    with pytest.raises(InputError, match=r"file.*ermission denied"):
        READ[function](path)


@pytest.mark.parametrize(
    "place",
    ["below a missing folder", "below a file", "a folder", "too long a name", "a null byte"],
)
def test_what_cannot_be_written_is_one_line_that_names_it(place, places):
    index = CosineIndex(2)
    index.add(np.eye(2))
    before = sorted(places.rglob("*"))
    with pytest.raises(InputError, match=r"cannot be written|is a folder") as caught:
        index.save(places / PLACES[place])
    assert "\n" not in str(caught.value)
    assert sorted(places.rglob("*")) == before


def test_a_full_disk_is_no_fault_of_the_path(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.touch", full)
    with pytest.raises(OSError, match="No space"), replacing(tmp_path / "x"):
        pass


@pytest.mark.parametrize("place", ["below a file", "too long a name", "a file"])
def test_a_run_needs_a_folder(place, places, config):
    path = places / (PLACES | {"a file": "file"})[place]
    with pytest.raises(InputError, match=r"cannot|holds something else"):
        train(config, path, progress=False)
