"""The way of the data: imports point backwards along one line, without circles."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "vision_jax"
LINE = [
    "errors",
    "files",
    "bars",
    "checked",
    "config",
    "parallel",
    "search",
    "data",
    "visual",
    "augment",
    "ops",
    "models",
    "losses",
    "weights",
    "tasks",
    "training",
    "run",
    "gallery",
    "evaluation",
    "explain",
    "inspection",
    "export",
    "reports",
    "serve",
    "commands",
    "cli",
    "__main__",
]
ALONE = {"search": {"errors", "files", "bars", "parallel", "search"}}


def module_of(path):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in ROOT.rglob("*.py")}


def imports(path):
    """The project's modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name in MODULES)
        if isinstance(node, ast.ImportFrom) and node.module in MODULES:
            for name in node.names:
                whole = f"{node.module}.{name.name}"
                yield whole if whole in MODULES else node.module


def part_of(module):
    return module.split(".")[1]


ARROWS = {
    (module, imported)
    for module, path in MODULES.items()
    if module != "vision_jax"
    for imported in imports(path)
}


def test_every_part_has_its_place_on_the_line():
    assert {part_of(module) for module in MODULES if module != "vision_jax"} <= set(LINE)


def test_imports_point_backwards_along_the_line():
    against = {
        f"{module} imports {imported}"
        for module, imported in ARROWS
        if imported == "vision_jax" or LINE.index(part_of(imported)) > LINE.index(part_of(module))
    }
    assert against == set()


def test_there_is_no_circle():
    graph = {module: {i for m, i in ARROWS if m == module and i != m} for module in MODULES}
    assert list(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("part", ALONE)
def test_what_stands_alone_imports_no_more(part):
    used = {part_of(imported) for module, imported in ARROWS if part_of(module) == part}
    assert used <= ALONE[part]


def test_search_is_imported_without_what_only_training_or_reports_need():
    code = (
        "import sys, vision_jax.search\n"
        "heavy = {'flax', 'optax', 'orbax', 'grain', 'sklearn', 'matplotlib', 'tyro', 'PIL',\n"
        "         'tensorflow_datasets', 'vision_jax.tasks', 'vision_jax.training'}\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
