"""The order in which an epoch of training takes the images: a function of seed and epoch."""

import dataclasses

import numpy as np
from jaxtyping import Integer

Order = Integer[np.ndarray, " _"]


def shuffled(count: int, seed: int, epoch: int) -> Order:
    """Take every image once, in random order."""
    return np.random.default_rng([seed, epoch]).permutation(count)


@dataclasses.dataclass(frozen=True, eq=False)
class Balanced:
    """Takes as many images of each class, rare ones repeatedly and common ones in part.

    Attributes:
        groups: the images of each class that has some.
    """

    groups: tuple[Order, ...]

    @classmethod
    def of(cls, labels: Integer[np.ndarray, " examples"]) -> "Balanced":
        """Group images by their labels."""
        by_label = np.argsort(labels, kind="stable")
        ends = np.flatnonzero(np.diff(labels[by_label])) + 1
        return cls(tuple(np.split(by_label, ends)))

    def order(self, seed: int, epoch: int) -> Order:
        """Order an epoch.

        Returns:
            As many images as there are. The numbers of two classes' images differ by at most 1, and
            so do the numbers of times that two images of a class are taken.
        """
        random = np.random.default_rng([seed, epoch])
        count = sum(map(len, self.groups))
        shares = np.full(len(self.groups), count // len(self.groups))
        shares[random.permutation(len(shares))[: count % len(shares)]] += 1
        taken = [
            np.concatenate([random.permutation(group) for _ in range(-(-share // len(group)))])
            for group, share in zip(self.groups, shares, strict=True)
            if share
        ]
        chosen = [rows[:share] for rows, share in zip(taken, shares[shares > 0], strict=True)]
        return random.permutation(np.concatenate(chosen))
