"""From a checked request to hits: embed its images, then search, in batches of many callers."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import anyio.to_thread
import numpy as np
from anyio import CapacityLimiter
from jaxtyping import Float, UInt8

from vision_jax.data.boxes import region_weights
from vision_jax.data.decode import read_image
from vision_jax.gallery import Hit, Queries, find_hits
from vision_jax.gallery.regions import region_mask
from vision_jax.run.inputs import read_encoded
from vision_jax.run.parts import embedding_parts
from vision_jax.search.arrays import without_direction
from vision_jax.search.examples import combine_examples
from vision_jax.serve.batching import Batcher
from vision_jax.serve.faults import RequestError, naming
from vision_jax.serve.galleries import Encoder, Gallery
from vision_jax.serve.indexed import IndexedImages
from vision_jax.serve.metrics import Metrics
from vision_jax.serve.queries import Example, Options, Query, SearchRequest

SIZES = (32, 64, 128, 256, 512, 1024, 2048)
"""Results that are looked up, so that few shapes are compiled."""
_EMBEDDED = 64  # images at a time
_SEARCHED = 48  # queries at a time
_PREPARED = (16, 20, 24, 48)  # of them, compiled at the start; see `search.batching`
_DECODING = 2  # threads

Vector = Float[np.ndarray, " dim"]


class Picture(NamedTuple):
    """An image in the encoder's shape, and the weights of its pixels where a part is looked up."""

    pixels: UInt8[np.ndarray, "height width channels"]
    mask: Float[np.ndarray, "height width"] | None = None


class _Embedding(NamedTuple):
    encoder: Encoder
    pictures: Sequence[Picture]


class _Search(NamedTuple):
    """Queries of a request, and for each the vectors or the ids of its images."""

    gallery: Gallery
    options: Options
    queries: Sequence[Query]
    rows: Sequence[Sequence[Vector | int]]


class Answered(NamedTuple):
    """What a request found.

    Attributes:
        hits: of each query, the first `offset` left out, at most k.
        more: of each, whether there are more.
        embedding: seconds.
        search: seconds.
    """

    hits: list[list[Hit]]
    more: list[bool]
    embedding: float
    search: float


