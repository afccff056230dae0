"""Look at every image once, on all cores, to find those that cannot be decoded."""

import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, TypeVar

from vision_jax.bars import tqdm
from vision_jax.data.decode import BadImageError
from vision_jax.data.findings import Finding
from vision_jax.parallel.threads import core_count

_AT_ONCE = 512
_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True)
class Scan:
    """A set of images to look at.

    Attributes:
        key: tells whether two scans are of the same images, unchanged, for the same purpose.
        read: decodes the image at an index, or raises `BadImageError`.
        count: number of images.
        name: what to call them in the progress bar.
    """

    key: str
    read: Callable[[int], Any] = dataclasses.field(compare=False)
    count: int
    name: str


def look_at_all(look: Callable[[int], _T], count: int, name: str) -> list[_T]:
    """Call a function for each index, in threads, under a progress bar if it takes some seconds.

    Args:
        look: what to do; decoding lets other threads run.
        count: the indices are those below it.
        name: what to call the images.

    Returns:
        What it returned, in order.
    """
    results: list[_T] = []
    threads = core_count()
    with (
        ThreadPoolExecutor(threads) as pool,
        tqdm(total=count, desc=f"checking {name}", unit="img", delay=2, leave=False) as bar,
    ):
        for start in range(0, count, _AT_ONCE):
            for result in pool.map(look, range(start, min(start + _AT_ONCE, count))):
                results.append(result)
                bar.update()
    return results


@lru_cache(maxsize=64)
def find_bad(scan: Scan) -> dict[int, Finding]:
    """Decode every image once; a second call with the same key costs nothing.

    Returns:
        What is wrong with those that cannot be decoded, by index.
    """

    def look(index: int) -> Finding | None:
        try:
            scan.read(index)
        except BadImageError as error:
            return Finding(error.name, error.reason, True)
        return None

    found = look_at_all(look, scan.count, scan.name)
    return {index: finding for index, finding in enumerate(found) if finding}
