"""Cosine search on the device: similarity, exact top-k, an index with ids, retrieval metrics.

Names are imported when first used, so that what asks only for the names of the search methods does
not load JAX.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vision_jax.search.duplicates import near_duplicates
    from vision_jax.search.evaluation import (
        average_precision,
        average_precision_at_r,
        evaluate_retrieval,
        hit_rate_at_k,
        knn_accuracy,
        precision_at_k,
        r_precision,
        recall_at_k,
        reciprocal_rank,
        retrieval_values,
    )
    from vision_jax.search.expansion import augment_database, expand_queries
    from vision_jax.search.index import CosineIndex
    from vision_jax.search.index_file import IndexFileError
    from vision_jax.search.inverted_file import InvertedFile
    from vision_jax.search.methods import METHODS
    from vision_jax.search.protocol import Index
    from vision_jax.search.similarity import cosine_similarity, cosine_top_k
    from vision_jax.search.streaming import streamed_top_k

__all__ = [
    "METHODS",
    "CosineIndex",
    "Index",
    "IndexFileError",
    "InvertedFile",
    "augment_database",
    "average_precision",
    "average_precision_at_r",
    "cosine_similarity",
    "cosine_top_k",
    "evaluate_retrieval",
    "expand_queries",
    "hit_rate_at_k",
    "knn_accuracy",
    "near_duplicates",
    "precision_at_k",
    "r_precision",
    "recall_at_k",
    "reciprocal_rank",
    "retrieval_values",
    "streamed_top_k",
]

_HOMES = {
    "METHODS": "methods",
    "CosineIndex": "index",
    "Index": "protocol",
    "IndexFileError": "index_file",
    "InvertedFile": "inverted_file",
    "augment_database": "expansion",
    "cosine_similarity": "similarity",
    "cosine_top_k": "similarity",
    "expand_queries": "expansion",
    "near_duplicates": "duplicates",
    "streamed_top_k": "streaming",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES.get(name, 'evaluation')}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
