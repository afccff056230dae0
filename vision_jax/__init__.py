"""Image search and recognition in JAX."""
