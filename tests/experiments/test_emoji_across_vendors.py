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


def test_a_folder_without_emoji_is_named(tmp_path):
    with pytest.raises(InputError, match="across_vendors/test holds no emoji; write them with"):
        script.main(tmp_path)
