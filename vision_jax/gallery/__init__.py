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

__all__ = [
    "IndexChange",
    "build_index",
    "find_duplicates",
    "find_keys",
    "load_index",
    "read_indexed",
    "search_images",
    "search_indexed",
    "select_ids",
    "update_index",
    "write_index",
]
