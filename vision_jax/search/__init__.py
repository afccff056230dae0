"""Cosine search on device."""
