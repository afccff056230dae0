"""Pictures of indexed images for browsers, small ones made once and kept on disk."""

import contextlib
import hashlib
import io
import os
from pathlib import Path
from typing import Any, NamedTuple

from vision_jax.data.encode import to_pil, to_png
from vision_jax.errors import InputError
from vision_jax.serve.disk_cache import DiskCache
from vision_jax.serve.faults import RequestError
from vision_jax.serve.galleries import Gallery
from vision_jax.visual.thumbnails import Thumbnail

SIDES = (96, 192, 384)
"""Pixels of a thumbnail's longer side at most."""
WHOLE = 1600
"""Likewise, of an image to be looked at by itself."""
MOST = 1 << 30
"""Bytes of thumbnails on disk by default."""
_PLAIN = 64  # pixels up to which a picture is drawn, and kept without loss
_QUALITY = 85
_TYPES = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg"}


class Encoded(NamedTuple):
    """A picture as a browser takes it."""

    data: bytes
    media_type: str
    etag: str


class Thumbnails:
    """Encoded pictures of indexed images.

    Only what has the SHA-256 that the index holds is ever shown: a file that was exchanged for
    another, or for a link, is refused. Files of the cache are named by that SHA-256.

    Args:
        folder: where small pictures are kept; None keeps none.
        most: bytes that they take at most; the least recently shown go first. 0 keeps none.

    Raises:
        InputError: the folder cannot be made, or `most` is below 0.
    """

    def __init__(self, folder: Path | None, most: int = MOST) -> None:
        if most < 0:
            raise InputError(f"thumbnails_mb is {most / 2**20:g}; 0 or more is needed")
        self._cache = None if folder is None or not most else DiskCache(folder, most)

    def small(self, gallery: Gallery, row: dict[str, Any], side: int) -> Encoded:
        """Return a thumbnail; see `SIDES`.

        Raises:
            RequestError: the image is gone, has changed, or cannot be read.
        """
        name = _name(row, side)
        kept = None if self._cache is None else self._cache.get(name)
        if kept is not None:
            with contextlib.suppress(OSError):
                return _encoded(kept, name)
        made = self._make(gallery, row, side)
        if self._cache is not None:
            self._cache.put(name, made.data)
        return made

    def whole(self, gallery: Gallery, row: dict[str, Any]) -> Encoded:
        """Return an image at up to `WHOLE` pixels a side; see `small`."""
        return self._make(gallery, row, WHOLE)

    def _make(self, gallery: Gallery, row: dict[str, Any], side: int) -> Encoded:
        found = gallery.originals.thumbnail(row, side=side)
        if found.fault is not None:
            raise RequestError(f"{row['key']} {found.fault}", field="key", status=404)
        return _encoded(_encode(found), _name(row, side))


def etag_of(row: dict[str, Any], side: int | None) -> str:
    """Return what changes whenever a picture does."""
    return f'"{_name(row, side or WHOLE)}"'


def default_folder() -> Path:
    """Return where thumbnails are kept by default."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    return cache / "vision_jax" / "thumbnails"


def _name(row: dict[str, Any], side: int) -> str:
    # What an index of another program says of itself is hashed too: it must be no path.
    told = f"{row['digest']} {row['key']}" if not row["digest"] else row["digest"]
    return f"{hashlib.sha256(told.encode(errors='surrogatepass')).hexdigest()}-{side}"


def _encode(picture: Thumbnail) -> bytes:
    if max(picture.pixels.shape[:2]) <= _PLAIN:
        return to_png(picture.pixels)
    buffer = io.BytesIO()
    to_pil(picture.pixels).save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


def _encoded(data: bytes, name: str) -> Encoded:
    kind = next((kind for start, kind in _TYPES.items() if data.startswith(start)), None)
    if kind is None:
        raise OSError("no picture")
    return Encoded(data, kind, f'"{name}"')
