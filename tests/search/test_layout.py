"""Search stands on its own, and is imported as fast as JAX."""

import ast
import subprocess
import sys
from pathlib import Path

import vision_jax.search

FOLDER = Path(vision_jax.search.__file__).parent
ALLOWED = ("vision_jax.search", "vision_jax.parallel", "vision_jax.errors", "vision_jax.files")


def test_search_imports_only_what_lies_below_it():
    for path in FOLDER.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            own = [name for name in names if name.startswith("vision_jax")]
            assert all(name.startswith(ALLOWED) for name in own), (path, own)


def test_importing_search_loads_nothing_slow_beside_jax():
    modules = ", ".join(
        f"vision_jax.search.{path.stem}" for path in FOLDER.glob("*.py") if path.stem != "__init__"
    )
    code = f"""
import sys
import jax, jax.experimental.multihost_utils
before = set(sys.modules)
import {modules}
loaded = {{name.partition(".")[0] for name in set(sys.modules) - before}}
assert not loaded & {{"scipy", "sklearn", "flax", "optax", "PIL", "matplotlib"}}, loaded
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
