"""Averages over views, against Pillow's crops one by one."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from vision_jax.cli import main
from vision_jax.data.sources import Subset
from vision_jax.errors import InputError
from vision_jax.evaluation.data import EvaluationData
from vision_jax.evaluation.retrieval import measure_retrieval
from vision_jax.gallery import build_index, write_index
from vision_jax.gallery.lookup import load_index, search_images
from vision_jax.gallery.origin import views_of
from vision_jax.run.run import load_run
from vision_jax.run.views import take_views


def views_by_pillow(image, views):
    """Five crops, each enlarged, and their mirror images; of floats (H, W)."""
    whole, (height, width) = Image.fromarray(image), image.shape
    high, wide = round(0.875 * height), round(0.875 * width)
    corners = [(0, 0), (width - wide, 0), (0, height - high), (width - wide, height - high)]
    starts = [((width - wide) // 2, (height - high) // 2), *corners]
    boxes = [(x, y, x + wide, y + high) for x, y in starts]
    seen = [whole.crop(box).resize((width, height), Image.Resampling.BILINEAR) for box in boxes]
    seen = [np.asarray(view) for view in (seen if views in (5, 10) else [whole])]
    return [
        each for view in seen for each in ([view, view[:, ::-1]] if views in (2, 10) else [view])
    ]


@pytest.mark.parametrize("views", [2, 5, 10])
def test_views_are_those_of_pillow(views):
    images = np.random.default_rng(0).random((3, 17, 24, 2), np.float32)
    found = list(take_views(images, views))
    assert len(found) == views
    for i, c in np.ndindex(3, 2):
        expected = views_by_pillow(np.ascontiguousarray(images[i, ..., c]), views)
        np.testing.assert_allclose([v[i, ..., c] for v in found], expected, atol=1e-6)
    pixels = (images * 255).astype(np.uint8)
    of_pixels, of_floats = take_views(pixels, views), take_views(pixels / np.float32(255), views)
    np.testing.assert_array_equal(list(of_pixels), list(of_floats))


@pytest.fixture(scope="module")
def run(workdir):
    return load_run(workdir)


def test_an_embedding_is_the_mean_direction_of_the_views(run):
    source = Subset.of(run.source("test"), range(5))
    images = np.stack([example["image"] for example in source.read(range(5))])
    vectors = [run.embed(view) for view in take_views(images, 10)]
    mean = np.mean([rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in vectors], 0)
    expected = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    np.testing.assert_allclose(run.embed(source, views=10), expected, atol=1e-5)
    with pytest.raises(InputError, match="views is 3; it must be one of 1, 2, 5, 10"):
        run.embed(images, views=3)


def test_an_index_of_several_views_embeds_its_queries_alike(run, tmp_path):
    source = Subset.of(run.source("test"), range(30))
    index, path = build_index(run, source, views=2), tmp_path / "two.index"
    np.testing.assert_allclose(index.vectors(index.ids), run.embed(source, views=2), atol=1e-5)
    Image.fromarray(source.read([7])[0]["image"][..., 0]).save(tmp_path / "seven.png")
    scores, ids = search_images(index, run, [tmp_path / "seven.png"], 1)
    assert ids.tolist() == [[7]]
    np.testing.assert_allclose(scores, 1, atol=1e-5)
    assert write_index(run, source, path, views=2).rebuilt is None
    assert write_index(run, source, path).kept == 30  # as many views as the file has
    assert views_of(load_index(path)) == 2
    change = write_index(run, source, path, views=1)
    assert change.rebuilt == "its vectors are of 2 views of an image, not of 1"
    assert "views" not in load_index(path).about  # as earlier versions read it
    with pytest.raises(InputError, match="views is 4"):
        write_index(run, source, path, views=4)
    words = ["index", str(run.workdir), "--images", "digits", "--out", str(path), "--views", "3"]
    with pytest.raises(SystemExit, match="2"):
        main(words)


def test_search_is_measured_by_several_views(run):
    data = EvaluationData.of(run, views=2)
    few = dataclasses.replace(
        data, test=Subset.of(data.test, range(60)), train=Subset.of(data.train, range(200))
    )
    metrics = measure_retrieval(few).metrics
    queries, gallery = run.embed(few.test, views=2), run.embed(few.train, views=2)
    known, asked = few.train.labels(), few.test.labels()
    near = np.argsort(-(queries @ gallery.T), axis=1, kind="stable")[:, :10]
    votes = [np.bincount(known[row], minlength=10).argmax() for row in near]
    assert abs(metrics["embedding"]["knn_accuracy@10"] - np.mean(votes == asked)) < 0.05
