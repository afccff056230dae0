"""List every file and folder below a folder, without opening any."""

import dataclasses
import os
from collections import deque
from pathlib import Path

from vision_jax.data.decode import path_fault, printable
from vision_jax.data.findings import Finding
from vision_jax.data.formats import SUFFIXES

# What operating systems leave in folders of images, besides hidden files; in lower case.
SYSTEM_NAMES = frozenset(
    {"thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information"}
    | {"__macosx", "@eadir", "lost+found"}
)


@dataclasses.dataclass
class Entries:
    """What a walk found. Paths are relative to the root, with slashes.

    Attributes:
        files: the files that are images by their names.
        folders: all folders.
        faults: why some of the files must not be opened.
        findings: what is odd about the rest.
    """

    files: list[str] = dataclasses.field(default_factory=list)
    folders: list[str] = dataclasses.field(default_factory=list)
    faults: dict[str, str] = dataclasses.field(default_factory=dict)
    findings: list[Finding] = dataclasses.field(default_factory=list)

    def note(self, path: str, what: str, *, error: bool = False) -> None:
        """Add a finding."""
        self.findings.append(Finding(printable(path), what, error))


def walk(root: Path, *, links: bool) -> Entries:
    """List everything below a folder except hidden and system files.

    Args:
        root: the folder.
        links: whether to follow symbolic links that leave the folder, and links to folders. Each
            folder is read once, real ones before links, so loops of links end.
    """
    return _Walk(root, links).run()


class _Walk:
    def __init__(self, root: Path, links: bool) -> None:
        self.root, self.links = root, links
        self.real = os.path.realpath(root)
        self.found = Entries()
        self.seen = {self.real}
        self.pending = [("", self.real)]
        self.linked: deque[str] = deque()

    def run(self) -> Entries:
        while self.pending or self.linked:
            if self.pending:
                self._list(*self.pending.pop())
            else:
                self._follow(self.linked.popleft())
        return self.found

    def _list(self, folder: str, real: str) -> None:
        try:
            with os.scandir(self.root / folder) as listed:
                entries = sorted(listed, key=lambda entry: entry.name)
        except OSError as error:
            path = folder.rstrip("/") or "."
            self.found.note(path, f"cannot be listed: {error.strerror}", error=True)
            return
        for entry in entries:
            if not (entry.name.startswith(".") or entry.name.lower() in SYSTEM_NAMES):
                self._sort_in(folder + entry.name, f"{real}/{entry.name}", entry)

    def _sort_in(self, path: str, real: str, entry: os.DirEntry[str]) -> None:
        is_image = entry.name.lower().endswith(SUFFIXES)
        if entry.is_dir(follow_symlinks=False):
            if is_image:
                self.found.note(path, "is a folder, though it is named as an image", error=True)
            else:
                self._enter(path, real)
        elif Path(entry.path).is_dir():
            if self.links:
                self.linked.append(path)
            else:
                what = "is a link to a folder, which is followed only if links is True"
                self.found.note(path, what, error=True)
        elif not is_image:
            self.found.note(path, "is not an image by its name")
        else:
            self.found.files.append(path)
            if not entry.is_file(follow_symlinks=False) and (fault := self._fault(entry.path)):
                self.found.faults[path] = fault

    def _enter(self, path: str, real: str) -> None:
        if real in self.seen:
            self.found.note(path, "is read already by another path, and is left out")
            return
        self.seen.add(real)
        self.found.folders.append(path)
        self.pending.append((path + "/", real))

    def _follow(self, path: str) -> None:
        real = os.path.realpath(self.root / path)
        if os.path.commonpath([real, self.real]) == real:
            self.found.note(path, "is a link to a folder that it lies in, and is left out")
        else:
            self._enter(path, real)

    def _fault(self, path: str) -> str | None:
        """Say why a link, or an entry that is neither file nor folder, must not be opened."""
        fault = path_fault(path)
        target = os.path.realpath(path)
        if (
            fault is None
            and not self.links
            and os.path.commonpath([target, self.real]) != self.real
        ):
            return (
                f"is a link to {printable(target)}, outside of the folder, which is followed only "
                "if links is True"
            )
        return fault
