"""The application: paths and their answers."""

import functools
import importlib.metadata
import logging
from collections import Counter
from collections.abc import Sequence
from importlib import resources
from typing import Any

import anyio.to_thread
from anyio import CapacityLimiter
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from vision_jax.errors import InputError
from vision_jax.gallery import Hit
from vision_jax.serve import describing, explaining, openapi
from vision_jax.serve.answers import JSONAnswer, fault_answer
from vision_jax.serve.bodies import Bodies
from vision_jax.serve.faults import Limits, RequestError
from vision_jax.serve.galleries import Galleries
from vision_jax.serve.indexed import IndexedImages
from vision_jax.serve.metrics import CONTENT_TYPE, Metrics
from vision_jax.serve.parameters import Parameters
from vision_jax.serve.queries import Example, Query, SearchRequest, parse_search
from vision_jax.serve.rows import labels_of, shown
from vision_jax.serve.searching import Answered, Searcher
from vision_jax.serve.thumbnails import SIDES, Encoded, Thumbnails, etag_of

_log = logging.getLogger(__name__)
_BROWSED = 60
_VERSION = importlib.metadata.version("vision_jax")
_PAGE_TYPES = {
    **{".html": "text/html", ".css": "text/css", ".js": "text/javascript"},
    **{".svg": "image/svg+xml", ".png": "image/png", ".json": "application/json"},
}


class Answers:
    """What each path answers.

    Args:
        galleries: what is searched.
        searcher: what searches.
        thumbnails: pictures.
        metrics: counts.
        limits: what is taken at most.
    """

    def __init__(
        self,
        galleries: Galleries,
        searcher: Searcher,
        thumbnails: Thumbnails,
        metrics: Metrics,
        limits: Limits,
    ) -> None:
        self._galleries, self._searcher = galleries, searcher
        self._thumbnails, self._metrics, self._limits = thumbnails, metrics, limits
        self._bodies, self._images = Bodies(limits), IndexedImages()
        self._drawing, self._explaining = CapacityLimiter(2), CapacityLimiter(1)
        self._page = _page_files()

    def routes(self) -> list[Route]:
        """Return the application's paths."""
        return [
            Route("/", self.page),
            Route("/page/{name}", self.page),
            Route("/api/info", self.info),
            Route("/api/search", self.search, methods=["POST"]),
            Route("/api/neighbours", self.neighbours),
            Route("/api/item", self.item),
            Route("/api/browse", self.browse),
            Route("/api/thumbnail", self.thumbnail),
            Route("/api/image", self.image),
            Route("/api/explain", self.explain, methods=["POST"]),
            Route("/api/health", self.health),
            Route("/api/openapi.json", self.openapi),
            Route("/metrics", self.metrics),
        ]

    async def page(self, request: Request) -> Response:
        """Return a file of the page."""
        found = self._page.get(request.path_params.get("name", "index.html"))
        if found is None:
            raise HTTPException(404)
        data, kind = found
        return Response(data, media_type=kind, headers={"Cache-Control": "no-cache"})

    async def info(self, request: Request) -> Response:
        """Describe the indexes."""
        Parameters(request, ())
        indexes = [
            await anyio.to_thread.run_sync(describing.describe, gallery)
            for gallery in self._galleries.all()
        ]
        limits = {
            "k": self._limits.k,
            "queries": self._limits.queries,
            "examples": self._limits.examples,
            "upload_bytes": self._limits.body_bytes,
            "pixels": self._limits.pixels,
            "thumbnail_sides": SIDES,
        }
        return JSONAnswer({"version": _VERSION, "indexes": indexes, "limits": limits})

    async def search(self, request: Request) -> Response:
        """Search by images, keys, vectors or examples."""
        body = await self._bodies.read(request)
        return await self._search(parse_search(body, self._limits))

    async def neighbours(self, request: Request) -> Response:
        """Search by one key."""
        parameters = Parameters(
            request, ("key", "index", "k", "offset", "min_score", "fold", "mmr")
        )
        query = Query("key", (Example("key", key=parameters.needed("key")),))
        options = parameters.options(self._limits)
        asked = SearchRequest(parameters.get("index"), (query,), options)
        self._galleries.get(asked.index).place(parameters.needed("key"), status=404)
        return await self._search(asked, only=True)

    async def _search(self, request: SearchRequest, *, only: bool = False) -> Response:
        gallery = self._galleries.get(request.index)
        found = await self._searcher.search(gallery, request)
        results = [
            {"hits": list(map(_hit, hits)), "more": more, "votes": _votes(hits), "query": None}
            for hits, more in zip(found.hits, found.more, strict=True)
        ]
        if only:
            return JSONAnswer(results[0])
        content = {"index": gallery.name, "results": results, "seconds": _seconds(found)}
        return JSONAnswer(content)

    async def item(self, request: Request) -> Response:
        """Return the metadata of an image."""
        parameters = Parameters(request, ("key", "index"))
        gallery = self._galleries.get(parameters.get("index"))
        row = gallery.rows[gallery.place(parameters.needed("key"), status=404)]
        return JSONAnswer({"item": row})

    async def browse(self, request: Request) -> Response:
        """List images in the order of the index."""
        names = ("index", "offset", "limit", "label", "split", "folder", "from", "to")
        parameters = Parameters(request, names)
        gallery = self._galleries.get(parameters.get("index"))
        offset = parameters.integer("offset", 0, 0, 1 << 40)
        limit = parameters.integer("limit", _BROWSED, 1, self._limits.k)
        places = await anyio.to_thread.run_sync(gallery.places, parameters.filters())
        chosen = range(len(gallery.rows)) if places is None else places.tolist()
        items = [shown(gallery.rows[place]) for place in chosen[offset : offset + limit]]
        return JSONAnswer({"items": items, "total": len(chosen)})

    async def thumbnail(self, request: Request) -> Response:
        """Return a small picture."""
        parameters = Parameters(request, ("key", "index", "side"))
        side = parameters.integer("side", SIDES[1], 1, SIDES[-1])
        side = next(known for known in SIDES if known >= side)
        return await self._picture(request, parameters, side)

    async def image(self, request: Request) -> Response:
        """Return a large picture."""
        return await self._picture(request, Parameters(request, ("key", "index")), None)

    async def _picture(
        self, request: Request, parameters: Parameters, side: int | None
    ) -> Response:
        gallery = self._galleries.get(parameters.get("index"))
        row = gallery.rows[gallery.place(parameters.needed("key"), status=404)]
        headers = {"Cache-Control": "private, no-cache", "ETag": etag_of(row, side)}
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        draw = (
            functools.partial(self._thumbnails.whole, gallery, row)
            if side is None
            else functools.partial(self._thumbnails.small, gallery, row, side)
        )
        made: Encoded = await anyio.to_thread.run_sync(draw, limiter=self._drawing)
        return Response(made.data, media_type=made.media_type, headers=headers)

    async def explain(self, request: Request) -> Response:
        """Show why two images match."""
        body = await self._bodies.read(request)
        asked = explaining.parse_explain(body)
        gallery = self._galleries.get(asked.index)
        content = await anyio.to_thread.run_sync(
            explaining.explain, gallery, self._images, asked, limiter=self._explaining
        )
        return JSONAnswer(content)

    async def health(self, request: Request) -> Response:
        """Say that the server answers."""
        images = sum(len(gallery.rows) for gallery in self._galleries.all())
        return JSONAnswer({"status": "ok", "images": images})

    async def openapi(self, request: Request) -> Response:
        """Describe this API."""
        return JSONAnswer(openapi.describe(_VERSION, self._limits))

    async def metrics(self, request: Request) -> Response:
        """Return counts for Prometheus."""
        text = self._metrics.text(self._galleries.all())
        return Response(text, headers={"Content-Type": CONTENT_TYPE})


