"""Write a run's encoder, and what goes with it, to one file."""

import importlib.util
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vision_jax.errors import InputError
from vision_jax.export import container, onnx_conversion, onnx_graph
from vision_jax.export.contents import Rows, check_same_width, describe, rows_of
from vision_jax.export.encoder import EMBEDDING, serialized, trace
from vision_jax.files import replacing
from vision_jax.run.run import Run
from vision_jax.search import CosineIndex

COSINES, VECTORS, METADATA = "cosines", "vectors", "vision_jax"
_LARGEST = 2**31 - 1  # bytes of a file that protobuf reads
_TINY = np.float32(1e-37)

Writer = Callable[[Path, Run, CosineIndex | None], None]


def write_export(run: Run, path: str | Path, *, index: CosineIndex | None = None) -> None:
    """Write a run's encoder, how its images are prepared, its class names and an index to one file.

    Args:
        run: the run, trained or imported.
        path: the file; its suffix is its format. `.vjx`: what `load_export` and plain jax open.
            `.onnx`: what ONNX Runtime opens. An older one stays until the new one is whole.
        index: an index that the run made; by default none.

    Raises:
        InputError: the suffix is another one, the file cannot be written, another network made the
            index, or the encoder has no such form.

    >>> import vision_jax
    >>> run = vision_jax.load_run("runs/quickstart/cnn")  # after `vision-jax quickstart`
    >>> vision_jax.write_export(run, "digits.vjx")
    >>> vision_jax.load_export("digits.vjx").image_shape
    (8, 8, 1)
    """
    check_out(path, WRITERS)
    with replacing(path) as temporary:
        if index is not None:
            check_same_width(run, index)
        WRITERS[Path(path).suffix.lower()](temporary, run, index)


def check_out(path: str | Path, suffixes: Any, name: str = "out") -> None:
    """Refuse a file that cannot be written, before work begins.

    Args:
        path: the file.
        suffixes: how its name may end.
        name: what messages call it.

    Raises:
        InputError: its name ends otherwise, its folder is missing or read-only, it is a folder
            itself, or a package is missing that writes such a file.
    """
    path = Path(path)
    suffix, listed = path.suffix.lower(), ", ".join(suffixes)
    if suffix not in suffixes:
        raise InputError(f"{name} is {str(path)!r}; its name must end in {listed}")
    if path.is_dir():
        raise InputError(
            f"{name} is {str(path)!r}, a folder; the name of a file to write is needed"
        )
    if not path.parent.is_dir():
        raise InputError(f"{name} is {str(path)!r}; the folder {path.parent} must exist")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"{name} is {str(path)!r}; the folder {path.parent} is read-only")
    package = _PACKAGES.get(suffix)
    if package and importlib.util.find_spec(package) is None:
        raise InputError(
            f"{name} is {str(path)!r}, which the package {package} writes; "
            f"pip install 'vision_jax[{package}]'"
        )


_PACKAGES = {".onnx": "onnx", ".faiss": "faiss"}


def _write_jax(path: Path, run: Run, index: CosineIndex | None) -> None:
    manifest = describe(run, index)
    encoder, versions = serialized(run)
    manifest["written_by"] |= versions
    container.write(path, manifest, encoder, None if index is None else rows_of(index))


def _write_onnx(path: Path, run: Run, index: CosineIndex | None) -> None:
    manifest = describe(run, index)
    rows = None if index is None else _rows_for_onnx(index, manifest)
    traced, names = trace(run, native=True)
    onnx_conversion.check_convertible(traced)
    graph = onnx_graph.Graph(run.info.image_shape)
    outputs = dict(zip(names, onnx_conversion.convert(traced, graph), strict=True))
    if rows is not None:
        manifest["index"] |= {"ids": rows.ids.tolist(), "metadata": rows.metadata}
        outputs |= _search(graph, outputs[EMBEDDING], rows)
    text = json.dumps(manifest, allow_nan=False)  # in ASCII, as in `container.write`
    model = graph.model(outputs, {METADATA: text})
    if model.ByteSize() > _LARGEST:
        raise InputError(f"the model takes {model.ByteSize()} bytes; {_TOO_LARGE}")
    path.write_bytes(model.SerializeToString())


_TOO_LARGE = f"a file that ends in .onnx holds at most {_LARGEST}, .vjx any"


def _rows_for_onnx(index: CosineIndex, manifest: dict[str, Any]) -> Rows:
    if (views := manifest["index"]["views"]) != 1:
        raise InputError(
            f"the index averages {views} views of each image; 1 is needed for a file that ends in "
            ".onnx, and .vjx takes any"
        )
    if len(index) * index.dim * 4 > _LARGEST:
        raise InputError(f"the index holds {len(index)} x {index.dim} numbers; {_TOO_LARGE}")
    return rows_of(index)


def _search(
    graph: onnx_graph.Graph, embedding: onnx_graph.Value, rows: Rows
) -> dict[str, onnx_graph.Value]:
    """Add the cosine of each image's embedding with each vector, as `search.normalize` has it."""
    one = (None, 1)
    peak = graph.node("Abs", [embedding], embedding.shape)
    peak = graph.node("ReduceMax", [peak], one, axes=[1], keepdims=1)
    peak = graph.node("Max", [peak, onnx_graph.constant(_TINY)], one)
    scaled = graph.node("Div", [embedding, peak], embedding.shape)
    squares = graph.node("Mul", [scaled, scaled], embedding.shape)
    axis = onnx_graph.constant(np.array([1], np.int64))
    norm = graph.node("ReduceSum", [squares, axis], one, keepdims=1)
    norm = graph.node("Max", [graph.node("Sqrt", [norm], one), onnx_graph.constant(_TINY)], one)
    unit = graph.node("Div", [scaled, norm], embedding.shape)
    vectors = onnx_graph.constant(rows.vectors)
    cosines = graph.node("Gemm", [unit, vectors], (None, len(rows.ids)), transB=1)
    return {COSINES: cosines, VECTORS: vectors}


WRITERS: dict[str, Writer] = {".vjx": _write_jax, ".onnx": _write_onnx}
"""What writes a file, by how its name ends."""
