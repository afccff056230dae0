"""What the headers of image files say, before any of them is decoded."""

import dataclasses
import io
import warnings
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from vision_jax.data.decode import BadImageError, path_fault
from vision_jax.data.folders import FolderSource
from vision_jax.data.formats import FORMATS
from vision_jax.data.records import TfdsSource
from vision_jax.data.sources import Concatenated, Source

_GREY = ("1", "L", "LA", "I", "I;16", "I;16B")


@dataclasses.dataclass(frozen=True)
class Files:
    """What the image files' headers say; nothing is decoded for it.

    Attributes:
        sizes: how many images have each (width, height), as stored.
        kinds: how many have each (format, mode), such as ("PNG", "RGB").
    """

    sizes: Counter[tuple[int, int]]
    kinds: Counter[tuple[str, str]]

    @property
    def is_grey(self) -> bool:
        """Whether no image has a colour."""
        return bool(self.kinds) and all(mode in _GREY for _, mode in self.kinds)


def read_files(source: Source) -> Files:
    """Reads the headers of a source's image files, with a progress bar if it takes some seconds.

    Args:
        source: a folder or data set, or several of them; arrays have no files, only sizes.

    Returns:
        A `Files`.

    Raises:
        BadImageError: a file is no image of a known format.
    """
    sizes, kinds = Counter[tuple[int, int]](), Counter[tuple[str, str]]()
    with tqdm(total=len(source), desc="headers", unit="img", delay=2, leave=False) as bar:
        for part in source.parts if isinstance(source, Concatenated) else [source]:
            if not isinstance(part, FolderSource | TfdsSource):
                height, width, _ = part.image_shape
                sizes[width, height] += len(part)
                bar.update(len(part))
                continue
            for index, file in enumerate(_stored(part)):
                size, kind = _read_header(file, part.key(index))
                sizes[size] += 1
                kinds[kind] += 1
                bar.update()
    return Files(sizes, kinds)


def _stored(source: FolderSource | TfdsSource) -> Iterable[Path | bytes]:
    return source.files if isinstance(source, FolderSource) else source.encoded()


def _read_header(file: Path | bytes, name: str) -> tuple[tuple[int, int], tuple[str, str]]:
    """The (width, height) and the (format, mode) of an image file."""
    if isinstance(file, Path) and (reason := path_fault(file)):
        raise BadImageError(name, reason)
    try:
        # Too many pixels are refused as they are decoded.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")
            stored = io.BytesIO(file) if isinstance(file, bytes) else file
            with Image.open(stored, formats=FORMATS) as image:
                return image.size, (image.format or "", image.mode)
    except UnidentifiedImageError:
        raise BadImageError(name, f"is no readable image ({', '.join(FORMATS)})") from None
    except MemoryError:
        raise
    except Exception as error:  # the decoders raise many kinds for what is damaged
        what = str(error) or type(error).__name__
        raise BadImageError(name, f"is no readable image: {what}") from error
