"""Image search and recognition in JAX.

The names below and the subpackages are imported on first use, so that search alone does not load
the data pipeline.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vision_jax.data.catalog import open_source
    from vision_jax.errors import InputError
    from vision_jax.export.loaded import load_export
    from vision_jax.export.predictions import predictions, write_predictions
    from vision_jax.export.vectors import write_vectors
    from vision_jax.export.write import write_export
    from vision_jax.reports.notebook import show
    from vision_jax.run.imported import import_weights
    from vision_jax.run.run import Run, load_run
    from vision_jax.run.train import train
    from vision_jax.search import CosineIndex, cosine_similarity, cosine_top_k
    from vision_jax.training.loop import fit

__all__ = [
    "CosineIndex",
    "InputError",
    "Run",
    "cosine_similarity",
    "cosine_top_k",
    "fit",
    "import_weights",
    "load_export",
    "load_run",
    "open_source",
    "predictions",
    "show",
    "train",
    "write_export",
    "write_predictions",
    "write_vectors",
]

_HOMES = {
    "CosineIndex": "search",
    "InputError": "errors",
    "Run": "run.run",
    "cosine_similarity": "search",
    "cosine_top_k": "search",
    "fit": "training.loop",
    "import_weights": "run.imported",
    "load_export": "export.loaded",
    "load_run": "run.run",
    "open_source": "data.catalog",
    "predictions": "export.predictions",
    "show": "reports.notebook",
    "train": "run.train",
    "write_export": "export.write",
    "write_predictions": "export.predictions",
    "write_vectors": "export.vectors",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version(__name__)
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    if name in _parts():
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_parts(), "__version__"])


def _parts() -> set[str]:
    import pkgutil

    return {part.name for part in pkgutil.iter_modules(__path__)}
