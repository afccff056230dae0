import json
import shutil

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from vision_jax.cli import main
from vision_jax.errors import DataWarning, InputError
from vision_jax.evaluation.calibration import calibrate, fit_temperature
from vision_jax.evaluation.data import EvaluationData
from vision_jax.evaluation.measure import measure
from vision_jax.reports.run import write_report
from vision_jax.run.run import load_run


@pytest.fixture
def copy(workdir, tmp_path):
    """A copy of the run's folder, which may be written to."""
    shutil.copytree(workdir, tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
def test_the_temperature_has_the_lowest_log_loss(scale):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 400)
    logits = (scale * (rng.normal(size=(400, 5)) + 1.5 * np.eye(5)[labels])).astype(np.float32)

    def loss(temperature):
        return -log_softmax(logits / temperature, axis=1)[np.arange(400), labels].mean()

    expected = minimize_scalar(loss, bounds=(0.05, 20), method="bounded", options={"xatol": 1e-6})
    assert fit_temperature(logits, labels) == pytest.approx(expected.x, rel=1e-3)


def test_images_that_tell_of_no_temperature_are_refused():
    logits = 5 * np.eye(4, dtype=np.float32)
    with pytest.raises(InputError, match="images with some mistakes are needed"):
        fit_temperature(logits, np.arange(4))
    with pytest.raises(InputError, match="no better than by chance"):
        fit_temperature(logits, np.roll(np.arange(4), 1))
    logits[1, 2], logits[3] = np.nan, -np.inf
    with pytest.raises(InputError, match=r"logits has 2 of 4 rows with NaN .* first at \[1, 3\]"):
        fit_temperature(logits, np.arange(4))


def test_a_stored_temperature_changes_probabilities_alone(copy, capsys):
    before = load_run(copy)
    test = before.source("test")
    logits, plain = before.logits(test), before.predict(test)
    assert before.temperature == 1
    assert main(["calibrate", str(copy)]) == 0
    printed = capsys.readouterr().out
    stored = json.loads((copy / "calibration.json").read_text())
    assert f"temperature {stored['temperature']:.4g}" in printed
    assert stored["split"] == before.splits.validation
    assert stored["after"]["log_loss"] < stored["before"]["log_loss"]
    run = load_run(copy)
    assert run.temperature == stored["temperature"]
    scaled = run.predict(test)
    np.testing.assert_allclose(scaled, np.exp(log_softmax(logits / run.temperature, 1)), atol=1e-5)
    np.testing.assert_array_equal(scaled.argmax(1), plain.argmax(1))
    np.testing.assert_array_equal(run.embed(test), before.embed(test))
    assert run.identity == before.identity


@pytest.mark.slow
def test_evaluation_and_report_show_both(copy, capsys):
    calibrate(load_run(copy))
    assert main(["evaluate", str(copy)]) == 0
    printed = capsys.readouterr().out
    assert "uncalibrated  calibrated" in printed
    data = EvaluationData.of(load_run(copy))
    metrics = measure(data)
    assert metrics["temperature"] == data.run.temperature
    assert metrics["log_loss"] != metrics["uncalibrated"]["log_loss"]
    assert "notes" not in metrics
    page = write_report(data, metrics=metrics).read_text()
    assert page.count('alt="reliability diagram"') == page.count('alt="without the temp') == 1
    fitted = EvaluationData.of(data.run, data.run.splits.validation)
    assert "was fitted on these images" in measure(fitted)["notes"][0]


def test_a_temperature_of_other_weights_is_not_used(copy, monkeypatch):
    calibrate(load_run(copy))
    path = copy / "calibration.json"
    stored = json.loads(path.read_text())
    path.write_text(json.dumps(stored | {"step": 7}))
    with pytest.warns(DataWarning, match="fitted to the weights of step 7; .* not calibrated"):
        assert load_run(copy).temperature == 1
    path.write_text(json.dumps(stored | {"identity": "0"}))
    with pytest.warns(DataWarning, match="not calibrated"):
        assert load_run(copy).temperature == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[:20], "calibration.json is damaged"),
        (lambda text: "[]", "calibration.json is damaged"),
        (lambda text: text.replace('"step"', '"stem"'), "calibration.json is damaged"),
        (lambda text: text.replace('"temperature": ', '"temperature": -'), "has temperature -"),
    ],
)
def test_a_damaged_calibration_is_one_line_and_code_2(copy, capsys, change, message):
    calibrate(load_run(copy))
    path = copy / "calibration.json"
    path.write_text(change(path.read_text()))
    assert main(["evaluate", str(copy)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
