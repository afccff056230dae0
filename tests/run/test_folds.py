"""Cross-validation on digits: a table of what `evaluate` measures in each run."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from vision_jax.cli import main
from vision_jax.data.catalog import open_data
from vision_jax.errors import InputError
from vision_jax.run.folds import train_folds
from vision_jax.run.run import load_run


@pytest.mark.slow
def test_folds_are_runs_whose_metrics_are_averaged(config, tmp_path, capsys):
    config = replace(config, epochs=2)
    stops = iter([False] * 30 + [True] * 3 + [False] * 10**6)
    arguments = config, tmp_path / "cv", 3
    assert train_folds(*arguments, should_stop=lambda: next(stops), progress=False) is None
    assert not (tmp_path / "cv" / "folds.json").exists()
    spreads = train_folds(*arguments, progress=False)
    runs = [load_run(tmp_path / "cv" / f"fold_{i}") for i in (1, 2, 3)]
    values = [run.evaluate()["accuracy"] for run in runs]
    truth = [run.source("test").labels() for run in runs]
    shares = [
        (run.predict(run.source("test")).argmax(1) == labels).mean()
        for run, labels in zip(runs, truth, strict=True)
    ]
    np.testing.assert_allclose(values, shares)
    accuracy = spreads["accuracy"]
    assert accuracy.values == tuple(values)
    assert accuracy.mean == pytest.approx(np.mean(values))
    assert accuracy.deviation == pytest.approx(np.std(values, ddof=1))
    written = json.loads((tmp_path / "cv" / "folds.json").read_text())
    assert written["metrics"]["accuracy"]["mean"] == accuracy.mean
    assert sum(map(len, truth)) == 1437
    assert accuracy.mean > 0.3  # 0.1 by chance


def test_other_data_than_a_folds_is_not_divided(workdir, digits, tmp_path):
    run = load_run(workdir)
    splits = {"train_split": "train", "validation_split": "validation", "test_split": "test"}
    data = replace(run.config.data, fold=(1, 3), **splits)
    config, info = replace(run.config, data=data), replace(run.info, train_examples=862)
    own = replace(run, config=config, info=info, told=True)
    assert (len(own.source()), len(own.source("train"))) == (479, 862)
    for count in (1, 10):
        for place in np.concatenate([np.flatnonzero(digits[1] == k)[:count] for k in range(2)]):
            path = tmp_path / str(count) / str(digits[1][place]) / f"{place}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(digits[0][place, ..., 0]).save(path)
        data = replace(config.data, name=str(tmp_path / str(count)))
        other = replace(own, config=replace(config, data=data))
        assert len(other.source("all")) == 2 * count
        assert other.splits == open_data(data.name).plan()[0]


def test_what_cannot_be_divided_is_one_line_and_writes_nothing(config, workdir, tmp_path, capsys):
    folder = tmp_path / "cv"
    words = ["train", "cnn", "--workdir", str(folder), "--data.data-dir", config.data.data_dir]
    for more, message in [
        (["--folds", "1"], "--folds is 1; it must be at least 2"),
        (["--folds", "999"], "--folds is 999; it must be at most 1"),
        (["--folds", "3", "--data.fold", "1", "3"], "--data.fold is (1, 3); it must be None"),
        (["--folds", "3", "--profile", "1:2"], "--profile is '1:2'; None is needed with folds"),
        (["--data.fold", "4", "3"], "--data.fold is (4, 3)"),
        (["--data.fold", "1", "3", "--data.test-split", "all"], "--data.test-split is 'all'"),
    ]:
        assert main([*words, *more]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
        assert not folder.exists()
    with pytest.raises(InputError, match="holds a run; folds need a folder of their own"):
        train_folds(config, workdir, 3)
