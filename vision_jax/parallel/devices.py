"""The devices that share a computation: placing arrays on them and running a function on each.

Only this package names meshes, pmap and replication.
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jax.experimental.multihost_utils import (
    global_array_to_host_local_array,
    host_local_array_to_global_array,
)
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from vision_jax.errors import InputError
from vision_jax.parallel.threads import core_count

AXIS = "batch"
"""The axis that a batch is spread over: what a function on each device reduces or gathers along."""

# Images of an inference, and bytes of its largest map on a CPU.
_IMAGES = (256, 32, 1)
_CACHED = 8 << 20


@dataclasses.dataclass(frozen=True)
class Devices:
    """Devices over which leading axes are spread; all else is whole on each of them.

    Attributes:
        devices: the devices of all processes, in the order of the parts.
    """

    devices: tuple[jax.Device, ...]

    @classmethod
    def over(cls, count: int | None = None) -> "Devices":
        """Take the first `count` devices, or all.

        Args:
            count: how many.

        Raises:
            InputError: there are fewer devices.
        """
        return cls(take_devices(count))

    @property
    def count(self) -> int:
        """How many devices there are, over all processes."""
        return len(self.devices)

    @cached_property
    def local_count(self) -> int:
        """How many of the devices are this process's own."""
        return len(self._mesh.local_mesh.devices)

    @property
    def cpu_count(self) -> int | None:
        """How many devices there are if they are one process's, on a CPU."""
        return self.count if self._is_cpu and jax.process_count() == 1 else None

    @property
    def lanes(self) -> int:
        """Inferences to have under way at a time.

        On a CPU one more than there are cores: what runs on one core in one of them overlaps with
        another, and the next begins as soon as one ends. Elsewhere two, so that transfers overlap
        with computing.
        """
        return core_count() + 1 if self._is_cpu else 2

    def row_sizes(self, map_bytes: Callable[[], int]) -> tuple[int, ...]:
        """Choose how many images an inference takes, largest first.

        On a CPU few enough for their maps to stay in its caches, and below the size from which the
        C library returns memory after each use; but at least two.

        Args:
            map_bytes: gives the bytes of one image's largest map; called on a CPU alone.

        Returns:
            Numbers of images, each a multiple of the devices.
        """
        sizes: tuple[int, ...] = _IMAGES
        if self._is_cpu:
            cached = max(_CACHED // map_bytes(), 2)
            largest = min((1 << cached.bit_length() - 1) * self.count, _IMAGES[0])
            sizes = (largest, max(largest // 4, 1), 1)
        multiples = (-(-size // self.count) * self.count for size in sizes)
        return tuple(sorted(set(multiples), reverse=True))

    @property
    def _is_cpu(self) -> bool:
        return self.devices[0].platform == "cpu"

    @property
    def process(self) -> tuple[int, int]:
        """(index, count) of this process."""
        return jax.process_index(), jax.process_count()

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes."""
        return jax.process_index() == 0

    def check(self, batch_size: int, parts: int = 1) -> None:
        """Refuse a batch that cannot be spread evenly.

        Args:
            batch_size: images in a step, over all devices.
            parts: how many parts a device's batch is split into.

        Raises:
            InputError: the batch size is not a multiple of the device count, or of all parts.
        """
        if batch_size % self.count:
            raise InputError(
                f"batch_size is {batch_size}; it must be a multiple of the {self.count} devices"
            )
        if batch_size % (self.count * parts):
            raise InputError(
                f"accumulate is {parts}; batch_size / devices, {batch_size // self.count}, "
                "must be a multiple of it"
            )

    def replicate(self, tree: Any) -> Any:
        """Place a pytree on the devices of this process, whole on each, for `pmap` to take.

        Placed explicitly: a step that first meets host arrays and then its own output would be
        traced twice.
        """
        return jax.device_put(tree, self._shardings(tree, self._mesh.local_mesh))

    def replicated(self, shapes: Any) -> Any:
        """Describe a pytree of shapes as placed by `replicate`, on the devices of all processes."""

        def placed(leaf: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

        return jax.tree.map(placed, shapes, self._shardings(shapes, self._mesh))

    def to_all(self, tree: Any) -> Any:
        """Turn what `replicate` or a step returned into arrays of all processes, for saving."""
        if jax.process_count() == 1:
            return jax.tree.map(_one_copy, tree)
        return host_local_array_to_global_array(tree, self._mesh, self._specs(tree))

    def to_own(self, tree: Any) -> Any:
        """Turn restored arrays of all processes into what a step takes."""
        if jax.process_count() == 1:
            return tree
        return global_array_to_host_local_array(tree, self._mesh, self._specs(tree))

    def shard(self, item: Any) -> Any:
        """Place a batch, its leading axis split over the devices.

        Args:
            item: arrays (B, ...) of this process, B a multiple of its devices.

        Returns:
            Arrays (devices of this process, B / these, ...).
        """
        sharding, count = self._spread, self.local_count

        def split(rows: np.ndarray) -> np.ndarray:
            return rows.reshape(count, len(rows) // count, *rows.shape[1:])

        return jax.device_put(jax.tree.map(split, item), sharding)

    def place(self, rows: Any, each: int) -> Any:
        """Place rows device by device, so that a device never holds more than its own.

        Args:
            rows: an array (N, ...) or what is read like one, slice by slice.
            each: rows of a device, all of this process; what is missing of them is zero.

        Returns:
            Arrays (devices, each, ...).
        """
        placed = []
        for number, device in enumerate(self.devices):
            part = np.asarray(rows[number * each : (number + 1) * each])
            if len(part) < each:
                part = np.pad(part, ((0, each - len(part)), *((0, 0),) * (part.ndim - 1)))
            placed.append(jax.device_put(part[None], device))
        shape = (self.count, each, *rows.shape[1:])
        return jax.make_array_from_single_device_arrays(shape, self._spread, placed)

    def over_parts(self, function: Callable[..., Any], parts: int) -> Callable[..., Any]:
        """Run a function on every device, each with its part of what `shard` placed.

        Args:
            function: `(shared, *parts) -> result`; it gathers over the axis, so that its result
                is the same on every device.
            parts: how many placed arrays it takes.

        Returns:
            The same function of a host array and of placed arrays (devices, ...).
        """
        return self.pmap(function, in_axes=(None, *(0,) * parts))

    def pmap(
        self,
        function: Callable[..., Any],
        *,
        in_axes: Sequence[Any],
        out_axes: Any = None,
        donate: tuple[int, ...] = (),
    ) -> Callable[..., Any]:
        """Run a function on every device, along the axis `AXIS`.

        Args:
            function: pure; with `out_axes` of None it must reduce over the axis whatever differs
                between devices, since one device's value is returned.
            in_axes: for each argument a prefix of its tree: 0 where the leading axis is spread,
                None where the argument is whole on each device.
            out_axes: the same of the results.
            donate: arguments whose memory the results may take.
        """
        return jax.pmap(
            function,
            AXIS,
            in_axes=tuple(in_axes),
            out_axes=out_axes,
            donate_argnums=donate,
            devices=self.devices,
        )

    def _shardings(self, tree: Any, mesh: Mesh) -> Any:
        """Where each leaf of a pytree lies; all of them whole on each device here."""
        return jax.tree.map(lambda _: NamedSharding(mesh, P()), tree)

    def _specs(self, tree: Any) -> Any:
        return jax.tree.map(lambda sharding: sharding.spec, self._shardings(tree, self._mesh))

    # Made once: each step asks for them.
    @cached_property
    def _mesh(self) -> Mesh:
        return Mesh(np.array(self.devices), (AXIS,))

    @cached_property
    def _spread(self) -> NamedSharding:
        return NamedSharding(self._mesh.local_mesh, P(AXIS))


def _one_copy(leaf: jax.Array) -> jax.Array:
    # Of an array that each device holds, Orbax saves a slice per device: a program for every shape.
    return leaf.addressable_data(0) if leaf.is_fully_replicated else leaf


def take_devices(count: int | None) -> tuple[jax.Device, ...]:
    """Take the first `count` devices, or all.

    Raises:
        InputError: there are fewer devices.
    """
    devices = jax.devices()
    if count is not None and not 1 <= count <= len(devices):
        raise InputError(f"devices is {count}; it must be in [1, {len(devices)}]")
    return tuple(devices[:count])
