"""Maps of strength laid over pictures, in colours that colour-blind readers can tell apart."""

import dataclasses
import html

import matplotlib
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.colors import LinearSegmentedColormap
from PIL import Image, ImageDraw, ImageOps

from vision_jax.errors import InputError

Map = Float[np.ndarray, "height width"]
Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; right and bottom are exclusive."""

# Blue and orange differ for every kind of colour blindness; viridis rises evenly in lightness.
_UNSIGNED = matplotlib.colormaps["viridis"]
_SIGNED = LinearSegmentedColormap.from_list(
    "blue_orange", ["#0b3fa8", "#3f8efc", "#f2f2f2", "#ff9d2e", "#b84a00"]
)
_CLIPPED = 0.02  # share of the pixels that may exceed the scale
_OUTSTANDING = 2  # how many times as strong as the others they must be
_OPACITY = 0.85  # of the strongest colour
_STRONG = 0.05  # share of a map's pixels that say where it is strong
_STOPS = 33  # colours in the legend's gradient
_GREY = 154  # what the legend's colours lie on


@dataclasses.dataclass(frozen=True)
class Scale:
    """Which value gets which colour.

    Unsigned maps run along viridis. Signed maps run from blue (negative) to orange (positive). A
    weak value is transparent, a strong one nearly opaque.

    Attributes:
        limit: the magnitude that gets the strongest colour; 0 if a map is zero everywhere.
        strongest: the largest magnitude. It exceeds `limit` where a few pixels stand out so far
            that no others could be seen; those get the strongest colour too.
        signed: whether there are negative values.
    """

    limit: float
    strongest: float
    signed: bool

    @classmethod
    def of(cls, values: Float[np.ndarray, "*shape"]) -> "Scale":
        """Choose the scale of one map, or of several that are to be compared.

        Args:
            values: any shape, at least one value.

        Returns:
            A scale up to the largest magnitude, unless a few values exceed the others by far: then
            it leaves out at most 2% of them.

        Raises:
            InputError: a value is NaN or infinite.
        """
        sizes = np.abs(values)
        if lost := int((~np.isfinite(sizes)).sum()):
            raise InputError(f"{lost} of {sizes.size} values of a map are NaN or infinite")
        strongest = float(sizes.max())
        most = float(np.quantile(sizes, 1 - _CLIPPED, method="higher"))
        limit = most if 0 < _OUTSTANDING * most < strongest else strongest
        return cls(limit, strongest, bool((values < 0).any()))

    def colors(self, values: Map) -> UInt8[np.ndarray, "height width 4"]:
        """Color a map.

        Args:
            values: (H, W).

        Returns:
            (H, W, 4) red, green, blue and opacity; all transparent if the limit is 0.
        """
        shares = np.clip(values / (self.limit or 1), -1, 1)
        colors = _SIGNED((shares + 1) / 2) if self.signed else _UNSIGNED(shares)
        colors[..., 3] = _OPACITY * np.abs(shares) ** 0.7
        return np.rint(colors * 255).astype(np.uint8)

    @property
    def ends(self) -> tuple[str, ...]:
        """The scale's numbers from left to right, such as `0` and `0.031`."""
        if not self.limit:
            return ("0",)
        beyond = self.strongest > self.limit
        end = f"{self.limit:.3g}"
        if not self.signed:
            return ("0", f"≥ {end}" if beyond else end)
        return (f"≤ -{end}" if beyond else f"-{end}", "0", f"≥ {end}" if beyond else f"+{end}")

    def describe(self) -> str:
        """Say in words what the colours mean, for readers who cannot see them."""
        if not self.limit:
            return "the map is zero everywhere"
        if self.signed:
            return f"blue speaks against, orange speaks for; from {self.ends[0]} to {self.ends[2]}"
        return f"from transparent, 0, to yellow, {self.ends[1]}"

    def bar(self) -> UInt8[np.ndarray, "1 stops 3"]:
        """Return the scale's colours from left to right, (1, stops, 3), as on a grey picture."""
        places = np.linspace(-1 if self.signed else 0, 1, _STOPS) * self.limit
        colors = self.colors(places[None]).astype(np.float32)
        opacity = colors[..., 3:] / 255
        return np.rint(opacity * colors[..., :3] + (1 - opacity) * _GREY).astype(np.uint8)

    def legend(self) -> str:
        """Draw the scale as HTML: a bar of its colours with numbers below."""
        if not self.limit:
            return '<p class="scale">The map is zero everywhere.</p>'
        stops = ", ".join(f"rgb({red},{green},{blue})" for red, green, blue in self.bar()[0])
        numbers = "".join(f"<span>{html.escape(end)}</span>" for end in self.ends)
        bar = f"background:linear-gradient(90deg, {stops})"
        return (
            f'<div class="scale"><div class="bar" role="img" style="{bar}" '
            f'aria-label="{html.escape(self.describe())}"></div>'
            f'<div class="ends">{numbers}</div></div>'
        )


def overlay(
    picture: Image.Image, values: Map, scale: Scale, *, box: Box | None = None, smooth: bool = True
) -> Image.Image:
    """Lay a map over a picture, which becomes grey so that all colour is the map's.

    Args:
        picture: any size.
        values: (H, W) the map.
        scale: its colours.
        box: where in the picture the map lies; over all of it by default. A frame marks it.
        smooth: interpolate between the map's values; otherwise each is a square.

    Returns:
        An RGB image of the picture's size.
    """
    whole = (0, 0, picture.width, picture.height)
    left, top, right, bottom = box or whole
    filters = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
    stretched = Image.fromarray(values.astype(np.float32)).resize(
        (right - left, bottom - top), filters
    )
    colors = Image.fromarray(scale.colors(np.asarray(stretched)), "RGBA")
    shown = ImageOps.grayscale(picture).convert("RGB")
    if box not in (None, whole):
        shown = Image.blend(shown, Image.new("RGB", shown.size, "white"), 0.55)
        shown.paste(ImageOps.grayscale(picture).convert("RGB").crop(box), (left, top))
    shown.paste(colors, (left, top), colors)
    if box not in (None, whole):
        ImageDraw.Draw(shown).rectangle((left, top, right - 1, bottom - 1), outline="white")
    return shown


def where(values: Map) -> str:
    """Say in words where a map is strong, such as `strongest at the upper left`."""
    sizes = np.abs(values)
    if not sizes.any():
        return "zero everywhere"
    least = np.quantile(sizes, 1 - _STRONG, method="lower")
    weights = np.where(sizes >= least, sizes, 0)
    names = []
    for axis, words in ((0, ("upper", "", "lower")), (1, ("left", "", "right"))):
        along = weights.sum(1 - axis)
        middle = float((along * (np.arange(len(along)) + 0.5)).sum() / along.sum())
        names.append(words[min(2, int(3 * middle / len(along)))])
    place = " ".join(filter(None, names))
    return f"strongest at the {place}" if place else "strongest in the middle"
