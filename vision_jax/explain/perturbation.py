"""Maps of any function of images: hide parts of an image, and see what its score loses.

The function is a black box, `(B, H, W, C) -> (B,)` or `(B, targets)`. A `Plan` says what to hide
and what each score adds to the map, one evaluation apart from the others, so that evaluations are
computed in parts of any size. Maps are (N, H, W), or (N, targets, H, W), at the images' own
resolution.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from vision_jax.errors import InputError
from vision_jax.explain.baselines import Baseline, baseline_images
from vision_jax.explain.checks import check_count
from vision_jax.explain.feature_maps import Images

Function = Callable[[Images], Array]
Mask = Float[Array, "height width"]
Maps = Float[Array, "images *targets height width"]
Draw = Callable[[Key[Array, ""], Int[Array, ""]], tuple[Mask, Mask]]
Finish = Callable[[Array, Mask, Array], Array]

_AT_ONCE = 32  # evaluations


class Plan(NamedTuple):
    """What a method evaluates of one image, and what it makes of the scores.

    Attributes:
        evaluations: how many.
        draw: `(key, number)` of the image and the evaluation to the share of the image that is
            kept at each pixel, in [0, 1], and the weight of the score there.
        finish: `(sums, weights, own)`: the weighted sums of the scores (..., H, W), the sums of the
            weights (H, W), and the score of the whole image (..., 1, 1), to the map.
        baseline: what stands in for the rest of the image, see `baseline_images`.
    """

    evaluations: int
    draw: Draw
    finish: Finish
    baseline: Baseline


def occlusion_plan(
    size: tuple[int, int],
    *,
    window: int | None = None,
    stride: int | None = None,
    baseline: Baseline = "mean",
) -> Plan:
    """Plan `occlusion` of images of a size (height, width)."""
    side = min(size)
    window = max(1, round(side / 5)) if window is None else window
    stride = max(1, window // 2) if stride is None else stride
    check_count(window, "window")
    check_count(stride, "stride")
    if window > side:
        raise InputError(f"window is {window}; it must be at most the images' side of {side}")
    if stride > window:
        raise InputError(f"stride is {stride}; it must be at most window, {window}")
    tops, lefts = (jnp.asarray(_starts(length, window, stride)) for length in size)
    rows, columns = (jnp.arange(length) for length in size)

    def draw(key: Key[Array, ""], number: Int[Array, ""]) -> tuple[Mask, Mask]:
        del key
        top, left = tops[number // len(lefts) % len(tops)], lefts[number % len(lefts)]
        down = (rows >= top) & (rows < top + window)
        across = (columns >= left) & (columns < left + window)
        hidden = (down[:, None] & across).astype(jnp.float32)
        return 1 - hidden, hidden

    def finish(sums: Array, weights: Mask, own: Array) -> Array:
        return own - sums / weights

    return Plan(len(tops) * len(lefts), draw, finish, baseline)


def rise_plan(
    size: tuple[int, int],
    *,
    masks: int = 4000,
    grid: int = 7,
    kept: float = 0.5,
    baseline: Baseline = "black",
) -> Plan:
    """Plan `rise` of images of a size (height, width)."""
    check_count(masks, "masks")
    check_count(grid, "grid")
    if not 0 < kept < 1:
        raise InputError(f"kept is {kept}; it must be between 0 and 1")

    def draw(key: Key[Array, ""], number: Int[Array, ""]) -> tuple[Mask, Mask]:
        cells, shift = jax.random.split(jax.random.fold_in(key, number))
        values = jax.random.bernoulli(cells, kept, (grid, grid)).astype(jnp.float32)
        rows, columns = (
            _cell_shares(length, grid, move)
            for length, move in zip(size, jax.random.uniform(shift, (2,)), strict=True)
        )
        mask = rows @ values @ columns.T
        return mask, mask

    def finish(sums: Array, weights: Mask, own: Array) -> Array:
        del own
        return sums / jnp.maximum(weights, 1e-6)

    return Plan(masks, draw, finish, baseline)


def shapley_plan(
    size: tuple[int, int],
    *,
    permutations: int = 20,
    grid: int = 7,
    baseline: Baseline = "mean",
) -> Plan:
    """Plan `shapley` of images of a size (height, width)."""
    check_count(permutations, "permutations")
    check_count(grid, "grid")
    if grid > min(size):
        raise InputError(f"grid is {grid}; it must be at most the images' side of {min(size)}")
    rows, columns = (np.arange(length) * grid // length for length in size)
    patch = (rows[:, None] * grid + columns).astype(np.int32)
    area = jnp.asarray(np.bincount(patch.ravel())[patch], jnp.float32)
    players = grid * grid

    def draw(key: Key[Array, ""], number: Int[Array, ""]) -> tuple[Mask, Mask]:
        turn, present = number // (players + 1), number % (players + 1)
        rank = jax.random.permutation(jax.random.fold_in(key, turn // 2), players)
        # Every other order is the one before reversed, whose error is often the opposite.
        rank = jnp.where(turn % 2 == 1, players - 1 - rank, rank)[patch]
        gained = (rank == present - 1).astype(jnp.float32) - (rank == present).astype(jnp.float32)
        return (rank < present).astype(jnp.float32), gained / area

    def finish(sums: Array, weights: Mask, own: Array) -> Array:
        del weights, own
        return sums / permutations

    return Plan(permutations * (players + 1), draw, finish, baseline)


def occlusion(
    function: Function,
    images: Images,
    *,
    window: int | None = None,
    stride: int | None = None,
    baseline: Baseline = "mean",
) -> Maps:
    """Hide a square window everywhere: what the score loses, averaged over a pixel's windows.

    Zeiler and Fergus, "Visualizing and understanding convolutional networks", 2014.

    Args:
        function: images to scores.
        images: (N, H, W, C) in [0, 1].
        window: side of the square in pixels; a fifth of the images' by default.
        stride: pixels from one window to the next; at most the window; half of it by default.
        baseline: what hides the window, see `baseline_images`.

    Returns:
        Maps in the score's units, negative where the score rises without a pixel.

    Raises:
        InputError: `window` or `stride` is below 1, the window larger than the image, or the
            stride larger than the window.
    """
    plan = occlusion_plan(_size(images), window=window, stride=stride, baseline=baseline)
    return estimate(function, images, _no_keys(len(images)), plan)


def rise(
    function: Function,
    images: Images,
    keys: Key[Array, " images"],
    *,
    masks: int = 4000,
    grid: int = 7,
    kept: float = 0.5,
    baseline: Baseline = "black",
) -> Maps:
    """Average the scores of randomly masked images, each pixel's over the masks that keep it.

    Petsiuk et al., "RISE: randomized input sampling for explanation of black-box models", 2018.
    A pixel's sum is divided by that of its own masks in place of their expectation, so that a
    constant added to the score adds it to the map and no noise.

    Args:
        function: images to scores.
        images: (N, H, W, C) in [0, 1].
        keys: (N,) one per image.
        masks: number of masks.
        grid: cells of a mask along each side; smoothed and shifted at random.
        kept: chance that a cell is kept, between 0 and 1.
        baseline: what stands in for the rest, see `baseline_images`.

    Returns:
        Maps: the expected score where a pixel is kept. It may be of either sign, as the score.

    Raises:
        InputError: `masks` or `grid` is below 1, or `kept` not between 0 and 1.
    """
    size = _size(images)
    plan = rise_plan(size, masks=masks, grid=grid, kept=kept, baseline=baseline)
    return estimate(function, images, keys, plan)


def shapley(
    function: Function,
    images: Images,
    keys: Key[Array, " images"],
    *,
    permutations: int = 20,
    grid: int = 7,
    baseline: Baseline = "mean",
) -> Maps:
    """Estimate the Shapley values of patches: what each adds to the score, in random orders.

    Castro et al., "Polynomial calculation of the Shapley value based on sampling", 2009; each order
    is taken backwards too (Mitchell et al., "Sampling permutations for Shapley value estimation",
    2022). The estimate is unbiased. A patch's value is spread evenly over its pixels, so that a map
    sums to the score of the image less that of the baseline (efficiency), whatever the orders.

    Args:
        function: images to scores.
        images: (N, H, W, C) in [0, 1].
        keys: (N,) one per image.
        permutations: number of orders; each takes a score more than there are patches.
        grid: patches along each side.
        baseline: what stands in for missing patches, see `baseline_images`.

    Returns:
        Maps, negative where a patch speaks against the score.

    Raises:
        InputError: `permutations` or `grid` is below 1, or the patches are smaller than a pixel.
    """
    size = _size(images)
    plan = shapley_plan(size, permutations=permutations, grid=grid, baseline=baseline)
    return estimate(function, images, keys, plan)


def estimate(function: Function, images: Images, keys: Key[Array, " images"], plan: Plan) -> Maps:
    """Carry out a plan for each image.

    Args:
        function: images to scores.
        images: (N, H, W, C) in [0, 1].
        keys: (N,) one per image.
        plan: what to evaluate.

    Returns:
        The maps.
    """

    def of_image(item: tuple[Array, Key[Array, ""]]) -> Array:
        image, key = item

        def add(total: tuple[Array, Array], start: Array) -> tuple[tuple[Array, Array], None]:
            sums = weighted_scores(function, image, key, plan, start, _AT_ONCE)
            return jax.tree.map(jnp.add, total, sums), None

        own = function(image[None])[0][..., None, None]
        size = image.shape[:2]
        zeros = (jnp.zeros((*own.shape[:-2], *size)), jnp.zeros(size))
        starts = jnp.arange(0, plan.evaluations, _AT_ONCE)
        (sums, weights), _ = jax.lax.scan(add, zeros, starts)
        return plan.finish(sums, weights, own)

    return jax.lax.map(of_image, (images, keys))


def weighted_scores(
    function: Function,
    image: Float[Array, "height width channels"],
    key: Key[Array, ""],
    plan: Plan,
    start: Int[Array, ""],
    count: int,
) -> tuple[Float[Array, "*targets height width"], Mask]:
    """Carry out a part of a plan.

    Args:
        function: images to scores.
        image: (H, W, C) in [0, 1].
        key: the image's own.
        plan: what to evaluate.
        start: number of the first evaluation.
        count: how many; those beyond the plan's add nothing.

    Returns:
        The weighted sums of the scores, and the sums of the weights (H, W).
    """
    numbers = start + jnp.arange(count)
    kept, weights = jax.vmap(plan.draw, (None, 0))(key, numbers)
    weights = jnp.where((numbers < plan.evaluations)[:, None, None], weights, jnp.float32(0))
    base = baseline_images(image[None], plan.baseline)
    scores = function(base + kept[..., None] * (image - base))
    return jnp.tensordot(scores, weights, ((0,), (0,))), jnp.sum(weights, 0)


def _size(images: Images) -> tuple[int, int]:
    _, height, width, _ = images.shape
    return height, width


def _starts(length: int, window: int, stride: int) -> np.ndarray:
    return np.unique([*range(0, length - window, stride), length - window])


def _cell_shares(length: int, grid: int, shift: Array) -> Float[Array, "length grid"]:
    """Return the share of each cell in each pixel, cells being interpolated and shifted."""
    cell = length / grid
    # As a grid enlarged by a cell of which a window is cut at random.
    pixels = jnp.arange(length, dtype=jnp.float32)
    places = (pixels + 0.5 + shift * cell) * (grid / (length + cell)) - 0.5
    places = jnp.clip(places, 0, grid - 1)
    distances = jnp.abs(places[:, None] - jnp.arange(grid, dtype=jnp.float32))
    return jnp.maximum(1 - distances, 0)


def _no_keys(count: int) -> Key[Array, " images"]:
    return jax.random.split(jax.random.key(0), count)


PLANS: dict[str, Callable[..., Plan]] = {
    "occlusion": occlusion_plan,
    "rise": rise_plan,
    "shapley": shapley_plan,
}
"""What makes each method's plan, `(size, **options) -> plan`, by its name."""
