"""Read NumPy's `.npz`, as big_vision stores its weights."""

import re
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from vision_jax.errors import InputError
from vision_jax.weights.archives import Archive
from vision_jax.weights.limits import byte_count, check_sizes, shown

HEADER = re.compile(
    rb"\{'descr': '([<>|=]?)([a-zA-Z]\d*)', 'fortran_order': (True|False), "
    rb"'shape': \(([\d, L]*)\), \} *\n"
)
"""What NumPy writes before a plain array; `L` stood behind Python 2's numbers."""

DTYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(name)
    for name in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")
}
DTYPES["V2"] = np.dtype(ml_dtypes.bfloat16)  # NumPy forgets bfloat16's name


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Read all arrays of an `.npz` file.

    Args:
        path: the file.

    Returns:
        Names to read-only arrays, of the file's own types.

    Raises:
        InputError: the file is damaged, or an array holds Python's objects.
    """
    with Archive(path) as archive:
        return {
            name.removesuffix(".npy"): _array(f"{path}: {shown(name)}", archive.read(name))
            for name in archive.names
        }


def is_array(name: str) -> bool:
    """Tell whether an archive's entry is one of an `.npz` file."""
    return name.endswith(".npy")


def _array(where: str, content: bytes) -> np.ndarray:
    if content[:6] != b"\x93NUMPY" or content[6:8] not in (b"\x01\x00", b"\x02\x00"):
        raise InputError(f"{where} is no array of NumPy's format 1.0 or 2.0")
    start = 10 if content[6] == 1 else 12
    end = start + int.from_bytes(content[8:start], "little")
    header = HEADER.fullmatch(content[start : min(end, start + 10_000)])
    if header is None:
        raise InputError(f"{where} has a damaged header, or holds no plain numbers")
    order, kind = header[1].decode(), header[2].decode()
    if kind == "O":
        raise InputError(f"{where} holds pickled Python objects; it must hold numbers")
    if kind not in DTYPES:
        raise InputError(f"{where} is of type {kind}; it must be one of {', '.join(DTYPES)}")
    sizes = [size.strip(b" L") for size in header[4].split(b",")]
    if not all(len(size) < 20 for size in sizes):
        raise InputError(f"{where} has an impossible shape")
    shape = check_sizes(f"{where}: its shape", [int(size) for size in sizes if size])
    dtype = DTYPES[kind].newbyteorder(">") if order == ">" else DTYPES[kind]
    needed = byte_count(shape, dtype.itemsize)
    if len(content) - end != needed:
        raise InputError(
            f"{where} of shape {shown(shape)} and type {kind} needs {shown(needed)} bytes; "
            f"{len(content) - end:,} follow its header"
        )
    array: np.ndarray = np.frombuffer(content, dtype, offset=end)
    return array.reshape(shape, order="F" if header[3] == b"True" else "C")
