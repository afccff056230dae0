"""The examples in the docstrings of search."""

import doctest
import importlib

import pytest

from vision_jax import search


@pytest.mark.parametrize("name", ["CosineIndex", "Index", "cosine_similarity", "cosine_top_k"])
def test_an_example_runs(name):
    module = importlib.import_module(getattr(search, name).__module__)
    examples = doctest.DocTestFinder(recurse=False).find(getattr(search, name), name, module)
    assert any(test.examples for test in examples)
    runner = doctest.DocTestRunner()
    for test in examples:
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0
