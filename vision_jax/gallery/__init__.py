"""Galleries: an index together with the images it is of."""

from vision_jax.gallery.hits import Hit, as_found, find_hits, search_examples
from vision_jax.gallery.indexing import IndexChange, build_index, update_index
from vision_jax.gallery.lookup import (
    find_duplicates,
    find_keys,
    load_index,
    read_indexed,
    search_images,
    search_indexed,
    select_ids,
)
from vision_jax.gallery.merging import merge_indexes
from vision_jax.gallery.queries import (
    Queries,
    example_query,
    has_keys,
    image_queries,
    key_queries,
    region_query,
)
from vision_jax.gallery.regions import embed_region, file_mask, search_region
from vision_jax.gallery.writing import write_index

__all__ = [
    "Hit",
    "IndexChange",
    "Queries",
    "as_found",
    "build_index",
    "embed_region",
    "example_query",
    "file_mask",
    "find_duplicates",
    "find_hits",
    "find_keys",
    "has_keys",
    "image_queries",
    "key_queries",
    "load_index",
    "merge_indexes",
    "read_indexed",
    "region_query",
    "search_examples",
    "search_images",
    "search_indexed",
    "search_region",
    "select_ids",
    "update_index",
    "write_index",
]
