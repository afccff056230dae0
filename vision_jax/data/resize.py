"""Bring decoded images to a size."""

from typing import Literal, NamedTuple

from PIL import Image

from vision_jax.config import Fit, Interpolation

FILL = 0
"""Value of the bars that `pad` adds: black."""
_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}

Size = int | tuple[int, int]
"""The side of a square, or (height, width)."""


class Resize(NamedTuple):
    """How images are brought to a size.

    Attributes:
        crop: share of the size that the centre crop keeps, in (0, 1]. The image is scaled so that
            it just covers `round(size / crop)`: a square's side is then its shorter side.
        interpolation: how it is scaled, antialiased.
        fit: `crop` cuts what does not fit off both ends of the longer side; `pad` adds black bars
            there instead; `stretch` changes the image's proportions; `within` changes nothing but
            the scale, and enlarges nothing, so that the result may be smaller than the size.
    """

    crop: float = 1.0
    interpolation: Interpolation = "bilinear"
    fit: Fit | Literal["within"] = "crop"


PLAIN = Resize()
WITHIN = Resize(fit="within")
"""The whole image, as thumbnails show it."""


def sides(size: Size) -> tuple[int, int]:
    """Return the height and width of a size."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def to_size(image: Image.Image, size: Size, resize: Resize = PLAIN) -> Image.Image:
    """Bring an image to a size.

    Args:
        image: of any size.
        size: what is needed.
        resize: how.

    Returns:
        An image of that size; with `within`, one that fits in it.
    """
    height, width = sides(size)
    if resize.fit == "crop":
        if resize.crop == 1 and resize.interpolation == "bilinear":
            return _crop(image, width, height)
        return _scale_and_crop(image, width, height, resize)
    if resize.fit in ("pad", "within"):
        inner = _inner(image.size, (width, height), enlarge=resize.fit == "pad")
    else:
        inner = (width, height)
    if inner != image.size:
        image = image.resize(inner, _FILTERS[resize.interpolation])
    if resize.fit != "pad" or inner == (width, height):
        return image
    whole = Image.new(image.mode, (width, height), FILL)
    whole.paste(image, (round((width - inner[0]) / 2), round((height - inner[1]) / 2)))
    return whole


def least_size(shape: tuple[int, int], size: Size, resize: Resize) -> tuple[int, int]:
    """Return the size that a reduced image must have at least to be brought to a size.

    Networks trained elsewhere saw images scaled from all of their pixels. Of twice as many as are
    needed, what is scaled differs from that by less than a level on average.

    Args:
        shape: (width, height) of the whole image.
        size: what it is brought to.
        resize: how.

    Returns:
        (width, height).
    """
    height, width = sides(size)
    if resize.fit in ("pad", "within"):
        width, height = _inner(shape, (width, height), enlarge=True)
    if resize.crop == 1 and resize.interpolation == "bilinear":
        return width, height
    return 2 * round(width / resize.crop), 2 * round(height / resize.crop)


def _inner(shape: tuple[int, int], size: tuple[int, int], *, enlarge: bool) -> tuple[int, int]:
    """Return the (width, height) of an image that is scaled to fit in a size."""
    if not enlarge and shape[0] <= size[0] and shape[1] <= size[1]:
        return shape
    if shape[0] * size[1] > shape[1] * size[0]:  # wider than what it must fit in
        return size[0], min(size[1], max(1, round(shape[1] / shape[0] * size[0])))
    return min(size[0], max(1, round(shape[0] / shape[1] * size[1]))), size[1]


def _crop(image: Image.Image, width: int, height: int) -> Image.Image:
    """Scale the largest centred part of the proportions needed, by whole pixels if it is square."""
    if width == height:
        across = down = min(image.size)
        left, top = (image.width - across) // 2, (image.height - down) // 2
        if across == width:
            return image.crop((left, top, left + across, top + down))
        box: tuple[float, float, float, float] = (left, top, left + across, top + down)
        return image.resize((width, height), Image.Resampling.BILINEAR, box)
    ratio = min(image.width / width, image.height / height)
    if ratio == 1:
        left, top = (image.width - width) // 2, (image.height - height) // 2
        return image.crop((left, top, left + width, top + height))
    kept = (min(width * ratio, image.width), min(height * ratio, image.height))
    start = [(whole - part) / 2 for whole, part in zip(image.size, kept, strict=True)]
    box = (start[0], start[1], start[0] + kept[0], start[1] + kept[1])
    return image.resize((width, height), Image.Resampling.BILINEAR, _inside(box, image))


def _scale_and_crop(image: Image.Image, width: int, height: int, resize: Resize) -> Image.Image:
    """Scale so that the size is covered, then crop, by torchvision's rules for odd numbers.

    Only what is kept is computed: the box names its place in the original.
    """
    wide, high = round(width / resize.crop), round(height / resize.crop)
    if wide * image.height >= high * image.width:
        scaled = (wide, int(wide * image.height / image.width))
    else:
        scaled = (int(high * image.width / image.height), high)
    corner = [round((old - new) / 2) for old, new in zip(scaled, (width, height), strict=True)]
    ratios = [old / new for old, new in zip(image.size, scaled, strict=True)]
    left, top = (at * ratio for at, ratio in zip(corner, ratios, strict=True))
    right = (corner[0] + width) * ratios[0]
    bottom = (corner[1] + height) * ratios[1]
    box = _inside((left, top, right, bottom), image)
    return image.resize((width, height), _FILTERS[resize.interpolation], box)


def _inside(
    box: tuple[float, float, float, float], image: Image.Image
) -> tuple[float, float, float, float]:
    """Bound a box: rounding may put an edge beyond the image's by a tiny part of a pixel."""
    left, top, right, bottom = box
    return max(left, 0.0), max(top, 0.0), min(right, image.width), min(bottom, image.height)


def part_seen(
    shape: tuple[int, int], size: Size, resize: Resize
) -> tuple[float, float, float, float]:
    """Say which part of an image is what it becomes at a size.

    Args:
        shape: (width, height) of the image, or of a smaller picture of all of it.
        size: what it is brought to.
        resize: how.

    Returns:
        Left, top, right and bottom in the picture's pixels, to one pixel of the result. With `pad`
        they reach beyond the picture, by the bars.
    """
    if resize.fit == "stretch":
        return 0.0, 0.0, float(shape[0]), float(shape[1])
    height, width = sides(size)
    ratios = shape[0] / width, shape[1] / height
    ratio = max(ratios) if resize.fit in ("pad", "within") else min(ratios) * resize.crop
    left, top = (shape[0] - ratio * width) / 2, (shape[1] - ratio * height) / 2
    return left, top, left + ratio * width, top + ratio * height
