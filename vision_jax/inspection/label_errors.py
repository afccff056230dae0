"""The likeliest label errors: images that look more like another class than their label's."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Integer

from vision_jax.bars import tqdm
from vision_jax.data.sources import Source, Subset
from vision_jax.errors import InputError
from vision_jax.run.run import Run
from vision_jax.search import CosineIndex
from vision_jax.search.arrays import without_direction
from vision_jax.tasks.base import Classifies

NEIGHBOURS = 20
_TEMPERATURE = 0.07
_QUERIES_AT_ONCE = 4096

Probabilities = Float[np.ndarray, "images classes"]
Labels = Integer[np.ndarray, " images"]


@dataclasses.dataclass(frozen=True)
class Suspect:
    """An image whose label is likely wrong.

    Attributes:
        row: which image.
        given: its label.
        likely: the label that is more likely right.
        given_probability: of `given`, in [0, 1].
        likely_probability: of `likely`, in [0, 1].
        confident: whether confident learning counts it as an error.
        by: what judged it, `classifier` or `neighbours`.
    """

    row: int
    given: int
    likely: int
    given_probability: float
    likely_probability: float
    confident: bool
    by: str

    @property
    def margin(self) -> float:
        """How much more probable the likely label is; suspects are sorted by it."""
        return self.likely_probability - self.given_probability


def find_label_errors(
    run: Run,
    source: Source,
    labels: Labels,
    vectors: Float[np.ndarray, "images dim"],
    trained_on: Bool[np.ndarray, " images"],
) -> list[Suspect]:
    """List the images whose labels are likely wrong, likeliest first.

    A network may have memorised the labels of its training images, wrong ones included. So a
    classifier's probabilities judge only images that it was not trained on. All other images are
    judged by their nearest neighbours among the source's images, without themselves. Images whose
    embedding is zero, NaN or infinite are not judged.

    Args:
        run: any trained run; a classifier must have the source's classes.
        source: labelled images.
        labels: (N,) their labels.
        vectors: (N, D) what `run.embed` made of them.
        trained_on: (N,) which of them the run was trained on.

    Returns:
        The suspects; see `rank_errors`.

    Raises:
        InputError: the source's classes are not the classifier's.
    """
    sound = np.ones(len(source), bool)
    sound[without_direction(vectors)] = False
    unseen = np.zeros(len(source), bool)
    if isinstance(run.task, Classifies):
        if run.info.label_names != source.label_names:
            raise InputError(
                f"{source.name} has the classes {source.label_names}; the run in {run.workdir} "
                f"has {run.info.label_names}"
            )
        unseen = sound & ~trained_on
    suspects = []
    if len(rows := np.flatnonzero(unseen)):
        predicted = run.predict(Subset.of(source, rows.tolist())).astype(np.float64)
        suspects += rank_errors(predicted, labels[rows], rows, by="classifier")
    if (sound & ~unseen).any() and sound.sum() > 1:
        votes = neighbour_votes(vectors[sound], labels[sound], len(source.label_names or ()))
        judged = ~unseen[sound]
        rows = np.flatnonzero(sound)[judged]
        suspects += rank_errors(votes[judged], labels[rows], rows, by="neighbours")
    return _ranked(suspects)


def neighbour_votes(
    vectors: Float[np.ndarray, "images dim"],
    labels: Labels,
    num_classes: int,
    *,
    k: int = NEIGHBOURS,
) -> Probabilities:
    """Let each image's nearest neighbours vote on its class, without the image itself.

    A neighbour of cosine c weighs exp(c / 0.07) (Wu et al., "Unsupervised feature learning via
    non-parametric instance discrimination", 2018, equation 5).

    Args:
        vectors: (N, D) embeddings, N at least 2, none of them zero.
        labels: (N,) integers in [0, num_classes).
        num_classes: how many classes there are.
        k: how many neighbours vote; fewer where there are fewer.

    Returns:
        (N, classes) shares of the votes, float64, each row summing to 1.
    """
    index = CosineIndex(vectors.shape[1])
    index.add(vectors)
    votes = np.zeros((len(vectors), num_classes))
    starts = range(0, len(vectors), _QUERIES_AT_ONCE)
    for start in tqdm(starts, desc="asking neighbours", unit="block", delay=2, leave=False):
        rows = np.arange(start, min(start + _QUERIES_AT_ONCE, len(vectors)))
        scores, ids = index.search_by_id(rows, min(k, len(vectors) - 1))
        weights = np.exp((scores.astype(np.float64) - scores.max(1, keepdims=True)) / _TEMPERATURE)
        np.add.at(votes, (rows[:, None], labels[ids]), weights)
    return votes / votes.sum(1, keepdims=True)


def rank_errors(
    probabilities: Probabilities, labels: Labels, rows: Integer[np.ndarray, " images"], *, by: str
) -> list[Suspect]:
    """Rank the images for which another class is more probable than their label.

    They are ranked by the margin between the two probabilities. Confident learning estimates how
    many of them are errors: an image counts as confidently of class j if its probability of j
    reaches the mean probability of j among the images labelled j; of several such classes it
    belongs to the most probable one (Northcutt et al., "Confident learning: estimating uncertainty
    in dataset labels", 2021, equations 1 and 2).

    Args:
        probabilities: (N, classes) in [0, 1], computed without the image's own label.
        labels: (N,) the labels given.
        rows: (N,) what to call each image.
        by: what made the probabilities.

    Returns:
        The suspects, the widest margin first.
    """
    own = np.take_along_axis(probabilities, labels[:, None], 1)[:, 0]
    counts = np.bincount(labels, minlength=probabilities.shape[1])
    sums = np.bincount(labels, own, minlength=probabilities.shape[1])
    # A class without images has no mean, and nothing is confidently of it.
    thresholds = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
    likely, best = probabilities.argmax(1), probabilities.max(1)
    reached = np.where(probabilities >= thresholds, probabilities, 0)
    confident = (reached.max(1) > 0) & (reached.argmax(1) != labels)
    return _ranked(
        [
            Suspect(
                row=int(rows[i]),
                given=int(labels[i]),
                likely=int(likely[i]),
                given_probability=float(own[i]),
                likely_probability=float(best[i]),
                confident=bool(confident[i]),
                by=by,
            )
            for i in np.flatnonzero(best > own)
        ]
    )


def _ranked(suspects: list[Suspect]) -> list[Suspect]:
    return sorted(suspects, key=lambda suspect: (-suspect.margin, suspect.row))
