"""The likeliest label errors: images that look more like another class than their label's."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Integer
from tqdm import tqdm

from vision_jax.data.sources import Source, Subset
from vision_jax.errors import InputError
from vision_jax.run.run import Run
from vision_jax.search import CosineIndex
from vision_jax.search.arrays import without_direction
from vision_jax.tasks.classification import Classification

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
        likely: the label that it more likely has.
        given_probability: of `given`, in [0, 1].
        likely_probability: of `likely`, in [0, 1].
        confident: whether confident learning counts it as an error.
        by: who says so: `classifier`, or `neighbours`.
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
        """How much more probable the likely label is; the suspects are sorted by it."""
        return self.likely_probability - self.given_probability


def find_label_errors(
    run: Run,
    source: Source,
    labels: Labels,
    vectors: Float[np.ndarray, "images dim"],
    trained_on: Bool[np.ndarray, " images"],
) -> list[Suspect]:
    """Lists the images of a labelled source whose labels are likely wrong, likeliest first.

    A network may have learnt the labels of its training images by heart, wrong ones too. So only
    images that a classifier was not trained on are judged by its probabilities. The others, and
    all images of a run that is no classifier, are judged by their nearest neighbours among all of
    the source's images, the image itself left out.

    Args:
        run: any trained network; a classifier needs the source's classes.
        source: labelled images, at least 2.
        labels: (N,) their labels.
        vectors: (N, D) what `run.embed` made of them.
        trained_on: (N,) which of them the run was trained on.

    Returns:
        The suspects; see `rank_errors`.

    Raises:
        InputError: an image's embedding is zero or not finite, or its classes are not the run's.
    """
    _check_directions(vectors, source)
    unseen = np.zeros(len(source), bool)
    if isinstance(run.task, Classification):
        if run.info.label_names != source.label_names:
            raise InputError(
                f"{source.name} has the classes {source.label_names}; the run in {run.workdir} "
                f"tells {run.info.label_names} apart"
            )
        unseen = ~trained_on
    suspects = []
    if len(rows := np.flatnonzero(unseen)):
        predicted = run.predict(Subset.of(source, rows.tolist())).astype(np.float64)
        suspects += rank_errors(predicted, labels[rows], rows, by="classifier")
    if len(rows := np.flatnonzero(~unseen)):
        votes = neighbour_votes(vectors, labels, len(source.label_names or ()))
        suspects += rank_errors(votes[rows], labels[rows], rows, by="neighbours")
    return _ranked(suspects)


def neighbour_votes(
    vectors: Float[np.ndarray, "images dim"],
    labels: Labels,
    num_classes: int,
    *,
    k: int = NEIGHBOURS,
) -> Probabilities:
    """Lets each image's nearest neighbours vote on its class, the image itself left out.

    A neighbour of cosine c weighs exp(c / 0.07) (Wu et al., "Unsupervised feature learning via
    non-parametric instance discrimination", 2018, equation 5).

    Args:
        vectors: (N, D) embeddings, N at least 2, none of them zero.
        labels: (N,) integers in [0, num_classes).
        num_classes: how many classes there are.
        k: how many neighbours vote; fewer where there are fewer.

    Returns:
        (N, classes) the share of the votes, float64, each row with the sum 1.
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
    """Ranks the images to which another class is more probable than their label's.

    They are ranked by the margin between the two probabilities. Confident learning estimates how
    many of them are errors: an image counts as confidently of class j if its probability of j
    reaches the mean probability of j among the images labelled j; of several such classes it
    belongs to the most probable one (Northcutt et al., "Confident learning: estimating uncertainty
    in dataset labels", 2021, equations 1 and 2).

    Args:
        probabilities: (N, classes) in [0, 1], made without knowing the image's own label.
        labels: (N,) the labels given.
        rows: (N,) what to call each image.
        by: who made the probabilities.

    Returns:
        The suspects, the widest margin first; see `find_label_errors` for what that is worth.
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


def _check_directions(vectors: np.ndarray, source: Source) -> None:
    if len(lost := without_direction(vectors)):
        raise InputError(
            f"{source.key(int(lost[0]))} is embedded as zeros or not finite, and so are "
            f"{len(lost) - 1} more; a vector with a direction is needed"
        )
