"""The loop: iterate, evaluate, log, save. It serves every task and reads no config."""

import dataclasses
import math
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import islice
from types import TracebackType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from tqdm import tqdm

from vision_jax.data.loader import Loader, blank_batch
from vision_jax.errors import RunError
from vision_jax.tasks.base import Metrics, Task, TrainState
from vision_jax.training.checkpoint import Checkpoints
from vision_jax.training.metrics import Row, compute
from vision_jax.training.parallel import Augment, DataParallel

Log = Callable[[Row, dict[str, float]], None]
AfterEpoch = Callable[[TrainState, int], None]
_STEPS_AHEAD = 16


class TrainingDivergedError(RunError):
    """The loss is no longer finite; the checkpoints before it are whole."""


@dataclasses.dataclass(frozen=True)
class FitResult:
    """What `fit` returns.

    Attributes:
        state: the state after the last step.
        history: a row of figures per epoch run: `step`, `epoch`, `train/...`, `validation/...`.
        finished: False if `should_stop` ended it before the last epoch.
    """

    state: TrainState
    history: list[Row]
    finished: bool


def fit(
    task: Task,
    train: Loader,
    *,
    epochs: int,
    seed: int = 0,
    validation: Loader | None = None,
    augment: Augment | None = None,
    parallel: DataParallel | None = None,
    checkpoints: Checkpoints | None = None,
    about: dict[str, Any] | None = None,
    log: Log | None = None,
    after_epoch: AfterEpoch | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    progress: bool = True,
) -> FitResult:
    """Trains a task, from its last checkpoint if there is one.

    Args:
        task: what is trained.
        train: its batches; made with `train=True`.
        epochs: passes over them in all.
        seed: root of the weights and of every step's random numbers, in [0, 2**32).
        validation: batches to evaluate after each epoch.
        augment: random transforms of the training images, on device.
        parallel: the devices; all by default.
        checkpoints: where to save after each epoch, and what to resume from.
        about: JSON-able facts saved with each checkpoint for its reader.
        log: called after each epoch with its row, and with figures that differ from run to run.
        after_epoch: called after each epoch with the state and the number of epochs done.
        should_stop: asked after each step; once true, the state is saved and `fit` returns.
        progress: whether to show a bar and a line per epoch.

    Returns:
        The state and the history.

    Raises:
        TrainingDivergedError: a step's loss or a weight is not finite; the last checkpoint is the
            one before.
        InputError: the batch size does not suit the devices, or the checkpoint not the task.
    """
    parallel = parallel or DataParallel.over()
    parallel.check(train.batch_size)
    blank = blank_batch(train.source.image_shape)
    state = parallel.replicate(initial_state(task, seed, train.source.image_shape))
    totals = parallel.zeros(task.train_step, state, blank)
    step, per_epoch = 0, train.steps_per_epoch
    if checkpoints and (found := checkpoints.find("last")) is not None:
        targets = parallel.replicated({"state": state, "totals": totals})
        restored = checkpoints.restore(found, **targets)
        state, totals, step = restored["state"], restored["totals"], found
    evaluate = Evaluator(task, validation, parallel) if validation else None
    train_step = parallel.train_step(task, augment)
    resident = parallel.replicate(train.resident())
    items = train.items(step, epochs * per_epoch)
    history, stopped = list[Row](), False
    check = partial(_check_loss, checkpoints)
    with Progress(train, step, epochs, check, shown=progress and parallel.is_first) as bar:
        while step < epochs * per_epoch and not stopped:
            for item in islice(items, per_epoch - step % per_epoch):
                state, totals, metrics = train_step(state, totals, resident, parallel.shard(item))
                step += 1
                bar.advance(metrics)
                if stopped := should_stop():
                    break
            bar.wait()
            _check_weights(checkpoints, step, state)
            figures: dict[str, float] = {}
            if step % per_epoch == 0:
                speeds = bar.speeds()
                trained = _scalars(compute(totals))
                figures = _scalars(evaluate(state)) if evaluate else {}
                row = _row(step, step // per_epoch, trained, figures)
                history.append(row)
                bar.write(row)
                if log:
                    log(row, speeds)
                if after_epoch:
                    after_epoch(state, step // per_epoch)
                totals = parallel.zeros(task.train_step, state, blank)
            if checkpoints:
                checkpoints.save(step, state, totals, about or {}, figures)
    if checkpoints:
        checkpoints.wait()
    return FitResult(state, history, finished=step == epochs * per_epoch)


def initial_state(task: Task, seed: int, image_shape: tuple[int, int, int]) -> TrainState:
    """A task's state before the first step.

    Args:
        task: what is trained.
        seed: root of every random number, in [0, 2**32).
        image_shape: (height, width, channels).
    """
    init = jax.jit(lambda key: task.init(key, blank_batch(image_shape)))
    return init(jax.random.key(np.uint32(seed)))


class Evaluator:
    """Runs a task's evaluation over a whole loader.

    Args:
        task: what is evaluated.
        loader: its batches; made with `train=False`.
        parallel: the devices.
    """

    def __init__(self, task: Task, loader: Loader, parallel: DataParallel) -> None:
        parallel.check(loader.batch_size)
        self._task, self._loader, self._parallel = task, loader, parallel
        self._resident = parallel.replicate(loader.resident())
        self._step = parallel.eval_step(task)

    def __call__(self, state: TrainState) -> dict[str, Any]:
        """Evaluates a state.

        Args:
            state: the state, on every device.

        Returns:
            Floats, and host arrays of counts, by name.
        """
        blank = blank_batch(self._loader.source.image_shape)
        totals = self._parallel.zeros(self._task.eval_step, state, blank)
        for item in self._loader.items(0, self._loader.steps_per_epoch):
            totals = self._step(state, totals, self._resident, self._parallel.shard(item))
        return compute(totals)


class Progress:
    """A bar over the whole run with images/s and the time that is left, and a line per epoch.

    It also keeps the host from running away: a step is dispatched long before it is done, so the
    bar counts the steps whose metrics have arrived, and waits once too many are under way.

    Args:
        train: the batches that are counted.
        step: the step to start from.
        epochs: epochs in all.
        check: called with the number of steps done and the metrics of the last, once they are here.
        shown: whether to print at all.
    """

    def __init__(
        self,
        train: Loader,
        step: int,
        epochs: int,
        check: Callable[[int, Metrics], None],
        *,
        shown: bool,
    ) -> None:
        self._batch, self._epochs, self._shown = train.batch_size, epochs, shown
        self._step, self._check = step, check
        self._under_way: deque[Metrics] = deque()
        self._counted, self._since = 0, time.perf_counter()
        self._bar = tqdm(
            total=epochs * train.steps_per_epoch * self._batch,
            initial=step * self._batch,
            unit="img",
            unit_scale=True,
            desc=f"training on {train.source.name}",
            disable=not shown,
            leave=False,
        )

    def advance(self, metrics: Metrics) -> None:
        """Notes a dispatched step and counts those that are done.

        Args:
            metrics: what the step returned.
        """
        self._under_way.append(metrics)
        while self._under_way and (
            len(self._under_way) > _STEPS_AHEAD or _is_ready(self._under_way[0])
        ):
            self._count()

    def wait(self) -> None:
        """Waits for the steps under way."""
        while self._under_way:
            self._count()

    def speeds(self) -> dict[str, float]:
        """Waits for the steps under way.

        Returns:
            `images_per_second` since the last call.
        """
        self.wait()
        now = time.perf_counter()
        speed = self._counted / (now - self._since)
        self._counted, self._since = 0, now
        return {"images_per_second": speed}

    def write(self, row: Row) -> None:
        """Prints an epoch's figures on one line, above the bar."""
        figures = (f"{k} {v:.4f}" for k, v in row.items() if isinstance(v, float))
        if self._shown:
            tqdm.write(f"epoch {row['epoch']}/{self._epochs}  " + "  ".join(figures))
        self._since = time.perf_counter()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()

    def _count(self) -> None:
        metrics = jax.block_until_ready(self._under_way.popleft())
        self._step += 1
        self._check(self._step, metrics)
        self._counted += self._batch
        self._bar.update(self._batch)


def _is_ready(metrics: Metrics) -> bool:
    return all(leaf.is_ready() for leaf in jax.tree.leaves(metrics))


def _scalars(figures: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in figures.items() if isinstance(value, float)}


def _row(step: int, epoch: int, trained: dict[str, float], validated: dict[str, float]) -> Row:
    return {
        "step": step,
        "epoch": epoch,
        **{f"train/{name}": value for name, value in trained.items()},
        **{f"validation/{name}": value for name, value in validated.items()},
    }


def _check_loss(checkpoints: Checkpoints | None, step: int, metrics: Metrics) -> None:
    loss = compute({"loss": metrics["loss"]})["loss"]
    if not math.isfinite(loss):
        raise _diverged(checkpoints, step, f"the training loss is {loss}")


def _check_weights(checkpoints: Checkpoints | None, step: int, state: TrainState) -> None:
    """Refuses to save weights of which the next step's loss would not be finite."""
    if not _all_finite(state.params):
        raise _diverged(checkpoints, step, "a weight is not finite")


@jax.jit
def _all_finite(tree: Any) -> Array:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))


def _diverged(checkpoints: Checkpoints | None, step: int, what: str) -> TrainingDivergedError:
    saved = checkpoints.find("last") if checkpoints else None
    kept = "no checkpoint was saved" if saved is None else f"the checkpoint of step {saved} is kept"
    return TrainingDivergedError(
        f"{what} at step {step}; {kept}. A lower --optimizer.learning-rate may help"
    )
