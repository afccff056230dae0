"""Cosine search on device: similarity, exact top-k, an index with ids, and retrieval metrics."""

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
)
from vision_jax.search.expansion import augment_database, expand_queries
from vision_jax.search.index import CosineIndex
from vision_jax.search.index_file import IndexFileError
from vision_jax.search.inverted_file import InvertedFile
from vision_jax.search.similarity import cosine_similarity, cosine_top_k
from vision_jax.search.streaming import streamed_top_k

__all__ = [
    "CosineIndex",
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
    "streamed_top_k",
]
