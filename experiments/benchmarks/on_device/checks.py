"""Whether the device computes what the CPU does: one training step, embeddings, searches."""

from typing import Any

import jax
import numpy as np
import optax

from on_device.clock import Section
from on_device.embedding import run_of
from on_device.finding import DIM, K
from on_device.tasks import SHAPES, batch_of, build, float_shapes, host_state
from vision_jax.search import cosine_top_k
from vision_jax.training.steps import DataParallel, augmented

TOLERANCES = {
    "highest": {"loss": 1e-5, "gradient": 5e-3},
    "default": {"loss": 1e-3, "gradient": 1e-1},
}
"""Greatest relative errors |device - CPU| / |CPU| of a step, the gradient's over all weights.

"highest" multiplies in float32, "default" as the platform likes: a GPU may round factors to 10 bits
(TF32), a TPU to bfloat16. A gradient's error is far above the loss's: where an activation is near
zero, or two pixels of a pooling window nearly tie, rounding decides which way the gradient goes.
"""
ROWS = {"float32, highest": 1e-3, "bfloat16": 1e-1}
"""The same of embeddings."""


def steps(section: Section, networks: dict[str, tuple[int, int]]) -> None:
    """Compare loss and gradients of one step of SGD at rate 1, whose change is the gradient.

    Args:
        section: where figures go.
        networks: for each network its images of a batch and their side.
    """
    for network, (count, side) in networks.items():
        if not section.has_time(f"the step of {network}"):
            continue
        shape = SHAPES.get(network, (side, side, 3))
        batch = batch_of(shape, count)
        truth = _one_step(network, batch, jax.devices("cpu")[0], "highest")
        for precision in ("highest", "default"):
            if not section.has_time(f"the step of {network}, {precision}"):
                continue
            loss, gradient = _one_step(network, batch, jax.devices()[0], precision)
            errors = {
                "loss": abs(loss - truth[0]) / abs(truth[0]),
                "gradient": relative(gradient, truth[1]),
            }
            allowed = TOLERANCES[precision]
            _judge(section, f"{network}, one step, {precision}", allowed, errors)


def embeddings(section: Section, networks: dict[str, tuple[int, int]]) -> None:
    """Compare embeddings, less their mean, which all images share."""
    for network, (count, side) in networks.items():
        if not section.has_time(f"embeddings of {network}"):
            continue
        shape = (side, side, 3)
        images = batch_of(shape, count)["image"]
        cpu, device = jax.devices("cpu")[0], jax.devices()[0]
        with jax.default_matmul_precision("highest"):
            truth = run_of(network, shape, "float32", cpu).embed(images)
            exact = run_of(network, shape, "float32", device).embed(images)
        half = run_of(network, shape, "bfloat16", device).embed(images)
        centre = truth.mean(0)
        for name, rows in (("float32, highest", exact), ("bfloat16", half)):
            error = relative(rows - centre, truth - centre)
            _judge(section, f"{network}, embeddings, {name}", {"rows": ROWS[name]}, {"rows": error})
            section.rows[-1]["largest_difference"] = float(np.abs(rows - truth).max())
            section.rows[-1]["largest_number"] = float(np.abs(truth).max())


def searches(section: Section, items: int, queries: int) -> None:
    """Compare ids and scores of a search; ids may differ where scores tie within 1e-6."""
    random = np.random.default_rng(3)
    rows, asked = (random.standard_normal((n, DIM), np.float32) for n in (items, queries))
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for device in (jax.devices("cpu")[0], jax.devices()[0]):
        with jax.default_device(device):
            scores, ids = cosine_top_k(*jax.device_put((asked, rows), device), K)
            found[device.platform] = np.asarray(scores), np.asarray(ids)
    (scores, ids), (other, theirs) = next(iter(found.values())), list(found.values())[-1]
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    unit_asked = asked / np.linalg.norm(asked, axis=1, keepdims=True)
    true = np.einsum("qd,qkd->qk", unit_asked.astype(np.float64), unit[theirs].astype(np.float64))
    errors = {
        "scores": float(np.abs(scores - other).max()),
        "scores against float64": float(np.abs(true - other).max()),
        "ids that differ where scores do": float(((ids != theirs) & (scores - true > 1e-6)).mean()),
    }
    allowed = {"scores": 2e-6, "scores against float64": 2e-6}
    allowed["ids that differ where scores do"] = 0.0
    _judge(section, f"search of {items:,} rows by {queries} queries", allowed, errors)


def relative(rows: np.ndarray, truth: np.ndarray) -> float:
    """Return |rows - truth| / |truth|; infinite if either has NaN."""
    error = float(np.linalg.norm(rows - truth) / np.linalg.norm(truth))
    return error if np.isfinite(error) else float("inf")


def _judge(
    section: Section, what: str, allowed: dict[str, float], errors: dict[str, float]
) -> None:
    passed = all(error <= allowed[name] for name, error in errors.items())
    section.rows.append({"check": what, "errors": errors, "allowed": allowed, "passed": passed})
    if not passed:
        section.note(f"WRONG: {what}: {errors}, allowed {allowed}")


def _one_step(
    network: str, batch: dict[str, np.ndarray], device: Any, precision: str
) -> tuple[float, np.ndarray]:
    """Return the loss, and the change of all weights by a step of SGD at rate 1."""
    task = build(network, "float32", optax.sgd(1.0))
    parallel = DataParallel((device,))
    state = host_state(task, batch["image"].shape[1:])
    with jax.default_matmul_precision(precision):
        totals = parallel.zeros(augmented(task, None), state, float_shapes(batch))
        step = parallel.train_step(task)
        after, _, metrics = step(parallel.replicate(state), totals, {}, parallel.shard(batch))
    changes = jax.tree.map(
        lambda new, old: np.ravel(np.asarray(new) - old),
        *(tree.params for tree in (jax.device_get(after), state)),
    )
    losses = [total / n for name, (total, n) in jax.device_get(metrics).items() if "loss" in name]
    return float(sum(losses)), np.concatenate(jax.tree.leaves(changes))
