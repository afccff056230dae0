"""The search across vendors, by vectors whose answer is known."""

import emoji_across_vendors as script
import numpy as np
import pytest

from vision_jax.errors import InputError


def test_figures_are_those_of_numpy():
    random = np.random.default_rng(0)
    google = random.normal(size=(40, 5)).astype(np.float32)
    twitter = google + random.normal(size=google.shape).astype(np.float32)
    table = script.figures(
        {
            name: script.search({"google": google[:, :width], "twitter": twitter[:, :width]})
            for name, width in ((script.BASELINE, 2), ("wide", 5))
        }
    )
    left, right = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (google, twitter))
    cosines = left @ right.T
    ranks = [(matrix > np.diag(matrix)[:, None]).sum(1) for matrix in (cosines, cosines.T)]
    for k, name in ((1, "recall@1"), (10, "recall@10")):
        for vendor, rank in zip(script.VENDORS, ranks, strict=True):
            found = table["wide"][f"{vendor}'s drawing"][name]
            assert found["mean"] == pytest.approx((rank < k).mean())
        both = table["wide"]["both"][name]["mean"]
        assert both == pytest.approx((np.concatenate(ranks) < k).mean())
        less = table["wide"][f"less {script.BASELINE}"][name]["mean"]
        assert less == pytest.approx(both - table[script.BASELINE]["both"][name]["mean"])


def test_another_style_is_compared_with_frozen_vectors_by_the_same_matrix():
    random = np.random.default_rng(1)
    rows = {
        vendor: random.normal(size=(30, 6)).astype(np.float32) for vendor in ("apple", "google")
    }
    matrix = random.normal(size=(6, 6)).astype(np.float32)
    found = script.other_style({"pixels 16x16": rows, script.LITE0_224: rows}, matrix)
    assert set(found) == {*script.COMPARED, script.DISCRIMINANT}
    apple, google = ((part - part.mean(0)) @ matrix for part in rows.values())
    cosines = (apple @ google.T) / np.linalg.norm(google, axis=1)
    right = cosines.argmax(1) == np.arange(30)
    assert np.array_equal(found[script.DISCRIMINANT].values["apple"]["recall@1"], right)
    less = script.figures(found)[script.DISCRIMINANT][f"less {script.COMPARED[1]}"]["recall@1"]
    frozen = np.mean([each["recall@1"] for each in found[script.COMPARED[1]].values.values()])
    told = np.mean([each["recall@1"] for each in found[script.DISCRIMINANT].values.values()])
    assert less["mean"] == pytest.approx(told - frozen)


def test_a_folder_without_emoji_is_named(tmp_path):
    with pytest.raises(InputError, match="across_vendors/test holds no emoji; write them with"):
        script.main(tmp_path)


def test_a_discriminant_drops_what_differs_between_vendors(monkeypatch):
    """Of twelve directions two differ so much between drawings that they hide the others."""
    monkeypatch.setattr(script, "HELD", 50)
    random = np.random.default_rng(0)
    emoji = random.normal(size=(300, 12))
    noise = np.array([8.0, 8.0] + [0.1] * 10)
    known = {
        vendor: (emoji + noise * random.normal(size=(300, 12)) + place).astype(np.float32)
        for place, vendor in enumerate(script.VENDORS)
    }
    seen = {vendor: rows[:200] for vendor, rows in known.items()}
    matrix, strength = script.discriminant(seen)
    assert strength in script.STRENGTHS
    centred = {vendor: rows[200:] - rows[200:].mean(0) for vendor, rows in known.items()}
    plain, told = (
        script.figures({script.BASELINE: script.search(rows)})[script.BASELINE]["both"]["recall@1"]
        for rows in (centred, {vendor: rows @ matrix for vendor, rows in centred.items()})
    )
    assert plain["mean"] < 0.3
    assert told["mean"] > 0.95
    apart = (seen["google"] - seen["google"].mean(0)) - (seen["twitter"] - seen["twitter"].mean(0))
    within = np.cov(apart.T, bias=True) / 4
    rows = {vendor: each - each.mean(0) for vendor, each in seen.items()}
    white = script.whitening(rows, 0.0)
    np.testing.assert_allclose(white @ within @ white, np.eye(12), atol=1e-3)
