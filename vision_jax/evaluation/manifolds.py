"""How much of the real images generated ones look like, and how many of them they reach.

Both sets are seen as balls around their features, each as large as the distance to the k-th nearest
of its own set.
"""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vision_jax.errors import InputError

Features = Float[np.ndarray, "images features"]
_ROWS = 512


class Coverage(NamedTuple):
    """How two sets of features overlap.

    Attributes:
        precision: share of the generated images within a real image's ball.
        recall: share of the real images within a generated image's ball.
        density: how many real images' balls a generated image lies in, over k; above 1 where
            generated images crowd.
        coverage: share of the real images with a generated image in their ball.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def measure_coverage(
    features: Features, reference: Float[np.ndarray, "references width"], *, k: int = 5
) -> Coverage:
    """Compare generated images with real ones by the neighbourhoods of their features.

    Precision and recall: Kynkäänniemi et al., "Improved precision and recall metric for assessing
    generative models", 2019, there with k = 3. Density and coverage: Naeem et al., "Reliable
    fidelity and diversity metrics for generative models", 2020, with k = 5. All depend on the
    features, on k and on how many images there are, best equally many of both.

    Args:
        features: (N, D) of generated images.
        reference: (M, D) of real images.
        k: which neighbour's distance is a ball's radius, itself not counted; at least 1 and less
            than N and M.

    Raises:
        InputError: the widths differ, a feature is NaN or infinite, or a set has k images or fewer.
    """
    if features.shape[1] != reference.shape[1]:
        raise InputError(
            f"features and reference have shapes {features.shape} and {reference.shape}; the same "
            "width is needed"
        )
    if not 1 <= k < min(len(features), len(reference)):
        raise InputError(
            f"k is {k}; it must be at least 1 and less than the numbers of images, {len(features)} "
            f"and {len(reference)}"
        )
    for name, rows in (("features", features), ("reference", reference)):
        if not np.isfinite(rows).all():
            raise InputError(f"{name} has rows with NaN or infinity; finite features are needed")
    # Distances stay, and squares keep more digits, where the mean is taken off both.
    centre = reference.mean(0)
    made, real = (np.asarray(rows - centre, np.float32) for rows in (features, reference))
    radii, own = _radii(real, k), _radii(made, k)
    within, reached, covered = [], np.zeros(len(real), bool), np.zeros(len(real), bool)
    for start, squares in _distances(made, real):
        inside = squares <= radii
        within.append(inside.sum(1))
        covered |= inside.any(0)
        reached |= (squares <= own[start : start + len(squares), None]).any(0)
    counts = np.concatenate(within)
    return Coverage(
        float(np.mean(counts > 0)),
        float(reached.mean()),
        float(counts.mean() / k),
        float(covered.mean()),
    )


def _radii(rows: Features, k: int) -> Float[np.ndarray, " images"]:
    """Return the squared distance from each row to the k-th nearest other."""
    found = [np.partition(squares, k, axis=1)[:, k] for _, squares in _distances(rows, rows)]
    return np.concatenate(found)


def _distances(
    a: Features, b: Float[np.ndarray, "others features"]
) -> Iterator[tuple[int, Float[np.ndarray, "rows others"]]]:
    """Yield the first row's place and the squared distances of some rows of `a` to all of `b`."""
    held, size = jnp.asarray(b), min(_ROWS, len(a))
    for start in range(0, len(a), size):
        part = a[start : start + size]
        padded = np.pad(part, ((0, size - len(part)), (0, 0)))
        yield start, np.asarray(_squares(padded, held))[: len(part)]


@jax.jit
def _squares(
    a: Float[Array, "rows features"], b: Float[Array, "others features"]
) -> Float[Array, "rows others"]:
    products = jnp.matmul(a, b.T, precision="highest")
    return jnp.square(a).sum(1)[:, None] + jnp.square(b).sum(1) - 2 * products
