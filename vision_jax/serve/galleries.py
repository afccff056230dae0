"""Open indexes with their runs and images, exchanged whole when a file is replaced."""

import functools
import gc
import logging
import threading
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from vision_jax.errors import DataWarning, InputError, RunError
from vision_jax.gallery import load_index
from vision_jax.gallery.conditions import meets
from vision_jax.gallery.origin import Origin, check_encoder, entries, origin_of, views_of
from vision_jax.gallery.originals import Originals
from vision_jax.gallery.shards import LIST
from vision_jax.run.parts import embedding_parts
from vision_jax.run.run import Run, load_run
from vision_jax.search import CosineIndex
from vision_jax.serve.faults import RequestError, naming
from vision_jax.serve.queries import Filters
from vision_jax.serve.rows import Facts, Row, facts_of, tests_of

_log = logging.getLogger(__name__)
_KEPT = 16  # filters whose images are remembered


class Encoder(NamedTuple):
    """The run that made an index, and what it can do.

    Attributes:
        run: the run.
        views: how many views of an image its vectors average.
        can_explain: whether a hit's cosine can be divided among the parts of an image.
        can_box: whether a part of an image has an embedding.
    """

    run: Run
    views: int
    can_explain: bool
    can_box: bool


class Gallery:
    """An index in service. It is never changed: a new file makes a new one.

    Args:
        name: what requests call it.
        index: the index.
        encoder: what made it; None if that is no longer there.

    Attributes:
        name: see above.
        index: likewise.
        encoder: likewise.
        origin: what the index was made of.
        originals: its images.
        ids: (N,) the ids of its images, in the order they were added.
        rows: their metadata.
    """

    def __init__(self, name: str, index: CosineIndex, encoder: Encoder | None) -> None:
        self.name, self.index, self.encoder = name, index, encoder
        self.origin = origin_of(index)
        self.originals = Originals(index, encoder.run.workdir if encoder else None)
        images = entries(index)
        self.ids: Int[np.ndarray, " items"] = np.array([item for item, _ in images], np.int64)
        self.rows: list[Row] = [row for _, row in images]
        self._places = {row["key"]: place for place, row in enumerate(self.rows)}
        self.places = functools.lru_cache(_KEPT)(self._select)

    def place(self, key: str, *, field: str = "key", status: int = 400) -> int:
        """Return the place of an image among `rows`.

        Raises:
            RequestError: no image has this key.
        """
        place = self._places.get(key)
        if place is None:
            shown = key if len(key) <= _SHOWN else key[:_SHOWN] + "…"
            raise RequestError(
                f"{shown!r} is not indexed; a key such as {self.rows[0]['key']!r} is needed",
                field=field,
                status=status,
            )
        return place

    @functools.cached_property
    def facts(self) -> Facts:
        """What may be filtered by."""
        return facts_of(self.rows)

    def _select(self, filters: Filters) -> Int[np.ndarray, " places"] | None:
        """Return the places of the images that may be found; None for all."""
        tests = tests_of(filters)
        if not tests and not filters.conditions:
            return None
        met = np.array([all(test(row) for test in tests) for row in self.rows])
        if filters.conditions:
            with naming("where.conditions"):
                met &= meets(self.rows, filters.conditions)
        return np.flatnonzero(met)


_SHOWN = 200  # characters of a key in a message


class Opened(NamedTuple):
    """A gallery, its file, and how the file was."""

    path: Path
    state: tuple[int, ...]
    gallery: Gallery


