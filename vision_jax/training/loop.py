"""The training loop: iterate, evaluate, log, save. It serves every task and reads no config."""

import dataclasses
from collections.abc import Callable
from contextlib import closing, nullcontext
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vision_jax.augment.recipes import Augment
from vision_jax.checked import require
from vision_jax.data.findings import warn_once
from vision_jax.data.loader import Loader, blank_batch
from vision_jax.data.sources import Source
from vision_jax.errors import InputError
from vision_jax.parallel.processes import Vote
from vision_jax.tasks.base import Judges, Task
from vision_jax.tasks.state import Metrics, TrainState
from vision_jax.training.checkpoint import Checkpoints
from vision_jax.training.divergence import (
    TrainingDivergedError,
    check_collapse,
    check_loss,
    check_weights,
)
from vision_jax.training.metrics import Row, compute
from vision_jax.training.profile import Profile
from vision_jax.training.progress import STEPS_AHEAD, Progress
from vision_jax.training.steps import DataParallel, augmented
from vision_jax.training.stopping import EarlyStopping, Watch, check_judged, check_metric, ranking
from vision_jax.training.stragglers import late_process

__all__ = ["Evaluator", "FitResult", "TrainingDivergedError", "check_needs", "fit", "initial_state"]

Log = Callable[[Row, dict[str, float]], object]
AfterEpoch = Callable[[TrainState, int], object]
_EVALUATED_AHEAD = 4


@dataclasses.dataclass(frozen=True)
class FitResult:
    """What `fit` returns.

    Attributes:
        state: the state after the last step.
        history: a row of figures per epoch run: `step`, `epoch`, `train/...`, `validation/...`.
        finished: False if `should_stop` ended it before the last epoch.
        early_stop: why `early_stopping` ended it; None if it did not.
    """

    state: TrainState
    history: list[Row]
    finished: bool
    early_stop: str | None = None


