"""The recipes of CONTRIBUTING.md, followed to the letter on a copy of the package."""

import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RECIPES = dict(
    re.findall(
        r"^### Add an? ([\w ]+)\n(.*?)(?=^##|\Z)",
        (ROOT / "CONTRIBUTING.md").read_text(),
        re.DOTALL | re.MULTILINE,
    )
)
BLOCK = re.compile(
    r"^```python\n# (?P<file>vision_jax/\S+)\n(?P<code>.*?)^```"
    r"|`(?P<table>vision_jax/\S+\.py)`[^`]*?\n\n```diff\n(?P<diff>.*?)^```"
    r"|^```diff\n(?P<same>.*?)^```",
    re.DOTALL | re.MULTILINE,
)
# What each recipe may cost: new files, functions or classes in files that are there, and lines.
COSTS = {
    "model": {"file": 1, "line": 1},
    "source of weights": {"file": 1},
    "loss": {"file": 1},
    "task": {"file": 1, "piece": 1, "line": 1},
    "data set": {"file": 1, "line": 1},
    "augmentation": {"piece": 1, "line": 1},
    "search method": {"file": 1, "line": 1},
    "command": {"file": 1, "line": 1},
}


def follow(recipe, root):
    """Do what a recipe says to a copy of the package, and count what it touched."""
    touched, path = Counter(), None
    for block in BLOCK.finditer(recipe):
        path = root / (block["file"] or block["table"] or path)
        if block["code"] is None:
            path.write_text(changed(path.read_text(), block["diff"] or block["same"], touched))
        elif path.exists():
            text, mark = path.read_text(), "\n\nTASKS: dict"
            place = text.index(mark) if mark in text else len(text)
            path.write_text(f"{text[:place]}\n\n{block['code']}{text[place:]}")
            touched["piece"] += 1
        else:
            path.write_text(block["code"])
            touched["file"] += 1
    return touched


def changed(text, diff, touched):
    """Put a diff's new lines behind its line of context."""
    (context,) = (line[1:] for line in diff.splitlines() if line.startswith(" "))
    added = [line[1:] for line in diff.splitlines() if line.startswith("+")]
    assert text.count(f"\n{context}\n") == 1
    touched["line"] += len(added)
    return text.replace(f"\n{context}\n", "\n".join(["", context, *added, ""]))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A copy of the package with everything added."""
    root = tmp_path_factory.mktemp("extended")
    shutil.copytree(ROOT / "vision_jax", root / "vision_jax")
    for recipe in RECIPES.values():
        follow(recipe, root)
    return root


def run(root, *words):
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("thing", COSTS)
def test_a_recipe_touches_what_it_says_and_no_more(thing, tmp_path):
    shutil.copytree(ROOT / "vision_jax", tmp_path / "vision_jax")
    before = {path: path.read_text() for path in (tmp_path / "vision_jax").rglob("*.py")}
    assert RECIPES.keys() == COSTS.keys()
    assert follow(RECIPES[thing], tmp_path) == COSTS[thing]
    after = {path: path.read_text() for path in (tmp_path / "vision_jax").rglob("*.py")}
    touched = [path for path in after if before.get(path) != after[path]]
    assert len(touched) <= 2


def test_an_added_search_method_finds_what_the_exact_one_does(root):
    code = (
        "import numpy as np; from vision_jax.search import CosineIndex\n"
        "rows = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)\n"
        "index = CosineIndex(8); index.add(rows)\n"
        "a, b = (index.search(rows[:9], 3, method=m)[1] for m in ('exact', 'host'))\n"
        "assert (a == b).all()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, check=False)
    assert done.returncode == 0


@pytest.mark.slow
def test_an_added_source_gives_an_added_model_its_weights(root):
    code = (
        "import numpy as np; from vision_jax.weights.mapping import load_weights\n"
        "draw = np.random.default_rng(0).random\n"
        "shapes = {'1.weight': (128, 2352), '1.bias': 128, '3.weight': (10, 128), '3.bias': 10}\n"
        "tensors = {name: draw(shape, np.float32) for name, shape in shapes.items()}\n"
        "weights = load_weights('mlp', tensors)\n"
        "kernel = weights.variables['params']['dense']['kernel']\n"
        "assert weights.options == {'num_classes': 10}\n"
        "assert (kernel[1] == tensors['1.weight'][:, 28 * 28]).all()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, check=False)
    assert done.returncode == 0


@pytest.mark.slow
def test_an_added_task_trains_an_added_model_on_an_added_data_set(root, tmp_path):
    places = ["--data.name", "stripes", "--data.data-dir", str(tmp_path / "data")]
    printed = run(
        root,
        *[
            "vision_jax",
            "train",
            "poly",
            "--epsilon",
            "1",
            "--model.name",
            "mlp",
            "--model.options",
            "hidden=16",
        ],
        *["--data.transforms", "invert", "--data.batch-size", "20", "--epochs", "3"],
        *places,
        *("--workdir", str(tmp_path / "run")),
    )
    assert "trained 3 epochs" in printed
    assert "accuracy" in run(root, "vision_jax", "evaluate", str(tmp_path / "run"))
    words = ["count", "stripes", "--split", "test", "--data-dir", str(tmp_path / "data")]
    assert run(root, "vision_jax", *words) == "40 images\n"
