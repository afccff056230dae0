"""Where a classifier looks: pictures beside the Grad-CAM maps of some of their classes."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vision_jax.data.sources import Source, Subset, evenly_spaced
from vision_jax.errors import InputError
from vision_jax.explain import saliency
from vision_jax.explain.curves import deletion, insertion
from vision_jax.explain.faithfulness import baseline_maps, class_score, judge
from vision_jax.inspection.label_errors import Suspect
from vision_jax.reports.explanations import map_html
from vision_jax.reports.searches import spread_over_classes
from vision_jax.reports.seen import seen_examples
from vision_jax.run.run import Run
from vision_jax.tasks.base import Classifies
from vision_jax.visual.html import image_html, paragraph

_EACH = 8  # right and wrong predictions that are shown
_SUSPECTS = 12
_PIXELS = 2**24  # of the images among which they are looked for, about
_LOOKED_AT = (64, 1024)  # images at least and at most
_JUDGED, _JUDGED_IMAGES = 2**19, (8, 32)  # pixels and images that maps are tested on
_STEPS = 8
_SIDE = 200  # pixels of a picture's longer side


def class_maps(
    run: Run,
    source: Source,
    places: Sequence[int],
    classes: Sequence[Sequence[int]],
    captions: Sequence[Sequence[str]],
) -> str:
    """Show images, each beside the Grad-CAM maps of some classes.

    Args:
        run: a classifier.
        source: its images.
        places: which of them.
        classes: for each, the numbers of the classes.
        captions: for each, what to write below the picture and below each map.

    Raises:
        InputError: the network has no feature map, or an image is unreadable.
    """
    images = seen_examples(run, source, places, side=_SIDE)
    repeated = [image.pixels for image, wanted in zip(images, classes, strict=True) for _ in wanted]
    labels = [label for wanted in classes for label in wanted]
    maps = iter(saliency(run, np.stack(repeated), "grad_cam", labels))
    body = ""
    for image, (first, *others) in zip(images, captions, strict=True):
        figures = image_html(image.picture, first, lossy=not image.tiny, description=image.name)
        figures += "".join(map_html(image, next(maps), caption) for caption in others)
        body += f'<div class="maps small">{figures}</div>'
    return body


def predictions_html(run: Run, source: Source) -> str:
    """Show some right and some wrong predictions, with what they looked at.

    Right ones are spread over the classes; wrong ones are those that the network is surest of.

    Args:
        run: a classifier.
        source: labelled images with its classes. At most 1,024 of them are classified, fewer if
            they are large.

    Returns:
        HTML; why there are no maps where the network has no feature map.
    """
    height, width, _ = run.info.image_shape
    count = min(len(source), int(np.clip(_PIXELS // (height * width), *_LOOKED_AT)))
    rows = evenly_spaced(len(source), count)
    probabilities = run.predict(Subset.of(source, rows.tolist()))
    labels = np.asarray(source.labels())[rows]
    taken, sure = probabilities.argmax(1), probabilities.max(1)
    names = run.info.label_names or ()
    wrong = np.flatnonzero(taken != labels)
    wrong = wrong[np.argsort(-sure[wrong], kind="stable")][:_EACH]
    right = np.flatnonzero(taken == labels)
    right = right[spread_over_classes(labels[right], len(right), _EACH)]

    def told(i: np.integer[Any]) -> list[str]:
        label, own = names[labels[i]], probabilities[i, labels[i]]
        texts = [f"label {label}", f"for {names[taken[i]]}, {sure[i]:.2f}"]
        return texts if taken[i] == labels[i] else [*texts, f"for its label {label}, {own:.2f}"]

    def draw() -> str:
        body = ""
        for head, chosen in (("Wrong", wrong), ("Right", right)):
            body += f"<h3>{head}</h3>"
            if not len(chosen):
                body += paragraph(f"None among {len(rows)} images.")
                continue
            classes = [list(dict.fromkeys((int(taken[i]), int(labels[i])))) for i in chosen]
            places, texts = rows[chosen].tolist(), [told(i) for i in chosen]
            body += class_maps(run, source, places, classes, texts)
        return paragraph(_LEGEND) + body + _trust(run, source, rows, taken)

    return _maps_or_reason(draw)


def _trust(run: Run, source: Source, rows: np.ndarray, taken: np.ndarray) -> str:
    """Say whether Grad-CAM finds what counts on this network, by deletion and insertion."""
    height, width, _ = run.info.image_shape
    count = min(len(rows), int(np.clip(_JUDGED // (height * width), *_JUDGED_IMAGES)))
    some = evenly_spaced(len(rows), count)
    pixels = np.stack([example["image"] for example in source.read(rows[some].tolist())])
    images, targets = pixels.astype(np.float32) / 255, taken[some]
    maps = {"grad_cam": saliency(run, pixels, "grad_cam", targets.tolist())}
    maps |= baseline_maps(count, (height, width))
    score = class_score(run, targets)
    values = {
        name: {
            "deletion": deletion(score, images, each, steps=_STEPS).areas,
            "insertion": insertion(score, images, each, steps=_STEPS).areas,
        }
        for name, each in maps.items()
    }
    failures = judge(values)["grad_cam"].failures
    tested = f"Tested on {count} images by deleting and by inserting pixels in the map's order"
    if not failures:
        return paragraph(f"{tested}, Grad-CAM beats a random map and the centre prior here.")
    return paragraph(
        f"Caution: Grad-CAM may mislead on this network. {tested}: {'; '.join(failures)}."
    )


def suspects_html(run: Run | None, source: Source, suspects: Sequence[Suspect]) -> str:
    """Show the likeliest label errors with what speaks for either class.

    Args:
        run: what judged the labels.
        source: the images.
        suspects: the likeliest first.

    Returns:
        HTML; empty if the run is no classifier of these classes, or there is no suspect.
    """
    shown = suspects[:_SUSPECTS]
    if not shown or run is None or not isinstance(run.task, Classifies):
        return ""
    names = run.info.label_names or ()
    classes = [(s.given, s.likely) for s in shown]
    captions = [
        (source.key(s.row), f"for its label {names[s.given]}", f"for {names[s.likely]}")
        for s in shown
    ]
    head = f"What speaks for either class in the first {len(shown)}, by Grad-CAM:"
    return paragraph(head) + _maps_or_reason(
        lambda: class_maps(run, source, [s.row for s in shown], classes, captions)
    )


def _maps_or_reason(draw: Callable[[], str]) -> str:
    """Draw maps, or say why there are none: not every network has a feature map."""
    try:
        return draw()
    except InputError as error:
        return paragraph(f"There are no maps: {error}.")


_LEGEND = (
    "Grad-CAM: the regions that raise the score of a class, with the probability the network gives "
    "that class. Wrong predictions, the surest first, have a map for the class that was predicted "
    "and one for their label."
)
