"""List near-duplicates of an index."""

from pathlib import Path
from typing import Literal

import tyro


def duplicates(
    index: tyro.conf.Positional[Path],
    threshold: float = 0.999,
    linkage: Literal["chain", "complete"] = "chain",
) -> None:
    """List indexed images that are nearly the same, those in both training and test split first.

    Example: vision-jax duplicates photos.index --threshold 0.99

    Args:
        index: File that `vision-jax index` wrote.
        threshold: Cosine from which two images count as nearly the same, in (0, 1].
        linkage: What makes a group: `chain`, each image is nearly the same as another of it, so
            that a burst is one group though its ends differ; `complete`, any two of it are.
    """
    from vision_jax.gallery.lookup import find_duplicates, load_index

    groups = find_duplicates(load_index(index), threshold, linkage=linkage)
    leaks = sum(leak for leak, _ in groups)
    print(f"{len(groups)} groups, {leaks} of them across splits")
    for leak, rows in groups:
        print("across splits:" if leak else "group:")
        for row in rows:
            print(f"  {row['split']:<12}{row.get('label', ''):<14}{row['key']}")
