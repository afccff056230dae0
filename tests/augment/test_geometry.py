from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from vision_jax.augment import geometry
from vision_jax.augment.draws import per_example_keys

KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def images():
    return jnp.asarray(np.random.default_rng(0).random((6, 7, 9, 2), np.float32))


@pytest.fixture(scope="module")
def keys(images):
    return per_example_keys(KEY, 0, len(images))


def windows(image, size):
    """Every window of a size, as bytes."""
    view = np.lib.stride_tricks.sliding_window_view(image, (*size, image.shape[-1]))
    return {window.tobytes() for row in view for column in row for window in column}


def test_random_crop_cuts_windows_and_reaches_every_corner(images, keys):
    cut = np.asarray(geometry.random_crop(keys, images, (4, 5)))
    for original, window in zip(np.asarray(images), cut, strict=True):
        assert window.tobytes() in windows(original, (4, 5))
    many = jnp.tile(jnp.arange(4.0, dtype=jnp.float32).reshape(1, 2, 2, 1), (200, 1, 1, 1))
    corners = geometry.random_crop(per_example_keys(KEY, 0, 200), many, (1, 1))
    counts = np.bincount(np.asarray(corners).ravel().astype(int), minlength=4)
    assert counts.min() > 25  # 50 expected, deviation 6


def test_pad_and_crop_cuts_windows_of_the_reflected_image(images, keys):
    moved = np.asarray(geometry.pad_and_crop(keys, images, 2))
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="reflect")
    for wide, window in zip(padded, moved, strict=True):
        assert window.tobytes() in windows(wide, (7, 9))


