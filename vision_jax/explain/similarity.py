"""Why two images match: their cosine, divided among pairs of positions.

Stylianou et al., "Visualizing deep similarity networks", 2019.
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from vision_jax.data.boxes import Box, BoxLike, region_weights
from vision_jax.data.sources import Source
from vision_jax.errors import InputError
from vision_jax.run.parts import EmbeddingParts, Method, embedding_parts
from vision_jax.run.run import Run

Parts = Float[np.ndarray, "pairs h w dim"]
Maps = Float[np.ndarray, "pairs h w"]
Mask = Float[np.ndarray, "height width"]


class RegionPair(NamedTuple):
    """A region of the query and one of the match, and what the two add to the cosine.

    Attributes:
        contribution: the sum over the pairs of positions between the regions.
        query_box: (x0, y0, x1, y1) of the query's region, in pixels of what the network sees.
        match_box: likewise, of the match's.
    """

    contribution: float
    query_box: Box
    match_box: Box


@dataclasses.dataclass(frozen=True, eq=False)
class SimilarityMap:
    """The cosines of pairs of images, divided among pairs of positions.

    Positions are those of the feature map, h rows and w columns over the image that the network
    sees. What belongs to no position, a bias or the error of an approximation, is spread evenly
    over all.

    Attributes:
        cosine: (N,) of the pairs' embeddings.
        query_parts: (N, h, w, D) what each position of the queries adds to their embeddings of
            length 1.
        match_parts: (N, h', w', D) likewise, of the matches.
        method: how embeddings are divided, see `run.parts.EmbeddingParts`; "average" and "linear"
            are exact.
        unplaced: (N,) what of the cosine belongs to no pair of positions; 0 for an average.
        image_size: (height, width) of the images.
    """

    cosine: Float[np.ndarray, " pairs"]
    query_parts: Parts
    match_parts: Parts
    method: Method
    unplaced: Float[np.ndarray, " pairs"]
    image_size: tuple[int, int]

    @property
    def exact(self) -> bool:
        """Whether the maps are the cosine's own terms, and no approximation."""
        return self.method != "removal"

    @property
    def query_map(self) -> Maps:
        """(N, h, w) what each position of the query adds to the cosine, which is their sum."""
        return _product("nhwd,nd->nhw", self.query_parts, self.match_parts.sum((1, 2), np.float64))

    @property
    def match_map(self) -> Maps:
        """(N, h', w') what each position of the match adds to the cosine, which is their sum."""
        return _product("nhwd,nd->nhw", self.match_parts, self.query_parts.sum((1, 2), np.float64))

    @property
    def pairs(self) -> Float[np.ndarray, "pairs h w match_h match_w"]:
        """(N, h, w, h', w') what each pair of positions adds to the cosine, which is their sum."""
        return _product("nhwd,nijd->nhwij", self.query_parts, self.match_parts)

    @property
    def query_image_map(self) -> Float[np.ndarray, "pairs height width"]:
        """(N, H, W) the query's map in the image's resolution, interpolated, of the same sum."""
        return enlarged(self.query_map, self.image_size)

    @property
    def match_image_map(self) -> Float[np.ndarray, "pairs height width"]:
        """(N, H, W) the match's map in the image's resolution, interpolated, of the same sum."""
        return enlarged(self.match_map, self.image_size)

    def strongest(self, count: int = 5, *, side: int | None = None) -> list[list[RegionPair]]:
        """Find the pairs of regions that add most to each cosine.

        No two regions of an image overlap, so contributions can be added up.

        Args:
            count: how many pairs at most; those that add nothing are left out.
            side: of a region, in positions; a quarter of the map's shorter side by default.

        Returns:
            For each pair of images its pairs of regions, the strongest first.

        Raises:
            InputError: `count` is below 1, or a region is larger than a map.
        """
        grids = self.query_parts.shape[1:3], self.match_parts.shape[1:3]
        shortest = min(min(grid) for grid in grids)
        side = max(1, round(shortest / 4)) if side is None else side
        if not 1 <= side <= shortest or count < 1:
            raise InputError(
                f"count is {count} and side {side}; count must be at least 1, and side in "
                f"[1, {shortest}]"
            )
        return [
            _strongest(query, match, count, side, self.image_size)
            for query, match in zip(self.query_parts, self.match_parts, strict=True)
        ]


def similarity_map(
    run: Run, query: Any, match: Any, *, box: BoxLike | Mask | None = None
) -> SimilarityMap:
    """Explain the cosines of pairs of images by their positions.

    Where the embedding is the average of a feature map, or an affine function of one, the cosine is
    exactly a sum over pairs of positions. Otherwise, as behind dense layers or for a class token, a
    position's part is what the embedding loses without it: an approximation, with `exact` False.

    Args:
        run: a run whose network has a feature map.
        query: a source, (N, H, W, C) images of the run's shape, or one (H, W, C); see
            `data.arrays.as_pixels` for all that is taken.
        match: likewise. A single image, on either side, is compared with all of the other side's.
        box: (x0, y0, x1, y1) of the queries, in pixels of what the network sees or in fractions;
            only what is in it is compared, as by `gallery.search_region`. Or (H, W) weights in
            [0, 1], such as `gallery.file_mask` makes of a box on an image file.

    Returns:
        The maps of N pairs.

    Raises:
        InputError: the images have another shape than the run's or do not pair up, an embedding is
            zero, the box is empty or outside, or the network has no feature map; with a box, also
            if the embedding is no average.
    """
    queries, matches = (_parts(run, images) for images in (query, match))
    height, width, _ = run.info.image_shape
    if box is not None:
        queries = queries.within(region_weights(box, (width, height), queries.parts.shape[1:3]))
    count = _paired(len(queries.embedding), len(matches.embedding))
    asked, found = _unit(queries, count), _unit(matches, count)
    cosine = _product("nd,nd->n", asked.embedding, found.embedding)
    return SimilarityMap(
        cosine,
        asked.whole,
        found.whole,
        max(queries.method, matches.method, key=_CAUTION.index),
        cosine - _product("nd,nd->n", asked.placed, found.placed),
        (height, width),
    )