def make_app(answers: Answers) -> Starlette:
    """Make the application; `safety.Guard` goes around it."""
    handlers: dict[Any, Any] = {
        InputError: _on_fault,
        HTTPException: _on_http,
        Exception: _on_error,
    }
    return Starlette(routes=answers.routes(), exception_handlers=handlers)


async def _on_fault(request: Request, error: InputError) -> Response:
    return fault_answer(error if isinstance(error, RequestError) else RequestError(str(error)))


async def _on_http(request: Request, error: HTTPException) -> Response:
    answer = fault_answer(
        RequestError(_HTTP.get(error.status_code, error.detail), status=error.status_code)
    )
    answer.headers.update(error.headers or {})
    return answer


_HTTP = {
    404: "there is nothing at this path; /api/openapi.json lists what there is",
    405: "the path takes another method; /api/openapi.json says which",
}


async def _on_error(request: Request, error: Exception) -> Response:
    _log.error("%s failed", request.url.path, exc_info=error)
    return fault_answer(RequestError("the server failed; its terminal says more", status=500))


def _hit(hit: Hit) -> dict[str, Any]:
    others = [
        {name: part for name, part in shown(row).items() if name in ("key", "label", "path")}
        for row in hit.others
    ]
    return {**shown(hit.row), "score": hit.score, "folded": others}


def _votes(hits: Sequence[Hit]) -> list[dict[str, Any]]:
    """Count the labels of hits, the most frequent first."""
    counts = Counter(label for hit in hits for label in labels_of(hit.row))
    return [
        {"label": label, "share": count / len(hits), "hits": count}
        for label, count in counts.most_common()
    ]


def _seconds(found: Answered) -> dict[str, float]:
    return {"embedding": found.embedding, "search": found.search}


def _page_files() -> dict[str, tuple[bytes, str]]:
    """Read the page's files; nothing but these is served."""
    folder = resources.files("vision_jax.serve") / "page"
    if not folder.is_dir():
        return {}
    return {
        file.name: (file.read_bytes(), _PAGE_TYPES[suffix])
        for file in folder.iterdir()
        if (suffix := "." + file.name.rpartition(".")[2]) in _PAGE_TYPES
    }
