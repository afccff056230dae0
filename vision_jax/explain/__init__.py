"""Explanations: where a network looks, why two images match, and whether maps can be trusted."""
