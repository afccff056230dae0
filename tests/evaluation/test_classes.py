import numpy as np
import pytest
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

from vision_jax.data.sources import Subset
from vision_jax.evaluation import classes
from vision_jax.evaluation.classes import measure_classes
from vision_jax.run.run import load_run


@pytest.mark.parametrize("held", [1 << 20, 0])
def test_metrics_of_a_run_are_those_of_scikit_learn(workdir, monkeypatch, held):
    monkeypatch.setattr(classes, "_HELD", held)  # 0: the images are classified twice
    run = load_run(workdir)
    whole = run.source("test")
    chosen = np.flatnonzero(whole.labels() != 4)[:300]  # a class without images, a part of a batch
    source = Subset.of(whole, chosen.tolist())
    confusion = run.evaluate(source)["confusion"]
    metrics = measure_classes(run, source, confusion)
    probabilities, labels = run.predict(source), source.labels()
    assert metrics["log_loss"] == pytest.approx(
        log_loss(labels, probabilities, labels=np.arange(10)), rel=1e-5
    )
    precisions, areas = [], []
    for kind in set(range(10)) - {4}:
        scores = metrics["classes"][str(kind)]
        truth, column = labels == kind, probabilities[:, kind]
        assert scores["images"] == truth.sum()
        precisions.append(average_precision_score(truth, column))
        areas.append(roc_auc_score(truth, column))
        assert scores["average_precision"] == pytest.approx(precisions[-1], abs=1e-4)
        assert scores["roc_auc"] == pytest.approx(areas[-1], abs=1e-4)
    assert metrics["mean_average_precision"] == pytest.approx(np.mean(precisions), abs=1e-4)
    assert metrics["mean_roc_auc"] == pytest.approx(np.mean(areas), abs=1e-4)
    assert np.isnan([metrics["classes"]["4"][name] for name in ("recall", "roc_auc")]).all()
    assert metrics["reliability"]["images"].sum() == 300
