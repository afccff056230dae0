"""One step on many devices. Only this file names pmap, meshes and replication."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.multihost_utils import (
    global_array_to_host_local_array,
    host_local_array_to_global_array,
)
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array

from vision_jax.augment.recipes import Augment
from vision_jax.data.loader import Batch, Loader
from vision_jax.errors import InputError
from vision_jax.parallel.processes import ASKED
from vision_jax.tasks.base import AXIS, Metrics, Task, TrainState

_AUGMENT = 0  # what the step's key is folded with; tasks take the numbers from 1

TrainStep = Callable[[Any, Any, Any, Any], tuple[Any, Any, Any]]
EvalStep = Callable[[Any, Any, Any, Any], Any]


@dataclasses.dataclass(frozen=True)
class DataParallel:
    """Spreads each batch over devices; everything else is whole on each of them.

    Attributes:
        devices: the devices of all processes, in the order of the batch's parts.
        splits_optimizer: whether the optimiser's state is spread too, by its leading axis; see
            `tasks.optimizer.split`.
    """

    devices: tuple[jax.Device, ...]
    splits_optimizer: bool = False

    @classmethod
    def over(cls, count: int | None = None, *, shards: int = 1) -> "DataParallel":
        """Takes the first `count` devices, or all.

        Args:
            count: how many.
            shards: parts of the optimiser's state: 1, or one for each device.

        Raises:
            InputError: there are fewer devices, another number of shards, or shards and several
                processes.
        """
        devices = jax.devices()
        if count is not None and not 1 <= count <= len(devices):
            raise InputError(f"{count} devices asked for; there are {len(devices)}")
        taken = tuple(devices[:count])
        if shards not in (1, len(taken)):
            raise InputError(
                f"optimizer.shards is {shards}; it must be 1 or the number of devices, {len(taken)}"
            )
        if shards > 1 and jax.process_count() > 1:
            raise InputError(
                f"optimizer.shards is {shards}; it must be 1 with {jax.process_count()} processes"
            )
        return cls(taken, splits_optimizer=shards > 1)

    @property
    def count(self) -> int:
        """How many devices there are, over all processes."""
        return len(self.devices)

    @cached_property
    def local_count(self) -> int:
        """How many of the devices are this process's own."""
        return len(self._mesh.local_mesh.devices)

    @property
    def process(self) -> tuple[int, int]:
        """(index, count) of this process."""
        return jax.process_index(), jax.process_count()

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes."""
        return jax.process_index() == 0

    def check(self, batch_size: int, parts: int = 1) -> None:
        """Refuses a batch that cannot be spread evenly.

        Args:
            batch_size: images in a step, over all devices.
            parts: how many a device's batch is split into.

        Raises:
            InputError: the batch size is no multiple of the device count, or of all parts.
        """
        if batch_size % self.count:
            raise InputError(
                f"data.batch_size is {batch_size}; "
                f"it must be a multiple of the {self.count} devices"
            )
        if batch_size % (self.count * parts):
            raise InputError(
                f"optimizer.accumulate is {parts}; data.batch_size / devices, "
                f"{batch_size // self.count}, must be a multiple of it"
            )

    def replicate(self, tree: Any) -> Any:
        """Places a pytree on the devices of this process, where `pmap` takes it from.

        It is whole on each, but for an optimiser's state that is split.

        Placed by hand, since a step that first met host arrays and then its own output would be
        traced twice.
        """
        return jax.device_put(tree, self._shardings(tree, self._mesh.local_mesh))

    def replicated(self, shapes: Any) -> Any:
        """Says of a pytree of shapes that it is placed so, on the devices of all processes."""

        def placed(leaf: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

        return jax.tree.map(placed, shapes, self._shardings(shapes, self._mesh))

    def to_all(self, tree: Any) -> Any:
        """Turns what `replicate` or a step gave into arrays of all processes, as they are saved."""
        if jax.process_count() == 1:
            return tree
        return host_local_array_to_global_array(tree, self._mesh, P())

    def to_own(self, tree: Any) -> Any:
        """Turns arrays of all processes, as they are restored, into what a step takes."""
        if jax.process_count() == 1:
            return tree
        return global_array_to_host_local_array(tree, self._mesh, P())

    def shard(self, item: Any) -> Any:
        """Places a batch, its leading axis split over the devices.

        Args:
            item: arrays (B, ...) of this process, B a multiple of its devices.

        Returns:
            Arrays (devices of this process, B / these, ...).
        """
        sharding, count = self._spread, self.local_count

        def split(rows: np.ndarray) -> np.ndarray:
            return rows.reshape(count, len(rows) // count, *rows.shape[1:])

        return jax.device_put(jax.tree.map(split, item), sharding)

    def train_step(self, task: Task, augment: Augment | None = None) -> TrainStep:
        """The step that a loop calls: batch, augmentation, the task's step, running totals.

        Args:
            task: what is trained.
            augment: random transforms of the float batch, on device.

        Returns:
            `step(state, totals, resident, item) -> (state, totals, metrics)`; state and totals are
            donated. The metrics also hold what `processes.Vote` puts into items, added up.
        """

        def step(
            state: TrainState, totals: Metrics, resident: dict[str, Array], item: dict[str, Array]
        ) -> tuple[TrainState, Metrics, Metrics]:
            votes = {ASKED: jax.lax.psum(item.pop(ASKED)[0], AXIS)} if ASKED in item else {}
            batch = Loader.batch(resident, item)
            if augment is not None:
                first = jax.lax.axis_index(AXIS) * len(batch["mask"])
                key = jax.random.fold_in(state.step_key(), _AUGMENT)
                batch = augment(key, batch, first)
            state, metrics = task.train_step(state, batch)
            return state, add(totals, metrics), metrics | votes

        axes = self._state_axes
        return self._pmap(
            step, in_axes=(axes, None, None, 0), out_axes=(axes, None, None), donate=(0, 1)
        )

    def eval_step(self, task: Task) -> EvalStep:
        """The step of an evaluation.

        Returns:
            `step(state, totals, resident, item) -> totals`; totals are donated.
        """

        def step(
            state: TrainState, totals: Metrics, resident: dict[str, Array], item: dict[str, Array]
        ) -> Metrics:
            return add(totals, task.eval_step(state, Loader.batch(resident, item)))

        return self._pmap(step, in_axes=(self._state_axes, None, None, 0), donate=(1,))

    def map_images(
        self, function: Callable[[Any, Array], Array]
    ) -> Callable[[Any, np.ndarray], np.ndarray]:
        """Spreads a function of images over the devices.

        Args:
            function: `(state, images) -> rows`, one row per image.

        Returns:
            The same function of (B, ...) host arrays, B a multiple of the devices.
        """
        mapped = jax.pmap(function, AXIS, in_axes=(self._state_axes, 0), devices=self.devices)

        def call(state: Any, images: np.ndarray) -> np.ndarray:
            rows = np.asarray(mapped(state, self.shard(images)))
            return rows.reshape(-1, *rows.shape[2:])

        return call

    def over_parts(self, function: Callable[..., Any], parts: int) -> Callable[..., Any]:
        """Runs a function on every device, each with its part of what `shard` placed.

        Args:
            function: `(shared, *parts) -> result`; it gathers over the axis, so that its result
                is the same on every device.
            parts: how many placed arrays it takes.

        Returns:
            The same function of a host array and of placed arrays (devices, ...).
        """
        return self._pmap(function, in_axes=(None, *(0,) * parts), donate=())

    def zeros(self, step: Callable[..., Any], state: TrainState, batch: Any) -> Metrics:
        """Totals to start from: the metrics of a step, all zero, on every device.

        Args:
            step: a task's `train_step` or `eval_step`.
            state: the task's state.
            batch: a device's batch, or its shapes.
        """
        axis = self.count if self.splits_optimizer else 1
        spread = jax.tree.map(
            lambda rows: jax.ShapeDtypeStruct((axis, *rows.shape), rows.dtype), batch
        )

        def figures(state: TrainState, batch: Batch) -> Metrics:
            returned = step(state, batch)
            return returned[1] if isinstance(returned, tuple) else returned

        # vmap refuses to return unmapped what still differs along the axis; pmap would not.
        mapped = jax.vmap(figures, (self._state_axes, 0), out_axes=None, axis_name=AXIS)
        metrics = jax.eval_shape(mapped, state, spread)
        return self.replicate(jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), metrics))

    @property
    def _state_axes(self) -> Any:
        """The axis of a state's arrays that is spread over the devices."""
        if not self.splits_optimizer:
            return None
        return TrainState(step=None, key=None, params=None, stats=None, opt_state=0, average=None)

    def _shardings(self, tree: Any, mesh: Mesh) -> Any:
        whole, spread = (NamedSharding(mesh, spec) for spec in (P(), P(AXIS)))

        def place(node: Any) -> Any:
            shardings = jax.tree.map(lambda _: whole, node)
            if self.splits_optimizer and isinstance(node, TrainState):
                split = jax.tree.map(lambda _: spread, node.opt_state)
                return shardings.replace(opt_state=split)
            return shardings

        return jax.tree.map(place, tree, is_leaf=lambda node: isinstance(node, TrainState))

    # Made once: each step asks for them.
    @cached_property
    def _mesh(self) -> Mesh:
        return Mesh(np.array(self.devices), (AXIS,))

    @cached_property
    def _spread(self) -> NamedSharding:
        return NamedSharding(self._mesh.local_mesh, P(AXIS))

    def _pmap(
        self,
        step: Callable[..., Any],
        *,
        in_axes: Sequence[Any],
        out_axes: Any = None,
        donate: tuple[int, ...],
    ) -> Callable[..., Any]:
        # out_axes=None returns one device's value: right only since every step reduces over the
        # axis whatever differs between devices.
        return jax.pmap(
            step,
            AXIS,
            in_axes=tuple(in_axes),
            out_axes=out_axes,
            donate_argnums=donate,
            devices=self.devices,
        )


def add(totals: Metrics, metrics: Metrics) -> Metrics:
    """Merges two sets of metrics: totals and counts add up."""
    return jax.tree.map(jnp.add, totals, metrics)
