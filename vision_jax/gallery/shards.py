"""An index in several files, which are read together; a list of them is replaced at once."""

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vision_jax.errors import InputError
from vision_jax.files import TEMPORARY, reading, write_text
from vision_jax.search import CosineIndex, index_file
from vision_jax.search.index_file import Content
from vision_jax.search.joined import Joined

LIST = "shards.json"
"""The file that lists a folder's shards."""
_VERSION = 1
_NEEDED = "an index file, or a folder of shards that `vision-jax index --shards` wrote, is needed"


def shard_range(count: int, shards: int, number: int) -> range:
    """Return which of an index's vectors, in their order, a shard holds."""
    return range(number * count // shards, (number + 1) * count // shards)


def shard_name(number: int, shards: int, build: str) -> str:
    """Return the name of a shard's file.

    Args:
        number: of the shard.
        shards: how many there are.
        build: what tells the shards of this writing from older ones.
    """
    return f"shard-{number:05d}-of-{shards:05d}-{build}.index"


def write_shard(folder: Path, number: int, shards: int, build: str, content: Content) -> None:
    """Write a shard, which is read once `publish` has listed it."""
    notes = content.notes | {"shard": [number, shards, build]}
    index_file.write(folder / shard_name(number, shards, build), content._replace(notes=notes))


def publish(folder: Path, shards: int, build: str, shape: Sequence[int], dtype: str) -> None:
    """List new shards, once all are written, and remove the older ones.

    Args:
        folder: where they are.
        shards: how many there are.
        build: see `shard_name`.
        shape: (N, D) of all their vectors.
        dtype: type of the stored values.
    """
    files = [shard_name(number, shards, build) for number in range(shards)]
    listed = {"version": _VERSION, "shards": files, "build": build, "shape": list(shape)}
    write_text(folder / LIST, json.dumps(listed | {"dtype": dtype}, indent=2) + "\n")
    for file in folder.iterdir():
        if file.name.startswith(("shard-", TEMPORARY)) and file.name not in files:
            with contextlib.suppress(FileNotFoundError):
                file.unlink()


def is_sharded(path: Path) -> bool:
    """Whether a path is a folder of shards."""
    return (path / LIST).is_file()


def count_shards(path: Path) -> int:
    """Return how many shards a folder has; see `read_shards` for what is raised."""
    return len(_listed(path)["shards"])


def read_shards(path: Path, *, stored: bool = False) -> CosineIndex:
    """Read the shards of a folder as one index: that which was cut.

    Args:
        path: the folder.
        stored: leave the vectors in the files until a device needs them.

    Raises:
        InputError: it is no folder of shards, or one of them is missing or damaged.
    """
    listed = _listed(path)
    count, dim = listed["shape"]
    held = sum(file.stat().st_size for name in listed["shards"] if (file := path / name).is_file())
    if count * dim * index_file.DTYPES[listed["dtype"]].itemsize > held:
        raise InputError(f"{path}: {LIST} lists more than the shards hold; index the images again")
    shape = (0 if stored else count, dim)
    values = np.empty(shape, index_file.DTYPES[listed["dtype"]])
    parts = [values]
    scale, ids = np.empty(count, np.float32), np.empty(count, np.int64)
    items: dict[str, Any] = {}
    start, following, about = 0, 0, None
    for content in _contents(path, listed, stored):
        part = slice(start, start + len(content.ids))
        if part.stop > count or content.dtype != listed["dtype"] or content.values.shape[1] != dim:
            raise InputError(f"{path}: the shards do not match {LIST}; index the images again")
        if stored:
            parts.append(content.values)
        else:
            values[part] = content.values
        scale[part], ids[part] = content.scale, content.ids
        start, about = part.stop, content.notes["about"]
        items |= content.notes["items"]
        following = max(following, content.notes["next"])
    if start != count or len(np.unique(ids)) != count:
        raise InputError(f"{path}: the shards do not match {LIST}; index the images again")
    notes = {"about": about, "items": items, "next": following}
    read = Joined(parts) if stored else values
    content = Content(listed["dtype"], read, scale, ids, notes)
    return CosineIndex.from_content(content, stored=stored)


def _contents(path: Path, listed: dict[str, Any], mapped: bool) -> Iterator[Content]:
    for number, name in enumerate(listed["shards"]):
        content = index_file.read(path / name, mapped=mapped)
        if content.notes.get("shard") != [number, len(listed["shards"]), listed["build"]]:
            raise InputError(f"{path / name} is no shard that {LIST} lists; index the images again")
        yield content


def _listed(path: Path) -> dict[str, Any]:
    if not is_sharded(path):
        raise InputError(f"{path} is a folder; {_NEEDED}")
    with reading(path / LIST, _NEEDED) as file:
        content = file.read()
    try:
        listed = json.loads(content)
        sound = listed["version"] == _VERSION and listed["dtype"] in index_file.DTYPES
        sound = sound and [type(n) for n in listed["shape"]] == [int, int]
        sound = sound and min(listed["shape"]) >= 0 and isinstance(listed["build"], str)
        sound = sound and all(Path(name).name == name for name in listed["shards"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path / LIST} is damaged: {error!r}; index the images again") from error
    if not sound or not listed["shards"]:
        raise InputError(f"{path / LIST} is damaged, or of another version; {_NEEDED}")
    return dict(listed)
