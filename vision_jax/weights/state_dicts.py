"""What a pickle of `torch.save` builds: a dictionary of tensors that are views of storages."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from vision_jax.errors import InputError
from vision_jax.weights.limits import check_sizes, shown
from vision_jax.weights.unpickler import Global, Inert, set_item

DTYPES: dict[str, np.dtype[Any]] = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
    "UntypedStorage": np.dtype("u1"),
}
NEW_DTYPES = {"torch.uint16": "<u2", "torch.uint32": "<u4", "torch.uint64": "<u8"}
INERT = {
    "_codecs.encode",
    "argparse.Namespace",
    "collections.Counter",
    "collections.defaultdict",
    "numpy._core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy.dtype",
    "pathlib.PosixPath",
    "torch.device",
}
WRAPPERS = ("state_dict", "model", "model_state_dict", "module", "net", "network", "weights")
PREFIXES = ("module.", "_orig_mod.")
"""Put before every name by data-parallel wrappers and `torch.compile`."""


class Storage(NamedTuple):
    """A part of the file's data: `size` elements of the storage `key` from `start` on."""

    key: str
    dtype: np.dtype[Any]
    start: int
    size: int


class Tensor(NamedTuple):
    """A view of a storage; offset and strides count elements."""

    storage: Storage
    dtype: np.dtype[Any]
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def state_dict(path: Path, content: Any) -> dict[str, Tensor]:
    """Find the named tensors in what a file holds.

    A training checkpoint wraps them (`{"state_dict": …, "epoch": …}`), and wrappers of the module
    put a prefix before every name (`module.`); both are taken off. What is no tensor is left out.

    Args:
        path: the file, for messages.
        content: what its pickle built.

    Returns:
        Names to tensors.

    Raises:
        InputError: there are none, or several such dictionaries.
    """
    tensors = _unwrap(path, content)
    for name in tensors:
        if not isinstance(name, str):
            raise InputError(f"{path}: a tensor is named {shown(name)}; names must be text")
    while prefix := next((p for p in PREFIXES if all(n.startswith(p) for n in tensors)), None):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def _unwrap(path: Path, content: Any) -> dict[Any, Tensor]:
    if not isinstance(content, dict):
        raise InputError(
            f"{path} holds {shown(content)}; it must be a state dict, names to tensors"
        )
    groups = {name: _tensors_of(group) for name, group in content.items()}
    groups = {name: group for name, group in groups.items() if group}
    for name in WRAPPERS:
        if name in groups:
            return groups[name]
    if tensors := _tensors_of(content):
        return tensors
    if len(groups) != 1:
        names = ", ".join(map(shown, list(groups)[:5])) or "none"
        raise InputError(f"{path} must hold one state dict, names to tensors; it holds {names}")
    return next(iter(groups.values()))


def _tensors_of(group: Any) -> dict[Any, Tensor]:
    if not isinstance(group, dict):
        return {}
    return {name: value for name, value in group.items() if isinstance(value, Tensor)}


def persistent(saved: Any) -> Storage:
    """Return the storage of a persistent id: `("storage", type, key, device, count[, view])`.

    Args:
        saved: the id, as the pickle has it.

    Raises:
        InputError: it is something else.
    """
    if type(saved) is not tuple or len(saved) not in (5, 6) or saved[0] != "storage":
        raise InputError(f"{shown(saved)} is no storage")
    kind, key, _, count, *views = saved[1:]
    if not isinstance(key, str) or not isinstance(kind, Global):
        raise InputError(f"a storage is named {shown(key)}; its name must be text")
    module, _, name = kind.name.rpartition(".")
    if module not in ("torch", "torch.cuda", "torch.storage") or name not in DTYPES:
        raise InputError(f"storage {shown(key)} is a {shown(kind.name)}, which is not known here")
    start = 0
    if views and views[0] is not None:  # (key, start, count), as PyTorch before 0.4 shared storages
        if type(views[0]) is not tuple or len(views[0]) != 3:
            raise InputError(f"storage {shown(key)} is a damaged view")
        _, start, count = views[0]
    start, count = check_sizes(f"storage {shown(key)}: its size", (start, count))
    return Storage(key, DTYPES[name], start, count)


