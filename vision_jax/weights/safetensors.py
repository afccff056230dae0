"""Read safetensors files.

The format: the length of a header as u64, the header as JSON, then the bytes of all tensors without
gaps (https://github.com/huggingface/safetensors#format).
"""

import json
from io import BufferedReader
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from vision_jax.errors import InputError
from vision_jax.weights.limits import byte_count, check_sizes, shown

MOST_HEADER = 100_000_000
DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "U8": np.dtype("u1"),
    "I8": np.dtype("i1"),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
}


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Read all tensors of a safetensors file.

    Args:
        path: the file.

    Returns:
        Names to arrays, of the file's own types.

    Raises:
        InputError: the file is damaged; the message names the tensor.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        header, start = _read_header(path, file, size)
        places = {name: _place(path, name, entry) for name, entry in header.items()}
        _check_cover(path, places, size - start)
        return {
            name: _read(path, file, name, start + begin, shape, dtype)
            for name, (dtype, shape, begin, _) in places.items()
        }


Place = tuple[np.dtype[Any], tuple[int, ...], int, int]


def _read_header(path: Path, file: BufferedReader, size: int) -> tuple[dict[str, Any], int]:
    length = int.from_bytes(file.read(8), "little")
    most = min(size - 8, MOST_HEADER)
    if length > most:
        raise InputError(
            f"{path}: bytes 0 to 7 say that the header takes {length:,} bytes; "
            f"at most {max(most, 0):,} are possible: the file is damaged or cut short"
        )
    try:
        text = file.read(length).decode()
        header = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)
    except RecursionError:
        raise InputError(f"{path}: the header is nested too deeply") from None
    except ValueError as error:
        raise InputError(f"{path}: the header is damaged: {error}") from None
    if not isinstance(header, dict):
        raise InputError(f"{path}: the header is a {type(header).__name__}, not an object")
    header.pop("__metadata__", None)
    return header, 8 + length


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for number, name in enumerate(names) if name in names[:number])
        raise ValueError(f"{shown(twice)} stands there twice")
    return entries


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _place(path: Path, name: str, entry: Any) -> Place:
    where = f"{path}: {shown(name)}"
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise InputError(f"{where} needs a dtype, a shape and data_offsets, and nothing else")
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str) or kind not in DTYPES:
        raise InputError(f"{where} is of type {shown(kind)}; it must be one of {', '.join(DTYPES)}")
    axes = check_sizes(f"{where}: its shape", shape)
    bounds = check_sizes(f"{where}: its data_offsets", offsets)
    if len(bounds) != 2:
        raise InputError(f"{where}: its data_offsets are {shown(bounds)}; they must be two")
    begin, end = bounds
    needed = byte_count(axes, DTYPES[kind].itemsize)
    if end - begin != needed:
        raise InputError(
            f"{where} of shape {shown(axes)} and type {kind} needs {shown(needed)} bytes; "
            f"its offsets {begin} to {end} hold {end - begin}"
        )
    return DTYPES[kind], axes, begin, end


def _check_cover(path: Path, places: dict[str, Place], size: int) -> None:
    """Refuse tensors that overlap, leave gaps, or end elsewhere than the file."""
    at = 0
    for name, (_, _, begin, end) in sorted(places.items(), key=lambda item: item[1][2:]):
        if begin != at:
            raise InputError(
                f"{path}: {shown(name)} begins at byte {begin} of the data; the tensor before it "
                f"ends at {at}, and tensors neither overlap nor leave gaps"
            )
        at = end
    if at != size:
        raise InputError(
            f"{path}: its tensors take {at:,} bytes after the header and the file has {size:,}: "
            f"it is damaged or cut short"
        )


def _read(
    path: Path,
    file: BufferedReader,
    name: str,
    at: int,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
) -> np.ndarray:
    raw = np.empty(byte_count(shape, dtype.itemsize), np.uint8)
    file.seek(at)
    if file.readinto(raw.data) != raw.size:
        raise InputError(f"{path}: {shown(name)} is cut short")
    return raw.view(dtype).reshape(shape)
