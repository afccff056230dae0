import dataclasses
import re

import numpy as np
import pytest
from PIL import Image

import vision_jax
from vision_jax.data.sources import Subset
from vision_jax.errors import InputError
from vision_jax.gallery.indexing import build_index
from vision_jax.reports.notebook import show
from vision_jax.run.run import load_run
from vision_jax.search import CosineIndex


@pytest.fixture(scope="module")
def run(workdir):
    return load_run(workdir)


@pytest.fixture(scope="module")
def index(run):
    return build_index(run, Subset.of(run.source("test"), range(40)))


def test_a_search_is_shown_with_its_scores_and_pictures(index, run, tmp_path):
    scores, ids = index.search_by_id([3, 5], 4)
    text = show(index, (scores, ids)).html
    assert text.count("<img") == 2 * 5
    shown = re.findall(r"<figcaption>(.*?)</figcaption>", text, re.DOTALL)
    assert shown[0] == "looked up\nquery 0\n(not given)"
    rows = index.metadata(ids.ravel())
    assert [caption.split("\n") for caption in shown[1:5]] == [
        [row["label"], f"{score:.3f}", row["key"]]
        for row, score in zip(rows[:4], scores[0], strict=True)
    ]
    image = run.source("test").read([3])[0]["image"]
    Image.fromarray(image[..., 0]).save(tmp_path / "<b>.png")
    named = show(index, (scores[:1], ids[:1]), queries=tmp_path / "<b>.png").html
    assert "<b>" not in named
    assert "&lt;b&gt;.png" in named
    pixels = show(index, (scores[:1], ids[:1]), queries=image[None]).html
    picture = re.compile('src="(.*?)"')
    assert len(picture.findall(pixels)) == 5
    assert picture.findall(pixels)[1:] == picture.findall(named)[1:]


def test_an_index_shows_its_first_images(index):
    assert repr(show(index)) == "<Pictures: 20 as HTML>"
    assert "The first 20 of 40 images." in show(index).html
    many = np.repeat(index.search_by_id([3], 4)[1], 30, 0)
    shown = show(index, (many.astype(np.float32), many))
    assert shown.html.count("<img") == 20 * 5
    assert "The first 20 of 30 searches." in shown.html


def test_what_cannot_be_shown_is_named(index):
    scores, ids = index.search_by_id([3, 5], 4)
    with pytest.raises(InputError, match="queries are 1; found has 2 rows"):
        show(index, (scores, ids), queries=["a.png"])
    with pytest.raises(InputError, match=r"scores of shape \(2, 3\) and ids of \(2, 4\)"):
        show(index, (scores[:, :3], ids))
    own = CosineIndex(2)
    own.add(np.eye(2))
    with pytest.raises(InputError, match="does not say which network and images"):
        show(own)


def test_a_run_shows_its_data_metrics_and_images(run, tmp_path):
    text = run._repr_html_()
    assert text.count("<img") == 8
    for word in ("digits", "8 x 8 x 1", f"step {run.step}", "validation/accuracy"):
        assert word in text
    gone = dataclasses.replace(
        run.config, data=dataclasses.replace(run.config.data, name=str(tmp_path / "<i>gone"))
    )
    moved = dataclasses.replace(run, config=gone)._repr_html_()
    assert "<img" not in moved
    assert "<i>" not in moved


def test_an_index_shows_counts_and_fields_alone(index):
    text = index._repr_html_()
    assert "40 of 64 numbers" in text
    assert "key, digest, split, label" in text
    hostile = CosineIndex(2, about={"<script>": "<img src=x>" * 10_000})
    assert "<script>" not in hostile._repr_html_()
    assert len(hostile._repr_html_()) < 2_000
    assert vision_jax.show is show
