"""Maps of what made a run see what it sees in images."""

import dataclasses
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vision_jax.checked import check_choice, require
from vision_jax.data.sources import Source
from vision_jax.errors import InputError
from vision_jax.explain.attention import NO_ATTENTION
from vision_jax.explain.baselines import baseline_rows
from vision_jax.explain.feature_maps import Score
from vision_jax.explain.following import follow, frozen
from vision_jax.explain.methods import METHODS
from vision_jax.explain.perturbation import PLANS
from vision_jax.explain.targets import Neuron, Resolved, Target, resolve
from vision_jax.run.run import Images, Run

# Methods that score other images than those given, whose predicted class may be another.
_ELSEWHERE = ("integrated_gradients", "smooth_grad")


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
        seed: seed of the methods that draw, in [0, 2**32).
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
    check_choice(method, tuple(METHODS), "method")
    require(0 <= seed < 2**32, "seed", seed, "in [0, 2**32)")
    check_options(method, options)
    rows = run.as_rows(images)
    if method == "attention_rollout":
        return _rollout(run, rows, target, options)
    resolved = resolve(run, target, len(rows))
    height, width, channels = run.info.image_shape
    baseline: Any = options.get("baseline")
    baselines = None  # or rows, since a constant would compile anew
    if not isinstance(baseline, str) and np.ndim(baseline) > 2:
        baselines = baseline_rows(options.pop("baseline"), (len(rows), height, width, channels))
    name = (method, *frozen(options), baselines is None)
    if method in PLANS:
        plan = PLANS[method]((height, width), **options)
        return follow(run, rows, resolved, plan, seed, name, baselines)
    function = partial(METHODS[method], **options)
    return _in_parts(run, function, rows, resolved, seed, name, baselines=baselines)


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
    return _in_parts(run, score, rows, resolve(run, target, len(rows)), 0, ("score",))


def _rollout(
    run: Run, rows: np.ndarray | Source, target: Target, options: dict[str, Any]
) -> np.ndarray:
    model: Any = getattr(run.task, "model", None)
    if not hasattr(model, "attention"):
        raise InputError(NO_ATTENTION)
    if target is not None:
        raise InputError(
            f"target is {target!r}; attention_rollout explains the embedding as a whole, and none "
            "can be given"
        )
    task: Any = run.task
    task = dataclasses.replace(task, model=model.clone(attention=True))
    options = {"pool": "mean" if model.pool == "mean" else "token"} | options
    none = resolve(run, Neuron("embedding", 0), len(rows))
    function, name = partial(METHODS["attention_rollout"], **options), ("rollout", *frozen(options))
    return _in_parts(run, function, rows, none, 0, name, task.apply)


def _in_parts(
    run: Run,
    function: Callable[..., Array],
    rows: np.ndarray | Source,
    target: Resolved,
    seed: int,
    name: tuple[Any, ...],
    apply: Callable[..., Any] | None = None,
    baselines: np.ndarray | None = None,
) -> np.ndarray:
    """Apply a method to many images."""
    draws = "keys" in inspect.signature(function).parameters
    apply = apply or run.task.apply

    def compute(
        state: Any, pixels: Array, wanted: Array, numbers: Array, seeds: Array, *baseline: Array
    ) -> Array:
        network = partial(apply, state)

        def own(output: Any, endpoints: dict[str, Array]) -> Array:
            return target.score(target.bind(output, endpoints, wanted))(output, endpoints)

        score: Score = own
        if name[0] in _ELSEWHERE:
            output, endpoints = network(pixels)
            score = target.score(target.bind(output, endpoints, wanted))
        own_key = jax.vmap(lambda seed, number: jax.random.fold_in(jax.random.key(seed), number))
        keys = [own_key(seeds, numbers)] if draws else []
        own_options = {"baseline": baseline[0]} if baseline else {}
        return function(network, score, pixels, *keys, **own_options).astype(jnp.float32)

    return run.map_images(
        compute,
        rows,
        f"{name[0]} maps",
        extras=(
            target.rows,
            np.arange(len(rows), dtype=np.uint32),
            np.full(len(rows), seed, np.uint32),  # not a constant, which would compile anew
            *([] if baselines is None else [baselines]),
        ),
        name=(*name, target.name),
    )
