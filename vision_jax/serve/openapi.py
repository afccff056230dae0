"""The description of the API, by OpenAPI 3.1."""

from typing import Any

from vision_jax.serve.faults import Limits
from vision_jax.serve.thumbnails import SIDES

Schema = dict[str, Any]
_TEXT: Schema = {"type": "string"}
_NUMBER: Schema = {"type": "number"}
_WHOLE: Schema = {"type": "integer", "minimum": 0}


def describe(version: str, limits: Limits) -> Schema:
    """Return the document of `/api/openapi.json`."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "vision_jax search", "version": version},
        "paths": _paths(limits),
        "components": {
            "schemas": {**_requests(limits), **_answers()},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _list(items: Schema, least: int = 0, most: int | None = None) -> Schema:
    bounds: Schema = {"minItems": least} if least else {}
    return {"type": "array", "items": items, **bounds, **({"maxItems": most} if most else {})}


def _object(properties: Schema, needed: tuple[str, ...] = (), *, closed: bool = True) -> Schema:
    made: Schema = {"type": "object", "properties": properties}
    if needed:
        made["required"] = list(needed)
    return made | ({"additionalProperties": False} if closed else {})


def _nullable(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _optional(properties: Schema) -> Schema:
    """Allow null for each field, which counts as left out."""
    return {name: _nullable(schema) for name, schema in properties.items()}


def _options(limits: Limits) -> Schema:
    return {
        "k": {"type": "integer", "minimum": 1, "maximum": limits.k, "default": 20},
        "offset": {
            "type": "integer",
            "minimum": 0,
            "maximum": limits.k,
            "description": f"Hits to leave out; with k at most {limits.k}, with mmr 0.",
        },
        "min_score": {"type": "number", "minimum": -1, "maximum": 1},
        "fold": {
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": 1,
            "description": "Cosine from which two images are one hit.",
        },
        "mmr": {
            "type": "number",
            "minimum": 0,
            "maximum": 1,
            "description": "Lambda of maximal marginal relevance; 1 is the plain search.",
        },
    }


_DATE: Schema = {"type": "string", "pattern": r"^\d{4}(-\d\d(-\d\d)?)?$"}


def _requests(limits: Limits) -> Schema:
    image = {"type": "string", "description": "An image file in base64, or a data: URL of one."}
    box = {
        **_list({"type": "number", "minimum": 0, "maximum": 1}, 4, 4),
        "description": "Left, top, right and bottom of a part, in fractions.",
    }
    example = {
        "oneOf": [
            _object({name: kind}, (name,)) for name, kind in (("image", image), ("key", _TEXT))
        ]
    }
    examples = _list(_ref("Example"), 1, limits.examples)
    query = {
        "oneOf": [
            _object({"image": image, "box": _nullable(box)}, ("image",)),
            _object({"key": _TEXT, "box": _nullable(box)}, ("key",)),
            _object({"vector": _list(_NUMBER, 1)}, ("vector",)),
            _object(
                {"like": examples, "unlike": _list(_ref("Example"), 0, limits.examples)}, ("like",)
            ),
        ]
    }
    where = {
        "labels": _list(_TEXT, 0, 1000),
        "splits": _list(_TEXT, 0, 1000),
        "folder": _TEXT,
        "from": _DATE,
        "to": _DATE,
        "conditions": _list(_TEXT, 0, 1000),
    }
    fields = {"index": _TEXT, "where": _ref("Where"), **_options(limits)}
    queries = {"queries": _list(_ref("Query"), 1, limits.queries)}
    return {
        "Example": example,
        "Query": query,
        "Where": _object(_optional(where)),
        "Search": _object({**queries, **_optional(fields)}, ("queries",)),
        "Explain": _object(
            {"index": _nullable(_TEXT), "query": _ref("Example"), "key": _TEXT}, ("query", "key")
        ),
    }


def _answers() -> Schema:
    label = {"anyOf": [_TEXT, _list(_TEXT)]}
    item = {
        "key": _TEXT,
        "has_image": {"type": "boolean"},
        "label": label,
        "split": _TEXT,
        "path": _TEXT,
        "date": _TEXT,
    }
    folded = _object({"key": _TEXT, "label": label, "path": _TEXT}, ("key",))
    vote = _object({"label": _TEXT, "share": _NUMBER, "hits": _WHOLE}, ("label", "share", "hits"))
    result = {
        "hits": _list(_ref("Hit")),
        "more": {"type": "boolean"},
        "votes": _list(vote),
        "query": {"type": "null"},
    }
    pair = {
        "contribution": _NUMBER,
        "share": _nullable(_NUMBER),
        "query": _list(_NUMBER, 4, 4),
        "match": _list(_NUMBER, 4, 4),
    }
    error = _object({"field": _nullable(_TEXT), "message": _TEXT}, ("field", "message"))
    seconds = _object({"embedding": _NUMBER, "search": _NUMBER}, ("embedding", "search"))
    return {
        "Item": _object(item, ("key", "has_image")),
        "Hit": _object(
            {**item, "score": _NUMBER, "folded": _list(folded)}, ("key", "score", "folded")
        ),
        "Result": _object(result, tuple(result)),
        "Found": _object(
            {"index": _TEXT, "results": _list(_ref("Result")), "seconds": seconds},
            ("index", "results", "seconds"),
        ),
        "Explanation": _object(
            {
                "cosine": _NUMBER,
                "exact": {"type": "boolean"},
                "query": _TEXT,
                "match": _TEXT,
                "scale": _TEXT,
                "pairs": _list(_object(pair, tuple(pair))),
            },
            ("cosine", "exact", "query", "match", "scale", "pairs"),
        ),
        "Error": _object({"error": error}, ("error",)),
    }


def _paths(limits: Limits) -> Schema:
    index = _parameter("index", _TEXT, "An index's name; the first by default.")
    key = _parameter("key", _TEXT, "The key of an indexed image.", needed=True)
    options = [_parameter(name, kind) for name, kind in _options(limits).items()]
    browse = [
        _parameter("offset", _WHOLE),
        _parameter("limit", {"type": "integer", "minimum": 1, "maximum": limits.k}),
        *(_parameter(name, _list(_TEXT)) for name in ("label", "split")),
        _parameter("folder", _TEXT),
        _parameter("from", _DATE),
        _parameter("to", _DATE),
    ]
    side = _parameter(
        "side",
        {"type": "integer", "minimum": 1, "maximum": SIDES[-1]},
        f"Pixels of the longer side at most, raised to one of {', '.join(map(str, SIDES))}.",
    )
    closed = {"type": "object"}
    health = _object({"status": _TEXT, "images": _WHOLE}, ("status", "images"))
    listed = _object({"items": _list(_ref("Item")), "total": _WHOLE}, ("items", "total"))
    item = _object({"item": closed}, ("item",))
    return {
        "/api/info": _get("What is served, and its limits.", [], closed),
        "/api/search": _post("Search by images, keys, vectors or examples.", "Search", "Found"),
        "/api/neighbours": _get(
            "What is most like an indexed image.", [key, index, *options], _ref("Result")
        ),
        "/api/item": _get("All metadata of an image.", [key, index], item),
        "/api/browse": _get("Images in the order of the index.", [index, *browse], listed),
        "/api/thumbnail": _get("A small picture.", [key, index, side], None),
        "/api/image": _get("A picture of at most 1600 pixels a side.", [key, index], None),
        "/api/explain": _post("Which parts of two images match.", "Explain", "Explanation"),
        "/api/health": _get("Whether the server answers.", [], health),
    }


def _parameter(name: str, schema: Schema, text: str = "", *, needed: bool = False) -> Schema:
    made: Schema = {"name": name, "in": "query", "schema": schema, "required": needed}
    return made | ({"description": text} if text else {})


def _get(summary: str, parameters: list[Schema], schema: Schema | None) -> Schema:
    """Describe a path; without a schema it answers a picture."""
    picture: Schema = {kind: {} for kind in ("image/jpeg", "image/png")}
    content = picture if schema is None else {"application/json": {"schema": schema}}
    answers = {"200": {"description": "the answer", "content": content}, **_FAULTS}
    return {"get": {"summary": summary, "parameters": parameters, "responses": answers}}


def _post(summary: str, body: str, answer: str) -> Schema:
    content = {"application/json": {"schema": _ref(answer)}}
    return {
        "post": {
            "summary": summary,
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": _ref(body)}},
            },
            "responses": {"200": {"description": "the answer", "content": content}, **_FAULTS},
        }
    }


_FAULTS: Schema = {
    status: {
        "description": text,
        "content": {"application/json": {"schema": _ref("Error")}},
    }
    for status, text in {
        "400": "a field is wrong; the error names it",
        "401": "the token is missing",
        "403": "the host or the origin is another",
        "404": "no such image",
        "405": "another method is needed",
        "408": "the body came too slowly",
        "413": "the body is too large",
        "415": "the body is not declared as JSON",
        "503": "too much at a time; try again",
    }.items()
}
