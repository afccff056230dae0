"""The steps that a loop calls, on many devices: batch, augmentation, a task's step, totals."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array

from vision_jax.augment.recipes import Augment
from vision_jax.data.loader import Batch, Loader
from vision_jax.errors import InputError
from vision_jax.parallel.devices import AXIS, Devices, take_devices
from vision_jax.parallel.processes import ASKED
from vision_jax.parallel.shards import parts, whole
from vision_jax.tasks.base import Task
from vision_jax.tasks.state import Metrics, TrainState

_AUGMENT = 0  # what the step's key is folded with; tasks take the numbers from 1

TrainStep = Callable[[Any, Any, Any, Any], tuple[Any, Any, Any]]
EvalStep = Callable[[Any, Any, Any, Any], Any]


@dataclasses.dataclass(frozen=True)
class DataParallel(Devices):
    """Spread each batch over devices; everything else is whole on each of them.

    Attributes:
        devices: the devices of all processes, in the order of the batch's parts.
        splits_optimizer: whether the optimizer's state is spread too, by its leading axis; see
            `tasks.optimizer.split`.
        splits_average: whether the average of a state is spread likewise; see `laid_out`.
    """

    splits_optimizer: bool = False
    splits_average: bool = False

    @classmethod
    def over(cls, count: int | None = None, *, shards: int = 1) -> "DataParallel":
        """Take the first `count` devices, or all.

        Args:
            count: how many.
            shards: parts of the optimizer's state: 1, or one for each device of all processes.

        Raises:
            InputError: there are fewer devices, or another number of shards.
        """
        taken = take_devices(count)
        if shards not in (1, len(taken)):
            raise InputError(
                f"shards is {shards}; it must be 1 or the number of devices, {len(taken)}"
            )
        return cls(taken, splits_optimizer=shards > 1)

    def training(self, task: Task) -> "DataParallel":
        """Return how a task's state is spread in training: where its optimizer's is, the average
        too, if no step reads it.
        """
        splits = self.splits_optimizer and not task.needs.average
        return dataclasses.replace(self, splits_average=splits)

    def laid_out(self, state: TrainState) -> TrainState:
        """Split what is spread over the devices into their parts.

        Args:
            state: a state as a task's `init` makes it.

        Returns:
            It with leaves (devices, ...) where they are spread.
        """
        if not self.splits_average:
            return state
        split = jax.tree.map(lambda leaf: parts(leaf, self.count), state.average)
        return state.replace(average=split)

    def begin(self, init: Callable[[Any], TrainState], seed: int) -> TrainState:
        """Make a state where it is to lie.

        What is spread is made in its parts: no device ever holds all of it.

        Args:
            init: makes a state of a key.
            seed: of the key, in [0, 2**32).

        Returns:
            The state as the steps take it.
        """

        def make(seed: Any) -> TrainState:
            return self.laid_out(init(jax.random.key(seed)))

        start = np.uint32(seed)
        if not self.splits_optimizer:
            return self.replicate(_jit_once(init)(jax.random.key(start)))
        shardings = self._shardings(jax.eval_shape(make, start), self._mesh)
        placed: TrainState = self.to_own(_jit_once(make, out_shardings=shardings)(start))
        return placed

    def replicate(self, tree: Any) -> Any:
        """Place a pytree as `Devices.replicate`; what a state spreads, by its own rows."""
        if self.splits_optimizer and jax.process_count() > 1:
            own = np.array([d.process_index == jax.process_index() for d in self.devices])

            def rows(leaf: Any, sharding: NamedSharding) -> Any:
                return leaf[own] if sharding.spec == P(AXIS) else leaf

            tree = jax.tree.map(rows, tree, self._shardings(tree, self._mesh))
        return super().replicate(tree)

    def gather_average(self, shapes: Any) -> Callable[[TrainState], TrainState]:
        """Build what makes the average of a state whole on every device, for evaluation.

        Args:
            shapes: of the whole average.

        Returns:
            A function of a state that a train step returned.
        """
        if not self.splits_average or not jax.tree.leaves(shapes):
            return lambda state: state
        gather = self.pmap(lambda average: jax.tree.map(whole, average, shapes), in_axes=(0,))
        return lambda state: state.replace(average=gather(state.average))

    @classmethod
    def own(cls) -> "DataParallel":
        """Take the devices of this process alone."""
        return cls(tuple(jax.local_devices()))

    def train_step(self, task: Task, augment: Augment | None = None) -> TrainStep:
        """Build the step that a loop calls: batch, augmentation, the task's step, running totals.

        Args:
            task: what is trained.
            augment: random transforms of the float batch, on device.

        Returns:
            `step(state, totals, resident, item) -> (state, totals, metrics)`; state and totals are
            donated. The metrics also hold what `processes.Vote` puts into items, added up.
        """
        train = augmented(task, augment)

        def step(
            state: TrainState, totals: Metrics, resident: dict[str, Array], item: dict[str, Array]
        ) -> tuple[TrainState, Metrics, Metrics]:
            votes = {ASKED: jax.lax.psum(item.pop(ASKED)[0], AXIS)} if ASKED in item else {}
            state, metrics = train(state, Loader.batch(resident, item))
            return state, add(totals, metrics), metrics | votes

        axes = self._state_axes
        return self.pmap(
            step, in_axes=(axes, None, None, 0), out_axes=(axes, None, None), donate=(0, 1)
        )

    def eval_step(self, task: Task) -> EvalStep:
        """Build the step of an evaluation.

        Returns:
            `step(state, totals, resident, item) -> totals`; totals are donated.
        """

        def step(
            state: TrainState, totals: Metrics, resident: dict[str, Array], item: dict[str, Array]
        ) -> Metrics:
            return add(totals, task.eval_step(state, Loader.batch(resident, item)))

        return self.pmap(step, in_axes=(self._state_axes, None, None, 0), donate=(1,))

    def rows_step(self, function: Callable[[TrainState, Batch], Any]) -> Callable[..., Any]:
        """Build a step that computes rows of each batch.

        Args:
            function: `(state, batch) -> rows` of all devices, the same on each.

        Returns:
            `step(state, resident, item) -> rows`.
        """

        def step(state: TrainState, resident: dict[str, Array], item: dict[str, Array]) -> Any:
            return function(state, Loader.batch(resident, item))

        return self.pmap(step, in_axes=(self._state_axes, None, 0), out_axes=None)

    def map_images(self, function: Callable[[Any, Any], Array]) -> Callable[[Any, Any], np.ndarray]:
        """Spread a function of images over the devices.

        Args:
            function: `(state, images) -> rows`, one row per image; the images may be a tree of
                arrays.

        Returns:
            The same function of (B, ...) host arrays, B a multiple of the devices.
        """
        mapped = self.pmap(function, in_axes=(self._state_axes, 0), out_axes=0)

        def call(state: Any, images: Any) -> np.ndarray:
            rows = np.asarray(mapped(state, self.shard(images)))
            return rows.reshape(-1, *rows.shape[2:])

        return call

    def zeros(self, step: Callable[..., Any], state: TrainState, batch: Any) -> Metrics:
        """Make totals to start from: the metrics of a step, all zero, on every device.

        Args:
            step: what `augmented` returned, or a task's `eval_step`.
            state: the task's state.
            batch: a device's batch before augmentation, or its shapes.
        """
        return self.replicate(self.no_totals(step, state, batch))

    def no_totals(self, step: Callable[..., Any], state: TrainState, batch: Any) -> Metrics:
        """Make what `zeros` places, as NumPy arrays; it traces the step.

        Args:
            step: As for `zeros`.
            state: As for `zeros`.
            batch: As for `zeros`.
        """
        axis = self.count if self.splits_optimizer else 1
        spread = jax.tree.map(
            lambda rows: jax.ShapeDtypeStruct((axis, *rows.shape), rows.dtype), batch
        )

        def metrics_of(state: TrainState, batch: Batch) -> Metrics:
            returned = step(state, batch)
            return returned[1] if isinstance(returned, tuple) else returned

        if self.splits_optimizer:
            # The learning rate is the same in every part of the state, which vmap cannot know.
            part = partial(
                jax.tree.map, lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype)
            )
            state = state.replace(opt_state=part(state.opt_state))
            if self.splits_average:
                state = state.replace(average=part(state.average))
        # vmap refuses to return unmapped what still differs along the axis; pmap would not.
        mapped = jax.vmap(metrics_of, (None, 0), out_axes=None, axis_name=AXIS)
        metrics = jax.eval_shape(mapped, state, spread)
        return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), metrics)

    @property
    def _state_axes(self) -> Any:
        """The axis of a state's arrays that is spread over the devices."""
        if not self.splits_optimizer:
            return None
        average = 0 if self.splits_average else None
        return TrainState(
            step=None, key=None, params=None, stats=None, opt_state=0, average=average
        )

    def _shardings(self, tree: Any, mesh: Mesh) -> Any:
        spread = NamedSharding(mesh, P(AXIS))

        def place(node: Any) -> Any:
            shardings = super(DataParallel, self)._shardings(node, mesh)
            if self.splits_optimizer and isinstance(node, TrainState):
                split = partial(jax.tree.map, lambda _: spread)
                shardings = shardings.replace(opt_state=split(node.opt_state))
                if self.splits_average:
                    shardings = shardings.replace(average=split(node.average))
            return shardings

        return jax.tree.map(place, tree, is_leaf=lambda node: isinstance(node, TrainState))


