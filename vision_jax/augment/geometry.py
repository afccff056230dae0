"""Where pixels come from: crops, flips and affine maps of NHWC float images in [0, 1].

A random transform takes one key per image, so that an image's fate depends neither on its
neighbours nor on how many devices share the batch.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

Images = Float[Array, "batch height width channels"]
Resized = Float[Array, "batch new_height new_width channels"]
Image = Float[Array, "height width channels"]
Keys = Key[Array, " batch"]
Range = tuple[float, float]


def resize(images: Images, size: tuple[int, int]) -> Resized:
    """Resizes bilinearly, with antialiasing when it shrinks.

    Args:
        images: (B, H, W, C) in [0, 1].
        size: (height, width) wanted.

    Returns:
        (B, height, width, C) in [0, 1].
    """
    shape = (images.shape[0], *size, images.shape[-1])
    return jax.image.resize(images, shape, "bilinear", antialias=True)


def center_crop(images: Images, size: tuple[int, int]) -> Resized:
    """Cuts out the centre.

    Args:
        images: (B, H, W, C).
        size: (height, width) wanted, at most (H, W).

    Returns:
        (B, height, width, C); an odd rest leaves the extra row below and column to the right.

    Raises:
        ValueError: `size` exceeds the images.
    """
    top, left = _margins(images, size)
    return images[:, top // 2 : top // 2 + size[0], left // 2 : left // 2 + size[1]]


def random_crop(keys: Keys, images: Images, size: tuple[int, int]) -> Resized:
    """Cuts out a window whose corner is uniform over all that fit.

    Args:
        keys: (B,) one key per image.
        images: (B, H, W, C).
        size: (height, width) wanted, at most (H, W).

    Returns:
        (B, height, width, C).

    Raises:
        ValueError: `size` exceeds the images.
    """
    top, left = _margins(images, size)

    def corner(key: Key[Array, ""]) -> Array:
        return jax.random.randint(key, (2,), 0, jnp.array([top + 1, left + 1]))

    def cut(image: Array, start: Array) -> Array:
        zero = jnp.zeros((), start.dtype)
        return jax.lax.dynamic_slice(image, (start[0], start[1], zero), (*size, image.shape[-1]))

    return jax.vmap(cut)(images, jax.vmap(corner)(keys))


def pad_and_crop(keys: Keys, images: Images, pad: int) -> Images:
    """Pads by reflection and crops at random back to the size: shifts of up to `pad` pixels.

    The usual augmentation of small images (He et al., 2016, section 4.2, there with zeros).

    Args:
        keys: (B,) one key per image.
        images: (B, H, W, C).
        pad: pixels on every side, less than H and W.

    Returns:
        (B, H, W, C).

    Raises:
        ValueError: `pad` is not below the images' height and width.
    """
    if not 0 <= pad < min(images.shape[1:3]):
        raise ValueError(f"pad is {pad}; it must be in [0, {min(images.shape[1:3])})")
    padded = jnp.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="reflect")
    return random_crop(keys, padded, (images.shape[1], images.shape[2]))


def random_resized_crop(
    keys: Keys,
    images: Images,
    *,
    scale: Range = (0.08, 1.0),
    ratio: Range = (3 / 4, 4 / 3),
) -> Images:
    """Cuts out a window of random area, shape and place, and resizes it to the whole.

    The window's share of the area is uniform, its width over height log-uniform, and its place
    uniform over all that fit; a side longer than the image is cut to it. Bilinear, antialiased
    (Szegedy et al., "Going deeper with convolutions", 2015, section 6).

    Args:
        keys: (B,) one key per image.
        images: (B, H, W, C) in [0, 1].
        scale: bounds of the share of the area, in (0, 1].
        ratio: bounds of the width over the height, above 0.

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
    """Resizes a window to the whole image: two products with matrices of interpolation weights.

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
    """Draws a box within an image: area uniform, shape log-uniform, place uniform.

    Args:
        key: the source of randomness.
        size: (height, width) of the image.
        scale: bounds of the box's share of the area.
        ratio: bounds of its width over its height.

    Returns:
        (top, left) and (height, width) in pixels, not rounded; no side is longer than the image's.
    """
    area_key, shape_key, place_key = jax.random.split(key, 3)
    area = jax.random.uniform(area_key, (), jnp.float32, *scale) * (size[0] * size[1])
    low, high = jnp.log(jnp.array(ratio, jnp.float32))
    slim = jnp.exp(jax.random.uniform(shape_key, (), jnp.float32, low, high))
    whole = jnp.array(size, jnp.float32)
    sides = jnp.minimum(jnp.sqrt(jnp.stack([area / slim, area * slim])), whole)
    corner = jax.random.uniform(place_key, (2,), jnp.float32) * (whole - sides)
    return corner, sides


def random_flip(keys: Keys, images: Images) -> Images:
    """Mirrors each image left to right with probability one half.

    Args:
        keys: (B,) one key per image.
        images: (B, H, W, C).

    Returns:
        (B, H, W, C).
    """
    return _flip(keys, images, images[:, :, ::-1])


def random_vertical_flip(keys: Keys, images: Images) -> Images:
    """Mirrors each image top to bottom with probability one half.

    Args:
        keys: (B,) one key per image.
        images: (B, H, W, C).

    Returns:
        (B, H, W, C).
    """
    return _flip(keys, images, images[:, ::-1])


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
    """Turns, shifts, scales and shears about the centre, each by a uniform draw; bilinear.

    Args:
        keys: (B,) one key per image.
        images: (B, H, W, C) in [0, 1].
        degrees: greatest turn either way.
        translate: greatest shift either way, as a share of the sides.
        scale: bounds of the enlargement, above 0.
        shear: greatest horizontal shear either way in degrees, below 90.
        fill: what is seen from outside the image, in [0, 1].

    Returns:
        (B, H, W, C) in [0, 1].

    Raises:
        ValueError: a bound is out of range.
    """
    check_range("scale", scale, above=0.0)
    if not 0 <= shear < 90:
        raise ValueError(f"shear is {shear}; it must be in [0, 90)")
    height, width = images.shape[1:3]
    turn, slant = (jnp.deg2rad(jnp.float32(angle)) for angle in (degrees, shear))

    def one(key: Key[Array, ""], image: Image) -> Image:
        turn_key, shift_key, scale_key, shear_key = jax.random.split(key, 4)
        shift = jax.random.uniform(shift_key, (2,), jnp.float32, -translate, translate)
        matrix = affine_matrix(
            (height, width),
            angle=jax.random.uniform(turn_key, (), jnp.float32, -turn, turn),
            shift=shift * jnp.array([width, height], jnp.float32),
            scale=jax.random.uniform(scale_key, (), jnp.float32, *scale),
            shear=jnp.tan(jax.random.uniform(shear_key, (), jnp.float32, -slant, slant)),
        )
        return affine(image, matrix, fill=fill)

    return jax.vmap(one)(keys, images)


def random_rotation(
    keys: Keys, images: Images, *, degrees: float = 15.0, fill: float = 0.0
) -> Images:
    """Turns about the centre by a uniform angle; see `random_affine`."""
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
    """The map from a place in the new image to the place in the old one that it shows.

    Args:
        size: (height, width) in pixels; turns, scales and shears keep the centre.
        angle: turn from the x axis towards the y axis (clockwise as seen) in radians.
        shift: (right, down) in pixels.
        scale: enlargement.
        shear: pixels to the right per pixel down, before the turn.

    Returns:
        (2, 3) [A | b]: old (x, y) = A (x, y) + b, what `affine` and Pillow's `transform` take.
    """
    angle, scale, shear = (jnp.asarray(value, jnp.float32) for value in (angle, scale, shear))
    cos, sin = jnp.cos(angle) / scale, jnp.sin(angle) / scale
    # The inverse of turn, scale and shear: first turned back, then sheared back.
    linear = jnp.stack([cos + shear * sin, sin - shear * cos, -sin, cos]).reshape(2, 2)
    centre = jnp.array([size[1] / 2, size[0] / 2], jnp.float32)
    offset = centre - linear @ (centre + jnp.asarray(shift, jnp.float32))
    return jnp.concatenate([linear, offset[:, None]], 1)


def affine(image: Image, matrix: Float[Array, "2 3"], *, fill: float = 0.0) -> Image:
    """Maps an image affinely with bilinear interpolation, as Pillow's `Image.transform` does.

    Args:
        image: (H, W, C).
        matrix: (2, 3) [A | b]: a pixel of the result at (x, y), of which the first pixel's centre
            is (0.5, 0.5), shows the image's place A (x, y) + b.
        fill: what is seen where that place lies outside the image.

    Returns:
        (H, W, C).
    """
    height, width, channels = image.shape
    y, x = jnp.meshgrid(
        jnp.arange(height, dtype=jnp.float32) + 0.5,
        jnp.arange(width, dtype=jnp.float32) + 0.5,
        indexing="ij",
    )
    # Products by hand: a matrix product of so few terms may be less exact on an accelerator.
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


def check_range(name: str, bounds: Range, *, above: float, most: float = float("inf")) -> None:
    """Refuses bounds that do not rise within (above, most].

    Raises:
        ValueError: they do not.
    """
    if not above < bounds[0] <= bounds[1] <= most:
        raise ValueError(f"{name} is {bounds}; two rising numbers in ({above}, {most}] are needed")


def _flip(keys: Keys, images: Images, mirrored: Images) -> Images:
    flip: Bool[Array, " batch"] = jax.vmap(jax.random.bernoulli)(keys)
    return jnp.where(flip[:, None, None, None], mirrored, images)


def _margins(images: Images, size: tuple[int, int]) -> tuple[int, int]:
    height, width = images.shape[1:3]
    if not (0 < size[0] <= height and 0 < size[1] <= width):
        raise ValueError(f"size is {size}; it must be within the images' {(height, width)}")
    return height - size[0], width - size[1]
