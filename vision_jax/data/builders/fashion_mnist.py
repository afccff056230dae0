"""Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017, arXiv:1708.07747) from its four IDX files."""

import gzip
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from vision_jax.data.builders.examples import show_progress
from vision_jax.data.encode import to_png
from vision_jax.errors import InputError

SYSTEM_DIR = Path("/usr/share/datasets/fashion-mnist")  # Debian's package dataset-fashion-mnist
URL = "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/"
FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz", 60_000),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz", 10_000),
}
NAMES = [name for images, labels, _ in FILES.values() for name in (images, labels)]
LABELS = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)


def missing_files(folder: Path) -> list[str]:
    """Return those of the four IDX files that a folder holds neither gzipped nor unpacked."""
    return [name for name in NAMES if not _in_folder(folder, name).is_file()]


def _in_folder(folder: Path, name: str) -> Path:
    packed = folder / name
    return packed if packed.is_file() else folder / name.removesuffix(".gz")


# tfds has one of its own of this name, and would refuse a second.
class FashionMnist(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """70,000 images of 28x28x1 in 10 classes: 60,000 to train, 10,000 to test.

    The files are taken from the manual folder if one is given, else from where Debian's package
    puts them, else downloaded.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012  tfds declares it so

    missing_files = staticmethod(missing_files)

    MANUAL_DOWNLOAD_INSTRUCTIONS = f"A folder with {', '.join(NAMES)}; none is needed to download."

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(28, 28, 1), encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=list(LABELS)),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://github.com/zalandoresearch/fashion-mnist",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        files = self._find(dl_manager)
        return {
            split: self._generate_examples(files[images], files[labels], count)
            for split, (images, labels, count) in FILES.items()
        }

    def _find(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Path]:
        try:
            folders = [Path(dl_manager.manual_dir), SYSTEM_DIR]
        except AssertionError:  # how tfds says that there is no manual folder
            folders = [SYSTEM_DIR]
        for folder in folders:
            if not missing_files(folder):
                return {name: _in_folder(folder, name) for name in NAMES}
        return {k: Path(v) for k, v in dl_manager.download({n: URL + n for n in NAMES}).items()}

    def _generate_examples(
        self, images_path: Path, labels_path: Path, count: int
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        images = read_idx(images_path, (count, 28, 28))
        labels = read_idx(labels_path, (count,))
        rows = zip(show_progress(images, self.name), labels, strict=True)
        for key, (image, label) in enumerate(rows):
            yield key, {"image": to_png(image), "label": int(label)}


def read_idx(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Read an IDX file of unsigned bytes, gzipped or not.

    Args:
        path: the file.
        shape: the shape it must have.

    Returns:
        The uint8 array.

    Raises:
        InputError: the file is damaged, or holds another type or shape.
    """
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
        magic, *sizes = struct.unpack_from(f">{1 + len(shape)}I", data)
    except (OSError, EOFError, struct.error) as error:
        raise InputError(f"{path} is not a whole IDX file: {error}") from error
    header = 4 * (1 + len(shape))
    if magic != 0x0800 + len(shape) or tuple(sizes) != shape:
        raise InputError(f"{path} holds {tuple(sizes)} (magic {magic:#x}); needed: uint8 {shape}")
    if len(data) - header != int(np.prod(shape)):
        raise InputError(f"{path} holds {len(data) - header} bytes of data; needed: {shape}")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)
