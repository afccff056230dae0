"""Read a checkpoint's arrays from their files, without orbax.

Importing orbax and starting its readers takes longer than reading the weights of most networks.
"""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_KEYS = {"key<fry>": "threefry2x32"}


def read_state(folder: Path, target: Any) -> Any | None:
    """Read a pytree that orbax wrote, if it is just what is needed.

    Args:
        folder: what a checkpoint holds of one part, such as its `state`.
        target: a pytree of `jax.ShapeDtypeStruct` with shardings of this process.

    Returns:
        The pytree, sharded as the target is; None if it is stored in another way, or holds other
        arrays: orbax then reads it or tells what is wrong.
    """
    paths, structure = jax.tree_util.tree_flatten_with_path(target)
    needed = {jax.tree_util.keystr(k, simple=True, separator="."): leaf for k, leaf in paths}
    try:
        if _stored_names(folder) != needed.keys():
            return None
        keys = {name for name, leaf in needed.items() if _is_key(leaf)}
        if keys and not _same_random(folder, {name: needed[name] for name in keys}):
            return None
        rows = _read_arrays(folder, list(needed))
    except (ValueError, OSError, KeyError, TypeError):
        return None
    placed = [_placed(rows[name], leaf) for name, leaf in needed.items()]
    fits = all(leaf is not None for leaf in placed)
    return jax.tree.unflatten(structure, placed) if fits else None


def _stored_names(folder: Path) -> set[str] | None:
    """Name the arrays that a folder holds; None if some are no plain arrays."""
    about = json.loads((folder / "_METADATA").read_bytes())
    if not about["use_ocdbt"] or about["use_zarr3"]:
        return None
    names = set()
    for node in about["tree_metadata"].values():
        kind = node["value_metadata"]
        if kind["skip_deserialize"]:  # an empty branch
            continue
        if kind["value_type"] != "jax.Array":
            return None
        names.add(".".join(str(part["key"]) for part in node["key_metadata"]))
    return names


def _same_random(folder: Path, keys: dict[str, Any]) -> bool:
    """Whether saved random keys are of the targets' generator."""
    saved = {}
    for path in (folder / "array_metadatas").glob("process_*"):
        for entry in json.loads(path.read_bytes())["array_metadatas"]:
            one = entry["array_metadata"]
            saved[one["param_name"]] = (one["ext_metadata"] or {}).get("random_key_impl")
    return all(saved.get(name) == _KEYS.get(str(key.dtype), "") for name, key in keys.items())


def _read_arrays(folder: Path, names: list[str]) -> dict[str, np.ndarray]:
    import tensorstore  # a search of what is indexed reads no weights

    base = {"driver": "file", "path": f"{folder}/"}
    context = tensorstore.Context()
    opened = [
        tensorstore.open(
            {"driver": "zarr", "kvstore": {"driver": "ocdbt", "base": base, "path": f"{name}/"}},
            open=True,
            read=True,
            context=context,
        )
        for name in names
    ]
    reads = [array.result().read() for array in opened]
    return {name: read.result() for name, read in zip(names, reads, strict=True)}


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _placed(rows: np.ndarray, target: Any) -> jax.Array | None:
    """Put an array where it belongs; None if it is another one."""
    if _is_key(target):
        like = jax.eval_shape(jax.random.key_data, target)
        if (rows.shape, rows.dtype) != (like.shape, like.dtype):
            return None
        return jax.device_put(jax.random.wrap_key_data(jax.device_put(rows)), target.sharding)
    if (rows.shape, rows.dtype) != (target.shape, target.dtype):
        return None
    return jax.device_put(rows, target.sharding)
