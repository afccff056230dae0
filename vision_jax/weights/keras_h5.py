"""Read Keras's weights: `.weights.h5`, the older `.h5`, and the `.keras` archive."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from vision_jax.errors import InputError
from vision_jax.weights.archives import Archive
from vision_jax.weights.limits import Allowance, byte_count, check_sizes, shown

START = b"\x89HDF\r\n\x1a\n"
IN_ARCHIVE = "model.weights.h5"
OPTIMIZER = "optimizer/"
DEEPEST = 50


def read_keras_h5(path: Path) -> dict[str, np.ndarray]:
    """Read all weights of a Keras HDF5 file.

    Args:
        path: the file. Of a whole model the optimizer's part is left out.

    Returns:
        The groups' names, joined by `/`, to arrays of the file's own types.

    Raises:
        InputError: h5py is not installed, or the file is damaged or refers to other files; the
            message names the tensor.
    """
    return _read(path, str(path))


def read_keras_archive(path: Path) -> dict[str, np.ndarray]:
    """Read all weights of a `.keras` archive; see `read_keras_h5`."""
    with Archive(path) as archive:
        return _read(path, BytesIO(archive.read(IN_ARCHIVE)))


def _read(path: Path, content: str | BytesIO) -> dict[str, np.ndarray]:
    try:
        import h5py
    except ImportError:
        raise InputError(
            f"{path} is an HDF5 file, which h5py reads: pip install 'vision_jax[h5]'"
        ) from None
    size = path.stat().st_size
    try:
        with h5py.File(content, "r") as file:
            group = file.get("model_weights", file)
            weights = dict(_weights(path, group, (), Allowance(path, size), set()))
    except InputError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
        reason = str(error).replace("\n", " ")[:200] or type(error).__name__
        raise InputError(f"{path} is damaged or cut short: {reason}") from None
    return {name: array for name, array in weights.items() if not name.startswith(OPTIMIZER)}


def _weights(
    path: Path, group: Any, names: tuple[str, ...], allowance: Allowance, seen: set[Any]
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the datasets below a group, none of them from another file."""
    import h5py

    place = h5py.h5o.get_info(group.id).addr
    if place in seen or len(names) > DEEPEST:
        raise InputError(f"{path}: {shown('/'.join(names))} is nested too deeply or in itself")
    seen.add(place)
    for name in group:
        inner = (*names, name)
        where = f"{path}: {shown('/'.join(inner))}"
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise InputError(f"{where} is a link to somewhere else; it must be in the file itself")
        value = group[name]
        if isinstance(value, h5py.Group):
            yield from _weights(path, value, inner, allowance, seen)
        elif isinstance(value, h5py.Dataset):
            yield "/".join(inner), _array(where, value, allowance)
        else:
            raise InputError(f"{where} is {shown(value)}; it must be an array")


def _array(where: str, data: Any, allowance: Allowance) -> np.ndarray:
    if data.is_virtual or data.external:
        raise InputError(f"{where} lies in another file; it must be in the file itself")
    if data.dtype.kind not in "fiub" or data.dtype.itemsize > 8:
        raise InputError(f"{where} is of type {shown(str(data.dtype))}; it must hold numbers")
    if data.shape is None:
        raise InputError(f"{where} has no content")
    for shape in (data.shape, data.chunks or ()):
        axes = check_sizes(f"{where}: its shape", [int(size) for size in shape])
        allowance.take(where, byte_count(axes, data.dtype.itemsize))
    array: np.ndarray = np.asarray(data[()])
    return array
