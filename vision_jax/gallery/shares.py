"""Divide a source over processes, and embed this process's images into parts."""

import time
from collections.abc import Iterator, Sequence
from hashlib import sha256
from itertools import pairwise
from statistics import median

import numpy as np

from vision_jax.bars import tqdm
from vision_jax.config import BadFiles
from vision_jax.data.findings import warn_once
from vision_jax.data.folders import FolderSource
from vision_jax.data.sources import Readable, Source, Subset
from vision_jax.errors import InputError
from vision_jax.gallery.parts import Parts, PeerFailedError, Row, Vectors, check_directions
from vision_jax.parallel.processes import gathered, name_of
from vision_jax.run.run import Run

SECONDS = 10.0
"""After how long a part is written: a kill loses no more."""
IMAGES = 16_384
"""How many images a part has at most."""
_UNEVEN = 1.25
"""How many times its even share a process may get, for whole files."""
_LOOK = 2.0
"""Seconds between looks at what other processes have done."""
_WATCHED_AFTER = 60.0
"""Seconds before a process is called slow."""


def share_of(run: Run, source: Source, process: tuple[int, int]) -> range:
    """Choose the images that a process embeds; each image is one process's.

    They are whole files of many images where these can be divided evenly. Otherwise they are cut
    where the batches of one process would begin, so that each image is computed in the same
    company, which makes its vector the same bit for bit.

    Args:
        run: its network and devices decide how large these batches are.
        source: the images.
        process: (index, count).

    Raises:
        InputError: the processes do not see the same images.
    """
    names = sha256("\0".join(map(source.key, range(len(source)))).encode()).digest()
    seen = gathered(np.frombuffer(names, np.uint8))
    other = np.flatnonzero((seen != seen[0]).any(1))
    if len(other):
        raise InputError(
            f"{source.name} holds other images on {name_of(int(other[0]))} than on {name_of(0)}; "
            "all processes must see the same files"
        )
    index, count = process
    ends = cuts(len(source), source.file_ends(), count, run.row_sizes[0])
    # All take those of process 0: batches may differ where machines do.
    ends = gathered(np.array(ends, np.int64))[0].tolist()
    return range(ends[index], ends[index + 1])


def cuts(total: int, file_ends: Sequence[int], count: int, batch: int) -> list[int]:
    """Return where shares begin and end: `count` + 1 ascending numbers from 0 to `total`."""
    files = np.unique([0, *file_ends])
    even = np.arange(count + 1) * total / count

    def nearest(starts: np.ndarray) -> np.ndarray:
        return starts[[np.abs(starts - place).argmin() for place in even]]

    chosen = nearest(files)
    if np.diff(chosen).max() > _UNEVEN * total / count:
        batches = [np.arange(a, b, batch) for a, b in pairwise(files)]
        chosen = nearest(np.concatenate([*batches, [total]]))
    return [int(place) for place in chosen]


def openable(source: Source) -> tuple[Source, dict[str, str]]:
    """Leave out files that cannot be opened; return why, by key."""
    faults = source.faults() if isinstance(source, FolderSource) else {}
    if not faults:
        return source, {}
    kept = [i for i in range(len(source)) if i not in faults]
    return source.take(kept), {source.key(i): fault for i, fault in faults.items()}


