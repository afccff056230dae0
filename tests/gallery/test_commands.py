"""`index`, `search` and `duplicates` on indexes as people have them."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from vision_jax.cli import main
from vision_jax.data.loader import read_all
from vision_jax.gallery import load_index
from vision_jax.run.run import load_run
from vision_jax.search import METHODS, CosineIndex


@pytest.fixture(scope="module")
def photos(workdir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for number, image in enumerate(read_all(load_run(workdir).source("test[:5]"))["image"]):
        Image.fromarray(image[..., 0]).save(folder / f"{number}.png")
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


def forget_encoder(path, value=None):
    index = load_index(path)
    index.about = {k: v for k, v in index.about.items() if k != "encoder"}
    if value is not None:
        index.about["encoder"] = value
    index.save(path)


def test_the_default_k_shrinks_to_what_may_be_found(index, photos, capsys):
    code, out, _ = told(capsys, "search", index, photos / "0.png")
    assert (code, len(out)) == (0, 1 + 5)
    key = out[1].split()[-1]
    code, out, _ = told(capsys, "search", index, "--keys", key)
    assert (code, len(out)) == (0, 1 + 4)
    code, _, err = told(capsys, "search", index, "--keys", key, "--k", 5)
    assert code == 2
    assert err == ["vision-jax: --k is 5; it must be in [1, 4], as many as may be found"]
    code, _, err = told(capsys, "search", index, "--keys", key, "--where", f"key={key}")
    assert code == 2
    assert "nothing is found but the image itself" in err[0]


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_reachable(index, photos, capsys, method):
    words = ["search", index, photos / "3.png", "--k", "5", "--method", method]
    code, out, err = told(capsys, *words)
    assert (code, err) == (0, [])
    assert out[1].split()[-1].endswith("3.png")
    assert len({line.split()[-1] for line in out[1:]}) == 5


def test_an_unknown_method_is_answered_with_the_choices(index, photos, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["search", str(index), str(photos / "0.png"), "--method", "best"])
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert all(method in printed.err + printed.out for method in METHODS)


def test_the_choices_come_without_loading_jax():
    code = (
        "import sys; from vision_jax.cli import main\n"
        "try: main(['search', '--help'])\nexcept SystemExit as end: assert end.code == 0\n"
        "assert 'jax' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(method in done.stdout for method in METHODS)


def test_another_network_than_the_indexs_is_refused_and_the_index_built_anew(
    workdir, photos, index, capsys
):
    forget_encoder(index, "0" * 64)
    code, out, err = told(capsys, "search", index, photos / "0.png")
    assert (code, out, len(err)) == (2, [], 1)
    assert "made by another network than the one in" in err[0]
    words = ["index", workdir, "--images", photos, "--out", index]
    code, out, err = told(capsys, *words)
    assert (code, err) == (0, [])
    assert out[0].endswith("photos.index is built anew: another network made it")
    assert out[1].endswith("(5 embedded, 0 kept, 0 removed)")
    assert told(capsys, *words)[1][-1].endswith("(0 embedded, 5 kept, 0 removed)")


def test_an_index_of_the_first_version_is_searched_with_one_line(workdir, photos, index, capsys):
    forget_encoder(index)
    code, out, err = told(capsys, "search", index, photos / "0.png")
    assert (code, len(out), len(err)) == (0, 6, 1)
    assert "does not name the network that made it" in err[0]
    code, out, _ = told(capsys, "index", workdir, "--images", photos, "--out", index)
    assert "is built anew: it does not name the network" in out[0]


def test_indexed_images_are_looked_up_without_the_run(photos, index, capsys, tmp_path):
    loaded = load_index(index)
    loaded.about["workdir"] = str(tmp_path / "gone")
    loaded.save(index)
    key = loaded.metadata([2])[0]["key"]
    code, out, err = told(capsys, "search", index, "--keys", key, "--k", 2)
    assert (code, len(out), err) == (0, 3, [])
    code, _, err = told(capsys, "search", index, photos / "0.png")
    assert code == 2
    assert "gone holds no run" in err[0]


def test_a_moved_run_is_named(workdir, photos, index, capsys, tmp_path):
    shutil.copytree(workdir, tmp_path / "moved")
    words = ["search", index, photos / "0.png", "--workdir", tmp_path / "moved"]
    assert told(capsys, *words)[::2] == (0, [])


@pytest.mark.parametrize("about", [None, {"model": "cnn"}, "mine", 3, {"step": 1}])
def test_an_index_of_ones_own_is_refused_in_one_line_and_never_replaced(
    workdir, photos, capsys, tmp_path, about
):
    path = tmp_path / "own.index"
    own = CosineIndex(8, about=about)
    own.add(np.random.default_rng(0).normal(size=(5, 8)))
    own.save(path)
    before = path.read_bytes()
    for words in (
        ["search", path, photos / "0.png"],
        ["search", path, "--keys", "x"],
        ["search", path, "--keys", "x", "--where", "label=x"],
        ["duplicates", path],
        ["index", workdir, "--images", photos, "--out", path],
    ):
        code, out, err = told(capsys, *words)
        assert (code, out, len(err)) == (2, [], 1), words
        assert err[0].startswith("vision-jax: ")
        assert "does not say which" in err[0]
    assert path.read_bytes() == before


def test_an_empty_index_is_refused_in_one_line(photos, capsys, tmp_path):
    CosineIndex(8).save(tmp_path / "empty.index")
    for words in (["search", photos / "0.png"], ["search", "--keys", "x"], ["duplicates"]):
        code, _, err = told(capsys, words[0], tmp_path / "empty.index", *words[1:])
        assert (code, len(err)) == (2, 1)
        assert "the index is empty" in err[0]


def test_a_folder_is_the_same_from_anywhere_however_it_is_written(
    workdir, photos, tmp_path, capsys, monkeypatch
):
    path, images = tmp_path / "photos.index", tmp_path / "y24" / "photos"
    shutil.copytree(photos, images)
    monkeypatch.chdir(images.parent)
    indexing = ("index", workdir, "--out", path, "--images")
    assert told(capsys, *indexing, "photos")[0] == 0
    key = load_index(path).metadata(0)[0]["key"]
    assert key == str(images / "0.png")
    monkeypatch.chdir(tmp_path)
    for other in ("y24/photos/", "y24/../y24/photos", images):
        code, out, _ = told(capsys, *indexing, other)
        assert (code, len(out)) == (0, 1)  # no line that says it is built anew
        assert "(0 embedded, 5 kept, 0 removed)" in out[0]
    for other in ("./y24/photos/0.png", "y24/../y24/photos/0.png", key):
        for way in ("--like", "--keys"):
            code, out, _ = told(capsys, "search", path, way, other)
            assert (code, len(out)) == (0, 1 + 4)  # the image itself is not found


def test_a_picture_has_a_name_of_its_own_and_of_its_kind(index, photos, tmp_path, capsys):
    before = index.read_bytes()
    for name in (index, tmp_path / "found.jpg"):
        code, _, err = told(capsys, "search", index, photos / "0.png", "--picture", name)
        assert (code, len(err)) == (2, 1)
        assert "must end in .png, .html, .htm" in err[0]
    code, _, err = told(capsys, "search", index, photos / "0.png", "--picture", photos / "0.png")
    assert (code, len(err)) == (2, 1)
    assert "which is looked up" in err[0]
    assert index.read_bytes() == before
