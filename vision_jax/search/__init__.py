"""Cosine search on the device: similarity, exact top-k, an index with ids, retrieval metrics.

Names are imported when first used, so that what asks only for the names of the search methods does
not load JAX.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vision_jax.search.diversity import maximal_marginal_relevance
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
    from vision_jax.search.examples import combine_examples
    from vision_jax.search.expansion import augment_database, expand_queries
    from vision_jax.search.folding import NearGroups
    from vision_jax.search.index import CosineIndex
    from vision_jax.search.index_file import IndexFileError
    from vision_jax.search.inverted_file import InvertedFile
    from vision_jax.search.methods import METHODS
    from vision_jax.search.protocol import Index
    from vision_jax.search.scores import ScoreCurve, score_curve
    from vision_jax.search.similarity import cosine_similarity, cosine_top_k
    from vision_jax.search.streaming import streamed_top_k

__all__ = [
    "METHODS",
    "CosineIndex",
    "Index",
    "IndexFileError",
    "InvertedFile",
    "NearGroups",
    "ScoreCurve",
    "augment_database",
    "average_precision",
    "average_precision_at_r",
    "combine_examples",
    "cosine_similarity",
    "cosine_top_k",
    "evaluate_retrieval",
    "expand_queries",
    "hit_rate_at_k",
    "knn_accuracy",
    "maximal_marginal_relevance",
    "near_duplicates",
    "precision_at_k",
    "r_precision",
    "recall_at_k",
    "reciprocal_rank",
    "retrieval_values",
    "score_curve",
    "streamed_top_k",
]

_HOMES = {
    "METHODS": "methods",
    "CosineIndex": "index",
    "Index": "protocol",
    "IndexFileError": "index_file",
    "InvertedFile": "inverted_file",
    "NearGroups": "folding",
    "ScoreCurve": "scores",
    "augment_database": "expansion",
    "combine_examples": "examples",
    "cosine_similarity": "similarity",
    "cosine_top_k": "similarity",
    "expand_queries": "expansion",
    "maximal_marginal_relevance": "diversity",
    "near_duplicates": "duplicates",
    "score_curve": "scores",
    "streamed_top_k": "streaming",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES.get(name, 'evaluation')}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
