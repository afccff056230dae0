import re

import numpy as np
import pytest

from vision_jax.errors import InputError
from vision_jax.explain import saliency
from vision_jax.reports.class_maps import predictions_html
from vision_jax.run.run import load_run
from vision_jax.visual.heatmaps import Scale


@pytest.fixture(scope="module")
def run(workdir):
    return load_run(workdir)


def test_predictions_are_shown_with_what_they_looked_at(run):
    test = run.source("test")
    page = predictions_html(run, test)
    wrong, right = (
        [re.findall("<figcaption>(.*?)</figcaption>", row) for row in part.split("maps small")[1:]]
        for part in page.split("<h3>")[1:]
    )
    probabilities, labels = run.predict(test), test.labels()
    taken = probabilities.argmax(1)
    surest = sorted(np.flatnonzero(taken != labels), key=lambda i: -probabilities[i].max())[:8]
    assert wrong == [
        [
            f"label {labels[i]}",
            f"for {taken[i]}, {probabilities[i].max():.2f}",
            f"for its label {labels[i]}, {probabilities[i, labels[i]]:.2f}",
        ]
        for i in surest
    ]
    assert [row[0] for row in right] == [f"label {i}" for i in range(8)]
    assert all(row[1].startswith(f"for {row[0][-1]}, ") for row in right)
    pixels = np.stack([test.read([int(i)])[0]["image"] for i in surest])
    ends = [re.findall("<span>(.*?)</span>", p) for p in page.split('class="scale"')[1:]]
    for column, of_class in enumerate((taken[surest], labels[surest])):
        maps = saliency(run, pixels, "grad_cam", of_class)
        scales = map(Scale.of, maps)
        expected = [list(scale.ends) if scale.limit else [] for scale in scales]
        assert ends[column : 2 * len(surest) : 2] == expected


def test_why_there_are_no_maps_is_said(run, monkeypatch):
    def refuse(*_):
        raise InputError("the network has no feature map")

    monkeypatch.setattr("vision_jax.reports.class_maps.saliency", refuse)
    page = predictions_html(run, run.source("test[:20]"))
    assert page == "<p>There are no maps: the network has no feature map.</p>"


@pytest.mark.slow
def test_a_method_that_fails_on_the_network_is_flagged(run, monkeypatch):
    test, images = run.source("test"), []

    def informed(run, pixels, method, targets):
        """Mark what counts: pixels whose removal lowers the class's probability, one by one."""
        images.append(len(pixels))
        count, *shape = pixels.shape
        least = pixels.mean((1, 2, 3), keepdims=True)[:, 0]
        places = list(np.ndindex(*shape[:2]))
        without = np.repeat(pixels[:, None], len(places), 1)
        for number, place in enumerate(places):
            without[:, number, *place] = least[:, 0]
        likely = run.predict(without.reshape(-1, *shape)).reshape(count, len(places), -1)
        return -likely[np.arange(count), :, targets].reshape(count, *shape[:2])

    monkeypatch.setattr("vision_jax.reports.class_maps.saliency", informed)
    page = predictions_html(run, test)
    assert images[-1] == 32
    assert "Tested on 32 images" in page
    assert "Caution" not in page
    monkeypatch.setattr(
        "vision_jax.reports.class_maps.saliency",
        lambda *arguments: -informed(*arguments),
    )
    page = predictions_html(run, test)
    assert "Caution: Grad-CAM may mislead on this network." in page
    assert "deletion: no better than a random map" in page