class Watch:
    """Progress over all processes, slow ones, and those that failed.

    Args:
        parts: what the processes have written.
        total: how many images they embed.
    """

    def __init__(self, parts: Parts, total: int) -> None:
        self._parts, (self._process, self._processes) = parts, parts.process
        self._own, self._start, self._looked = 0, time.monotonic(), 0.0
        self._changed: dict[int, tuple[int, float]] = {}
        self._bar = tqdm(
            total=total,
            desc="embedding",
            unit="img",
            delay=2,
            leave=False,
            disable=self._process != 0,
        )

    def embedded(self, count: int) -> None:
        """Count images of this process.

        Raises:
            InputError: another process has refused an image.
            PeerFailedError: another process failed.
        """
        self._own += count
        self.look()

    def look(self) -> None:
        """Look now and then at what the others have done; see `embedded`."""
        if self._processes > 1 and time.monotonic() - self._looked > _LOOK:
            self._looked = time.monotonic()
            self.check()
            if self._process == 0:
                self._note(self._parts.counts())
        others = sum(count for p, (count, _) in self._changed.items() if p != self._process)
        self._bar.update(max(self._own + others - self._bar.n, 0))

    def check(self) -> None:
        """Raise what another process failed by; see `embedded`."""
        if failed := self._parts.failed():
            process, message, bad_input = failed
            if bad_input:
                raise InputError(message)
            raise PeerFailedError(
                f"{name_of(process)} failed: {message}; rerun the same command in every process "
                f"to resume from {self._parts.folder}"
            )

    def wait(self) -> None:
        """Wait until all processes have embedded their images; see `embedded`."""
        while len(self._parts.finished()) < self._processes:
            time.sleep(0.2)
            self.look()
        self.check()

    def close(self) -> None:
        """Remove the bar."""
        self._bar.close()

    def _note(self, counts: dict[int, int]) -> None:
        now = time.monotonic() - self._start
        counts[self._process] = self._own
        for process, count in counts.items():
            if count != self._changed.get(process, (0, 0.0))[0]:
                self._changed[process] = count, now
        if now < _WATCHED_AFTER:
            return
        rates = {p: count / then for p, (count, then) in self._changed.items()}
        for process in slow(rates, set(range(self._processes)) - self._parts.finished()):
            rate = rates.get(process, 0.0)
            warn_once(
                f"{name_of(process)} embeds {rate:.3g} images a second, and half of the others "
                f"{median(rates.values()):.3g} or more: look at its load and its disk",
                key=f"slow {process}",
            )


def slow(rates: dict[int, float], busy: set[int]) -> list[int]:
    """List the busy processes that are slower than half of the median of all rates."""
    if len(rates) < 2:
        return []
    least = median(rates.values()) / 2
    return sorted(process for process in busy if rates.get(process, 0.0) < least)


def embed_share(
    run: Run,
    source: Source,
    rows: Sequence[Row],
    fresh: Sequence[int],
    parts: Parts,
    watch: Watch,
    *,
    views: int,
    bad_files: BadFiles,
) -> tuple["OpenPart", dict[int, str]]:
    """Embed images of a source into parts.

    Args:
        run: what embeds.
        source: this process's images.
        rows: their metadata.
        fresh: which of them to embed, ascending.
        parts: where parts are written.
        watch: what is told of the progress.
        views: see `Run.embed`.
        bad_files: images that cannot be read: raise, or leave them out.

    Returns:
        The last part, which is not written yet, and why images were left out, by their place.
    """
    part, skipped = OpenPart(parts), dict[int, str]()
    try:
        for places in _within_files(fresh, source.file_ends()):
            readable = bad_files == "skip"
            new = Readable.of(source, places) if readable else Subset.of(source, places)
            start = 0
            for vectors in run.embed_parts(new, views=views, progress=False):
                faults = new.faults if isinstance(new, Readable) else {}
                stop = start + len(vectors)
                kept = [i for i in range(start, stop) if i not in faults]
                skipped |= {places[i]: faults[i] for i in range(start, stop) if i in faults}
                part.add(vectors[[i - start for i in kept]], [rows[places[i]] for i in kept])
                start = stop
                watch.embedded(len(kept))
    except BaseException:
        part.rescue()
        raise
    return part, skipped


class OpenPart:
    """The part that is being filled; written once it is large or old enough.

    Args:
        parts: where it goes.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._vectors: list[Vectors] = []
        self.rows: list[Row] = []
        self._start = time.monotonic()

    @property
    def vectors(self) -> Vectors:
        """(N, D) the vectors that are not written; only where there are some."""
        return np.concatenate(self._vectors)

    def add(self, vectors: Vectors, rows: Sequence[Row]) -> None:
        """Add vectors and their metadata.

        Raises:
            InputError: a vector is zero, NaN or infinite.
        """
        check_directions(vectors, rows)
        self._vectors.append(vectors)
        self.rows += rows
        if len(self.rows) >= IMAGES or time.monotonic() - self._start >= SECONDS:
            self.write()

    def write(self) -> None:
        """Write what there is, and begin the next part."""
        if self.rows:
            self._parts.write(self.vectors, self.rows)
        self._vectors, self.rows, self._start = [], [], time.monotonic()

    def rescue(self) -> None:
        """Write what there is as an error ends the command, if it took some time."""
        if self._parts.folder.exists() or time.monotonic() - self._start > SECONDS / 5:
            self.write()


def _within_files(fresh: Sequence[int], ends: Sequence[int]) -> Iterator[list[int]]:
    """Cut places where files of many examples end."""
    of_file = np.searchsorted(ends, fresh, side="right")
    for number in np.unique(of_file):
        yield [fresh[i] for i in np.flatnonzero(of_file == number).tolist()]