_CAUTION = ("average", "linear", "removal")


class _Unit(NamedTuple):
    """Embeddings of length 1, their parts, and the sum of what has a position."""

    embedding: Float[np.ndarray, "pairs dim"]
    whole: Parts
    placed: Float[np.ndarray, "pairs dim"]


def _parts(run: Run, images: Any) -> EmbeddingParts:
    is_one = not isinstance(images, Source) and np.ndim(images) == 3
    return embedding_parts(run, np.asarray(images)[None] if is_one else images)


def _paired(queries: int, matches: int) -> int:
    if queries != matches and 1 not in (queries, matches):
        raise InputError(
            f"there are {queries} queries and {matches} matches; as many, or a single one, are "
            "needed"
        )
    return max(queries, matches) if min(queries, matches) else 0


def _unit(parts: EmbeddingParts, count: int) -> _Unit:
    embedding = parts.embedding.astype(np.float64)
    lengths = np.linalg.norm(embedding, axis=-1)
    if not (np.isfinite(lengths) & (lengths > 0)).all():
        place = int(np.argmin(np.isfinite(lengths) & (lengths > 0)))
        raise InputError(
            f"the embedding of image {place} is zero, NaN or infinite; one with a direction is "
            "needed"
        )
    unit = embedding / lengths[:, None]
    whole = parts.whole() / lengths[:, None, None, None].astype(np.float32)
    placed = parts.parts.sum((1, 2), np.float64) / lengths[:, None]
    return _Unit(*(np.broadcast_to(x, (count, *x.shape[1:])) for x in (unit, whole, placed)))


def _product(subscripts: str, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.einsum(subscripts, first, second, dtype=np.float64, optimize=True)


def enlarged(
    maps: Float[np.ndarray, "images h w"], size: tuple[int, int]
) -> Float[np.ndarray, "images height width"]:
    """Interpolate maps bilinearly to a size, keeping the sum of each.

    Args:
        maps: (N, h, w).
        size: (height, width), no smaller than the maps.

    Returns:
        (N, height, width), each with the sum of its map.
    """
    rows, columns = (_interpolation(*lengths) for lengths in zip(maps.shape[1:], size, strict=True))
    return np.einsum("ih,nhw,jw->nij", rows, maps, columns, optimize=True)


def _interpolation(length: int, size: int) -> Float[np.ndarray, "size length"]:
    """Return what each of `length` cells gives to each of `size` pixels, 1 in all."""
    places = np.clip((np.arange(size) + 0.5) * length / size - 0.5, 0, length - 1)
    weights = np.clip(1 - np.abs(places[:, None] - np.arange(length)), 0, None)
    return weights / weights.sum(0)


def _strongest(
    query: np.ndarray, match: np.ndarray, count: int, side: int, image_size: tuple[int, int]
) -> list[RegionPair]:
    sums = [_window_sums(parts, side) for parts in (query, match)]
    scores = _product("hwd,ijd->hwij", *sums)
    free = np.ones(scores.shape, bool)
    pairs: list[RegionPair] = []
    while len(pairs) < count:
        best = int(np.argmax(np.where(free, scores, -np.inf)))
        row, column, other_row, other_column = map(int, np.unravel_index(best, scores.shape))
        score = float(scores[row, column, other_row, other_column])
        if not free.flat[best] or score <= 0:
            break
        boxes = (
            _window_box((row, column), side, query.shape[:2], image_size),
            _window_box((other_row, other_column), side, match.shape[:2], image_size),
        )
        pairs.append(RegionPair(score, *boxes))
        free[_overlapping((row, column), side, scores.shape[:2])] = False
        free[:, :, _overlapping((other_row, other_column), side, scores.shape[2:])] = False
    return pairs


def _window_sums(parts: np.ndarray, side: int) -> np.ndarray:
    windows = np.lib.stride_tricks.sliding_window_view(parts, (side, side), (0, 1))
    return windows.sum((-2, -1), np.float64)


def _window_box(
    corner: tuple[int, int], side: int, grid: tuple[int, ...], image_size: tuple[int, int]
) -> Box:
    (top, down), (left, across) = (
        (place * length / cells, side * length / cells)
        for place, length, cells in zip(corner, image_size, grid, strict=True)
    )
    return left, top, left + across, top + down


def _overlapping(
    corner: tuple[int, int], side: int, shape: tuple[int, ...]
) -> Bool[np.ndarray, "rows columns"]:
    rows, columns = (
        abs(np.arange(count) - place) < side for count, place in zip(shape, corner, strict=True)
    )
    return rows[:, None] & columns