@pytest.mark.parametrize(("size", "share", "most"), [(17, 1 / 8, 2), (8, 1 / 16, 1), (1, 1 / 8, 0)])
def test_random_shift_reaches_its_share_of_the_shorter_side(size, share, most):
    # A ramp shows at its middle by how much each image was shifted.
    ramp = jnp.arange(30 * size, dtype=jnp.float32).reshape(1, size, 30, 1)
    shift = jax.jit(partial(geometry.random_shift, share=share))
    moved = np.asarray(shift(per_example_keys(KEY, 0, 200), jnp.tile(ramp, (200, 1, 1, 1))))
    down, right = np.divmod(moved[:, size // 2, 15, 0] - (size // 2) * 30, 30)
    assert set(down) == set(range(-most, most + 1))
    assert set(right - 15) == set(range(-most, most + 1))


def test_flip_mirrors_about_half_of_the_images(images):
    many = jnp.tile(images[:1], (200, 1, 1, 1))
    flipped = geometry.random_flip(per_example_keys(KEY, 0, 200), many)
    same = (np.asarray(flipped) == np.asarray(many)).all((1, 2, 3))
    mirrored = (np.asarray(flipped) == np.asarray(many)[:, :, ::-1]).all((1, 2, 3))
    assert (same ^ mirrored).all()
    assert 70 < mirrored.sum() < 130  # 100 expected, deviation 7


def test_sizes_and_counts_out_of_range_are_named(images, keys):
    with pytest.raises(ValueError, match=r"\(8, 5\).*\(7, 9\)"):
        geometry.random_crop(keys, images, (8, 5))
    with pytest.raises(ValueError, match=r"share is 0.0.*\(0, 1\]"):
        geometry.random_shift(keys, images, share=0.0)
    with pytest.raises(ValueError, match=r"pad is 7.*\[0, 7\)"):
        geometry.pad_and_crop(keys, images, 7)
    with pytest.raises(ValueError, match=r"scale is \(0.5, 2.0\).*\(0.0, 1.0\]"):
        geometry.random_resized_crop(keys, images, scale=(0.5, 2.0))
    with pytest.raises(ValueError, match=r"ratio is \(2.0, 1.0\)"):
        geometry.random_resized_crop(keys, images, ratio=(2.0, 1.0))
    with pytest.raises(ValueError, match=r"shear is 90.0.*\[0, 90\)"):
        geometry.random_affine(keys, images, shear=90.0)


def test_a_resized_window_is_pillows(images):
    window = jax.jit(geometry.resized_window)
    boxes = [(0.0, 0.0, 7.0, 9.0), (1.3, 2.6, 3.2, 4.1), (4.0, 5.0, 3.0, 4.0)]
    for top, left, height, width in boxes:
        corner, sides = (jnp.array(pair, jnp.float32) for pair in ((top, left), (height, width)))
        for image in np.asarray(images):
            found = window(image, corner, sides)
            for channel in range(2):
                expected = Image.fromarray(image[..., channel]).resize(
                    (9, 7), Image.Resampling.BILINEAR, (left, top, left + width, top + height)
                )
                np.testing.assert_allclose(found[..., channel], expected, atol=1e-5)


def test_boxes_have_uniform_areas_log_uniform_shapes_and_lie_within():
    keys = per_example_keys(KEY, 0, 4000)
    draw = jax.vmap(lambda key: geometry.draw_box(key, (40, 60), (0.1, 0.3), (0.5, 2.0)))
    corner, sides = (np.asarray(part) for part in jax.jit(draw)(keys))
    area = sides.prod(1) / 2400
    assert 0.0999 < area.min() < 0.11
    assert 0.29 < area.max() < 0.3001
    assert area.mean() == pytest.approx(0.2, abs=0.004)  # deviation 0.001
    assert area.var() == pytest.approx(0.2**2 / 12, rel=0.1)
    shape = np.log(sides[:, 1] / sides[:, 0])
    assert np.abs(shape).max() <= np.log(2) + 1e-5
    assert abs(shape.mean()) < 0.03  # deviation 0.006
    assert (corner >= 0).all()
    assert (corner + sides <= [40.001, 60.001]).all()
    assert (corner / ([40, 60] - sides)).mean(0) == pytest.approx([0.5, 0.5], abs=0.02)


def test_a_box_longer_than_the_image_is_cut_to_it():
    _, sides = geometry.draw_box(KEY, (10, 40), (0.9, 1.0), (0.2, 0.3))
    assert float(sides[0]) == 10.0


def test_random_resized_crop_of_everything_is_the_image_itself(images, keys):
    crop = partial(geometry.random_resized_crop, scale=(1.0, 1.0), ratio=(9 / 7, 9 / 7))
    np.testing.assert_allclose(jax.jit(crop)(keys, images), images, atol=1e-5)


def test_affine_is_pillows(images):
    mapped = jax.jit(partial(geometry.affine, fill=0.25))
    rng = np.random.default_rng(1)
    for image in np.asarray(images):
        matrix = np.array([[1, 0, 0], [0, 1, 0]]) + rng.normal(0, 0.4, (2, 3))
        matrix[:, 2] *= 5
        found = mapped(image, jnp.asarray(matrix, jnp.float32))
        for channel in range(2):
            expected = Image.fromarray(image[..., channel]).transform(
                (9, 7),
                Image.Transform.AFFINE,
                np.float32(matrix).ravel().tolist(),
                Image.Resampling.BILINEAR,
                fillcolor=0.25,
            )
            np.testing.assert_allclose(found[..., channel], expected, atol=2e-5)


def test_the_affine_matrix_is_the_inverse_of_shear_scale_turn_and_shift():
    angle, scale, shear, shift = 0.4, 1.3, 0.2, np.array([2.0, -3.0])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = turn @ (scale * np.array([[1, shear], [0, 1]]))
    centre = np.array([9 / 2, 7 / 2])
    found = np.asarray(
        geometry.affine_matrix(
            (7, 9), angle=angle, shift=jnp.asarray(shift, jnp.float32), scale=scale, shear=shear
        )
    )
    for old in np.random.default_rng(2).random((5, 2)) * 9:
        new = linear @ (old - centre) + centre + shift
        np.testing.assert_allclose(found[:, :2] @ new + found[:, 2], old, atol=1e-5)


def test_a_turn_is_clockwise_and_a_shift_to_the_right_and_down():
    image = jnp.zeros((9, 9, 1), jnp.float32).at[4, 7].set(1)
    for options, place in (
        ({"angle": np.pi / 2}, (7, 4)),
        ({"shift": np.array([-2, 3.0])}, (7, 5)),
    ):
        matrix = jax.jit(partial(geometry.affine_matrix, (9, 9)))(**options)
        moved = jax.jit(geometry.affine)(image, matrix)
        assert np.unravel_index(np.argmax(moved[..., 0]), (9, 9)) == place


def test_random_affine_draws_within_its_bounds():
    # A dot at the right edge shows angle and distance of every draw.
    size, many = 41, 300
    image = jnp.zeros((size, size, 1), jnp.float32).at[18:23, 33:38].set(1)
    keys = per_example_keys(KEY, 0, many)
    dots = jnp.tile(image, (many, 1, 1, 1))
    turned = np.asarray(jax.jit(geometry.random_rotation)(keys, dots))[..., 0]
    places = np.arange(size) - 20.0
    mass = turned.sum((1, 2))
    x, y = (turned * places).sum((1, 2)) / mass, (turned * places[:, None]).sum((1, 2)) / mass
    angles = np.degrees(np.arctan2(y, x))
    assert 13 < np.abs(angles).max() < 15.3
    assert abs(angles.mean()) < 2  # deviation 0.5
    np.testing.assert_allclose(np.hypot(x, y), 15, atol=0.2)
    shift = partial(geometry.random_affine, degrees=0.0, scale=(1.0, 1.0), shear=0.0)
    moved = np.asarray(jax.jit(shift)(keys, dots))[..., 0]
    x = (moved * places).sum((1, 2)) / moved.sum((1, 2)) - 15
    assert x.min() == pytest.approx(-4.1, abs=0.2)
    assert abs(x.mean()) < 0.8


def test_vertical_flip_mirrors_about_half_of_the_images(images):
    many = jnp.tile(images[:1], (200, 1, 1, 1))
    flipped = geometry.random_vertical_flip(per_example_keys(KEY, 0, 200), many)
    mirrored = (np.asarray(flipped) == np.asarray(many)[:, ::-1]).all((1, 2, 3))
    same = (np.asarray(flipped) == np.asarray(many)).all((1, 2, 3))
    assert (same ^ mirrored).all()
    assert 70 < mirrored.sum() < 130
