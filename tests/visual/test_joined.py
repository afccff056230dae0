import numpy as np
from PIL import Image

from vision_jax.visual.joined import Pair, join


def test_parts_that_belong_together_get_the_same_colour():
    left, right = Image.new("RGB", (100, 80), "white"), Image.new("RGB", (60, 40), "white")
    pairs = [Pair((10, 10, 50, 50), (30, 15, 40, 25)), Pair((60, 55, 80, 75), (3, 3, 15, 15))]
    canvas = np.asarray(join(left, right, pairs))
    assert canvas.shape[0] == 80
    start = canvas.shape[1] - 120  # the right one is twice its size
    gap = canvas[:, 100:start]
    assert (gap[..., 3] == 0).mean() > 0.5  # transparent but for the lines
    assert (gap[..., 3] == 255).any(0).all()
    yellow, blue = (0xF0, 0xE4, 0x42), (0x56, 0xB4, 0xE9)
    for number, (color, pair) in enumerate(zip((yellow, blue), pairs, strict=True)):
        for (x0, _, x1, y1), offset, factor in ((pair.left, 0, 1), (pair.right, start, 2)):
            bottom = canvas[factor * y1 - 1, offset + factor * (x0 + x1) // 2]
            np.testing.assert_allclose(bottom[:3], color, atol=3, err_msg=str(number))
            np.testing.assert_allclose(canvas[factor * y1 - 5, offset + factor * x1 - 6], 255)


def test_without_parts_the_pictures_stay_as_they_are():
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 256, (8, w, 3), np.uint8)) for w in (6, 9)]
    canvas = np.asarray(join(*pictures, []))
    np.testing.assert_array_equal(canvas[:, :6, :3], pictures[0])
    np.testing.assert_array_equal(canvas[:, -9:, :3], pictures[1])
