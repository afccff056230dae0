"""The examples in the docstrings of the names that `import vision_jax` offers."""

import doctest

import pytest

import vision_jax


@pytest.fixture
def place(tmp_path, monkeypatch, data_dir, workdir):
    """A folder as one is after `vision-jax quickstart`, with prepared digits."""
    (tmp_path / "runs" / "quickstart").mkdir(parents=True)
    (tmp_path / "runs" / "quickstart" / "cnn").symlink_to(workdir)
    monkeypatch.setenv("TFDS_DATA_DIR", str(data_dir))
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("name", vision_jax.__all__)
def test_every_public_name_has_an_example_that_runs(name):
    thing = getattr(vision_jax, name)
    examples = doctest.DocTestFinder(recurse=False).find(thing, name, globs={})
    assert any(test.examples for test in examples)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for test in examples:
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0
