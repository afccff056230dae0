"""Merge indexes."""

from pathlib import Path
from typing import Literal

import tyro

from vision_jax.errors import InputError


def merge(
    indexes: tyro.conf.Positional[tuple[Path, ...]],
    out: Path,
    on_same_key: Literal["error", "first", "last"] = "error",
) -> None:
    """Merge indexes that one network made into one, such as those of several folders.

    A search of it finds what searches of each would. It cannot be updated: update the indexes with
    `vision-jax index`, and merge them again. Example: vision-jax merge 2023.index 2024.index --out
    all.index

    Args:
        indexes: Files that `vision-jax index` wrote, 2 or more.
        out: File to write; replaced only once the new one is whole.
        on_same_key: Where two hold an image of one key: stop, or keep that of the first or of the
            last file.
    """
    from vision_jax.gallery import load_index, merge_indexes

    if not out.parent.is_dir():
        raise InputError(f"out is {str(out)!r}; the folder {out.parent} must exist")
    if out.exists():
        load_index(out)  # nothing else is replaced
    loaded = [load_index(path) for path in indexes]
    merged = merge_indexes(loaded, names=[*map(str, indexes)], on_same_key=on_same_key)
    merged.save(out)
    dropped = sum(map(len, loaded)) - len(merged)
    print(f"{len(merged)} images of {len(indexes)} indexes -> {out} ({dropped} of the same key)")
