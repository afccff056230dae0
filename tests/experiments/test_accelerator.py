"""The benchmark of an accelerator, where only JAX, Flax, optax and orbax are installed."""

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
    assert figures["device"]
    assert figures["versions"]["jax"]
    assert "## search-1m: done" in said.stdout
