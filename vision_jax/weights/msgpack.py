"""Read msgpack files of `flax.serialization`, arrays in chunks included."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import msgpack
import numpy as np

from vision_jax.errors import InputError
from vision_jax.weights.limits import byte_count, check_sizes, shown

CHUNKED = "__msgpack_chunked_array__"
ARRAY, SCALAR = 1, 3
DEEPEST = 100
LONGEST = 100_000
"""Entries of a map; memory is taken for them before they are read."""

DTYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(name)
    for name in (
        *("float16", "float32", "float64", "bool", "int8", "int16", "int32", "int64"),
        *("uint8", "uint16", "uint32", "uint64"),
    )
}
DTYPES["bfloat16"] = np.dtype(ml_dtypes.bfloat16)


def read_msgpack(path: Path) -> dict[str, np.ndarray]:
    """Read all arrays and numbers of a tree that Flax wrote.

    Args:
        path: the file.

    Returns:
        Paths in the tree, joined by `/`, to read-only arrays of the file's own types. Text and
        None are left out.

    Raises:
        InputError: the file is damaged; the message names the leaf.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        unpacker = msgpack.Unpacker(
            file,
            strict_map_key=False,
            object_pairs_hook=_unique,
            max_buffer_size=min(size, 2**31 - 1),
            max_array_len=1000,
            max_map_len=min(size, LONGEST),
        )
        try:
            tree = unpacker.unpack()
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        except msgpack.OutOfData:
            raise InputError(f"{path} is cut short: its {size:,} bytes are no whole tree") from None
        except (ValueError, msgpack.UnpackException) as error:
            reason = str(error) or type(error).__name__
            raise InputError(f"{path}: byte {unpacker.tell()}: no msgpack: {reason}") from None
        if unpacker.tell() != size:
            raise InputError(
                f"{path} is damaged: its tree ends at byte {unpacker.tell()} of {size}"
            )
    if not isinstance(tree, dict):
        raise InputError(f"{path} holds {shown(tree)}; it must be a tree of arrays")
    tensors: dict[str, np.ndarray] = {}
    for names, leaf in _leaves(path, tree, ()):
        name = "/".join(names)
        if name in tensors:
            raise InputError(f"{path} holds {shown(name)} twice")
        tensors[name] = leaf
    return tensors


def starts_tree(start: bytes) -> bool:
    """Tell whether a file's first bytes are a map with text as its first key."""
    head = start[0]
    key = {0xDE: 3, 0xDF: 5}.get(head, 1)
    if not (0x81 <= head <= 0x8F or head in (0xDE, 0xDF)) or len(start) <= key:
        return False
    return 0xA0 <= start[key] <= 0xBF or start[key] in (0xD9, 0xDA, 0xDB)


def _unique(pairs: list[tuple[Any, Any]]) -> dict[str | int, Any]:
    entries: dict[str | int, Any] = {}
    for name, value in pairs:
        if not isinstance(name, str | int):
            raise InputError(f"{shown(name)} is the key of a map; it must be text or a number")
        if name in entries:
            raise InputError(f"{shown(name)} stands twice in a map")
        entries[name] = value
    return entries


def _leaves(
    path: Path, node: Any, names: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], np.ndarray]]:
    """Yield the arrays below a node, emptying the tree on the way."""
    where = f"{path}: {shown('/'.join(names))}"
    if len(names) > DEEPEST:
        raise InputError(f"{path} is nested deeper than {DEEPEST} levels")
    if isinstance(node, list):
        node = dict(enumerate(node))
    if isinstance(node, dict) and CHUNKED in node:
        yield names, _joined(where, node)
    elif isinstance(node, dict):
        for name in list(node):
            yield from _leaves(path, node.pop(name), (*names, str(name)))
    elif isinstance(node, msgpack.ExtType):
        yield names, _array(where, node)
    elif isinstance(node, int | float):
        yield names, np.asarray(node)
    elif not (node is None or isinstance(node, str | bytes)):
        raise InputError(f"{where} is {shown(node)}; it must be an array or a number")


def _array(where: str, packed: msgpack.ExtType) -> np.ndarray:
    if packed.code not in (ARRAY, SCALAR):
        raise InputError(f"{where} is of msgpack's type {packed.code}; it must be an array")
    try:
        content = msgpack.unpackb(packed.data, raw=True, max_array_len=32, max_map_len=0)
        shape, kind, data = content
        dtype = DTYPES[kind.decode()]
    except (ValueError, TypeError, KeyError, AttributeError, msgpack.UnpackException):
        raise InputError(f"{where} is no array of a known type") from None
    axes = check_sizes(f"{where}: its shape", shape)
    needed = byte_count(axes, dtype.itemsize)
    if not isinstance(data, bytes) or len(data) != needed:
        raise InputError(
            f"{where} of shape {shown(axes)} and type {dtype} needs {shown(needed)} bytes; "
            f"it has {len(data) if isinstance(data, bytes) else shown(data)}"
        )
    return np.frombuffer(data, dtype).reshape(axes)


def _joined(where: str, node: dict[Any, Any]) -> np.ndarray:
    """Join an array that was split because msgpack holds no more than 2 GiB in one piece."""
    shape = check_sizes(f"{where}: its shape", _in_order(where, node.get("shape")))
    packed = _in_order(where, node.pop("chunks", None))
    if not packed or not all(isinstance(chunk, msgpack.ExtType) for chunk in packed):
        raise InputError(f"{where} is an array in chunks, and has none")
    chunks = [_array(f"{where}: chunk {number}", chunk) for number, chunk in enumerate(packed)]
    del packed
    if {chunk.dtype for chunk in chunks} != {chunks[0].dtype} or any(c.ndim != 1 for c in chunks):
        raise InputError(f"{where} has chunks of different types, or not flat ones")
    if sum(map(len, chunks)) != byte_count(shape, 1):
        raise InputError(
            f"{where} of shape {shown(shape)} has chunks of {sum(map(len, chunks))} elements in all"
        )
    return np.concatenate(chunks).reshape(shape)


def _in_order(where: str, numbered: Any) -> list[Any]:
    """Return the values of a map from "0", "1", …: what Flax makes of a tuple."""
    if not isinstance(numbered, dict) or numbered.keys() != set(map(str, range(len(numbered)))):
        raise InputError(f"{where} is an array in chunks, and its chunks or shape are damaged")
    return [numbered[str(number)] for number in range(len(numbered))]
