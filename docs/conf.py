"""Sphinx's settings. Build with `python -m sphinx -W -b html docs docs/_build`."""

import contextlib
import importlib
import io
import os
import pkgutil
import re
import shutil
import typing
from collections import defaultdict
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

# jaxtyping then names its types Float[Array, "batch classes"], as the source has them.
typing.GENERATING_DOCUMENTATION = "vision_jax"  # type: ignore[attr-defined]

import vision_jax  # noqa: E402  jaxtyping reads the line above at import

project = "vision_jax"
author = "the vision_jax authors"
version = release = version_of("vision_jax")
html_title = f"vision_jax {release}"
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_show_copyright = False
exclude_patterns = ["_build"]
smartquotes_action = "D"  # dashes alone

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
myst_heading_anchors = 3

# Packages re-export names of their modules; document each name where it is defined.
autodoc_default_options = {"members": True, "ignore-module-all": True}
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
# Attributes of dataclasses and linen modules are the parameters of their constructors.
napoleon_custom_sections = [("Attributes", "params_style")]
# `x` in a docstring is code, and a link where it names something in the same module.
default_role = "py:obj"
suppress_warnings = ["ref.python"]  # a word such as `source` may name attributes of two classes


UNDOCUMENTED = ("vision_jax.cli", "vision_jax.__main__")


def write_reference(app: Any) -> None:
    """Write a page per package and one of the command line, so that new files need no line here."""
    folder = Path(app.srcdir) / "reference"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    pages: dict[str, list[str]] = defaultdict(list)
    for module in pkgutil.walk_packages(vision_jax.__path__, "vision_jax."):
        if not module.ispkg:
            pages[module.name.rpartition(".")[0]].append(module.name)
    for package, modules in pages.items():
        if package == "vision_jax.commands":
            continue
        sections = [_section(package, "=")]
        sections += [_section(name, "-") for name in modules if name not in UNDOCUMENTED]
        (folder / f"{package.removeprefix('vision_jax.')}.rst").write_text("\n".join(sections))
    (folder / "command_line.md").write_text(_command_line())


def _heading(name: str, line: str) -> str:
    title = name.removeprefix("vision_jax.")
    return f"{title}\n{line * len(title)}\n\n"


def _section(name: str, line: str) -> str:
    text = f"{_heading(name, line)}.. automodule:: {name}\n"
    module = importlib.import_module(name)
    exported = [getattr(module, public) for public in getattr(module, "__all__", ())]
    links = [
        f"* :py:obj:`~{it.__module__}.{it.__qualname__}`\n"
        for it in exported
        if hasattr(it, "__qualname__")
    ]
    return f"{text}\n{''.join(links)}" if links else text


def _command_line() -> str:
    """Every command with what its --help prints."""
    from vision_jax.cli import COMMANDS, main
    from vision_jax.config import TASKS

    os.environ["COLUMNS"] = "88"
    text = "# Command line\n"
    for words in [*(["train", task] for task in TASKS), *([command] for command in COMMANDS)]:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            main([*words, "--help"])
        lines = [line.rstrip() for line in printed.getvalue().strip().splitlines()]
        text += "\n".join([f"\n## {' '.join(words)}\n", "```text", *lines, "```", ""])
    return text


def keep_prose(
    _app: Any, _what: str, _name: str, _of: Any, _options: Any, lines: list[str]
) -> None:
    """Keep prose from being read as markup: a norm |x|, and a colon in a Returns section."""
    for number, line in enumerate(lines):
        text = line.lstrip()
        if not text.startswith((">>>", "...")):
            lines[number] = line.replace("|", r"\|")
        if text and number and lines[number - 1].strip() in ("Returns:", "Yields:"):
            # napoleon takes what precedes a colon for the type, which here is in the signature.
            lines[number] = lines[number].replace(text, f": {text}", 1)


def drop_linen_arguments(
    _app: Any, _what: str, _name: str, _of: Any, _options: Any, signature: str | None, returns: Any
) -> tuple[str | None, Any]:
    """Leave out the arguments that linen adds to every module's constructor."""
    linen = r",? ?parent=<flax\.linen\.module\._Sentinel object>, name=None"
    return signature and re.sub(linen, "", signature), returns


def skip_tuple_fields(
    _app: Any, _what: str, _name: str, member: Any, _skip: bool, _options: Any
) -> bool | None:
    """Leave out what Python says of named tuples: "Alias for field number 0"."""
    return True if type(member).__name__ == "_tuplegetter" else None


def setup(app: Any) -> None:
    """Register the hooks; docstrings are changed before napoleon, whose priority is 500."""
    app.connect("builder-inited", write_reference)
    app.connect("autodoc-process-docstring", keep_prose, priority=400)
    app.connect("autodoc-skip-member", skip_tuple_fields)
    app.connect("autodoc-process-signature", drop_linen_arguments)