def fit(
    task: Task,
    train: Source | Loader,
    *,
    epochs: int,
    batch_size: int | None = None,
    seed: int = 0,
    state: TrainState | None = None,
    validation: Source | Loader | None = None,
    early_stopping: EarlyStopping | None = None,
    augment: Augment | None = None,
    parallel: DataParallel | None = None,
    checkpoints: Checkpoints | None = None,
    about: dict[str, Any] | None = None,
    log: Log | None = None,
    after_epoch: AfterEpoch | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    profile: Profile | None = None,
    progress: bool = True,
) -> FitResult:
    """Train a task, from its last checkpoint if there is one.

    Args:
        task: what is trained.
        train: a source of images; or a loader of batches, made with `train=True`.
        epochs: total passes over them.
        batch_size: images per step over all devices; only with a source.
        seed: seed of the weights, of every step's random numbers and of a source's order, in
            [0, 2**32).
        state: the state to start from if there is no checkpoint; a new one by default. The steps
            that it has done count: the result of an earlier call goes on up to `epochs` in all.
        validation: a source or loader to evaluate after each epoch.
        early_stopping: when to stop before the last epoch, by a metric of `validation`.
        augment: random transforms of the training batches, on device.
        parallel: the devices; all by default.
        checkpoints: where to save after each epoch and resume from.
        about: JSON-able facts to save with each checkpoint.
        log: called after each epoch with its row, and with speeds, which differ from run to run;
            see `Progress.speeds`.
        after_epoch: called after each epoch with the state and the number of epochs done.
        should_stop: called after each step; once it returns true, the state is saved and `fit`
            returns. All processes stop a few steps after one is asked to.
        profile: the steps to trace.
        progress: whether to show a progress bar and a line per epoch.

    Returns:
        The state and the history.

    Raises:
        TrainingDivergedError: a step's loss or a weight is NaN or infinite; the last checkpoint
            is the one before.
        InputError: the batch size is missing or does not suit the devices, the checkpoint does
            not fit the task, or the data lacks what the task needs.

    >>> import numpy as np, optax, vision_jax
    >>> from vision_jax.data.sources import ArraySource
    >>> from vision_jax.models import CNN
    >>> from vision_jax.tasks.classification import Classification
    >>> images = np.random.default_rng(0).integers(0, 256, (32, 8, 8, 1), np.uint8)
    >>> labels = (images.mean((1, 2, 3)) > 127).astype(np.int32)
    >>> model = CNN(num_classes=2, stages=(4,), hidden=8, padding="SAME")
    >>> task = Classification(model, optax.adam(1e-3))
    >>> source = ArraySource.from_arrays(images, labels)
    >>> result = vision_jax.fit(task, source, batch_size=8, epochs=2, progress=False)
    >>> int(result.state.step)
    8
    """
    require(0 <= seed < 2**32, "seed", seed, "in [0, 2**32)")
    parallel = parallel or DataParallel.over()
    batches = partial(_batches, batch_size=batch_size, seed=seed, parallel=parallel)
    train = batches(train, train=True)
    check_needs(task, train.source)
    if early_stopping:
        check_metric(task, early_stopping.metric, train.source.image_shape, "metric")
    evaluate = None
    if early_stopping and validation is None:
        raise InputError("early_stopping needs validation, whose metric decides when to stop")
    if validation is not None:
        validation = batches(validation, train=False)
        _check_validation(task, train.source, validation.source)
        if early_stopping:
            check_judged(task, validation.source, "early_stopping")
        evaluate = Evaluator(task, validation, parallel)
    trained_step = augmented(task, augment)
    spread = parallel.training(task)
    shapes, state, totals, step = _begin(
        task, seed, state, trained_step, train, spread, checkpoints
    )
    train_step = spread.train_step(task, augment)
    for_evaluation = spread.gather_average(shapes.average)
    # Tracing a deep network's step for the shapes of its totals takes seconds: once is enough.
    no_totals = jax.tree.map(lambda total: np.zeros(total.shape, total.dtype), totals)
    resident = parallel.replicate(train.resident())
    per_epoch, about = train.steps_per_epoch, about or {}
    watch = _watch(early_stopping, task, step // per_epoch, checkpoints)
    items = train.items(step, epochs * per_epoch)
    history, stopped, vote = list[Row](), False, Vote(parallel.process[1], STEPS_AHEAD)

    def check(done: int, metrics: Metrics) -> None:
        check_loss(train, checkpoints, done, metrics)
        vote.count(done, metrics)

    bar = Progress(train, step, epochs, check, shown=progress and parallel.is_first)
    feed = (parallel.shard(item | vote.ballot(parallel.local_count)) for item in bar.timed(items))
    with closing(bar), closing(profile) if profile else nullcontext():
        while step < epochs * per_epoch and not stopped and not watch.reason:
            bar.start()
            placed = next(feed, None)
            while placed is not None:
                if profile:
                    profile.before(step, bar.wait)
                state, totals, metrics = train_step(state, totals, resident, placed)
                step += 1
                # Transferred while the devices compute: before any result is waited for. What
                # cannot be read in the next epoch must not lose this one.
                placed = next(feed, None) if step % per_epoch else None
                bar.advance(metrics)
                vote.ask(should_stop())
                if vote.stops(step):
                    break
            bar.wait()
            stopped = vote.settled
            check_weights(train, checkpoints, step, state)
            figures: dict[str, float] = {}
            if step % per_epoch == 0:
                evaluated = for_evaluation(state)
                speeds = bar.speeds()
                late = late_process(speeds["data_wait"])
                if late and progress and parallel.is_first:
                    warn_once(late)
                trained = _scalars(compute(totals))
                figures = _scalars(evaluate(evaluated)) if evaluate else {}
                check_collapse(task, figures, step)
                watch.see(figures, step // per_epoch)
                row = _row(step, step // per_epoch, trained, figures)
                history.append(row)
                bar.write(row)
                if log:
                    log(row, speeds)
                if after_epoch:
                    after_epoch(evaluated, step // per_epoch)
                del evaluated  # its average is whole
                totals = spread.replicate(no_totals)
            if checkpoints:
                whole = spread.to_all({"state": state, "totals": totals})
                checkpoints.save(step, **whole, about=about | watch.record, metrics=figures)
    if checkpoints:
        checkpoints.wait()
    done = step >= epochs * per_epoch
    return FitResult(for_evaluation(state), history, done or watch.reason is not None, watch.reason)


def _watch(
    rule: EarlyStopping | None, task: Task, epoch: int, checkpoints: Checkpoints | None
) -> Watch:
    """Begin to watch a metric, or resume from the last checkpoint."""
    found = None if checkpoints is None else checkpoints.find("last")
    record = {} if found is None or checkpoints is None else checkpoints.about(found)
    if rule is not None:
        return Watch(rule, ranking(task, rule.metric), epoch, record)
    return Watch(None, checkpoints.ranking if checkpoints else None, epoch, record)


def check_needs(task: Task, source: Source) -> None:
    """Refuse images without what a task needs.

    Raises:
        InputError: they have no labels, or more classes than the model tells apart.
    """
    if not task.needs.labels:
        return
    names, several = source.label_names, source.multi_label_names
    if several is not None and not task.needs.multi_label:
        raise InputError(
            f"{source.name} has several labels an image; {type(task).__name__} needs one"
        )
    if task.needs.multi_label:
        names = several
    if names is None:
        raise InputError(f"{source.name} has no labels; {type(task).__name__} needs them")
    model = getattr(task, "model", None)
    told = next(iter(getattr(model, "centres", ())), getattr(model, "num_classes", None))
    if told is not None and len(names) > told:
        raise InputError(
            f"{source.name} has {len(names)} classes; num_classes of the model is {told}"
        )


def _check_validation(task: Task, train: Source, validation: Source) -> None:
    """Refuse images to validate on whose labels are missing or mean others than in training.

    Raises:
        InputError: they do. Without names of their own a source's classes are numbers, of which it
            may lack the last.
    """
    if isinstance(task, Judges):
        return  # of embeddings, with or without labels
    check_needs(task, validation)
    if not task.needs.labels:
        return
    several = task.needs.multi_label
    known, names = (
        (source.multi_label_names if several else source.label_names) or ()
        for source in (train, validation)
    )
    other = next((pair for pair in zip(known, names, strict=False) if pair[0] != pair[1]), None)
    if other is not None:
        raise InputError(
            f"{validation.name}, to validate on, has the class {other[1]!r} where "
            f"{train.name} has {other[0]!r}; the same classes in the same order are needed"
        )


def _batches(
    images: Source | Loader,
    *,
    train: bool,
    batch_size: int | None,
    seed: int,
    parallel: DataParallel,
) -> Loader:
    if isinstance(images, Source):
        if batch_size is None or batch_size < 1:
            raise InputError(f"batch_size is {batch_size}; with a source it must be at least 1")
        images = Loader(images, batch_size, train=train, seed=seed, process=parallel.process)
    parallel.check(images.batch_size)
    return images


def _begin(
    task: Task,
    seed: int,
    state: TrainState | None,
    step: Callable[..., Any],
    train: Loader,
    spread: DataParallel,
    checkpoints: Checkpoints | None,
) -> tuple[TrainState, TrainState, Metrics, int]:
    """Load state, running totals and step of the last checkpoint, or begin with a state.

    Returns:
        The shapes of the whole state, and these three.
    """
    init = partial(_init, task, train.source.image_shape)
    shapes = jax.eval_shape(lambda: init(jax.random.key(0)) if state is None else state)
    parts = jax.eval_shape(spread.laid_out, shapes)
    totals = spread.zeros(step, parts, _shapes(train, spread))
    if checkpoints and (found := checkpoints.find("last")) is not None:
        targets = spread.replicated({"state": parts, "totals": totals})
        restored = spread.to_own(checkpoints.restore(found, **targets))
        return shapes, restored["state"], restored["totals"], found
    if state is None:
        state = spread.begin(init, seed)
    else:  # a copy, since steps take the memory of what they are given
        state = spread.replicate(spread.laid_out(jax.tree.map(jnp.copy, state)))
    return shapes, state, totals, int(state.step)


def _shapes(train: Loader, parallel: DataParallel) -> Any:
    """Describe a device's batch by its shapes."""
    rows = train.batch_size // parallel.count
    return jax.eval_shape(lambda: train.blank(rows))


def initial_state(task: Task, seed: int, image_shape: tuple[int, int, int]) -> TrainState:
    """Make a task's state before the first step.

    Args:
        task: what is trained.
        seed: seed of every random number, in [0, 2**32).
        image_shape: (height, width, channels).
    """
    return jax.jit(partial(_init, task, image_shape))(jax.random.key(np.uint32(seed)))


def _init(task: Task, image_shape: tuple[int, int, int], key: Any) -> TrainState:
    return task.init(key, blank_batch(image_shape))


class Evaluator:
    """A task's evaluation over a whole loader.

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
        self._rows = parallel.rows_step(task.eval_step)
        self._no_totals: Metrics | None = None  # made by the first call, which knows the state

    def __call__(self, state: TrainState) -> dict[str, Any]:
        """Evaluate a state.

        Args:
            state: the state, on every device.

        Returns:
            Floats, and host arrays of counts, by name.
        """
        if isinstance(self._task, Judges):
            return self._task.judge(*self._embeddings(state))
        if self._no_totals is None:
            blank = self._loader.blank()
            self._no_totals = self._parallel.no_totals(self._task.eval_step, state, blank)
        totals = self._parallel.replicate(self._no_totals)
        for step, item in enumerate(self._loader.items(0, self._loader.steps_per_epoch)):
            totals = self._step(state, totals, self._resident, self._parallel.shard(item))
            if step % _EVALUATED_AHEAD == 0:
                # Otherwise the batches of a whole folder would queue in memory for a slow device.
                jax.block_until_ready(totals)
        return compute(totals)

    def _embeddings(self, state: TrainState) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the embeddings of the whole source, and its labels."""
        parts = []
        for item in self._loader.items(0, self._loader.steps_per_epoch):
            rows = self._rows(state, self._resident, self._parallel.shard(item))
            host = jax.tree.map(np.asarray, rows)
            parts.append({name: values[host["mask"]] for name, values in host.items()})
        names = parts[0]
        whole = {name: np.concatenate([part[name] for part in parts]) for name in names}
        # Judged by one label an image: several count as none.
        several = self._loader.source.multi_label_names is not None
        return whole["embedding"], None if several else whole.get("label")


def _scalars(figures: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in figures.items() if isinstance(value, float)}


def _row(step: int, epoch: int, trained: dict[str, float], validated: dict[str, float]) -> Row:
    return {
        "step": step,
        "epoch": epoch,
        **{f"train/{name}": value for name, value in trained.items()},
        **{f"validation/{name}": value for name, value in validated.items()},
    }
