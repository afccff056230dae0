"""A search server: a page for browsers, and the JSON API under it."""