def _jit_once(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Compile a function that is called once, such as the one that makes a model's weights.

    On a CPU, LLVM's last optimizations of the random numbers take longer than all else at the start
    of training, and change neither their bits nor their speed.

    Args:
        function: the function.
        options: of `jax.jit`.
    """
    quick = {"xla_backend_optimization_level": 1} if jax.default_backend() == "cpu" else None
    return jax.jit(function, compiler_options=quick, **options)


def augmented(
    task: Task, augment: Augment | None
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """Put augmentation before a task's training step.

    Args:
        task: what is trained. If its `needs` ask for views, the batch gets `views`
            (B, V, H, W, C): V independent draws of `augment` for each image.
        augment: random transforms of the float batch.

    Returns:
        `step(state, batch) -> (state, metrics)`. What is drawn depends on the step, the image's
        place in the whole batch and the view alone, so that a resumed run, or one on another number
        of devices, draws the same.

    Raises:
        InputError: the task needs views and nothing tells them apart.
    """
    views = task.needs.views
    if views and augment is None:
        raise InputError(f"augment is None; {type(task).__name__} needs {views} augmented views")

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        if augment is not None:
            first = jax.lax.axis_index(AXIS) * len(batch["mask"])
            key = jax.random.fold_in(state.step_key(), _AUGMENT)
            if views:
                keys = [jax.random.fold_in(key, view) for view in range(views)]
                seen = [augment(key, batch, first)["image"] for key in keys]
                batch = batch | {"views": jnp.stack(seen, axis=1)}
            else:
                batch = augment(key, batch, first)
        return task.train_step(state, batch)

    return step


def add(totals: Metrics, metrics: Metrics) -> Metrics:
    """Merge two sets of metrics: totals and counts add up."""
    return jax.tree.map(jnp.add, totals, metrics)
