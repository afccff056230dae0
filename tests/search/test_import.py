"""Importing search costs little more than importing JAX."""

import subprocess
import sys
from pathlib import Path

import vision_jax.search

FOLDER = Path(vision_jax.search.__file__).parent


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
