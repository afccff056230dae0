import ast
import contextlib
import importlib
import io
import re
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

import vision_jax
from vision_jax.cli import COMMANDS, main
from vision_jax.config import TASKS
from vision_jax.run.run import Run

ROOT = Path(__file__).parents[1]
GUIDES = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *GUIDES]
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
# What CONTRIBUTING adds by way of example.
ADDED = {"train poly", "count"}


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def command_lines(page):
    """The words of each call of vision-jax in a page's shell blocks and inline code."""
    shell = "\n".join(blocks(page, "sh")).replace("\\\n", " ")
    inline = re.findall(r"`(vision-jax [^`]*)`", page.read_text())
    lines = re.findall(r"vision-jax ((?:(?!&&|#).)*)", "\n".join([shell, *inline]))
    return [line.split() for line in lines]


def name_of(words):
    return " ".join(words[:2] if words[0] == "train" else words[:1])


@cache
def help_of(command):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), pytest.raises(SystemExit) as end:
        main([*command.split(), "--help"])
    assert end.value.code == 0
    return printed.getvalue()


def test_every_fault_has_its_test():
    rows = [
        line
        for line in (ROOT / "docs" / "faults.md").read_text().splitlines()
        if line.startswith("| ") and not line.startswith(("| fault |", "| --- |"))
    ]
    named = [re.findall(r"`(test_\w+)`", row.split("|")[3]) for row in rows]
    there = {
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef)
    }
    assert len(rows) >= 60
    assert all(named)
    assert {name for names in named for name in names} - there == set()


def test_the_readme_is_read_in_minutes():
    assert len((ROOT / "README.md").read_text().split()) < 1500


def test_the_speeds_of_the_readme_are_in_the_guides():
    (table,) = re.findall(r"^\| speed,.*?(?=\n\n)", (ROOT / "README.md").read_text(), re.S | re.M)
    guides = re.sub(r"(?<=\d),(?=\d{3})", "", "\n".join(page.read_text() for page in GUIDES))
    cells = [cell for row in table.splitlines()[2:] for cell in row.split("|")[2:4]]
    speeds = {speed for cell in cells for speed in re.findall(r"\d[\d.]*", cell)}
    assert len(speeds) >= 8
    assert speeds - set(re.findall(r"\d[\d.]*", guides)) == set()


def test_the_tasks_of_the_readme_exist():
    (tasks,) = re.findall(r"vision-jax train \{(.*?)\}", (ROOT / "README.md").read_text())
    assert set(tasks.split(",")) <= TASKS.keys()


@pages
def test_commands_and_their_options_exist(page):
    for words in command_lines(page):
        name = name_of(words)
        if name in ADDED or not re.fullmatch(r"[a-z][a-z -]+", name):
            continue  # `vision-jax train {cnn,…}`, `vision-jax COMMAND`
        assert name in COMMANDS or name == "train" or name.removeprefix("train ") in TASKS
        if name == "train":
            continue
        options = {word for word in words if word.startswith("--")} - {"--help"}
        assert {o for o in options if not re.search(rf"{o}(?![\w.-])", help_of(name))} == set()


@pages
def test_python_examples_name_what_exists(page):
    homes = {"vision_jax": vision_jax, "run": Run, "index": vision_jax.CosineIndex}
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if page.name == "CONTRIBUTING.md":
                continue  # imports what it adds
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module)
                for name in (alias.name for alias in node.names):  # or a module of a package
                    assert hasattr(module, name) or find_spec(f"{node.module}.{name}"), name
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                home = homes.get(node.value.id)
                assert home is None or hasattr(home, node.attr), ast.unparse(node)


@pages
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if not target.startswith(("http", "reference/")):  # the reference comes with the build
            assert (page.parent / target).is_file(), target


def test_the_guide_to_search_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for block in blocks(ROOT / "docs" / "searching.md", "python"):
        exec(compile(block, "searching.md", "exec"), {})


@pytest.mark.slow
def test_the_docs_build_without_warnings(tmp_path):
    pytest.importorskip("sphinx")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-E", "docs", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
