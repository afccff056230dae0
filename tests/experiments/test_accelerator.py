"""The benchmark of an accelerator, where only JAX, Flax, optax and orbax are installed."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "experiments/benchmarks/accelerator.py"
ABSENT = """
import runpy, sys

class Refuse:
    absent = set(
        "grain tensorflow_datasets tensorflow tyro cattrs array_record tensorboardX beartype "
        "importlib_resources pyspng".split()
    )

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refuse())
"""


def run_without_packages(code, *arguments):
    command = [sys.executable, "-c", ABSENT + code, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)


def test_public_names_without_data_and_command_line_packages():
    code = """
import vision_jax
for name in vision_jax.__all__:
    getattr(vision_jax, name)
import vision_jax.data.loader, vision_jax.models, vision_jax.training.loop, vision_jax.augment
for family in ("classification", "reconstruction", "adversarial", "metric_learning"):
    __import__(f"vision_jax.tasks.{family}")
print("all there")
"""
    said = run_without_packages(code)
    assert said.stdout == "all there\n", said.stderr


def test_what_time_or_memory_leave_out_is_listed_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(SCRIPT.parent)
    clock = importlib.import_module("on_device.clock")

    def too_large():
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    def measure(section):
        section.attempt("large", too_large)
        section.attempt("long", list, needed=1e6)
        section.rows.append({"seconds": 1.0})

    report = clock.Report({}, tmp_path / "figures.json")
    report.run("first", 60.0, measure)
    report.run("second", 0.0, measure)  # its time is over
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert [part["status"] for part in figures["sections"].values()] == ["done", "skipped"]
    assert [(one["section"], one["what"]) for one in figures["left_out"]] == [
        ("first", "large"),
        ("first", "long"),
        ("second", "everything"),
    ]
    memory, time, over = (one["why"] for one in figures["left_out"])
    assert "memory" in memory
    assert "it takes about 1000000 s" in time
    assert over == "0 s of 0 s are left"


@pytest.mark.slow
def test_tiny_run_measures_every_section(tmp_path):
    out = tmp_path / "figures.json"
    code = f"""
sys.argv[0] = {str(SCRIPT)!r}
sys.path.insert(0, {str(SCRIPT.parent)!r})
runpy.run_path({str(SCRIPT)!r}, run_name="__main__")
"""
    said = run_without_packages(code, "--tiny", "--out", str(out))
    assert said.returncode == 0, said.stdout + said.stderr
    figures = json.loads(out.read_text())
    sections = figures["sections"]
    assert {part["status"] for part in sections.values()} == {"done"}, said.stderr
    assert all(part["rows"] for part in sections.values())
    assert all(row["passed"] for row in sections["correctness"]["rows"])
    rows = [row for part in sections.values() for row in part["rows"]]
    assert all(row["seconds"] > 0 for row in rows if "check" not in row)
    assert figures["left_out"] == []
    assert figures["device"]
    assert figures["versions"]["jax"]
    assert "## search-1m: done" in said.stdout
