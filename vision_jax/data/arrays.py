"""The one rule for images and labels that are given as arrays."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, Int32, UInt8
from PIL import Image

from vision_jax.errors import InputError

_ROUNDING = 1e-5
"""How far beyond [0, 1] floats may lie: resizing by sums of float32 leaves as much."""
_MOST_CLASSES = 2**20

Pixels = (
    UInt8[np.ndarray, "images height width channels"]
    | Float32[np.ndarray, "images height width channels"]
)


def as_pixels(
    images: Any, *, image_shape: tuple[int, int, int] | None = None, name: str = "images"
) -> Pixels:
    """Read images given as an array, keeping floats in [0, 1] exact.

    The rule, for every call that takes images as arrays. What leaves no doubt is converted, the
    rest refused:

    - The shape is (N, height, width, channels). Channels first is refused: the last axis is neither
      1 nor 3, and the second is. So is one image, or grey images without their last axis.
    - uint8 is taken as it is.
    - Other integers must lie in [0, 255], and become uint8.
    - Floats must lie in [0, 1], and become float32; booleans count as 0 and 1. What rounding adds,
      up to 1e-5 beyond either end, is cut off.
    - Floats that are all whole numbers in [0, 255], some of them above 1, become uint8. Other
      floats above 1 may be pixels in [0, 255] as well as normalized ones, and are refused.
    - NaN, infinite and negative values are refused.

    Args:
        images: a NumPy, JAX or PyTorch array, a list of images, or a list of Pillow images of mode
            L or RGB.
        image_shape: (height, width, channels) of an empty list, which has no shape of its own.
        name: what to call the images in messages.

    Returns:
        (N, height, width, channels): uint8 in [0, 255], or float32 in [0, 1].

    Raises:
        InputError: the values or the shape are none of these.
    """
    pixels = _to_array(images, name)
    if image_shape is not None and pixels.shape == (0,):
        return np.zeros((0, *image_shape), np.uint8)
    _check_shape(pixels, name)
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.size == 0:
        return pixels.astype(np.uint8)
    lowest, highest = _range(pixels, name)
    if pixels.dtype.kind in "iu":
        if lowest < 0 or highest > 255:
            raise InputError(
                f"{name} are integers in [{lowest}, {highest}]; integers in [0, 255] are needed"
            )
        return pixels.astype(np.uint8)
    if lowest >= -_ROUNDING and highest <= 1 + _ROUNDING:
        return np.clip(pixels.astype(np.float32), 0, 1)
    if lowest >= 0 and highest <= 255 and (pixels == np.rint(pixels)).all():
        return pixels.astype(np.uint8)
    found = f"[{lowest + 0.0:.6g}, {highest + 0.0:.6g}]"  # not -0
    raise InputError(
        f"{name} are floats in {found}; floats in [0, 1] or uint8 in [0, 255] are needed"
    )


def as_images(
    images: Any, *, name: str = "images"
) -> UInt8[np.ndarray, "images height width channels"]:
    """Read images given as an array, as uint8.

    The rule is that of `as_pixels`; floats in [0, 1] are rounded to the nearest of 256 levels.

    Args:
        images: see `as_pixels`.
        name: what to call the images in messages.

    Returns:
        (N, height, width, channels) uint8.

    Raises:
        InputError: see `as_pixels`.
    """
    pixels = as_pixels(images, name=name)
    return pixels if pixels.dtype == np.uint8 else np.rint(pixels * 255).astype(np.uint8)


def as_labels(
    labels: Any, count: int, *, label_names: Sequence[str] | None = None, name: str = "labels"
) -> tuple[Int32[np.ndarray, " images"], tuple[str, ...]]:
    """Read labels given as an array.

    Integers, floats that are whole numbers and booleans are taken, as (N,) or (N, 1), and one-hot
    rows as (N, classes).

    Args:
        labels: an array or a list.
        count: number of images.
        label_names: the classes; by default the numbers up to the highest label.
        name: what to call the labels in messages.

    Returns:
        (labels, names): (N,) int32 in [0, classes), and the classes.

    Raises:
        InputError: another number of labels than images, a label that is missing or no whole number
            or outside the classes, or labels that count from 1.
    """
    rows = _to_array(labels, name)
    if len(rows.shape) == 0 or len(rows) != count:
        raise InputError(
            f"{name} have shape {rows.shape}; one for each of {count} images is needed"
        )
    if not count:
        raise InputError(f"{name} are 0; at least 1 is needed")
    rows, classes = _single_column(rows, name)
    unusable = ~np.isfinite(rows) | (rows != np.rint(rows))
    if unusable.any():
        place = int(np.argmax(unusable))
        raise InputError(f"{name}[{place}] is {rows[place]}; whole numbers are needed")
    lowest, highest = int(rows.min()), int(rows.max())
    if label_names is not None:
        if classes is not None and classes != len(label_names):
            raise InputError(
                f"{name} are one-hot of {classes} classes, of which {len(label_names)} are named"
            )
        classes = len(label_names)
    elif classes is None:
        if lowest == 1:
            raise InputError(
                f"{name} are in [1, {highest}], and classes count from 0: subtract 1, or give "
                "label_names if class 0 is merely absent"
            )
        classes = min(highest + 1, _MOST_CLASSES)
    if lowest < 0 or highest >= classes:
        hint = ", and they seem to count from 1" if (lowest, highest) == (1, classes) else ""
        raise InputError(f"{name} are in [{lowest}, {highest}]; [0, {classes}) is needed{hint}")
    names = map(str, range(classes)) if label_names is None else label_names
    return rows.astype(np.int32), tuple(names)


def _single_column(rows: np.ndarray, name: str) -> tuple[np.ndarray, int | None]:
    """Return labels (N,) from (N,), (N, 1) or one-hot rows, and the number of one-hot columns."""
    if rows.dtype.kind not in "biuf":
        raise InputError(f"{name} are of type {rows.dtype}; whole numbers are needed")
    if rows.ndim == 2 and rows.shape[1] == 1:
        rows = rows[:, 0]
    if rows.ndim == 1:
        return rows, None
    if rows.ndim != 2 or not (((rows == 0) | (rows == 1)).all() and (rows.sum(1) == 1).all()):
        raise InputError(
            f"{name} have shape {rows.shape} and are not one-hot; (N,) whole numbers are needed"
        )
    return rows.argmax(1), rows.shape[1]


def _check_shape(pixels: np.ndarray, name: str) -> None:
    shape = pixels.shape
    hint = ""
    if len(shape) == 4 and shape[-1] not in (1, 3) and shape[1] in (1, 3):
        hint = ", channels last: np.moveaxis(images, 1, -1)"
    elif len(shape) == 3:
        hint = ": images[None] for one image, images[..., None] for grey images"
    elif len(shape) == 4 and 0 not in shape[1:]:
        return
    raise InputError(f"{name} have shape {shape}; (N, height, width, channels) is needed{hint}")


def _range(pixels: np.ndarray, name: str) -> tuple[Any, Any]:
    """Return the lowest and the highest value, all of them being finite numbers."""
    if pixels.dtype.kind not in "biuf":
        raise InputError(f"{name} are of type {pixels.dtype}; uint8 or floats in [0, 1] are needed")
    lowest, highest = pixels.min(), pixels.max()
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        bad = ~np.isfinite(pixels).all(axis=(1, 2, 3))
        raise InputError(
            f"{name} hold NaN or infinite values, first in image {int(np.argmax(bad))}; "
            "floats in [0, 1] are needed"
        )
    return lowest, highest


def _to_array(values: Any, name: str) -> np.ndarray:
    """Return a NumPy array; its type is for the caller to judge."""
    rows = values if isinstance(values, list | tuple) else [values]
    if any(isinstance(row, np.ma.MaskedArray) and np.ma.is_masked(row) for row in rows):
        raise InputError(f"{name} are masked; images and labels without gaps are needed")
    if rows is values and any(isinstance(row, Image.Image) for row in rows):
        values = [_pillow_pixels(row, f"{name}[{number}]") for number, row in enumerate(rows)]
    try:
        array = np.asarray(values)
        if array.dtype == object and array.ndim == 1 and len(array):
            array = np.stack([np.asarray(value) for value in array])
        if array.dtype.kind == "V" and array.dtype.names is None:
            array = array.astype(np.float32)  # bfloat16 and its like
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"{name} cannot be made one array: {error}") from error
    return array


def _pillow_pixels(image: Any, name: str) -> Any:
    """Return the pixels of a Pillow image, (height, width, channels); anything else as it is."""
    if not isinstance(image, Image.Image):
        return image
    if image.mode not in ("L", "RGB"):
        raise InputError(
            f"{name} is a Pillow image of mode {image.mode}; L or RGB is needed, "
            'as by image.convert("RGB")'
        )
    pixels = np.asarray(image)
    return pixels if image.mode == "RGB" else pixels[..., None]
