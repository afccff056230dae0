"""Why two images match, as JSON with pictures."""

import base64
import dataclasses
import io
from typing import Any

import numpy as np
from PIL import Image

from vision_jax.reports.matches import Match, explain_matches
from vision_jax.reports.seen import Seen
from vision_jax.run.run import Run
from vision_jax.serve.faults import RequestError, naming
from vision_jax.serve.fields import Fields
from vision_jax.serve.galleries import Gallery
from vision_jax.serve.indexed import IndexedImages, seen_upload
from vision_jax.serve.queries import Example, parse_example
from vision_jax.visual.heatmaps import Scale


@dataclasses.dataclass(frozen=True)
class ExplainRequest:
    """What is compared: an image or key, and the key of an indexed image."""

    index: str | None
    query: Example
    key: str


def parse_explain(body: Any) -> ExplainRequest:
    """Read the body of a request to explain a match.

    Raises:
        RequestError: it is none.
    """
    fields = Fields(body, "", ("index", "query", "key"))
    query = parse_example(fields.get("query"), "query")
    key = fields.text("key")
    if key is None:
        raise fields.fault("key", "the key of an indexed image")
    return ExplainRequest(fields.text("index"), query, key)


def explain(gallery: Gallery, images: IndexedImages, request: ExplainRequest) -> dict[str, Any]:
    """Divide the cosine of two images among their parts.

    Raises:
        RequestError: an image cannot be read, or the network has no feature map.
    """
    place = gallery.place(request.key)
    encoder = gallery.encoder
    if encoder is None or not encoder.can_explain:
        raise RequestError(
            "matches of this index cannot be explained, which takes the run that made it, a "
            "network with a feature map, and 1 view of each image",
            field="index",
        )
    with naming(request.query.path):
        query = _seen(gallery, images, encoder.run, request.query)
    with naming("key"):
        match = images.seen(gallery, encoder.run, gallery.rows[place])
    with naming("query"):
        (found,) = explain_matches(encoder.run, [query], [match])
    return _json(found)


def _seen(gallery: Gallery, images: IndexedImages, run: Run, query: Example) -> Seen:
    if query.data is not None:
        return seen_upload(run, query.data)
    assert query.key is not None
    place = gallery.place(query.key, field=query.path)
    return images.seen(gallery, run, gallery.rows[place])


def _json(match: Match) -> dict[str, Any]:
    scale = Scale.of(np.stack([match.query_map, match.match_map]))
    return {
        "cosine": match.cosine,
        "exact": match.exact,
        "query": _data_url(match.query.overlay(match.query_map, scale)),
        "match": _data_url(match.match.overlay(match.match_map, scale)),
        "scale": scale.describe(),
        "pairs": [
            {
                "contribution": pair.contribution,
                "share": pair.contribution / match.cosine if match.cosine > 0 else None,
                "query": _fractions(match.query, pair.query_box),
                "match": _fractions(match.match, pair.match_box),
            }
            for pair in match.pairs
        ],
    }


def _fractions(image: Seen, box: tuple[float, float, float, float]) -> list[float]:
    """Express a box of the network's image in fractions of the picture."""
    size = (image.picture.width, image.picture.height) * 2
    edges = image.place(box)
    return [min(1.0, max(0.0, edge / whole)) for edge, whole in zip(edges, size, strict=True)]


def _data_url(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