class Searcher:
    """Answers search requests of one server.

    Args:
        metrics: where sizes of batches are counted.
        method: how to search, as for `CosineIndex.search`.
    """

    def __init__(self, metrics: Metrics, method: str = "exact") -> None:
        self._method = method
        self._decoding = CapacityLimiter(_DECODING)
        self._indexed = IndexedImages()
        self._embedding: Batcher[_Embedding, np.ndarray] = Batcher(
            _embed_all,
            size=lambda job: len(job.pictures),
            largest=_EMBEDDED,
            seen=metrics.batch("embedding"),
        )
        self._searching: Batcher[_Search, list[list[Hit]]] = Batcher(
            self._search_all,
            size=lambda job: len(job.queries),
            largest=_SEARCHED,
            seen=metrics.batch("search"),
        )

    def close(self) -> None:
        """End the threads."""
        self._embedding.close()
        self._searching.close()

    def prepare(self, gallery: Gallery) -> None:
        """Compile what requests of the usual sizes take."""
        if gallery.encoder is not None:
            run, views, *_ = gallery.encoder
            for count in {min(size, _EMBEDDED) for size in run.row_sizes}:
                run.embed(np.zeros((count, *run.info.image_shape), np.uint8), views=views)
        vectors = np.resize(gallery.index.vectors(gallery.ids[:1]), (_SEARCHED, gallery.index.dim))
        for size in SIZES[:2]:
            gallery.index.search(vectors[:1], size, method=self._method)
        for count in _PREPARED:
            gallery.index.search(vectors[:count], SIZES[0], method=self._method)

    async def search(self, gallery: Gallery, request: SearchRequest) -> Answered:
        """Find what a request looks up.

        Raises:
            RequestError: an image is unreadable, a key not indexed, or a vector of another width.
        """
        began = time.perf_counter()
        rows = await self._rows(gallery, request.queries)
        embedded = time.perf_counter()
        job = _Search(gallery, request.options, request.queries, rows)
        hits = await asyncio.wrap_future(self._searching.submit(job))
        start, stop = request.options.offset, request.options.offset + request.options.k
        return Answered(
            [line[start:stop] for line in hits],
            [len(line) > stop for line in hits],
            embedded - began,
            time.perf_counter() - embedded,
        )

    async def _rows(self, gallery: Gallery, queries: Sequence[Query]) -> list[list[Vector | int]]:
        """Embed the images of queries, and find the ids of indexed ones.

        No vector is looked up here: on a CPU that would wait for the search under way, and keep
        all other requests waiting.
        """
        examples = [[*query.like, *query.unlike] for query in queries]
        pictures = [
            await self._read(gallery, query, example)
            for query, few in zip(queries, examples, strict=True)
            for example in few
        ]
        needed = [picture for picture in pictures if picture is not None]
        embedded = np.zeros((0, gallery.index.dim), np.float32)
        if needed and gallery.encoder is not None:
            job = _Embedding(gallery.encoder, needed)
            embedded = await asyncio.wrap_future(self._embedding.submit(job))
        made: Iterator[Vector] = iter(embedded)
        known = iter(pictures)
        rows: list[list[Vector | int]] = []
        for query, few in zip(queries, examples, strict=True):
            if query.vector is not None:
                rows.append([_of_width(query.vector, gallery, query)])
                continue
            row: list[Vector | int] = []
            for example in few:
                whole = next(known) is None and example.key is not None
                row.append(_id(gallery, example) if whole else _checked(next(made), example))
            rows.append(row)
        return rows

    def _picture(self, gallery: Gallery, query: Query, example: Example) -> Picture | None:
        """Read what must be embedded; None for an indexed image, whose vector is known."""
        if example.key is not None:
            place = gallery.place(example.key, field=example.path)
            if query.box is None:
                return None
        if (encoder := gallery.encoder) is None:
            raise RequestError(
                "the run that made the index is not there, so images cannot be embedded; a key or "
                "a vector is needed",
                field=example.path,
            )
        if query.box is not None and not encoder.can_box:
            raise RequestError(
                "this index cannot be searched by a part of an image, which takes a network that "
                "averages a feature map, and one view of each image; box must be left out",
                field=f"{query.path}.box",
            )
        if example.data is None:
            return self._part_of_indexed(gallery, encoder, place, query, example)
        with naming(example.path):
            pixels = read_encoded(encoder.run, example.data)
            if query.box is None:
                return Picture(pixels)
            height, width = read_image(example.data, channels=1, name="the image").shape[:2]
        with naming(f"{query.path}.box"):
            return Picture(pixels, region_mask(encoder.run, (width, height), query.box))

    def _part_of_indexed(
        self, gallery: Gallery, encoder: Encoder, place: int, query: Query, example: Example
    ) -> Picture:
        assert query.box is not None
        with naming(example.path):
            found = self._indexed.read(gallery, encoder.run, gallery.rows[place])
        with naming(f"{query.path}.box"):
            return Picture(found.pixels, region_mask(encoder.run, found.size, query.box))

    async def _read(self, gallery: Gallery, query: Query, example: Example) -> Picture | None:
        if example.key is not None and query.box is None:
            return self._picture(gallery, query, example)  # which reads nothing
        return await anyio.to_thread.run_sync(
            self._picture, gallery, query, example, limiter=self._decoding
        )

    def _search_all(self, jobs: Sequence[_Search]) -> list[list[list[Hit]] | Exception]:
        """Search for all queries of equal options at once."""
        groups: dict[Any, list[int]] = defaultdict(list)
        answers: list[list[list[Hit]] | Exception] = [[] for _ in jobs]
        queries = _as_queries(jobs)
        for number, (job, asked) in enumerate(zip(jobs, queries, strict=True)):
            if isinstance(asked, Exception):
                answers[number] = asked
                continue
            options = job.options
            k = options.k if options.mmr is not None else 0
            how = (options.where, options.min_score, options.fold, options.mmr, k)
            groups[(job.gallery.name, id(job.gallery), how)].append(number)
        for numbers in groups.values():
            together = [queries[number] for number in numbers]
            try:
                found: Any = self._find([jobs[number] for number in numbers], together)
            except Exception as error:
                found = [error for _ in numbers]
            for number, answer in zip(numbers, found, strict=True):
                answers[number] = answer
        return answers

    def _find(self, jobs: Sequence[_Search], asked: Sequence[Any]) -> list[list[list[Hit]]]:
        gallery, options = jobs[0].gallery, jobs[0].options
        places = gallery.places(options.where)
        if places is not None and not len(places):
            return [[[] for _ in job.queries] for job in jobs]
        queries = Queries(
            [name for part in asked for name in part.names],
            np.concatenate([part.vectors for part in asked]),
            [items for part in asked for items in part.leave_out],
            [],
        )
        spare = max(map(len, queries.leave_out))
        wanted = max(job.options.offset + job.options.k for job in jobs)
        hits = find_hits(
            gallery.index,
            queries,
            wanted if options.mmr is not None else looked_up(wanted + 1, spare),
            where=None if places is None else gallery.ids[places],
            min_score=options.min_score,
            fold=options.fold,
            mmr=options.mmr,
            method=self._method,
        )
        lines = iter(hits)
        return [[next(lines) for _ in job.queries] for job in jobs]


