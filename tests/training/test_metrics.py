import json
import math
import struct
from contextlib import closing

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from vision_jax.errors import DataWarning
from vision_jax.training.metrics import (
    FILE,
    MetricsLog,
    compute,
    read_metrics,
)


def test_totals_become_means_and_counts_stay():
    metrics = compute({"loss": (np.float32(3), np.float32(4)), "confusion": np.eye(2, dtype=int)})
    assert metrics["loss"] == 0.75
    np.testing.assert_array_equal(metrics["confusion"], np.eye(2))
    assert math.isnan(compute({"loss": (np.float32(0), np.float32(0))})["loss"])


def test_rows_are_written_and_later_ones_removed_on_resume(tmp_path):
    with closing(MetricsLog(tmp_path)) as log:
        for step in (10, 20, 30):
            row = {"step": step, "epoch": step // 10, "train/loss": 1 / step}
            log(row, {"images_per_second": 5.0})
    before = (tmp_path / FILE).read_bytes()
    with closing(MetricsLog(tmp_path, step=30)):
        assert (tmp_path / FILE).read_bytes() == before
    with closing(MetricsLog(tmp_path, step=20)) as log:
        log({"step": 30, "epoch": 3, "train/loss": 7.0})
    rows = read_metrics(tmp_path)
    assert [row["step"] for row in rows] == [10, 20, 30]
    assert rows[2]["train/loss"] == 7.0
    assert "images_per_second" not in rows[0]


def test_a_line_cut_short_by_a_crash_is_left_out(tmp_path):
    row = {"step": 1, "epoch": 1}
    (tmp_path / FILE).write_text(json.dumps(row) + "\n" + '{"step": 2, "epo')
    assert read_metrics(tmp_path) == [row]
    with closing(MetricsLog(tmp_path, step=2)):
        assert (tmp_path / FILE).read_text() == json.dumps(row) + "\n"
    assert not (tmp_path / "damaged").exists()
    assert read_metrics(tmp_path / "gone") == []


ROWS = [{"step": 10 * i, "epoch": i, "train/loss": 1 / i} for i in range(1, 11)]
DAMAGE = {
    "not JSON": lambda line: line.replace(b":", b";", 1),
    "not UTF-8": lambda line: line[:9] + bytes([line[9] | 0x80]) + line[10:],
    "cut short": lambda line: line[:-5],
    "two rows": lambda line: line + line,
    "a number": lambda line: b"10",
    "null": lambda line: b"null",
    "a list": lambda line: b"[" + line + b"]",
    "no step": lambda line: line.replace(b"step", b"stem"),
    "no epoch": lambda line: line.replace(b"epoch", b"epnch"),
    "a step of another type": lambda line: line.replace(b"20", b"true"),
    "text for a number": lambda line: line.replace(b"0.5", b'"0.5"'),
    "too deep": lambda line: b"[" * 100_000,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_line_costs_its_row_alone(tmp_path, damage):
    lines = [json.dumps(row).encode() for row in ROWS]
    lines[1] = DAMAGE[damage](lines[1])
    path, kept = tmp_path / FILE, [ROWS[0], *ROWS[2:]]
    path.write_bytes(b"\n".join(lines) + b"\n")
    before = path.read_bytes()
    with pytest.warns(DataWarning, match=rf"{FILE}: line 2 is damaged and skipped$"):
        assert read_metrics(tmp_path) == kept
    assert path.read_bytes() == before
    with (
        pytest.warns(DataWarning, match="line 2 is damaged and skipped; .*/damaged/"),
        closing(MetricsLog(tmp_path, step=100)) as log,
    ):
        log({"step": 110, "epoch": 11})
    assert read_metrics(tmp_path) == [*kept, {"step": 110, "epoch": 11}]
    assert (tmp_path / "damaged" / FILE).read_bytes() == before


def test_many_damaged_lines_are_one_warning(tmp_path):
    (tmp_path / FILE).write_bytes(b"\x00\n" * 7)
    with pytest.warns(DataWarning, match="lines 1, 2, 3, 4, 5 and 2 more are damaged") as caught:
        assert read_metrics(tmp_path) == []
    assert len(caught) == 1


def test_nan_and_infinity_are_written_as_valid_json(tmp_path):
    with closing(MetricsLog(tmp_path)) as log:
        log({"step": 1, "epoch": 1, "a": math.nan, "b": -math.inf, "c": 0.5})

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    text = (tmp_path / FILE).read_text()
    assert json.loads(text, parse_constant=refuse)["c"] == 0.5
    (row,) = read_metrics(tmp_path)
    assert math.isnan(row["a"])
    assert math.isnan(row["b"])
    (tmp_path / FILE).write_text('{"step": 1, "epoch": 1, "a": NaN}\n')  # of an earlier version
    assert math.isnan(read_metrics(tmp_path)[0]["a"])


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


def test_tensorboard_gets_metrics_and_speeds(tmp_path):
    with closing(MetricsLog(tmp_path)) as log:
        log({"step": 10, "epoch": 1, "train/loss": 0.5}, {"images_per_second": 5.0})
    scalars = read_scalars(tmp_path)
    assert scalars[("train/loss", 10)] == pytest.approx(0.5)
    assert scalars[("images_per_second", 10)] == pytest.approx(5.0)
