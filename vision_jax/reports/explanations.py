"""Why a network gave its answers, as one HTML page: pictures beside maps of what counted."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from vision_jax.reports.matches import Match, match_html
from vision_jax.reports.readings import CAUTION, READINGS, readings_html
from vision_jax.reports.seen import Seen
from vision_jax.visual.heatmaps import Map, Scale, where
from vision_jax.visual.html import image_html, paragraph, write_page

_LIKELIEST = 3  # classes that are named


class Explained(NamedTuple):
    """An image and its maps.

    Attributes:
        seen: the image.
        target: what the maps explain, such as `the class daisy`.
        score: the target's value in words, such as `logit 9.31`.
        maps: by method, (H, W) each.
        prediction: classes and their probabilities, the likeliest first; empty for an encoder.
        match: how it matches the image that it is compared with, if it is.
    """

    seen: Seen
    target: str
    score: str
    maps: Mapping[str, Map]
    prediction: Sequence[tuple[str, float]] = ()
    match: Match | None = None


def write_explanations(path: Path, title: str, images: Sequence[Explained]) -> None:
    """Write a page of images and their maps.

    Args:
        path: the page; an older one stays until the new one is whole.
        title: plain text.
        images: at least one.
    """
    methods = [method for image in images for method in image.maps]
    methods = ["similarity"] * any(image.match for image in images) + methods
    sections = [(image.seen.title, explained_html(image)) for image in images]
    sections.append(("How to read the maps", readings_html(list(dict.fromkeys(methods)))))
    write_page(path, title, sections, introduction=paragraph(CAUTION))


def explained_html(image: Explained) -> str:
    """Show an image beside its maps, each with its scale."""
    body = paragraph(_summary(image))
    if image.match is not None:
        body += match_html(image.match)
    if image.maps:
        figures = original_html(image.seen)
        for method, values in image.maps.items():
            caption = f"{READINGS[method].title} for {image.target}"
            figures += map_html(image.seen, values, caption)
        body += f'<div class="maps">{figures}</div>'
    return body


def original_html(seen: Seen) -> str:
    """Show the picture as it is."""
    frame = "" if seen.sees_all else "; the network sees what is framed in the maps"
    caption = f"The picture{frame}"
    return image_html(seen.picture, caption, lossy=not seen.tiny, description=seen.name)


def map_html(seen: Seen, values: Map, caption: str) -> str:
    """Show a map over its picture, with its scale."""
    scale = Scale.of(values)
    description = f"{caption}, over {seen.name}: {where(values)}; {scale.describe()}"
    drawn = seen.overlay(values, scale)
    figure = image_html(drawn, caption, lossy=not seen.tiny, description=description)
    return f"<div>{figure}{scale.legend()}</div>"


def _summary(image: Explained) -> str:
    likely = ", ".join(f"{name} {p:.2f}" for name, p in image.prediction[:_LIKELIEST])
    text = f"Prediction: {likely}. " if likely else ""
    return text + (f"Explained: {image.target}, {image.score}." if image.maps else "")
