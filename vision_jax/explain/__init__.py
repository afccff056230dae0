"""Explanations: where a network looks, why two images match, and whether maps can be trusted."""

from vision_jax.explain.similarity import RegionPair, SimilarityMap, similarity_map

__all__ = ["RegionPair", "SimilarityMap", "similarity_map"]
