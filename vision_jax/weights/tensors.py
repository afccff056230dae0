"""Read the tensors of a file of weights, whatever its format."""

from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np

from vision_jax.errors import InputError
from vision_jax.files import check_file
from vision_jax.weights.archives import Archive
from vision_jax.weights.hub import local_file
from vision_jax.weights.keras_h5 import IN_ARCHIVE, read_keras_archive, read_keras_h5
from vision_jax.weights.keras_h5 import START as HDF5_START
from vision_jax.weights.limits import shown
from vision_jax.weights.msgpack import read_msgpack, starts_tree
from vision_jax.weights.npz import is_array, read_npz
from vision_jax.weights.pytorch import LEGACY_START, is_pickle, read_legacy, read_zip
from vision_jax.weights.safetensors import read_safetensors

HALVES = (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16))
NEEDED = "needed is a file of safetensors, PyTorch, NumPy's .npz, Flax's msgpack or Keras's .h5"
OTHERS = {
    b"\x1f\x8b": "gzip packed it: unpack it first",
    b"\xfd7zXZ\x00": "xz packed it: unpack it first",
    b"\x28\xb5\x2f\xfd": "zstd packed it: unpack it first",
    b"version https://git-lfs": "it is a Git LFS pointer, not the file: run `git lfs pull`",
    b"<": "it is a web page, not the file: the download failed",
    b"\x80": "it is a pickle, but none that torch.save wrote",
}
"""How files begin that are taken for weights, and what they are."""


def read_tensors(path: str | Path) -> dict[str, np.ndarray]:
    """Read all tensors of a file of weights.

    The content tells the format, not the file's name. Nothing in the file is executed, and a file
    that claims more than it holds is refused before anything is allocated for it.

    Args:
        path: a file of safetensors, PyTorch, big_vision's `.npz`, Flax's msgpack or Keras's `.h5`
            and `.keras`; or `hf://OWNER/NAME[@REVISION][/FILE]`, see `local_file`.

    Returns:
        Names, as the file has them, to arrays. Floats of 16 bits become float32, other types stay.
        Arrays may be read-only and may share memory.

    Raises:
        InputError: there is no such file, or it is damaged, of another format, or without tensors;
            the message names the tensor or the byte.
    """
    path = local_file(path)
    try:
        tensors = _reader(path)(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    except MemoryError:
        raise InputError(f"{path} needs more memory than there is") from None
    if not tensors:
        raise InputError(f"{path} holds no tensors")
    for name in tensors:
        if not name.isprintable():
            raise InputError(f"{path}: {shown(name)} is no name of a tensor")
        tensors[name] = _widened(tensors[name])
    return tensors


def _reader(path: Path) -> Callable[[Path], dict[str, np.ndarray]]:
    """Find the format of a file by its first bytes."""
    check_file(path, NEEDED)
    with path.open("rb") as file:
        start = file.read(512)
    if not start:
        raise InputError(f"{path} is empty; {NEEDED}")
    if start.startswith(b"PK"):
        return _zip_reader(path)
    if LEGACY_START in start[:16]:
        return read_legacy
    if start.startswith(HDF5_START):
        return read_keras_h5
    if start[8:9] == b"{" and (not any(start[4:8]) or not starts_tree(start)):
        return read_safetensors
    if starts_tree(start):
        return read_msgpack
    for first, what in OTHERS.items():
        if start.lstrip().startswith(first):
            raise InputError(f"{path} cannot be read: {what}")
    raise InputError(f"{path} is of no known format (it begins with {shown(start[:8])}); {NEEDED}")


def _zip_reader(path: Path) -> Callable[[Path], dict[str, np.ndarray]]:
    with Archive(path) as archive:
        if any(map(is_pickle, archive.names)):
            return read_zip
        if IN_ARCHIVE in archive:
            return read_keras_archive
        if archive.names and all(map(is_array, archive.names)):
            return read_npz
        names = ", ".join(map(shown, archive.names[:3])) or "nothing"
    raise InputError(f"{path} is a zip archive of other things ({names}); {NEEDED}")


def _widened(array: np.ndarray) -> np.ndarray:
    if array.dtype in HALVES:
        return array.astype(np.float32)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
