"""The parts of an index that is being written: files that outlive a kill, of one process or many.

They lie in a folder beside the index. Each is an index file whose checksums tell damage, and names
the encoder and the images it is of, so that a rerun embeds nothing that a whole part holds.
"""

import contextlib
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from vision_jax.data.findings import warn_once
from vision_jax.errors import InputError, RunError
from vision_jax.files import TEMPORARY, write_text
from vision_jax.gallery.origin import Origin
from vision_jax.run.workdir import lock
from vision_jax.search import index_file
from vision_jax.search.arrays import without_direction
from vision_jax.search.index_file import Content

_OF_ONE_CALL = (TEMPORARY, "share-", "failed-")
_OURS = (*_OF_ONE_CALL, "part-", ".lock")

Row = dict[str, Any]
Vectors = Float[np.ndarray, "images features"]
Place = tuple[Path, int]
"""A part, and a row in it."""


class PeerFailedError(RunError):
    """Another process failed; what was embedded is kept."""

    final = True


@dataclasses.dataclass(frozen=True)
class Share:
    """What a process made of its images.

    Attributes:
        rows: the metadata of those that are indexed.
        skipped: why others are left out, by key.
        resumed: how many an earlier call had embedded.
    """

    rows: list[Row]
    skipped: dict[str, str]
    resumed: int


class Parts:
    """The folder of an index's parts.

    Args:
        path: the index: a file, or a folder of shards.
        origin: what makes it.
        process: (index, count) of this process. Process 0 opens and removes the folder.
    """

    def __init__(self, path: Path, origin: Origin, process: tuple[int, int]) -> None:
        self.folder = path.with_name(f"{path.name}.parts")
        self.process = process
        self._origin, self._path = origin, path
        self._locked, self._taken = contextlib.ExitStack(), False
        self._before = frozenset[str]()

    def open(self) -> None:
        """Take the folder, and remove what is no part of this index; in process 0 alone.

        Warns of parts that are removed.

        Raises:
            InputError: another process writes this index.
        """
        if self.process[1] == 1 and not self.folder.exists():
            return
        self._take()
        for file in self.folder.iterdir():
            if file.name.startswith(_OF_ONE_CALL):
                file.unlink()
        reasons = {file: self._fault(file) for file in self.files()}
        for reason in dict.fromkeys(filter(None, reasons.values())):
            warn_once(f"{self._path} is started over where parts of it were embedded: {reason}")
        for file, fault in reasons.items():
            if fault:
                file.unlink()

    def _take(self) -> None:
        self._locked.enter_context(lock(self.folder, used="written"))
        self._taken = True

    def _fault(self, file: Path) -> str | None:
        """Say why a part cannot be used."""
        try:
            made = index_file.read(file).notes["about"]
            return Origin(workdir="", step=0, **made).difference(self._origin)
        except (InputError, TypeError) as error:
            return str(error)

    def files(self) -> list[Path]:
        """List the parts."""
        return sorted(self.folder.glob("part-*.index"))

    def known(self) -> dict[tuple[str, str], Place]:
        """Return where the vector of each embedded image is, by its key and digest."""
        self._before = frozenset(file.name for file in self.files())
        return self.places()

    def places(self) -> dict[tuple[str, str], Place]:
        """Return what `known` does, with the parts written since."""
        found: dict[tuple[str, str], Place] = {}
        for file in self.files():
            items = index_file.read(file).notes["items"]
            found |= {tuple(entry): (file, int(row)) for row, entry in items.items()}
        return found

    def write(self, vectors: Vectors, rows: Sequence[Row]) -> None:
        """Write a part.

        Args:
            vectors: (N, D) as the network returns them.
            rows: the metadata of each; key and digest are kept.

        Raises:
            InputError: another process has begun to write this index.
        """
        if self.process[1] == 1 and not self._taken:
            self._take()
        start = f"part-{self.process[0]:05d}-"
        numbers = [int(file.name.split("-")[2]) for file in self.folder.glob(f"{start}*.index")]
        count, origin = len(rows), self._origin
        names = ("source", "split", "encoder", "views")
        notes = {
            "about": {name: getattr(origin, name) for name in names},
            "items": {str(i): [row["key"], row["digest"]] for i, row in enumerate(rows)},
            "next": count,
        }
        path = self.folder / f"{start}{max(numbers, default=-1) + 1:07d}-{count}.index"
        scale = np.ones(count, np.float32)
        index_file.write(path, Content("float32", vectors, scale, np.arange(count), notes))

    def counts(self) -> dict[int, int]:
        """Count the images that each process has embedded since `known`, in parts written."""
        counted: dict[int, int] = {}
        for file in self.files():
            if file.name not in self._before:
                _, process, _, count = file.stem.split("-")
                counted[int(process)] = counted.get(int(process), 0) + int(count)
        return counted

    def finish(self, share: Share) -> None:
        """Say what this process made of its images, once all of them are in parts."""
        name = f"share-{self.process[0]:05d}.json"
        write_text(self.folder / name, json.dumps(dataclasses.asdict(share)))

    def fail(self, error: BaseException) -> None:
        """Tell the other processes why this one ends."""
        bad = isinstance(error, InputError)
        text = str(error) if bad else f"{type(error).__name__}: {error}"
        told = json.dumps({"message": text, "bad_input": bad})
        with contextlib.suppress(OSError, InputError):
            write_text(self.folder / f"failed-{self.process[0]:05d}.json", told)

    def failed(self) -> tuple[int, str, bool] | None:
        """Return a process that failed, its message, and whether that is bad input."""
        for file in sorted(self.folder.glob("failed-*.json")):
            told = json.loads(file.read_text())
            return int(file.stem.split("-")[1]), told["message"], told["bad_input"]
        return None

    def finished(self) -> set[int]:
        """Return which processes are done with their images."""
        return {int(file.stem.split("-")[1]) for file in self.folder.glob("share-*.json")}

    def shares(self) -> list[Share]:
        """Read what all processes made of their images, in the order of these."""
        files = sorted(self.folder.glob("share-*.json"))
        return [Share(**json.loads(file.read_text())) for file in files]

    def vectors(self, places: Sequence[Place], width: int) -> Vectors:
        """Read vectors from the parts, one part at a time.

        Args:
            places: where they are.
            width: of a vector.
        """
        found = np.empty((len(places), width), np.float32)
        rows_of: dict[Path, list[tuple[int, int]]] = {}
        for target, (file, row) in enumerate(places):
            rows_of.setdefault(file, []).append((target, row))
        for file, rows in rows_of.items():
            targets, held = np.array(rows).T
            found[targets] = index_file.read(file).values[held]
        return found

    def remove(self) -> None:
        """Remove the folder, once the index is written; in process 0 alone.

        It is another command's if this one has written no part.
        """
        if self._taken and self.folder.exists():
            for file in self.folder.iterdir():
                if file.name.startswith(_OURS):
                    file.unlink()
            with contextlib.suppress(OSError):  # it holds what is not from here
                self.folder.rmdir()

    def close(self) -> None:
        """Let other commands write this index."""
        self._locked.close()


def check_directions(vectors: Vectors, rows: Sequence[Row]) -> None:
    """Refuse vectors that cannot be compared.

    Raises:
        InputError: one is zero, NaN or infinite.
    """
    lost = without_direction(vectors)
    if len(lost):
        more = f", and so have {len(lost) - 1} more" if len(lost) > 1 else ""
        raise InputError(
            f"{rows[lost[0]]['key']} has an embedding that is zero, NaN or infinite{more}; a "
            "vector with a direction is needed"
        )
