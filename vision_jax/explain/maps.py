"""Maps of what made a run see what it sees in images."""

import inspect
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vision_jax.checked import check_choice
from vision_jax.errors import InputError
from vision_jax.explain.methods import METHODS
from vision_jax.explain.targets import Resolved, Target, resolve
from vision_jax.run.run import Images, Run


def saliency(
    run: Run,
    images: Images,
    method: str = "grad_cam",
    target: Target = None,
    *,
    seed: int = 0,
    **options: Any,
) -> Float[np.ndarray, "images height width"]:
    """Draw a map of each image: how much each pixel speaks for the target.

    Args:
        run: what sees the images.
        images: a source, or (N, H, W, C) uint8 in [0, 255] or floats in [0, 1]; see
            `data.arrays.as_pixels` for all that is taken.
        method: a key of `METHODS`.
        target: what to explain, see `targets`: a class by number or name, one for all images or one
            for each; `Difference`, `Cosine` or `Neuron`. By default the predicted class.
        seed: seed of the methods that draw.
        **options: the method's own, the keyword arguments of its function.

    Returns:
        (N, H, W) float32, at the images' resolution and in the score's units: higher speaks for the
        target. Whether a map has negative values is the method's.

    Raises:
        InputError: an unknown method or option, a class or endpoint that is not there, images of
            another shape, or a method that the network does not allow.

    >>> import vision_jax
    >>> run = vision_jax.load_run("runs/quickstart/cnn")  # after `vision-jax quickstart`
    >>> maps = vision_jax.explain.saliency(run, run.source("test"), "grad_cam")
    >>> maps.shape
    (360, 8, 8)
    """
    function = METHODS[check_choice(method, tuple(METHODS), "method")]
    check_options(method, options)
    rows = run.as_rows(images)
    resolved = resolve(run, target, len(rows))
    return _in_parts(run, partial(function, **options), rows, resolved, seed, (method, options))


def check_options(method: str, options: dict[str, Any]) -> None:
    """Check that a method takes options.

    Raises:
        InputError: it has no option of a name.
    """
    parameters = inspect.signature(METHODS[method]).parameters.values()
    known = [each.name for each in parameters if each.kind is each.KEYWORD_ONLY]
    for name in options:
        if name not in known:
            raise InputError(
                f"{name} is no option of {method}; it takes {', '.join(known) or 'none'}"
            )


def target_scores(run: Run, images: Images, target: Target = None) -> Float[np.ndarray, " images"]:
    """Compute the scores that maps explain.

    Args:
        run: what sees the images.
        images: as for `saliency`.
        target: as for `saliency`.

    Returns:
        (N,) logits, differences of logits, cosines or values of a neuron.

    Raises:
        InputError: as for `saliency`.
    """

    def score(_network: Any, score: Any, images: Array) -> Array:
        return score(*_network(images))

    rows = run.as_rows(images)
    return _in_parts(run, score, rows, resolve(run, target, len(rows)), 0, ("score", {}))


def _in_parts(
    run: Run,
    function: Any,
    rows: Any,
    target: Resolved,
    seed: int,
    name: tuple[str, dict[str, Any]],
) -> np.ndarray:
    """Apply a method to many images."""
    draws = "keys" in inspect.signature(function).parameters
    apply, base = run.task.apply, jax.random.key(np.uint32(seed))

    def compute(state: Any, pixels: Array, wanted: Array, numbers: Array) -> Array:
        network = partial(apply, state)
        score = target.score(target.bind(*network(pixels), wanted))
        keys = [jax.vmap(partial(jax.random.fold_in, base))(numbers)] if draws else []
        return function(network, score, pixels, *keys).astype(jnp.float32)

    method, options = name
    return run.map_images(
        compute,
        rows,
        f"{method} maps",
        extras=(target.rows, np.arange(len(rows), dtype=np.uint32)),
        name=(method, target.name, seed if draws else None, *_frozen(options)),
    )


def _frozen(options: dict[str, Any]) -> list[Any]:
    """Turn options into what can be compared."""
    return [
        (name, np.asarray(value).tobytes() if hasattr(value, "shape") else repr(value))
        for name, value in sorted(options.items())
    ]
