"""Cosine search on device: similarity, exact top-k, an index with ids, and retrieval metrics."""

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
from vision_jax.search.index import CosineIndex
from vision_jax.search.similarity import cosine_similarity, cosine_top_k

__all__ = [
    "CosineIndex",
    "average_precision",
    "average_precision_at_r",
    "cosine_similarity",
    "cosine_top_k",
    "evaluate_retrieval",
    "hit_rate_at_k",
    "knn_accuracy",
    "precision_at_k",
    "r_precision",
    "recall_at_k",
    "reciprocal_rank",
]