def call(name: str, arguments: tuple[Any, ...]) -> Any:
    """Return what a call in a pickle stands for; nothing is called but functions of this file.

    Args:
        name: of the function or class, with its module.
        arguments: of the call.

    Raises:
        InputError: no tensor needs it.
    """
    if name in INERT:
        return Inert()
    if name not in CALLS:
        raise InputError(
            f"it asks to call {shown(name)}, and nothing but tensors is read; if it is a whole "
            f"model, save its state_dict()"
        )
    try:
        return CALLS[name](*arguments)
    except TypeError:
        raise InputError(f"{shown(name)} is called with wrong arguments") from None


def _tensor(
    storage: Any,
    offset: Any,
    shape: Any,
    strides: Any,
    requires_grad: Any = False,
    hooks: Any = None,
    metadata: Any = None,
) -> Tensor:
    del requires_grad, hooks
    if metadata:
        raise InputError("a tensor is conjugated or negated on the fly, which is not known here")
    if not isinstance(storage, Storage):
        raise InputError(f"a tensor is a view of {shown(storage)}; it must be of a storage")
    return _view(storage, storage.dtype, storage.size, offset, shape, strides)


def _tensor_v3(
    storage: Any,
    offset: Any,
    shape: Any,
    strides: Any,
    requires_grad: Any,
    hooks: Any,
    dtype: Any,
    metadata: Any = None,
) -> Tensor:
    tensor = _tensor(storage, 0, (0,), (1,), requires_grad, hooks, metadata)
    if not isinstance(dtype, Global) or dtype.name not in NEW_DTYPES:
        kind = dtype.name if isinstance(dtype, Global) else dtype
        raise InputError(f"a tensor is of type {shown(kind)}, which is not known here")
    new = np.dtype(NEW_DTYPES[dtype.name])
    count = tensor.storage.size * tensor.dtype.itemsize // new.itemsize
    return _view(tensor.storage, new, count, offset, shape, strides)


def _view(
    storage: Storage, dtype: np.dtype[Any], count: int, offset: Any, shape: Any, strides: Any
) -> Tensor:
    (offset,) = check_sizes("a tensor's offset", (offset,))
    shape = check_sizes("a tensor's shape", shape)
    strides = check_sizes("a tensor's strides", strides)
    if len(shape) != len(strides):
        raise InputError(f"a tensor has shape {shown(shape)} and strides {shown(strides)}")
    reach = offset + sum((size - 1) * step for size, step in zip(shape, strides, strict=True)) + 1
    if 0 not in shape and reach > count:
        raise InputError(
            f"a tensor of shape {shown(shape)}, strides {shown(strides)} and offset {offset} "
            f"reaches beyond the {count:,} elements of storage {shown(storage.key)}"
        )
    if 0 in shape:
        return Tensor(storage, dtype, 0, shape, (0,) * len(shape))
    steps = (step if size > 1 else 0 for size, step in zip(shape, strides, strict=True))
    return Tensor(storage, dtype, offset, shape, tuple(steps))


def _parameter(data: Any, requires_grad: Any, hooks: Any, state: Any = None) -> Tensor:
    del requires_grad, hooks, state
    if not isinstance(data, Tensor):
        raise InputError(f"a parameter holds {shown(data)}; it must be a tensor")
    return data


def _of_type(function: Any, kind: Any, arguments: Any, state: Any) -> Tensor:
    del kind, state
    if not isinstance(function, Global) or function.name not in TENSOR_CALLS:
        raise InputError("a tensor is built by a function that is not known here")
    if type(arguments) is not tuple:
        raise InputError("a tensor is built from no arguments")
    tensor: Tensor = TENSOR_CALLS[function.name](*arguments)
    return tensor


def _ordered(pairs: Any = ()) -> dict[Any, Any]:
    entries: dict[Any, Any] = {}
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise InputError("an OrderedDict is made of no pairs")
        set_item(entries, *pair)
    return entries


TENSOR_CALLS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
}
CALLS = TENSOR_CALLS | {
    "torch._tensor._rebuild_from_type_v2": _of_type,
    "collections.OrderedDict": _ordered,
    "torch.Size": lambda axes=(): check_sizes("a shape", axes),
}
