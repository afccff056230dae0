"""Read what `torch.save` wrote, without PyTorch: zip files since 1.6, and the format before them.

Both hold a pickle of tensors that refer to storages by key. The pickle runs in `Unpickler`, which
calls nothing; a tensor is a view of its storage by offset, shape and strides.
"""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from vision_jax.errors import InputError
from vision_jax.weights.archives import Archive
from vision_jax.weights.limits import Allowance, byte_count, shown
from vision_jax.weights.state_dicts import Storage, Tensor, call, persistent, state_dict
from vision_jax.weights.unpickler import Reader, Unpickler

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_START = b"\x8a\x0a" + LEGACY_MAGIC.to_bytes(10, "little")


def read_zip(path: Path) -> dict[str, np.ndarray]:
    """Read the state dict of a zip file that `torch.save` wrote.

    Args:
        path: the file.

    Returns:
        Names to read-only arrays, of the file's own types; see `state_dict`.

    Raises:
        InputError: the file is damaged, or needs more than tensors.
    """
    with Archive(path) as archive:
        pickled = next(name for name in archive.names if is_pickle(name))
        folder = pickled.removesuffix("data.pkl")
        if f"{folder}constants.pkl" in archive:
            raise InputError(f"{path} is a TorchScript archive; save the model's state_dict()")
        program = archive.read(pickled)
        reader = Reader(BytesIO(program), len(program))
        content = Unpickler(f"{path}: {pickled}", reader, call, persistent).load()

        def read(storage: Storage) -> np.ndarray:
            name = f"{folder}data/{storage.key}"
            if name not in archive:
                raise InputError(f"{path} holds no {shown(name)}, which a tensor refers to")
            return np.frombuffer(archive.read(name), np.uint8)

        big = _is_big_endian(path, archive, f"{folder}byteorder")
        return _arrays(path, state_dict(path, content), read, big=big)


def is_pickle(name: str) -> bool:
    """Tell whether an archive's entry is the pickle of a file of `torch.save`."""
    return name.count("/") == 1 and name.endswith("/data.pkl")


def _is_big_endian(path: Path, archive: Archive, name: str) -> bool:
    order = archive.read(name) if name in archive else b"little"
    if order not in (b"little", b"big"):
        raise InputError(f"{path}: {shown(name)} is {shown(order)}; it must be little or big")
    return order == b"big"


def read_legacy(path: Path) -> dict[str, np.ndarray]:
    """Read the state dict of a file that `torch.save` wrote in its format before 1.6.

    The format: five pickles (a magic number, a version, the system, the tensors, the keys of the
    storages), then per storage its element count as i64 and its elements, little-endian.

    Args:
        path: the file.

    Returns:
        Names to read-only arrays, of the file's own types; see `state_dict`.

    Raises:
        InputError: the file is damaged, or needs more than tensors.
    """
    with path.open("rb") as file:
        reader = Reader(file, path.stat().st_size)
        storages: dict[str, np.dtype[Any]] = {}

        def known(saved: Any) -> Storage:
            storage = persistent(saved)
            storages[storage.key] = storage.dtype
            return storage

        magic, version, _, content, keys = (
            Unpickler(str(path), reader, call, known).load() for _ in range(5)
        )
        if magic != LEGACY_MAGIC or version != 1001:
            raise InputError(f"{path} is a pickle, but none that torch.save wrote")
        tensors = state_dict(path, content)
        places = _storage_places(path, reader, keys, storages)

        def read(storage: Storage) -> np.ndarray:
            if storage.key not in places:
                raise InputError(f"{path} holds no storage {shown(storage.key)}")
            at, count = places[storage.key]
            file.seek(at)
            data = np.empty(count, np.uint8)
            if file.readinto(data.data) != count:
                raise InputError(f"{path}: storage {shown(storage.key)} is cut short")
            data.flags.writeable = False
            return data

        return _arrays(path, tensors, read, big=False)


def _storage_places(
    path: Path, reader: Reader, keys: Any, dtypes: dict[str, np.dtype[Any]]
) -> dict[str, tuple[int, int]]:
    """Return where each storage begins and how many bytes it has."""
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise InputError(f"{path} lists no keys of storages after its tensors")
    places = {}
    for key in keys:
        if key not in dtypes or key in places:
            raise InputError(f"{path}: no tensor has storage {shown(key)}, or it is there twice")
        try:
            count = reader.number("<q") * dtypes[key].itemsize
            places[key] = reader.at, count
            reader.skip(count)
        except ValueError as error:
            raise InputError(
                f"{path} is damaged or cut short: storage {shown(key)}: {error}"
            ) from None
    return places


def _arrays(
    path: Path,
    tensors: dict[str, Tensor],
    read: Callable[[Storage], np.ndarray],
    *,
    big: bool,
) -> dict[str, np.ndarray]:
    """Read the storages that tensors need, each once, and view them as the tensors say."""
    allowance = Allowance(path, path.stat().st_size)
    whole: dict[str, np.ndarray] = {}
    arrays = {}
    for name, tensor in tensors.items():
        storage, item = tensor.storage, tensor.dtype.itemsize
        allowance.take(name, byte_count(tensor.shape, item))
        if storage.key not in whole:
            whole[storage.key] = read(storage)
        data = whole[storage.key]
        if data.size < (storage.start + storage.size) * storage.dtype.itemsize:
            raise InputError(
                f"{path}: {shown(name)} needs storage {shown(storage.key)} to have "
                f"{storage.size:,} elements; it has {data.size // storage.dtype.itemsize:,}"
            )
        array: np.ndarray = np.ndarray(
            tensor.shape,
            tensor.dtype,
            data.data,
            storage.start * storage.dtype.itemsize + tensor.offset * item,
            tuple(stride * item for stride in tensor.strides),
        )
        arrays[name] = array.view(f"u{item}").byteswap().view(tensor.dtype) if big else array
    return arrays