def _as_queries(jobs: Sequence[_Search]) -> list[Queries | Exception]:
    """Look the vectors of indexed images up, all at once, and make one vector of each query."""
    made: list[Queries | Exception] = []
    known: dict[int, dict[int, Vector]] = {}
    for gallery in {id(job.gallery): job.gallery for job in jobs}.values():
        ids = {
            part
            for job in jobs
            if job.gallery is gallery
            for row in job.rows
            for part in row
            if isinstance(part, int)
        }
        known[id(gallery)] = _vectors(gallery, sorted(ids))
    for job in jobs:
        try:
            vectors = [
                _vector(query, [_row(part, known[id(job.gallery)]) for part in row])
                for query, row in zip(job.queries, job.rows, strict=True)
            ]
        except Exception as error:
            made.append(error)
            continue
        leave_out = [
            [_id(job.gallery, e) for e in (*query.like, *query.unlike) if e.key is not None]
            for query in job.queries
        ]
        names = [query.path for query in job.queries]
        made.append(Queries(names, np.stack(vectors), leave_out, []))
    return made


def _vectors(gallery: Gallery, ids: list[int]) -> dict[int, Vector]:
    """Look vectors up, by few shapes, since each is compiled."""
    if not ids:
        return {}
    size = 1 << (len(ids) - 1).bit_length()
    padded = np.pad(np.array(ids, np.int64), (0, size - len(ids)), mode="edge")
    return dict(zip(ids, gallery.index.vectors(padded)[: len(ids)], strict=True))


def _row(part: Vector | int, known: dict[int, Vector]) -> Vector:
    return known[part] if isinstance(part, int) else part


def looked_up(wanted: int, spare: int) -> int:
    """Return how many results to look up, so that with those to spare it is one of `SIZES`."""
    return next(size for size in SIZES if size >= wanted + spare) - spare


def _embed_all(jobs: Sequence[_Embedding]) -> list[np.ndarray | Exception]:
    """Embed the images of all callers at once, parts of images one by one."""
    answers: list[np.ndarray | Exception] = [np.zeros((0, 0))] * len(jobs)
    groups: dict[int, list[int]] = defaultdict(list)
    for number, job in enumerate(jobs):
        groups[id(job.encoder)].append(number)
    for numbers in groups.values():
        run, views, *_ = jobs[numbers[0]].encoder
        pictures = [picture for number in numbers for picture in jobs[number].pictures]
        whole = [picture.pixels for picture in pictures if picture.mask is None]
        vectors = iter(run.embed(np.stack(whole), views=views) if whole else ())
        rows = [
            next(vectors) if picture.mask is None else _embed_part(run, *picture)
            for picture in pictures
        ]
        made = iter(rows)
        for number in numbers:
            answers[number] = np.stack([next(made) for _ in jobs[number].pictures])
    return answers


def _embed_part(run: Any, pixels: np.ndarray, mask: np.ndarray | None) -> Vector:
    assert mask is not None
    parts = embedding_parts(run, pixels[None])
    weights = region_weights(mask, (mask.shape[1], mask.shape[0]), parts.parts.shape[1:3])
    return np.asarray(parts.within(weights).embedding[0])


def _id(gallery: Gallery, example: Example) -> int:
    assert example.key is not None
    return int(gallery.ids[gallery.place(example.key, field=example.path)])


def _checked(vector: Vector, example: Example) -> Vector:
    if len(without_direction(vector[None])):
        raise RequestError(
            "the network makes nothing of the image: its vector is zero, NaN or infinite; another "
            "image is needed",
            field=example.path,
        )
    return vector


def _of_width(vector: Vector, gallery: Gallery, query: Query) -> Vector:
    dim = gallery.index.dim
    if len(vector) != dim:
        raise RequestError(
            f"vector has {len(vector)} numbers; {dim} are needed", field=f"{query.path}.vector"
        )
    return vector


def _vector(query: Query, rows: list[Vector]) -> Vector:
    """Make one vector of a query's images."""
    if not query.combined:
        return rows[0]
    likes, unlikes = rows[: len(query.like)], rows[len(query.like) :]
    with naming(query.path):
        return combine_examples(np.stack(likes), np.stack(unlikes) if unlikes else None)