class Galleries:
    """The galleries of a server.

    A request takes a gallery once and keeps it to its end, so that it sees one state of the index.

    Args:
        paths: the index files, or folders of shards.
        workdir: the folder of the run that made them, if it has moved since.
        dtype: type in which to hold the vectors; as the file has them by default.
        prepare: called with each new gallery before it serves, such as to compile for it.
        method: how they will be searched, as for `load_index`.

    Raises:
        InputError: a file holds no index of images.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        workdir: Path | None = None,
        dtype: str | None = None,
        prepare: Callable[[Gallery], None] = lambda gallery: None,
        *,
        method: str = "exact",
    ) -> None:
        if not paths:
            raise InputError("0 indexes were given; at least 1 is needed")
        self._workdir, self._dtype, self._prepare = workdir, dtype, prepare
        self._method = method
        self._stopped, self._reloading = threading.Event(), threading.Lock()
        self._opened: dict[str, Opened] = {}
        for path in paths:
            name = _unused(path.stem, self._opened)
            self._opened[name] = self._open(name, path)
        self.on_reload: Callable[[str, bool], None] = lambda name, done: None

    def get(self, name: str | None = None) -> Gallery:
        """Return a gallery by its name; the first by default.

        Raises:
            RequestError: there is none of this name.
        """
        opened = self._opened
        if name is None:
            return next(iter(opened.values())).gallery
        if name not in opened:
            shown = name[:_SHOWN]
            raise RequestError(
                f"index is {shown!r}; one of {', '.join(opened)} is needed", field="index"
            )
        return opened[name].gallery

    def all(self) -> list[Gallery]:
        """Return the galleries, the first of the command line first."""
        return [opened.gallery for opened in self._opened.values()]

    def reload(self) -> None:
        """Open again what was replaced; what cannot be read leaves the older one in service."""
        with self._reloading:
            done = [self._reload(name) for name in list(self._opened)]
        if any(done):
            gc.collect()  # the older one's vectors take much memory

    def _reload(self, name: str) -> bool:
        opened = self._opened[name]
        state = _state(opened.path)
        if state in (None, opened.state):
            return False
        try:
            fresh = self._open(name, opened.path)
        except (InputError, RunError, OSError) as error:
            self._opened = {**self._opened, name: opened._replace(state=state)}
            self.on_reload(name, False)
            warnings.warn(DataWarning(f"{name} is not reloaded: {error}"), stacklevel=3)
            return False
        self._opened = {**self._opened, name: fresh}
        self.on_reload(name, True)
        return True

    def watch(self, seconds: float = 1.0) -> None:
        """Look for replaced files until `stop` is called; runs in a thread of its own."""
        while not self._stopped.wait(seconds):
            try:
                self.reload()
            except Exception:
                _log.exception("an index was not reloaded")

    def stop(self) -> None:
        """End `watch`."""
        self._stopped.set()

    def _open(self, name: str, path: Path) -> Opened:
        state = _state(path) or ()  # before it is read: what replaces it meanwhile is seen later
        index = load_index(path, method=self._method)
        if self._dtype is not None:
            index = index.as_type(self._dtype)
        gallery = Gallery(name, index, self._encoder(index))
        self._prepare(gallery)
        return Opened(path, state, gallery)

    def _encoder(self, index: CosineIndex) -> Encoder | None:
        origin, views = origin_of(index), views_of(index)
        for opened in self._opened.values():
            known = opened.gallery.encoder
            if known and origin.encoder == known.run.identity and views == known.views:
                return known
        return open_encoder(index, origin, self._workdir)


def open_encoder(index: CosineIndex, origin: Origin, workdir: Path | None) -> Encoder | None:
    """Load the run that made an index.

    Args:
        index: the index.
        origin: what it was made of.
        workdir: the run's folder, if it has moved since.

    Returns:
        The run; None if it is not where it was.

    Raises:
        InputError: `workdir` holds no run, or another one than made the index.
    """
    try:
        run = load_run(workdir or origin.workdir, origin.step)
        check_encoder(index, run)
    except InputError as error:
        if workdir is not None:
            raise
        warnings.warn(DataWarning(f"search by an image is off: {error}"), stacklevel=2)
        return None
    views = views_of(index)
    noise = np.random.default_rng(0).integers(0, 256, (1, *run.info.image_shape), np.uint8)
    try:
        parts = embedding_parts(run, noise)
    except InputError:  # the network has no feature map
        return Encoder(run, views, can_explain=False, can_box=False)
    return Encoder(run, views, can_explain=views == 1, can_box=parts.pooled and views == 1)


def _state(path: Path) -> tuple[int, ...] | None:
    if path.is_dir():  # shards come and go in it until their list is replaced
        path /= LIST
    try:
        status = path.stat()
    except OSError:  # gone for now; the older one stays in service
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _unused(name: str, taken: dict[str, Any]) -> str:
    names = [name, *(f"{name}-{number}" for number in range(2, len(taken) + 2))]
    return next(name for name in names if name not in taken)
