"""The page's files: whole in a wheel, with nothing from elsewhere, in two languages."""

import re
import subprocess
import sys
import zipfile
from importlib import resources
from pathlib import Path

import pytest

PAGE = Path(str(resources.files("vision_jax.serve") / "page"))
FILES = {path.name: path.read_text(encoding="utf-8") for path in PAGE.iterdir() if path.is_file()}
SCRIPTS = {name: text for name, text in FILES.items() if name.endswith(".js")}


def test_what_the_page_asks_for_is_there():
    asked = set(re.findall(r'"/page/([\w.]+)"', FILES["index.html"]))
    for text in SCRIPTS.values():
        asked |= set(re.findall(r'from "\./([\w.]+)"', text))
    assert asked | {"index.html"} == set(FILES)


def test_nothing_comes_from_elsewhere_or_breaks_the_policy():
    for name, text in FILES.items():
        links = set(re.findall(r"https?://[\w./]+", text))
        assert links <= {"http://www.w3.org/2000/svg"}, name
    html = FILES["index.html"]
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*src=)", html)
    for name, text in SCRIPTS.items():
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text
        ), name


def test_both_languages_have_every_word_and_no_other():
    text = SCRIPTS["messages.js"]
    english, chinese = (
        dict(re.findall(r"^  (\w+): (.*)", part, re.M))
        for part in re.findall(r"^const (?:ENGLISH|CHINESE) = \{\n(.*?)^\};", text, re.M | re.S)
    )
    assert english.keys() == chinese.keys()
    used = set(re.findall(r'data-(?:text|label|placeholder)="(\w+)"', FILES["index.html"]))
    for script in SCRIPTS.values():
        used |= set(re.findall(r'\btext\("(\w+)"', script))
    assert used <= english.keys()
    elsewhere = "".join(SCRIPTS[name] for name in SCRIPTS if name != "messages.js")
    for name in english.keys() - used:
        assert name.startswith("fact_") or f'"{name.removesuffix("Text")}"' in elsewhere, name


@pytest.mark.slow
def test_an_installed_wheel_has_the_page(tmp_path):
    root = PAGE.parents[2]
    if not (root / "pyproject.toml").exists():
        pytest.skip("the package is not in its repository")
    command = ["-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path), str(root)]
    subprocess.run([sys.executable, *command], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if "/serve/page/" in name}
    assert {name.rsplit("/")[-1] for name in packed} == set(FILES)
