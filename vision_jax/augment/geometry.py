"""Geometric transforms of float images in [0, 1]: crops, flips and affine maps."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from vision_jax.augment.draws import Image, Images, Keys, Range, apply_at_random, check_range


def random_crop(
    keys: Keys, images: Images, size: tuple[int, int]
) -> Float[Array, "batch new_height new_width channels"]:
    """Cut a window of a fixed size at a uniformly random position.

    Args:
        keys: (B,) one key per image.
        images: (B, H, W, C).
        size: (height, width) of the window in pixels, at most (H, W).

    Returns:
        (B, height, width, C).

    Raises:
        ValueError: `size` exceeds the images.
    """
    height, width = images.shape[1:3]
    if not (0 < size[0] <= height and 0 < size[1] <= width):
        raise ValueError(f"size is {size}; it must be within the images' {(height, width)}")
    corners = jnp.array([height - size[0] + 1, width - size[1] + 1])

    def corner(key: Key[Array, ""]) -> Array:
        return jax.random.randint(key, (2,), 0, corners)

    def cut(image: Array, start: Array) -> Array:
        zero = jnp.zeros((), start.dtype)
        return jax.lax.dynamic_slice(image, (start[0], start[1], zero), (*size, image.shape[-1]))

    return jax.vmap(cut)(images, jax.vmap(corner)(keys))


def pad_and_crop(keys: Keys, images: Images, pad: int) -> Images:
    """Shift each image by up to `pad` pixels: pad by reflection, then crop back to the size.

    The usual augmentation of small images (He et al., "Deep residual learning for image
    recognition", 2016, section 4.2, where the padding is zero).

    Args:
        keys: (B,) one key per image.
        images: (B, H, W, C).
        pad: pixels added on every side, in [0, min(H, W)).

    Returns:
        (B, H, W, C).

    Raises:
        ValueError: `pad` is out of range.
    """
    height, width = images.shape[1:3]
    if not 0 <= pad < min(height, width):
        raise ValueError(f"pad is {pad}; it must be in [0, {min(height, width)})")
    padded = jnp.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="reflect")
    return random_crop(keys, padded, (height, width))


def random_shift(keys: Keys, images: Images, *, share: float = 1 / 8) -> Images:
    """Shift each image by up to a share of its shorter side; fill the border by reflection.

    The largest shift is at least 1 pixel.

    Args:
        keys: (B,) one key per image.
        images: (B, H, W, C).
        share: largest shift over the shorter side, in (0, 1].

    Returns:
        (B, H, W, C).

    Raises:
        ValueError: `share` is out of range.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share is {share}; it must be in (0, 1]")
    side = min(images.shape[1:3])
    return pad_and_crop(keys, images, min(max(1, round(side * share)), side - 1))


def random_resized_crop(
    keys: Keys,
    images: Images,
    *,
    scale: Range = (0.08, 1.0),
    ratio: Range = (3 / 4, 4 / 3),
) -> Images:
    """Cut a window of random area, aspect ratio and position, and resize it to the full size.

    The area is uniform, the aspect ratio log-uniform, the position uniform; a side longer than the
    image is clipped to it. Bilinear, antialiased (Szegedy et al., "Going deeper with convolutions",
    2015, section 6).

    Args:
        keys: (B,) one key per image.
        images: (B, H, W, C) in [0, 1].
        scale: bounds of the window's share of the area, in (0, 1].
        ratio: bounds of its width over its height, above 0.

    Returns:
        (B, H, W, C) in [0, 1].

    Raises:
        ValueError: a bound is out of range.
    """
    check_range("scale", scale, above=0.0, most=1.0)
    check_range("ratio", ratio, above=0.0)
    height, width = images.shape[1:3]

    def one(key: Key[Array, ""], image: Image) -> Image:
        corner, sides = draw_box(key, (height, width), scale, ratio)
        return resized_window(image, corner, sides)

    return jax.vmap(one)(keys, images)


def resized_window(image: Image, corner: Float[Array, "2"], sides: Float[Array, "2"]) -> Image:
    """Resize a window to the full size, by two products with interpolation matrices.

    Args:
        image: (H, W, C) in [0, 1].
        corner: (top, left) of the window in pixels.
        sides: (height, width) of the window in pixels, above 0.

    Returns:
        (H, W, C) in [0, 1].
    """
    zoom = jnp.array(image.shape[:2], image.dtype) / sides
    resized = jax.image.scale_and_translate(
        image, image.shape, (0, 1), zoom, -corner * zoom, method="linear", antialias=True
    )
    return jnp.clip(resized, 0, 1)


def draw_box(
    key: Key[Array, ""], size: tuple[int, int], scale: Range, ratio: Range
) -> tuple[Float[Array, "2"], Float[Array, "2"]]:
    """Draw a box inside an image: uniform area, log-uniform aspect ratio, uniform position.

    Args:
        key: random key.
        size: (height, width) of the image in pixels.
        scale: bounds of the box's share of the area.
        ratio: bounds of its width over its height.

    Returns:
        (top, left) and (height, width) in pixels, not rounded; no side exceeds the image's.
    """
    area_key, ratio_key, corner_key = jax.random.split(key, 3)
    area = jax.random.uniform(area_key, (), jnp.float32, *scale) * (size[0] * size[1])
    low, high = jnp.log(jnp.array(ratio, jnp.float32))
    aspect = jnp.exp(jax.random.uniform(ratio_key, (), jnp.float32, low, high))
    whole = jnp.array(size, jnp.float32)
    sides = jnp.minimum(jnp.sqrt(jnp.stack([area / aspect, area * aspect])), whole)
    corner = jax.random.uniform(corner_key, (2,), jnp.float32) * (whole - sides)
    return corner, sides


def random_flip(keys: Keys, images: Images) -> Images:
    """Mirror each image left to right with probability 1/2.

    Args:
        keys: (B,) one key per image.
        images: (B, H, W, C).

    Returns:
        (B, H, W, C).
    """
    return apply_at_random(keys, 0.5, images[:, :, ::-1], images)


def random_vertical_flip(keys: Keys, images: Images) -> Images:
    """Mirror each image top to bottom with probability 1/2.

    Args:
        keys: (B,) one key per image.
        images: (B, H, W, C).

    Returns:
        (B, H, W, C).
    """
    return apply_at_random(keys, 0.5, images[:, ::-1], images)


def random_affine(
    keys: Keys,
    images: Images,
    *,
    degrees: float = 15.0,
    translate: float = 0.1,
    scale: Range = (0.9, 1.1),
    shear: float = 10.0,
    fill: float = 0.0,
) -> Images:
    """Rotate, shift, scale and shear about the centre, each by a uniform draw; bilinear.

    Args:
        keys: (B,) one key per image.
        images: (B, H, W, C) in [0, 1].
        degrees: largest rotation in either direction.
        translate: largest shift in either direction, as a share of each side.
        scale: bounds of the enlargement, above 0.
        shear: largest horizontal shear in either direction, in degrees, in [0, 90).
        fill: value outside the image, in [0, 1].

    Returns:
        (B, H, W, C) in [0, 1].

    Raises:
        ValueError: a bound is out of range.
    """
    check_range("scale", scale, above=0.0)
    if not 0 <= shear < 90:
        raise ValueError(f"shear is {shear}; it must be in [0, 90)")
    height, width = images.shape[1:3]
    max_angle, max_shear = (jnp.deg2rad(jnp.float32(angle)) for angle in (degrees, shear))

    def one(key: Key[Array, ""], image: Image) -> Image:
        angle_key, shift_key, scale_key, shear_key = jax.random.split(key, 4)
        shift = jax.random.uniform(shift_key, (2,), jnp.float32, -translate, translate)
        matrix = affine_matrix(
            (height, width),
            angle=jax.random.uniform(angle_key, (), jnp.float32, -max_angle, max_angle),
            shift=shift * jnp.array([width, height], jnp.float32),
            scale=jax.random.uniform(scale_key, (), jnp.float32, *scale),
            shear=jnp.tan(jax.random.uniform(shear_key, (), jnp.float32, -max_shear, max_shear)),
        )
        return affine(image, matrix, fill=fill)

    return jax.vmap(one)(keys, images)


def random_rotation(
    keys: Keys, images: Images, *, degrees: float = 15.0, fill: float = 0.0
) -> Images:
    """Rotate about the centre by a uniformly random angle; bilinear.

    Args:
        keys: (B,) one key per image.
        images: (B, H, W, C) in [0, 1].
        degrees: largest rotation in either direction.
        fill: value outside the image, in [0, 1].

    Returns:
        (B, H, W, C) in [0, 1].
    """
    return random_affine(
        keys, images, degrees=degrees, translate=0.0, scale=(1.0, 1.0), shear=0.0, fill=fill
    )


def affine_matrix(
    size: tuple[int, int],
    *,
    angle: Float[Array, ""] | float = 0.0,
    shift: Float[Array, "2"] | float = 0.0,
    scale: Float[Array, ""] | float = 1.0,
    shear: Float[Array, ""] | float = 0.0,
) -> Float[Array, "2 3"]:
    """Build the map from a place in the new image to its source in the old one.

    Args:
        size: (height, width) in pixels; rotation, scale and shear keep the centre.
        angle: rotation from the x axis towards the y axis (clockwise on screen) in radians.
        shift: (right, down) in pixels.
        scale: enlargement, above 0.
        shear: pixels to the right per pixel down, before the rotation.

    Returns:
        (2, 3) [A | b] with old (x, y) = A (x, y) + b, as `affine` and Pillow's `transform` take it.
    """
    angle, scale, shear = (jnp.asarray(value, jnp.float32) for value in (angle, scale, shear))
    cos, sin = jnp.cos(angle) / scale, jnp.sin(angle) / scale
    # The inverse of (rotation · scale · shear): rotate back first, then shear back.
    linear = jnp.stack([cos + shear * sin, sin - shear * cos, -sin, cos]).reshape(2, 2)
    centre = jnp.array([size[1] / 2, size[0] / 2], jnp.float32)
    offset = centre - linear @ (centre + jnp.asarray(shift, jnp.float32))
    return jnp.concatenate([linear, offset[:, None]], 1)


def affine(image: Image, matrix: Float[Array, "2 3"], *, fill: float = 0.0) -> Image:
    """Map an image affinely with bilinear interpolation, as Pillow's `Image.transform` does.

    Args:
        image: (H, W, C).
        matrix: (2, 3) [A | b]: the result's pixel at (x, y) shows the image at A (x, y) + b. The
            centre of the top left pixel is (0.5, 0.5).
        fill: value where the source lies outside the image.

    Returns:
        (H, W, C).
    """
    height, width, channels = image.shape
    y, x = jnp.meshgrid(
        jnp.arange(height, dtype=jnp.float32) + 0.5,
        jnp.arange(width, dtype=jnp.float32) + 0.5,
        indexing="ij",
    )
    # Written out: an accelerator may compute a matrix product with fewer bits.
    place_x, place_y = (row[0] * x + row[1] * y + row[2] for row in matrix)
    inside = (place_x >= 0) & (place_x < width) & (place_y >= 0) & (place_y < height)
    left, top = jnp.floor(place_x - 0.5), jnp.floor(place_y - 0.5)
    right_share, down_share = place_x - 0.5 - left, place_y - 0.5 - top
    flat = image.reshape(height * width, channels)

    def pixels(row: Array, column: Array) -> Image:
        row = jnp.clip(row.astype(jnp.int32), 0, height - 1)
        column = jnp.clip(column.astype(jnp.int32), 0, width - 1)
        return flat[row * width + column]

    def across(row: Array) -> Image:
        start = pixels(row, left)
        return start + right_share[..., None] * (pixels(row, left + 1) - start)

    above = across(top)
    found = above + down_share[..., None] * (across(top + 1) - above)
    return jnp.where(inside[..., None], found, jnp.asarray(fill, image.dtype))
