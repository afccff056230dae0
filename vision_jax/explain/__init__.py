"""Explanations: where a network looks, why two images match, and whether maps can be trusted."""

from vision_jax.explain.maps import saliency, target_scores
from vision_jax.explain.methods import METHODS
from vision_jax.explain.similarity import RegionPair, SimilarityMap, similarity_map
from vision_jax.explain.targets import Class, Cosine, Difference, Neuron, Target

__all__ = [
    "METHODS",
    "Class",
    "Cosine",
    "Difference",
    "Neuron",
    "RegionPair",
    "SimilarityMap",
    "Target",
    "saliency",
    "similarity_map",
    "target_scores",
]
