"""Galleries: an index together with the images it is of."""

from vision_jax.gallery.indexing import IndexChange, build_index, update_index, write_index
from vision_jax.gallery.lookup import (
    find_duplicates,
    find_keys,
    load_index,
    read_indexed,
    search_images,
    search_indexed,
    select_ids,
)
from vision_jax.gallery.regions import embed_region, file_mask, search_region

__all__ = [
    "IndexChange",
    "build_index",
    "embed_region",
    "file_mask",
    "find_duplicates",
    "find_keys",
    "load_index",
    "read_indexed",
    "search_images",
    "search_indexed",
    "search_region",
    "select_ids",
    "update_index",
    "write_index",
]
