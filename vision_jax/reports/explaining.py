"""Maps of images that people name, ready for a page."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vision_jax.errors import InputError
from vision_jax.explain import Class, Cosine, Difference, Target, saliency, target_scores
from vision_jax.explain.classes import class_number
from vision_jax.reports.explanations import Explained
from vision_jax.reports.matches import Match, explain_matches
from vision_jax.reports.seen import Seen, seen_examples, seen_files, stack
from vision_jax.run.run import Run
from vision_jax.tasks.base import Classifies


def find_images(run: Run, names: Sequence[str], split: str | None = None) -> list[Seen]:
    """Find images by what people call them.

    Args:
        run: the run that is to explain them.
        names: image files, or keys of images of the run's data, such as `digits/test/0`.
        split: where keys are looked for; the run's test split by default.

    Raises:
        InputError: a name is neither, or an image cannot be used.
    """
    keys = [name for name in names if not Path(name).exists()]
    files = [name for name in names if name not in keys]
    found = dict(zip(files, seen_files(run, files), strict=True))
    if keys:
        found |= _find_keys(run, keys, split)
    return [found[name] for name in names]


def explain_classes(
    run: Run,
    images: Sequence[Seen],
    methods: Sequence[str],
    *,
    target: str | None = None,
    against: str | None = None,
) -> list[Explained]:
    """Explain the logit of a class, or the difference of two, for each image.

    Args:
        run: a classifier.
        images: at least one.
        methods: keys of `explain.METHODS`.
        target: the class's name or number; the predicted class by default.
        against: the class that it is held against, if any.

    Raises:
        InputError: there is no such class, or the network does not allow a method.
    """
    pixels = stack(images)
    wanted: Target = None
    names = run.info.label_names or ()
    number = None if target is None else class_number(run, target)
    told = [None if number is None else f"the class {names[number]}"] * len(images)
    kind = "logit"
    if number is not None:
        wanted = Class(number)
        if against is not None:
            other = class_number(run, against, name="against")
            wanted = Difference(number, other)
            told = [f"{names[number]} rather than {names[other]}"] * len(images)
            kind = "difference of the logits"
    explained = _explain(run, pixels, methods, wanted)
    predictions = _predictions(run, pixels)
    return [
        Explained(
            image,
            what or f"the class {prediction[0][0]}",
            f"{kind} {score:.4g}",
            maps,
            prediction,
        )
        for image, what, (score, maps), prediction in zip(
            images, told, explained, predictions, strict=True
        )
    ]


def explain_likeness(
    run: Run, images: Sequence[Seen], other: Seen, methods: Sequence[str]
) -> list[Explained]:
    """Explain the cosine of each image with another one.

    Args:
        run: whose embeddings are compared.
        images: at least one.
        other: the image to compare them with.
        methods: `similarity`, and keys of `explain.METHODS`.

    Raises:
        InputError: the network does not allow a method.
    """
    pixels = stack(images)
    pixel_methods = [method for method in methods if method != "similarity"]
    explained = _explain(run, pixels, pixel_methods, Cosine(other.pixels))
    matches: list[Match | None] = [None] * len(images)
    if "similarity" in methods:
        matches = [*explain_matches(run, images, [other])]
    predictions: Sequence[Sequence[tuple[str, float]]] = [()] * len(images)
    if isinstance(run.task, Classifies):
        predictions = _predictions(run, pixels)
    what = f"the cosine with {other.title}"
    return [
        Explained(image, what, f"{score:.4f}", maps, prediction, match)
        for image, (score, maps), prediction, match in zip(
            images, explained, predictions, matches, strict=True
        )
    ]


def _explain(
    run: Run, pixels: np.ndarray, methods: Sequence[str], target: Target
) -> list[tuple[float, dict[str, np.ndarray]]]:
    maps = {method: saliency(run, pixels, method, target) for method in methods}
    scores = target_scores(run, pixels, target)
    return [
        (float(score), {method: drawn[i] for method, drawn in maps.items()})
        for i, score in enumerate(scores)
    ]


def _predictions(run: Run, pixels: np.ndarray) -> list[list[tuple[str, float]]]:
    names = run.info.label_names or ()
    return [
        [(names[i], float(row[i])) for i in np.argsort(-row, kind="stable")]
        for row in run.predict(pixels)
    ]


def _find_keys(run: Run, keys: Sequence[str], split: str | None) -> dict[str, Seen]:
    if not run.config.data.name:
        raise InputError(f"{keys[0]} does not exist; an image file is needed")
    source = run.source(split)
    places = {source.key(i): i for i in range(len(source))}
    if missing := [key for key in keys if key not in places]:
        raise InputError(
            f"{missing[0]} is neither a file nor an image of {source.name}, {source.split}; a key "
            f"such as {source.key(0)} is needed"
        )
    return dict(zip(keys, seen_examples(run, source, [places[k] for k in keys]), strict=True))
