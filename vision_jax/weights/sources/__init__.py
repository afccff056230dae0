"""Mappings from other libraries' tensors: a file for each of `vision_jax.models`.

Each has `mappings(name)`, which returns a `SourceMapping` per library for a model's name. Where
libraries name their tensors alike, the first is taken for a file of which no more is known.
"""
