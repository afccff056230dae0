import re

import numpy as np
import pytest
from PIL import Image

from vision_jax.errors import InputError
from vision_jax.visual.heatmaps import Scale, overlay

# Machado et al., "A physiologically-based model for simulation of color vision deficiency", 2009,
# at full severity, on linear RGB.
BLINDNESS = {
    "none": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                   [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                     [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                   [0.004733, 0.691367, 0.303900]],
}  # fmt: skip


def to_lab(colors, seen_by):
    """CIELAB of uint8 sRGB (N, 3), as people with a kind of colour blindness see it."""
    rgb = np.asarray(colors) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear @ np.asarray(BLINDNESS[seen_by]).T, 0, 1)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = linear @ np.array(to_xyz).T / [0.9505, 1, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    l, a, b = 116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])  # noqa: E741
    return np.stack([l, a, b], 1)


@pytest.mark.parametrize("seen_by", BLINDNESS)
def test_strength_and_sign_are_seen_with_any_colour_blindness(seen_by):
    strengths = np.linspace(0, 1, 11, dtype=np.float32)
    lab = to_lab(Scale(1.0, 1.0, signed=False).colors(strengths[None])[0, :, :3], seen_by)
    assert (np.diff(lab[:, 0]) > 2).all()  # lighter and lighter
    signed = Scale(1.0, 1.0, signed=True)
    lab = {s: to_lab(signed.colors(s * strengths[None, 4:])[0, :, :3], seen_by) for s in (-1, 1)}
    assert np.linalg.norm(lab[-1] - lab[1], axis=1).min() > 30


def test_a_scale_leaves_out_no_more_than_a_few_pixels():
    values = np.linspace(0, 1, 1000, dtype=np.float32).reshape(20, 50)
    values[3, 4] = 100
    scale = Scale.of(values)
    assert 0.98 < scale.limit < 1
    assert (np.abs(values) > scale.limit).mean() <= 0.02
    assert scale.strongest == 100
    assert scale.ends == ("0", f"≥ {scale.limit:.3g}")
    even = np.linspace(0, 1, 1000, dtype=np.float32).reshape(20, 50)
    assert Scale.of(even) == Scale(1.0, 1.0, signed=False)
    few = np.array([[0, 0.5], [-0.25, 0]], np.float32)
    assert Scale.of(few) == Scale(0.5, 0.5, signed=True)
    assert Scale.of(few).ends == ("-0.5", "0", "+0.5")
    one = np.zeros((20, 50), np.float32)
    one[0, 0] = 2
    assert Scale.of(one).limit == 2
    with pytest.raises(InputError, match="1 of 1000 values of a map are NaN or infinite"):
        Scale.of(np.where(values == 100, np.nan, values))


def test_the_legend_shows_the_scale_in_numbers_and_words():
    legend = Scale(0.03125, 0.03125, signed=True).legend()
    assert re.findall("<span>(.*?)</span>", legend) == ["-0.0312", "0", "+0.0312"]
    assert 'aria-label="blue speaks against, orange speaks for; from -0.0312 to +0.0312"' in legend
    assert "<span>≥ 2</span>" in Scale(2.0, 5.0, signed=False).legend()
    assert "zero everywhere" in Scale.of(np.zeros((2, 2), np.float32)).legend()


def test_a_map_lies_over_its_part_of_the_picture():
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (40, 60, 3), np.uint8))
    grey = np.asarray(picture.convert("L").convert("RGB")).astype(int)
    values = np.zeros((4, 4), np.float32)
    values[1, 2] = 1
    scale = Scale.of(values)
    drawn = np.asarray(overlay(picture, values, scale, box=(10, 0, 50, 40), smooth=False))
    inside = drawn[1:39, 11:49] - grey[1:39, 11:49]
    colored = np.abs(inside).max(-1) > 0
    ys, xs = np.nonzero(colored)
    assert [ys.min() + 1, ys.max() + 1, xs.min() + 11, xs.max() + 11] == [10, 19, 30, 39]
    strongest = scale.colors(values)[1, 2, :3]
    np.testing.assert_allclose(drawn[15, 35], 0.85 * strongest + 0.15 * grey[15, 35], atol=2)
    outside = np.delete(drawn, np.s_[10:50], 1).astype(int)
    assert (outside >= np.delete(grey, np.s_[10:50], 1)).all()  # paler
    nothing = np.zeros_like(values)
    np.testing.assert_array_equal(overlay(picture, nothing, Scale.of(nothing)), grey)
