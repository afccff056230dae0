import json
import math
import struct
from contextlib import closing

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from vision_jax.training.metrics import MetricsLog, compute, per_class_accuracy, read_metrics


def test_totals_become_means_and_counts_stay():
    figures = compute({"loss": (np.float32(3), np.float32(4)), "confusion": np.eye(2)})
    assert figures["loss"] == 0.75
    np.testing.assert_array_equal(figures["confusion"], np.eye(2))
    assert math.isnan(compute({"loss": (np.float32(0), np.float32(0))})["loss"])


def test_per_class_accuracy_is_the_recall_of_each_class():
    shares = per_class_accuracy(np.array([[3, 1, 0], [0, 2, 0], [0, 0, 0]]))
    np.testing.assert_array_equal(shares, [0.75, 1.0, np.nan])


def test_rows_are_written_and_later_ones_removed_on_resume(tmp_path):
    with closing(MetricsLog(tmp_path)) as log:
        for step in (10, 20, 30):
            log({"step": step, "train/loss": 1 / step}, {"images_per_second": 5.0})
    with closing(MetricsLog(tmp_path, step=20)) as log:
        log({"step": 30, "train/loss": 7.0})
    rows = read_metrics(tmp_path)
    assert [row["step"] for row in rows] == [10, 20, 30]
    assert rows[2]["train/loss"] == 7.0
    assert "images_per_second" not in rows[0]


def test_a_line_cut_short_by_a_crash_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps({"step": 1}) + "\n" + '{"step": 2, "tra')
    assert read_metrics(tmp_path) == [{"step": 1}]
    assert read_metrics(tmp_path / "gone") == []


def read_scalars(folder):
    """Scalars by (tag, step) from the records of an event file: length, CRC, event, CRC."""
    (path,) = folder.glob("events.out.tfevents.*")
    data, scalars = path.read_bytes(), {}
    while data:
        (length,) = struct.unpack_from("<Q", data)
        event = Event.FromString(data[12 : 12 + length])
        for value in event.summary.value:
            scalars[value.tag, event.step] = value.simple_value
        data = data[16 + length :]
    return scalars


def test_tensorboard_gets_figures_and_speeds(tmp_path):
    with closing(MetricsLog(tmp_path)) as log:
        log({"step": 10, "train/loss": 0.5}, {"images_per_second": 5.0})
    scalars = read_scalars(tmp_path)
    assert scalars[("train/loss", 10)] == pytest.approx(0.5)
    assert scalars[("images_per_second", 10)] == pytest.approx(5.0)
